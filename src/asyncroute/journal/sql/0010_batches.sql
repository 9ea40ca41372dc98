-- Batches of images from watched folders. Numbers in `state` are core.batches.BatchState, in `leftover` Leftover; times
-- are seconds since the epoch. `path` is as the system has it, bytes.

CREATE TABLE watch (
    name    TEXT PRIMARY KEY,
    stopped INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE batch (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    watch      TEXT NOT NULL,
    name       TEXT NOT NULL,
    run        INTEGER NOT NULL,
    path       BLOB NOT NULL,
    inode      INTEGER NOT NULL,            -- by these two its source is known again
    changed    INTEGER NOT NULL,            -- nanoseconds
    state      INTEGER NOT NULL,
    leftover   INTEGER NOT NULL DEFAULT 0,
    after      TEXT NOT NULL DEFAULT '',
    queued_at  REAL NOT NULL,
    begun_at   REAL,
    read_at    REAL,
    ended_at   REAL,
    signature  INTEGER NOT NULL DEFAULT 0,
    cancelled  INTEGER NOT NULL DEFAULT 0,
    dismissed  INTEGER NOT NULL DEFAULT 0,
    reason     TEXT NOT NULL DEFAULT '',
    files      INTEGER NOT NULL DEFAULT 0,
    images     INTEGER NOT NULL DEFAULT 0,
    bytes      INTEGER NOT NULL DEFAULT 0,
    not_dicom  INTEGER NOT NULL DEFAULT 0,
    skipped    INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    discarded  INTEGER NOT NULL DEFAULT 0,
    bad        INTEGER NOT NULL DEFAULT 0,
    errors     INTEGER NOT NULL DEFAULT 0,
    warnings   INTEGER NOT NULL DEFAULT 0,
    -- of its images, when it was over
    delivered  INTEGER NOT NULL DEFAULT 0,
    held       INTEGER NOT NULL DEFAULT 0,
    failed     INTEGER NOT NULL DEFAULT 0,
    given_up   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX batch_run ON batch (watch, name, run);
CREATE INDEX batch_path ON batch (watch, path);
CREATE INDEX batch_open ON batch (watch, state, id) WHERE state < 3;
CREATE INDEX batch_owed ON batch (watch, id) WHERE leftover = 1;
CREATE INDEX batch_error ON batch (watch, id) WHERE state = 5 AND dismissed = 0;
CREATE INDEX batch_ended ON batch (ended_at) WHERE leftover = 2;

-- Which file of which batch an image is, from the transaction that admits it: a file in here is not read again.
CREATE TABLE batch_image (
    instance INTEGER PRIMARY KEY REFERENCES instance (id) ON DELETE CASCADE,
    batch    INTEGER NOT NULL,
    file     TEXT NOT NULL,
    uid_key  INTEGER NOT NULL
) STRICT;

CREATE INDEX batch_image_of ON batch_image (batch);         -- and by instance, as it is the row's number
CREATE INDEX batch_image_file ON batch_image (batch, file);
CREATE INDEX batch_image_uid ON batch_image (batch, uid_key);

CREATE TABLE batch_trouble (
    batch  INTEGER NOT NULL REFERENCES batch (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    error  INTEGER NOT NULL,
    file   TEXT NOT NULL,
    text   TEXT NOT NULL,
    PRIMARY KEY (batch, number)
) STRICT, WITHOUT ROWID;
