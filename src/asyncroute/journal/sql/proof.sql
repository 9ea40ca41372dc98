-- Proof of deliveries. `journal/proof.py` writes, `journal/proofs.py` reads.

-- After results are written: what was delivered, of JSON pairs of instance and the destination's number.
-- name: expect
INSERT INTO proof (instance, destination)
SELECT d.instance, d.destination FROM json_each(?) AS j CROSS JOIN delivery AS d
ON d.instance = json_extract(j.value, '$[0]') AND d.destination = json_extract(j.value, '$[1]')
WHERE d.state = 3 ON CONFLICT DO UPDATE SET inquiry = 0;

-- name: ask
INSERT INTO inquiry (transaction_uid, destination, state, due, images) VALUES (?, ?, 0, ?, ?) RETURNING id;

-- name: asking
UPDATE proof SET inquiry = :inquiry
WHERE destination = :destination AND instance IN (SELECT value FROM json_each(:ids));

-- name: asked
UPDATE inquiry SET state = 1, due = ? WHERE transaction_uid = ? AND state = 0;

-- name: number
SELECT id, destination FROM inquiry WHERE transaction_uid = ?;

-- name: ask_again
UPDATE proof SET inquiry = 0 WHERE destination = ? AND inquiry = ?;

-- name: over
UPDATE inquiry SET state = 2 WHERE id = ?;

-- What it was asked for and did not say anything of is waited for until it is overdue.
-- name: answered
UPDATE inquiry SET state = 2 WHERE id = :inquiry
AND NOT EXISTS (SELECT 1 FROM proof WHERE destination = :destination AND inquiry = :inquiry);

-- name: unheard
DELETE FROM inquiry WHERE id = ?;

-- name: overdue
SELECT id FROM inquiry INDEXED BY inquiry_open
WHERE destination = :destination AND state < 2
AND (due <= :now OR due > :now + :ahead OR (state = 0 AND :unsure)) LIMIT 1000;

-- Of those that are over, the last are kept: a report may come late, or again.
-- name: forget
DELETE FROM inquiry WHERE destination = :destination AND state = 2 AND id <= (
    SELECT id FROM inquiry WHERE destination = :destination ORDER BY id DESC LIMIT 1 OFFSET :keep
);

-- name: confirm
UPDATE delivery SET state = 4 WHERE destination = :destination AND state = 3
AND instance IN (SELECT instance FROM proof WHERE destination = :destination
    AND instance IN (SELECT value FROM json_each(:ids)))
RETURNING instance;

-- name: set_back
UPDATE delivery SET state = :state, not_before = :not_before, last_status = :status, last_error = :error,
    settled_at = :settled_at
WHERE destination = :destination AND instance = :instance AND state = 3
AND EXISTS (SELECT 1 FROM proof WHERE destination = :destination AND instance = :instance)
RETURNING instance;

-- name: proven
DELETE FROM proof WHERE destination = :destination AND instance IN (SELECT value FROM json_each(:ids));

-- name: waive
DELETE FROM proof WHERE destination = ? RETURNING instance;

-- name: end_inquiries
UPDATE inquiry SET state = 2 WHERE destination = ? AND state < 2;

-- A request that is made again, because its answer was lost, is the same one.
-- name: pledge
INSERT INTO pledge (transaction_uid, calling_aet, called_aet, until, images) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: redeem
DELETE FROM pledge WHERE id = ?;

-- The read side.

-- A stopped router's journal may be of an older program.
-- name: exists
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'proof';

-- name: counts
SELECT n.name, count(*) FROM proof AS p JOIN destination AS n ON n.id = p.destination GROUP BY p.destination;

-- name: of
SELECT p.instance, n.name, coalesce(q.transaction_uid, '')
FROM json_each(?) AS j CROSS JOIN proof AS p ON p.instance = j.value CROSS JOIN destination AS n ON n.id = p.destination
LEFT JOIN inquiry AS q ON q.id = p.inquiry;

-- name: waiting
SELECT i.id, coalesce(s.sop_class_uid, i.sop_class_uid), coalesce(s.sop_instance_uid, i.sop_instance_uid),
    coalesce(s.study_uid, i.study_uid), coalesce(s.series_uid, i.series_uid), d.route, i.calling_aet, i.called_aet,
    i.listener, d.attempts, d.since, i.size, coalesce(d.settled_at, 0)
FROM (
    SELECT p.instance, p.destination FROM proof AS p INDEXED BY proof_asked
    WHERE p.destination = (SELECT id FROM destination WHERE name = ?) AND p.inquiry = 0 AND p.instance > ?
    ORDER BY p.instance LIMIT ?
) AS w
CROSS JOIN instance AS i ON i.id = w.instance
CROSS JOIN delivery AS d ON d.instance = w.instance AND d.destination = w.destination
LEFT JOIN sent AS s ON s.instance = w.instance AND s.destination = w.destination
ORDER BY w.instance;

-- name: inquiry
SELECT i.id, coalesce(s.sop_class_uid, i.sop_class_uid), coalesce(s.sop_instance_uid, i.sop_instance_uid),
    coalesce(s.study_uid, i.study_uid), coalesce(s.series_uid, i.series_uid), d.route, i.calling_aet, i.called_aet,
    i.listener, d.attempts, d.since, i.size, coalesce(d.settled_at, 0), p.instance IS NOT NULL,
    p.instance IS NOT NULL AND p.inquiry = q.id
FROM inquiry AS q CROSS JOIN json_each(q.images) AS j
CROSS JOIN instance AS i ON i.id = j.value
CROSS JOIN delivery AS d ON d.instance = i.id AND d.destination = q.destination
LEFT JOIN proof AS p ON p.instance = i.id AND p.destination = q.destination
LEFT JOIN sent AS s ON s.instance = i.id AND s.destination = q.destination
WHERE q.transaction_uid = ?;

-- name: inquired
SELECT n.name FROM inquiry AS q JOIN destination AS n ON n.id = q.destination WHERE q.transaction_uid = ?;

-- name: next_due
SELECT due FROM inquiry INDEXED BY inquiry_open
WHERE destination = (SELECT id FROM destination WHERE name = ?) AND state < 2 ORDER BY due LIMIT 1;

-- name: pledges
SELECT id FROM pledge ORDER BY id;

-- name: pledge_of
SELECT id, transaction_uid, calling_aet, called_aet, until, images FROM pledge WHERE id = ?;

-- The latest copy of each of a JSON list of (key of the UID, UID): its class, whether it is held, how many deliveries it
-- has, how many are not delivered, how many were discarded, and how many wait for proof. Of a delivery that was rerouted
-- the other destination's counts.
-- name: kept
SELECT i.sop_class_uid, i.hold_reason IS NOT NULL,
    (SELECT count(*) FROM delivery WHERE instance = i.id),
    (SELECT count(*) FROM delivery WHERE instance = i.id AND state NOT IN (3, 4, 6)),
    (SELECT count(*) FROM delivery AS d WHERE d.instance = i.id AND d.state = 6 AND coalesce((
        SELECT e.kind FROM event AS e WHERE e.instance = i.id AND e.kind IN ('rerouted', 'discarded')
        AND e.destination = (SELECT name FROM destination WHERE id = d.destination) ORDER BY e.id DESC LIMIT 1
    ), 'discarded') = 'discarded'),
    (SELECT count(*) FROM proof WHERE instance = i.id)
FROM json_each(?) AS j LEFT JOIN instance AS i ON i.id = (
    SELECT max(id) FROM instance
    WHERE uid_key = json_extract(j.value, '$[0]') AND sop_instance_uid = json_extract(j.value, '$[1]')
) ORDER BY j.key;
