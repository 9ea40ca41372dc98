-- The headers of one group are compressed together (journal/headers.py): neighbours of a series are nearly alike. Images
-- of older journals keep their own compressed one in instance.header.

CREATE TABLE header_group (
    id      INTEGER PRIMARY KEY,
    images  TEXT NOT NULL,      -- JSON: instance ids
    lengths TEXT NOT NULL,      -- JSON: bytes of each one's header, in the same order
    data    BLOB NOT NULL       -- zlib: the headers, one after the other
) STRICT;

ALTER TABLE instance ADD COLUMN header_group INTEGER;   -- NULL: none, or its own in `header`
