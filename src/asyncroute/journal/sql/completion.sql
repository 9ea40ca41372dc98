-- Images that wait for their study or series (0006_completions.sql).

-- name: newest
SELECT id, state, first_at, first_since FROM completion WHERE uid = ? AND route = ? AND calling_aet = ?
ORDER BY id DESC LIMIT 1;

-- name: begin
INSERT INTO completion (route, calling_aet, unit, uid, state, first_at, last_at, first_since, last_since)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id;

-- name: go_on
UPDATE completion SET last_at = max(last_at, ?), last_since = max(last_since, ?) WHERE id = ?;

-- name: say_late
UPDATE delivery INDEXED BY delivery_waiting SET last_error = ? WHERE completion = ? AND state = 0 AND last_error = '';

-- name: complete
UPDATE completion SET state = 1, complete_at = :at WHERE id IN (SELECT value FROM json_each(:ids)) AND state <> 1;

-- name: make_ready
UPDATE delivery INDEXED BY delivery_waiting SET state = 1, since = :since, last_error = ''
WHERE completion IN (SELECT value FROM json_each(:ids)) AND state = 0;

-- Of some images, those of whose completions none is left.
-- name: complete_empty
UPDATE completion SET state = 1, complete_at = :at WHERE id IN (
    SELECT d.completion FROM json_each(:ids) AS j CROSS JOIN delivery AS d ON d.instance = j.value
) AND state <> 1
AND NOT EXISTS (SELECT 1 FROM delivery INDEXED BY delivery_waiting WHERE completion = completion.id AND state = 0);

-- A stopped router's journal may be of an older program.
-- name: has_table
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'completion';

-- A row for each destination. The counts need the index alone.
-- name: waiting
SELECT c.id, c.route, c.calling_aet, c.unit, c.uid, c.state, c.first_at, c.last_at, c.first_since, c.last_since,
    i.images, n.name, w.deliveries
FROM (
    SELECT completion, count(DISTINCT instance) AS images FROM delivery INDEXED BY delivery_waiting
    WHERE state = 0 GROUP BY completion
) AS i CROSS JOIN completion AS c ON c.id = i.completion
CROSS JOIN (
    SELECT completion, destination, count(*) AS deliveries FROM delivery INDEXED BY delivery_waiting
    WHERE state = 0 GROUP BY completion, destination
) AS w ON w.completion = i.completion
CROSS JOIN destination AS n ON n.id = w.destination
ORDER BY c.id, n.name;

-- name: of_images
SELECT d.instance, n.name, c.id, c.unit, c.uid, c.state, c.first_at, c.last_at, c.complete_at
FROM json_each(?) AS j CROSS JOIN delivery AS d ON d.instance = j.value
CROSS JOIN completion AS c ON c.id = d.completion CROSS JOIN destination AS n ON n.id = d.destination;

-- name: prune
DELETE FROM completion WHERE id IN (SELECT id FROM completion WHERE state = 1 AND last_at < ? LIMIT ?);
