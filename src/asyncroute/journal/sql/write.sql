-- What a group writes. Where several rows go together, VALUES is for one of them here (journal/bulk.py). `ledger` is in
-- gates.sql.

-- name: admit
INSERT INTO instance (id, uid_key, sop_instance_uid, sop_class_uid, transfer_syntax, study_uid, series_uid,
    patient_id, accession, modality, calling_aet, called_aet, listener, peer, received_at, path, data_offset, size,
    checksum, hold_reason, header_group)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- Of images admitted or routed again: ready (1), or waiting (0) for a completion. Two routes that name one destination
-- make one delivery: the first's.
-- name: owe
INSERT INTO delivery (instance, destination, state, route, priority, strand, size, queued_at, since, completion)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (instance, destination) DO NOTHING;

-- name: insert_pack
INSERT INTO header_group (id, images, lengths, data) VALUES (?, ?, ?, ?);

-- name: next_pack
SELECT coalesce(max(id), 0) + 1 FROM header_group;

-- name: enter
INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?);

-- Deliveries (JSON pairs of instance and destination) begin anew at another destination, where they stay (`direct`).
-- name: redirect
INSERT INTO delivery (instance, destination, state, route, priority, strand, size, queued_at, since)
SELECT d.instance, :target, 1, d.route, d.priority, d.strand, d.size, :at, :since
FROM json_each(:touched) AS j CROSS JOIN delivery AS d
ON d.instance = json_extract(j.value, '$[0]') AND d.destination = json_extract(j.value, '$[1]') WHERE true
ON CONFLICT (instance, destination) DO UPDATE SET state = 1, route = excluded.route, priority = excluded.priority,
    direct = 1, attempts = 0, not_before = 0, last_status = NULL, last_error = '', queued_at = excluded.queued_at,
    since = excluded.since, first_try_at = NULL, settled_at = NULL
WHERE state = 6;

-- name: redirected
UPDATE delivery SET state = 6, not_before = 0, settled_at = :at WHERE (instance, destination) IN
    (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:touched));

-- name: insert_destination
INSERT INTO destination (name) VALUES (?) RETURNING id;

-- name: begin_hold
INSERT INTO hold (destination, at, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING;

-- name: end_hold_of
UPDATE hold SET until = max(since, ?) WHERE destination = ? AND until IS NULL;

-- name: forget_holds
DELETE FROM hold WHERE destination = :destination AND until IS NOT NULL
AND id NOT IN (SELECT id FROM hold WHERE destination = :destination ORDER BY id DESC LIMIT :keep);

-- name: destinations
SELECT name, id FROM destination;

-- name: set_clock
INSERT INTO counter (name, destination, value) VALUES ('clock', 0, ?)
ON CONFLICT DO UPDATE SET value = max(value, excluded.value);

-- A retry never brings back a dead letter of as many attempts: groups may overtake each other. An image has one row here
-- at most: of several, SQLite would take any.
-- name: settle
UPDATE delivery SET state = new.column3, attempts = new.column4, last_status = new.column5, last_error = new.column6,
    not_before = new.column7, first_try_at = coalesce(first_try_at, new.column8), settled_at = new.column9
FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)) AS new
WHERE instance = new.column1 AND destination = new.column2 AND state IN (0, 1, 2, 5)
AND NOT (state = 5 AND new.column3 = 1 AND attempts >= new.column4);

-- What has become releasable of the touched images, and which of the new ones are in conflict with another, as JSON lists
-- of pairs. Each new image is compared with the copies next to it in order of arrival only, however many there are.
-- name: outcome
SELECT (
    SELECT json_group_array(json_array(i.id, i.path)) FROM json_each(:touched) AS j
    CROSS JOIN instance AS i ON i.id = j.value
    WHERE i.path IS NOT NULL AND i.hold_reason IS NULL
    AND NOT EXISTS (SELECT 1 FROM delivery WHERE instance = i.id AND state IN (0, 1, 2, 5))
    AND NOT EXISTS (SELECT 1 FROM kept WHERE instance = i.id)
    AND NOT EXISTS (SELECT 1 FROM proof WHERE instance = i.id)
), (
    SELECT json_group_array(json_array(n.id, o.id)) FROM json_each(:admitted) AS j
    CROSS JOIN instance AS n ON n.id = j.value CROSS JOIN instance AS o
    ON o.id IN ((SELECT max(id) FROM instance WHERE uid_key = n.uid_key AND id < n.id),
                (SELECT min(id) FROM instance WHERE uid_key = n.uid_key AND id > n.id))
    WHERE (o.checksum <> n.checksum OR o.size <> n.size) AND o.sop_instance_uid = n.sop_instance_uid
);

-- name: insert_event
INSERT INTO event (at, kind, text, instance, destination) VALUES (?, ?, ?, ?, ?);

-- A person's word about many: JSON pairs of instance and the destination's number.
-- name: insert_words
INSERT INTO event (at, kind, text, instance, destination)
SELECT :at, :kind, :text, json_extract(j.value, '$[0]'), n.name
FROM json_each(:touched) AS j LEFT JOIN destination AS n ON n.id = json_extract(j.value, '$[1]');

-- The same about held images, before their hold ends.
-- name: insert_words_held
INSERT INTO event (at, kind, text, instance)
SELECT :at, :kind, :text || '; held until then: ' || hold_reason, id
FROM instance WHERE id IN (SELECT value FROM json_each(:ids)) AND hold_reason IS NOT NULL;

-- name: end_hold
UPDATE instance SET hold_reason = NULL WHERE id = ? AND hold_reason IS NOT NULL RETURNING size, calling_aet, study_uid;

-- name: end_holds
UPDATE instance SET hold_reason = NULL WHERE id IN (SELECT value FROM json_each(?));

-- name: change_hold
UPDATE instance SET hold_reason = ? WHERE id = ? AND hold_reason IS NOT NULL;

-- name: lose_deliveries
UPDATE delivery SET state = 5, not_before = 0, last_error = :reason, settled_at = :at
WHERE instance = :instance AND state IN (0, 1, 2);

-- name: lose_held
UPDATE instance SET hold_reason = :reason || '; held because: ' || hold_reason
WHERE id = :instance AND hold_reason IS NOT NULL AND hold_reason NOT LIKE '%; held because: %';
