-- The archive's index (data_dir/archive.db): which image lies where, and what is under way.

-- Numbers that are noted by name.
CREATE TABLE setting (key TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;

CREATE TABLE tier (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    unindexed INTEGER NOT NULL DEFAULT 0
);

-- uid: Study Instance UID; of an image that has none, its own.
CREATE TABLE study (id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, first_at REAL NOT NULL, last_at REAL NOT NULL);
CREATE INDEX study_last ON study (last_at);

-- What a study is found by: kind 1 patient id, 2 accession number, 3 date.
CREATE TABLE label (
    kind INTEGER NOT NULL,
    value TEXT NOT NULL,
    study INTEGER NOT NULL REFERENCES study ON DELETE CASCADE,
    PRIMARY KEY (kind, value, study)
) WITHOUT ROWID;
CREATE INDEX label_study ON label (study, kind);

CREATE TABLE image (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    study INTEGER NOT NULL REFERENCES study,
    tier INTEGER NOT NULL REFERENCES tier,
    path TEXT NOT NULL,
    uid_key INTEGER NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    transfer_syntax TEXT NOT NULL,
    number INTEGER NOT NULL,
    received_at REAL NOT NULL,
    kept_at REAL NOT NULL,
    data_offset INTEGER NOT NULL,
    size INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    wrong TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX image_place ON image (tier, path);
CREATE INDEX image_study ON image (study, tier);
CREATE INDEX image_uid ON image (uid_key);
CREATE INDEX image_received ON image (received_at);
CREATE INDEX image_wrong ON image (tier) WHERE wrong <> '';

-- What a tier has of a study; images whose files are wrong are not in it. last_at is the study's.
CREATE TABLE holding (
    study INTEGER NOT NULL,
    tier INTEGER NOT NULL,
    images INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    last_at REAL NOT NULL,
    PRIMARY KEY (study, tier)
) WITHOUT ROWID;
CREATE INDEX holding_oldest ON holding (tier, last_at, study, images, bytes);

CREATE TRIGGER image_comes AFTER INSERT ON image WHEN new.wrong = '' BEGIN
    INSERT INTO holding
    VALUES (new.study, new.tier, 1, new.data_offset + new.size, (SELECT last_at FROM study WHERE id = new.study))
    ON CONFLICT DO UPDATE SET images = images + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER image_goes AFTER DELETE ON image WHEN old.wrong = '' BEGIN
    UPDATE holding SET images = images - 1, bytes = bytes - old.data_offset - old.size
    WHERE study = old.study AND tier = old.tier;
    DELETE FROM holding WHERE study = old.study AND tier = old.tier AND images = 0;
END;
CREATE TRIGGER image_leaves AFTER UPDATE OF tier, wrong ON image WHEN old.wrong = '' BEGIN
    UPDATE holding SET images = images - 1, bytes = bytes - old.data_offset - old.size
    WHERE study = old.study AND tier = old.tier;
    DELETE FROM holding WHERE study = old.study AND tier = old.tier AND images = 0;
END;
CREATE TRIGGER image_turns_up AFTER UPDATE OF tier, wrong ON image WHEN new.wrong = '' BEGIN
    INSERT INTO holding
    VALUES (new.study, new.tier, 1, new.data_offset + new.size, (SELECT last_at FROM study WHERE id = new.study))
    ON CONFLICT DO UPDATE SET images = images + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER study_grows AFTER UPDATE OF last_at ON study WHEN new.last_at <> old.last_at BEGIN
    UPDATE holding SET last_at = new.last_at WHERE study = new.id;
END;

-- A place at which a file may be that no image has yet.
CREATE TABLE intent (id INTEGER PRIMARY KEY, tier INTEGER NOT NULL, path TEXT NOT NULL, image INTEGER);
CREATE INDEX intent_place ON intent (tier, path);

-- A file that is to be removed.
CREATE TABLE leftover (id INTEGER PRIMARY KEY, tier INTEGER NOT NULL, path TEXT NOT NULL);
CREATE INDEX leftover_place ON leftover (tier, path);

-- A study whose move to a tier has begun.
CREATE TABLE moving (tier INTEGER NOT NULL, study INTEGER NOT NULL, PRIMARY KEY (tier, study)) WITHOUT ROWID;

-- A person's word to send images again, and what of it is still to be done.
CREATE TABLE request (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    what TEXT NOT NULL,
    target TEXT NOT NULL,
    images INTEGER NOT NULL,
    failed INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT ''
);
CREATE TABLE replay (
    id INTEGER PRIMARY KEY,
    request INTEGER NOT NULL REFERENCES request,
    image INTEGER NOT NULL,
    study INTEGER NOT NULL
);
CREATE INDEX replay_request ON replay (request);
CREATE INDEX replay_study ON replay (study);
