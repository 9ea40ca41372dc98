-- Reading what is left of a damaged journal: every statement touches as few pages as it can.

-- name: highest
SELECT max(id) FROM instance NOT INDEXED;

-- name: highest_by_file
SELECT max(id) FROM instance INDEXED BY instance_file WHERE path IS NOT NULL;

-- name: unreleased
SELECT id FROM instance INDEXED BY instance_file WHERE path IS NOT NULL AND id > ? ORDER BY id LIMIT ?;

-- name: one
SELECT id FROM instance NOT INDEXED WHERE id = ? AND path IS NOT NULL;

-- name: same
SELECT id FROM instance NOT INDEXED WHERE id = ? AND checksum = ?;

-- name: instance
SELECT id, calling_aet, called_aet, listener, peer, sop_class_uid, sop_instance_uid, transfer_syntax, received_at,
    path, data_offset, size, study_uid, series_uid, patient_id, accession, modality, hold_reason, header, checksum
FROM instance AS i NOT INDEXED WHERE id = ? AND path IS NOT NULL AND (hold_reason IS NOT NULL
    OR EXISTS (SELECT 1 FROM delivery NOT INDEXED WHERE instance = i.id AND state IN (0, 1, 2, 5)));

-- name: headers
SELECT images, lengths, data FROM header_group NOT INDEXED
WHERE id = (SELECT header_group FROM instance NOT INDEXED WHERE id = ?);

-- name: deliveries
SELECT d.destination, (SELECT n.name FROM destination AS n NOT INDEXED WHERE n.id = d.destination), d.route, d.state,
    d.attempts, d.last_status, d.last_error, d.settled_at, d.priority, d.strand
FROM delivery AS d NOT INDEXED WHERE d.instance = ?;

-- In a journal that an older program wrote (schema 1 to 4).
-- name: deliveries_without_strands
SELECT d.destination, (SELECT n.name FROM destination AS n NOT INDEXED WHERE n.id = d.destination), d.route, d.state,
    d.attempts, d.last_status, d.last_error, d.settled_at, d.priority
FROM delivery AS d NOT INDEXED WHERE d.instance = ?;

-- name: indexed_without_strands
SELECT state FROM delivery INDEXED BY delivery_open
WHERE destination = ? AND state IN (0, 1, 2, 5) AND priority = ? AND instance = ?;

-- name: indexed
SELECT state FROM delivery INDEXED BY delivery_open
WHERE destination = ? AND state IN (0, 1, 2, 5) AND priority = ? AND strand = ? AND instance = ?;

-- name: proves
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'proof';

-- name: unproven
SELECT 1 FROM proof WHERE instance = ? AND destination = ?;
