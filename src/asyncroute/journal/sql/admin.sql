-- Start, recovery and pruning.

-- name: unreleased
SELECT id, path, data_offset + size, hold_reason IS NOT NULL,
    EXISTS (SELECT 1 FROM delivery WHERE instance = i.id AND state IN (0, 1, 2))
        OR EXISTS (SELECT 1 FROM proof WHERE instance = i.id),
    EXISTS (SELECT 1 FROM delivery WHERE instance = i.id AND state = 5),
    EXISTS (SELECT 1 FROM kept WHERE instance = i.id)
FROM instance AS i INDEXED BY instance_file WHERE path IS NOT NULL AND id > ? ORDER BY id LIMIT ?;

-- name: has_instance
SELECT 1 FROM instance WHERE id = ? AND checksum = coalesce(?, checksum);

-- By the tables alone: where their indexes say otherwise, the journal is damaged.
-- name: is_owed
SELECT path IS NOT NULL OR hold_reason IS NOT NULL
    OR EXISTS (SELECT 1 FROM delivery NOT INDEXED WHERE instance = i.id AND state IN (0, 1, 2, 5))
FROM instance AS i NOT INDEXED WHERE id = ?;

-- name: last_id
SELECT max(coalesce((SELECT max(id) FROM instance), 0),
           coalesce((SELECT value FROM counter WHERE name = 'last_pruned' AND destination = 0), 0));

-- name: clock
SELECT coalesce((SELECT value FROM counter WHERE name = 'clock' AND destination = 0), 0);

-- name: newest
SELECT received_at FROM instance WHERE id = (SELECT max(id) FROM instance);

-- name: prune_look
SELECT id, path IS NULL, received_at < ?, received_at > ?,
    EXISTS (SELECT 1 FROM delivery WHERE instance = i.id AND state IN (0, 1, 2, 5))
FROM instance AS i WHERE id > ? ORDER BY id LIMIT ?;

-- name: prune_instances
DELETE FROM instance WHERE id IN (SELECT value FROM json_each(?)) AND path IS NULL;

-- name: header_groups
SELECT DISTINCT header_group FROM instance WHERE id IN (SELECT value FROM json_each(?)) AND header_group IS NOT NULL;

-- Those of which no image remains; a damaged list is as good as an empty one.
-- name: prune_headers
DELETE FROM header_group WHERE id IN (SELECT value FROM json_each(?)) AND NOT EXISTS (
    SELECT 1 FROM json_each(iif(json_valid(images), images, '[]')) AS j CROSS JOIN instance AS i ON i.id = j.value
);

-- name: headers_left
SELECT images, lengths, data FROM header_group WHERE id = ?;

-- name: change_headers
UPDATE header_group SET images = ?, lengths = ?, data = ? WHERE id = ?;

-- name: prune_mark
INSERT INTO counter (name, destination, value) VALUES ('last_pruned', 0, ?)
ON CONFLICT DO UPDATE SET value = max(value, excluded.value);

-- name: prune_events
DELETE FROM event WHERE id IN (SELECT id FROM event WHERE at < ? ORDER BY at LIMIT ?);

-- name: prune_studies
DELETE FROM study WHERE (calling_aet, study_uid) IN
    (SELECT calling_aet, study_uid FROM study WHERE last_at < ? LIMIT ?);
