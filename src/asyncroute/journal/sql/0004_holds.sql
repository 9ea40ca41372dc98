-- Destinations that a person holds, or held. `since` and `until` are on the journal's own clock (journal/clock.py), so
-- that the time of a hold can be left out of ages; `at` is for people.

CREATE TABLE hold (
    id          INTEGER PRIMARY KEY,
    destination INTEGER NOT NULL REFERENCES destination (id),
    at          REAL NOT NULL,
    since       REAL NOT NULL,
    until       REAL            -- NULL: still held
) STRICT;

CREATE UNIQUE INDEX hold_open ON hold (destination) WHERE until IS NULL;
