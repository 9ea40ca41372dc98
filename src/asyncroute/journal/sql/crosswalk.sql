-- The way back from pseudonyms, in a file of its own. `journal/crosswalk.py` writes and reads.

-- name: version
PRAGMA user_version;

-- name: journal mode
PRAGMA journal_mode = WAL;

-- name: synchronous
PRAGMA synchronous = FULL;

-- name: links
CREATE TABLE IF NOT EXISTS link (
    pseudonym TEXT NOT NULL,
    kind      TEXT NOT NULL,
    mark      BLOB NOT NULL,
    original  BLOB NOT NULL,
    since     REAL NOT NULL,
    PRIMARY KEY (pseudonym, kind, mark)
) WITHOUT ROWID;

-- name: seal
CREATE TABLE IF NOT EXISTS seal (one INTEGER PRIMARY KEY CHECK (one = 1), proof BLOB NOT NULL);

-- name: sealed
SELECT proof FROM seal;

-- name: set seal
INSERT INTO seal (one, proof) VALUES (1, ?);

-- name: mark version
PRAGMA user_version = 1;

-- name: add
INSERT INTO link (pseudonym, kind, mark, original, since) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING;

-- name: find
SELECT kind, original, since FROM link WHERE pseudonym = ? ORDER BY kind, since;
