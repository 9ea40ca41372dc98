-- What transforms have made of images: one row for each delivery that went out as something else than was received. UIDs
-- are those of what went out. `edit`: what was changed, the same row for all of which the same was changed.

CREATE TABLE sent (
    instance         INTEGER NOT NULL REFERENCES instance (id) ON DELETE CASCADE,
    destination      INTEGER NOT NULL REFERENCES destination (id),
    edit             INTEGER NOT NULL,
    sop_class_uid    TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    study_uid        TEXT NOT NULL,
    series_uid       TEXT NOT NULL,
    PRIMARY KEY (instance, destination)
) STRICT, WITHOUT ROWID;

-- `id` is made of the rest, so that the same is found without a search. `at`: when it was written last.
CREATE TABLE edit (
    id        INTEGER PRIMARY KEY,
    at        REAL NOT NULL,
    transform TEXT NOT NULL,
    changes   TEXT NOT NULL          -- JSON: lists of attribute, before, after, step
) STRICT;

CREATE INDEX edit_at ON edit (at);
