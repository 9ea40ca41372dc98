-- What the journal tells of an image, and of all images of a study or an accession number.

-- name: copies
SELECT id FROM instance WHERE uid_key = ? AND sop_instance_uid = ? ORDER BY id;

-- name: next_id
SELECT min(id) FROM instance WHERE id > ?;

-- No index knows studies and accession numbers, because each would cost every image that is received: so a stretch of
-- the table is walked through, not more at a time than takes a moment.
-- name: belonging
SELECT id FROM instance NOT INDEXED WHERE id BETWEEN ? AND ? AND (study_uid = ? OR accession = ?) ORDER BY id;

-- name: images
SELECT i.id, calling_aet, called_aet, listener, peer, sop_class_uid, sop_instance_uid, transfer_syntax, received_at,
    size, checksum, study_uid, series_uid, patient_id, accession, modality, hold_reason, i.path IS NOT NULL
FROM json_each(?) AS j CROSS JOIN instance AS i ON i.id = j.value;

-- name: deliveries
SELECT d.instance, n.name, d.route, d.state, d.attempts, d.not_before, d.last_status, d.last_error, d.queued_at,
    d.first_try_at, d.settled_at
FROM json_each(?) AS j CROSS JOIN delivery AS d ON d.instance = j.value
CROSS JOIN destination AS n ON n.id = d.destination ORDER BY d.instance, n.name;

-- name: events
SELECT at, kind, text, instance, destination FROM event WHERE instance IN (SELECT value FROM json_each(?)) ORDER BY id;

-- What befell destinations; of very many events, only the last are looked at.
-- name: troubles
SELECT at, kind, text, NULL, destination FROM event
WHERE id > coalesce((SELECT max(id) FROM event), 0) - 100000 AND instance IS NULL AND at BETWEEN ? AND ?
AND destination IN (SELECT value FROM json_each(?)) ORDER BY id DESC LIMIT ?;

-- name: tallies
SELECT n.name, d.state, count(*) FROM json_each(?) AS j CROSS JOIN delivery AS d ON d.instance = j.value
CROSS JOIN destination AS n ON n.id = d.destination GROUP BY n.name, d.state ORDER BY n.name, d.state;

-- name: parts
SELECT study_uid, accession, patient_id, calling_aet, count(*), sum(size), sum(hold_reason IS NOT NULL),
    min(received_at), max(received_at)
FROM json_each(?) AS j CROSS JOIN instance AS i ON i.id = j.value
GROUP BY study_uid, accession, patient_id, calling_aet ORDER BY min(i.id) LIMIT 100;

-- What is not plainly delivered, the worst first: dead letters and held images, what is owed, what was odd.
-- name: remarkable
SELECT i.id, CASE
    WHEN hold_reason IS NOT NULL OR EXISTS (SELECT 1 FROM delivery WHERE instance = i.id AND state = 5) THEN 0
    WHEN EXISTS (SELECT 1 FROM delivery WHERE instance = i.id AND state IN (0, 1, 2)) THEN 1 ELSE 2 END
FROM json_each(?) AS j CROSS JOIN instance AS i ON i.id = j.value
WHERE hold_reason IS NOT NULL OR NOT EXISTS (SELECT 1 FROM delivery WHERE instance = i.id)
OR EXISTS (SELECT 1 FROM delivery
    WHERE instance = i.id AND (state NOT IN (3, 4) OR attempts > 1 OR last_error <> '' OR last_status <> 0))
OR EXISTS (SELECT 1 FROM event WHERE instance = i.id AND kind <> 'confirmed')
ORDER BY 2, 1;

-- name: memory
SELECT (SELECT count(*) FROM instance), coalesce((SELECT value FROM counter WHERE name = 'received'), 0), c.last,
    (SELECT received_at FROM instance WHERE id > c.last ORDER BY id LIMIT 1)
FROM (SELECT coalesce((SELECT value FROM counter WHERE name = 'last_pruned' AND destination = 0), 0) AS last) AS c;

-- name: sources
SELECT calling_aet, images, first_at, last_at FROM study WHERE study_uid = ? ORDER BY first_at LIMIT 100;
