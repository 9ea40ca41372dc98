-- The read side. `:ahead`: what is not due before then counts as due, because only a clock jump explains it.

-- name: destination_id
SELECT id FROM destination WHERE name = ?;

-- The classes of priority of which something is ready. Each step is a search in the index, however much there is of one;
-- so with `strands`, which are those of a class from :after on.
-- name: classes
WITH RECURSIVE class (priority) AS (
    SELECT min(priority) FROM delivery INDEXED BY delivery_open
    WHERE destination = :destination AND state = 1 AND state IN (0, 1, 2, 5)
    UNION ALL
    SELECT (SELECT min(priority) FROM delivery INDEXED BY delivery_open
        WHERE destination = :destination AND state = 1 AND state IN (0, 1, 2, 5) AND priority > c.priority)
    FROM class AS c WHERE c.priority IS NOT NULL
)
SELECT priority FROM class WHERE priority IS NOT NULL;

-- name: strands
WITH RECURSIVE next (strand) AS (
    SELECT min(strand) FROM delivery INDEXED BY delivery_open
    WHERE destination = :destination AND state = 1 AND state IN (0, 1, 2, 5) AND priority = :priority
    AND strand > :after
    UNION ALL
    SELECT (SELECT min(strand) FROM delivery INDEXED BY delivery_open
        WHERE destination = :destination AND state = 1 AND state IN (0, 1, 2, 5) AND priority = :priority
        AND strand > x.strand)
    FROM next AS x WHERE x.strand IS NOT NULL
)
SELECT strand FROM next WHERE strand IS NOT NULL LIMIT :most;

-- The oldest of each strand. The inner statement needs the index alone until a delivery is due, so that many waiting
-- retries cost little.
-- name: claim
SELECT s.value, d.instance, d.route, d.priority, d.attempts, d.not_before, d.queued_at, d.since, i.calling_aet,
    i.called_aet, i.listener, i.sop_class_uid, i.sop_instance_uid, i.transfer_syntax, i.study_uid, i.path,
    i.data_offset, i.size, i.checksum, i.series_uid, i.patient_id, i.peer, i.received_at
FROM json_each(:strands) AS s
CROSS JOIN delivery AS d ON d.destination = :destination AND d.instance IN (
    SELECT o.instance FROM delivery AS o INDEXED BY delivery_open
    CROSS JOIN instance AS f ON f.id = o.instance
    WHERE o.destination = :destination AND o.state = 1 AND o.state IN (0, 1, 2, 5) AND o.priority = :priority
    AND o.strand = s.value
    AND (o.not_before <= :now OR o.not_before > :ahead)
    AND o.instance NOT IN (SELECT value FROM json_each(:exclude))
    AND f.path IS NOT NULL
    ORDER BY o.instance LIMIT :each
)
CROSS JOIN instance AS i ON i.id = d.instance
LIMIT :room;

-- name: next_due
SELECT not_before FROM delivery INDEXED BY delivery_due
WHERE destination = :destination AND state = 1 AND not_before > 0 AND not_before > :now AND not_before <= :ahead
AND instance NOT IN (SELECT value FROM json_each(:exclude))
ORDER BY not_before LIMIT 1;

-- One statement, so that all figures are of one moment: (kind, name, state, number, bytes, oldest).
-- name: counts
SELECT 'open', n.name, c.state, c.deliveries, c.bytes,
    (SELECT queued_at FROM delivery WHERE instance = c.first AND destination = c.destination)
FROM (
    SELECT destination, state, count(*) AS deliveries, sum(size) AS bytes, min(instance) AS first
    FROM delivery INDEXED BY delivery_open WHERE state IN (0, 1, 2, 5) GROUP BY destination, state
) AS c JOIN destination AS n ON n.id = c.destination
UNION ALL
SELECT 'held', NULL, NULL, count(*), NULL, NULL FROM instance INDEXED BY instance_held WHERE hold_reason IS NOT NULL
UNION ALL
SELECT c.name, n.name, NULL, c.value, NULL, NULL FROM counter AS c LEFT JOIN destination AS n ON n.id = c.destination;

-- A stopped router's journal may be of an older program.
-- name: has_holds
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'hold';

-- name: holds
SELECT n.name, h.at, h.since, h.until FROM hold AS h JOIN destination AS n ON n.id = h.destination ORDER BY h.id;

-- name: instance
SELECT i.id, calling_aet, called_aet, listener, peer, sop_class_uid, sop_instance_uid, transfer_syntax, received_at,
    coalesce(path, ''), data_offset, size, checksum, study_uid, series_uid, patient_id, accession, modality,
    hold_reason, header, (
        SELECT json_group_array(json_array(d.route, n.name))
        FROM delivery AS d JOIN destination AS n ON n.id = d.destination WHERE d.instance = i.id
    ), g.images, g.lengths, g.data
FROM instance AS i LEFT JOIN header_group AS g ON g.id = i.header_group WHERE i.id = ?;

-- name: group_studies
SELECT s.name, s.study, n.name FROM group_study AS s JOIN destination AS n ON n.id = s.member
ORDER BY s.last_at DESC LIMIT ?;

-- What a member still owes of a group's studies, the oldest first: with the number of their images.
-- name: group_owed
SELECT s.study, (SELECT count(*) FROM kept WHERE study = s.id)
FROM group_study AS s JOIN destination AS n ON n.id = s.member
WHERE s.name = ? AND n.name = ? AND EXISTS (
    SELECT 1 FROM kept AS k CROSS JOIN delivery AS d ON d.instance = k.instance AND d.destination = s.member
    WHERE k.study = s.id AND d.direct = 0 AND d.state IN (0, 1, 2)
) ORDER BY s.id LIMIT ?;

-- Studies of which something is on its way to another destination than the study's member: a crash came between.
-- name: group_strays
SELECT DISTINCT s.name, s.study, n.name FROM group_study AS s CROSS JOIN kept AS k ON k.study = s.id
CROSS JOIN delivery AS d ON d.instance = k.instance AND d.destination <> s.member
CROSS JOIN destination AS n ON n.id = d.destination
WHERE d.direct = 0 AND d.state IN (0, 1, 2) AND NOT EXISTS (
    SELECT 1 FROM kept AS o CROSS JOIN group_study AS p ON p.id = o.study
    WHERE o.instance = k.instance AND o.study <> s.id AND p.member = d.destination
);
