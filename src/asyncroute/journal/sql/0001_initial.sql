-- The first schema. Numbers in `state` are core.states.DeliveryState; times are seconds since the epoch (REAL);
-- 64-bit hashes are stored as signed integers. Open states, here and in every statement: (0, 1, 2, 5).

CREATE TABLE instance (
    id               INTEGER PRIMARY KEY,
    uid_key          INTEGER NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    sop_class_uid    TEXT NOT NULL,
    transfer_syntax  TEXT NOT NULL,
    study_uid        TEXT NOT NULL,
    series_uid       TEXT NOT NULL,
    patient_id       TEXT NOT NULL,
    accession        TEXT NOT NULL,
    modality         TEXT NOT NULL,
    calling_aet      TEXT NOT NULL,
    called_aet       TEXT NOT NULL,
    listener         TEXT NOT NULL,
    peer             TEXT NOT NULL,
    received_at      REAL NOT NULL,
    path             TEXT,              -- NULL: the file has left the spool
    data_offset      INTEGER NOT NULL,
    size             INTEGER NOT NULL,
    checksum         INTEGER NOT NULL,
    hold_reason      TEXT,              -- NULL: not held
    header           BLOB
) STRICT;

-- Finds an earlier copy of an image. The upper half of the key is a hash of the UID without its last component: images
-- of one series are neighbours in the index, and inserting them touches few pages.
CREATE INDEX instance_uid ON instance (uid_key);
CREATE INDEX instance_file ON instance (id) WHERE path IS NOT NULL;
CREATE INDEX instance_held ON instance (id) WHERE hold_reason IS NOT NULL;

CREATE TABLE destination (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE delivery (
    instance     INTEGER NOT NULL REFERENCES instance (id) ON DELETE CASCADE,
    destination  INTEGER NOT NULL REFERENCES destination (id),
    state        INTEGER NOT NULL,
    route        TEXT NOT NULL,
    priority     INTEGER NOT NULL DEFAULT 0,    -- lower goes first
    attempts     INTEGER NOT NULL DEFAULT 0,
    not_before   REAL NOT NULL DEFAULT 0,
    last_status  INTEGER,
    last_error   TEXT NOT NULL DEFAULT '',
    size         INTEGER NOT NULL,              -- as in instance: backlogs are summed from the index alone
    queued_at    REAL NOT NULL,
    first_try_at REAL,
    settled_at   REAL,
    PRIMARY KEY (instance, destination)
) STRICT, WITHOUT ROWID;

-- Only open deliveries are in these: what is delivered costs nothing.
CREATE INDEX delivery_open ON delivery (destination, state, priority, instance, not_before, size)
    WHERE state IN (0, 1, 2, 5);
CREATE INDEX delivery_due ON delivery (destination, not_before) WHERE state = 1 AND not_before > 0;

CREATE TABLE study (
    calling_aet TEXT NOT NULL,
    study_uid   TEXT NOT NULL,
    first_at    REAL NOT NULL,
    last_at     REAL NOT NULL,
    images      INTEGER NOT NULL,
    complete    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (calling_aet, study_uid)
) STRICT, WITHOUT ROWID;

CREATE INDEX study_last ON study (last_at);

CREATE TABLE event (
    id          INTEGER PRIMARY KEY,
    at          REAL NOT NULL,
    kind        TEXT NOT NULL,
    text        TEXT NOT NULL,
    instance    INTEGER,
    destination TEXT
) STRICT;

CREATE INDEX event_instance ON event (instance) WHERE instance IS NOT NULL;
CREATE INDEX event_at ON event (at);

CREATE TABLE counter (
    name        TEXT NOT NULL,
    destination INTEGER NOT NULL DEFAULT 0,     -- 0: of no destination
    value       INTEGER NOT NULL,
    PRIMARY KEY (name, destination)
) STRICT, WITHOUT ROWID;
