-- Groups of destinations of which each study has one as its member. A study is here until it is over: nothing of it is
-- owed to its member, and no image came for the group's `keep`; times are on the journal's own clock. Until then the
-- files of its images are kept, because all of them go to another member if this one fails.

CREATE TABLE group_study (
    id       INTEGER PRIMARY KEY,
    name     TEXT NOT NULL,         -- the group's
    study    TEXT NOT NULL,
    member   INTEGER NOT NULL REFERENCES destination (id),
    first_at REAL NOT NULL,
    last_at  REAL NOT NULL,
    UNIQUE (name, study)
) STRICT;

CREATE INDEX group_study_last ON group_study (last_at);
CREATE INDEX group_study_member ON group_study (member, name);

CREATE TABLE kept (
    study    INTEGER NOT NULL REFERENCES group_study (id),
    instance INTEGER NOT NULL REFERENCES instance (id) ON DELETE CASCADE,
    route    TEXT NOT NULL,
    PRIMARY KEY (study, instance)
) STRICT, WITHOUT ROWID;

CREATE INDEX kept_instance ON kept (instance);

-- 0: no route names the destination itself, only groups do, so that the delivery goes where their study goes.
ALTER TABLE delivery ADD COLUMN direct INTEGER NOT NULL DEFAULT 1;
