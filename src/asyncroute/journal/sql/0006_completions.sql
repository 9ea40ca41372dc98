-- Images that wait, by one route, until their study (or series) from one source is complete: a row from the first image
-- on, kept after the completion so that what comes late is known to be late. Times with `at` are for people; those with
-- `since` are on the journal's own clock (journal/clock.py), and decide. An id never returns.

CREATE TABLE completion (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    route       TEXT NOT NULL,
    calling_aet TEXT NOT NULL,
    unit        TEXT NOT NULL,      -- study | series
    uid         TEXT NOT NULL,
    state       INTEGER NOT NULL,   -- 0: waits; 1: complete; 2: came late, is held for a person
    first_at    REAL NOT NULL,
    last_at     REAL NOT NULL,
    first_since REAL NOT NULL,
    last_since  REAL NOT NULL,
    complete_at REAL
) STRICT;

CREATE INDEX completion_of ON completion (uid, route, calling_aet);
CREATE INDEX completion_over ON completion (last_at) WHERE state = 1;

ALTER TABLE delivery ADD COLUMN completion INTEGER;     -- NULL: it did not wait

CREATE INDEX delivery_waiting ON delivery (completion) WHERE state = 0;
