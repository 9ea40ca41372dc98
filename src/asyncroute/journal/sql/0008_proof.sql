-- Deliveries (state 3) whose destination has yet to prove that it keeps the image: the file stays until then. `inquiry`:
-- the latest transaction that asks for it, 0: it is to be asked for. A delivery that is confirmed (state 4), or is sent
-- again, has no row any more.

CREATE TABLE proof (
    instance    INTEGER NOT NULL REFERENCES instance (id) ON DELETE CASCADE,
    destination INTEGER NOT NULL REFERENCES destination (id),
    inquiry     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (instance, destination)
) STRICT, WITHOUT ROWID;

CREATE INDEX proof_asked ON proof (destination, inquiry, instance);

-- Transactions of Storage Commitment that destinations were asked for, or are about to be.
CREATE TABLE inquiry (
    id              INTEGER PRIMARY KEY,
    transaction_uid TEXT NOT NULL UNIQUE,
    destination     INTEGER NOT NULL REFERENCES destination (id),
    state           INTEGER NOT NULL,   -- 0: about to be asked, 1: asked, 2: over
    due             REAL NOT NULL,      -- seconds since the epoch: a report should have come
    images          TEXT NOT NULL       -- JSON: instance ids
) STRICT;

CREATE INDEX inquiry_open ON inquiry (destination, due) WHERE state < 2;

-- Storage Commitment that senders asked us for, until they have our report.
CREATE TABLE pledge (
    id              INTEGER PRIMARY KEY,
    transaction_uid TEXT NOT NULL,
    calling_aet     TEXT NOT NULL,      -- who asked
    called_aet      TEXT NOT NULL,      -- under which title we report
    until           REAL NOT NULL,      -- seconds since the epoch: what is not delivered by then has failed
    images          TEXT NOT NULL,      -- JSON: pairs of SOP class and SOP instance
    UNIQUE (calling_aet, transaction_uid)
) STRICT;
