-- What transforms have made of images (journal/sent.py).

-- name: any
SELECT 1 FROM sent LIMIT 1;

-- Deliveries that were made as something else than was received; VALUES is for one of them (journal/bulk.py).
-- name: enter
INSERT INTO sent (instance, destination, edit, sop_class_uid, sop_instance_uid, study_uid, series_uid)
SELECT * FROM (VALUES (?, ?, ?, ?, ?, ?, ?)) WHERE EXISTS (SELECT 1 FROM instance WHERE id = column1)
ON CONFLICT DO UPDATE SET edit = excluded.edit, sop_class_uid = excluded.sop_class_uid,
    sop_instance_uid = excluded.sop_instance_uid, study_uid = excluded.study_uid, series_uid = excluded.series_uid;

-- name: enter_edit
INSERT INTO edit (id, at, transform, changes) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET at = max(at, excluded.at);

-- Deliveries that were made as received, whatever went out before: JSON pairs of instance and the destination's number.
-- name: leave
DELETE FROM sent WHERE (instance, destination) IN
    (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?));

-- name: prune
DELETE FROM edit WHERE id IN (SELECT id FROM edit WHERE at < ? ORDER BY at LIMIT ?);

-- The read side. A stopped router's journal may be of an older program.
-- name: exists
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'sent';

-- name: of_images
SELECT s.instance, n.name, s.sop_class_uid, s.sop_instance_uid, s.study_uid, s.series_uid,
    coalesce(e.transform, ''), coalesce(e.changes, '[]')
FROM json_each(?) AS j CROSS JOIN sent AS s ON s.instance = j.value
CROSS JOIN destination AS n ON n.id = s.destination LEFT JOIN edit AS e ON e.id = s.edit;

-- A person asks, rarely: what went out is walked through.
-- name: originals
SELECT i.sop_instance_uid, min(i.received_at) FROM sent AS s CROSS JOIN instance AS i ON i.id = s.instance
WHERE s.sop_instance_uid = ? GROUP BY i.sop_instance_uid ORDER BY 2;
