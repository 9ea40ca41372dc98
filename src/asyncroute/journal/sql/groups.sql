-- Studies of groups: admission, moving to another member, their end (journal/grouping.py). `(0, 1, 2)`: on their way.

-- name: enter
INSERT INTO group_study (name, study, member, first_at, last_at) VALUES (:name, :study, :member, :since, :since)
ON CONFLICT (name, study) DO UPDATE SET last_at = excluded.last_at
RETURNING id, (SELECT name FROM destination WHERE id = member);

-- name: keep
INSERT INTO kept (study, instance, route) VALUES (?, ?, ?) ON CONFLICT DO NOTHING;

-- name: mark
UPDATE delivery SET direct = 0 FROM (VALUES (?, ?)) AS new
WHERE instance = new.column1 AND destination = new.column2;

-- name: find
SELECT id, (SELECT name FROM destination WHERE id = member) FROM group_study WHERE name = ? AND study = ?;

-- Every image of the study that has none yet gets a delivery to the new member: as old as its earlier one, and anew. It
-- waits for a completion if that one did. What a person discarded stays so, but nothing is taken (see `take`) that is not
-- given. `:study` is the number of its row, here and below.
-- name: give
INSERT INTO delivery (instance, destination, state, route, priority, strand, size, queued_at, since, direct, completion)
SELECT k.instance, :member, 1 - coalesce(max(d.state = 0 AND d.direct = 0), 0), k.route, coalesce(min(d.priority), 0),
    coalesce(max(d.strand), 0), i.size, coalesce(min(d.queued_at), :at), :since, 0,
    coalesce(max(iif(d.direct = 0 AND d.state = 0, d.completion, NULL)), max(iif(d.direct = 0, d.completion, NULL)))
FROM kept AS k CROSS JOIN instance AS i ON i.id = k.instance LEFT JOIN delivery AS d ON d.instance = k.instance
WHERE k.study = :study AND i.path IS NOT NULL
GROUP BY k.instance
HAVING coalesce(max(d.state = 6 AND (d.direct = 0 OR d.destination = :member)), 0) = 0
OR max(d.destination <> :member AND d.direct = 0 AND d.state IN (0, 1, 2, 5) AND NOT EXISTS (
    SELECT 1 FROM kept AS o CROSS JOIN group_study AS s ON s.id = o.study
    WHERE o.instance = k.instance AND o.study <> :study AND s.member = d.destination
))
ON CONFLICT (instance, destination) DO UPDATE SET state = excluded.state, route = excluded.route,
    priority = excluded.priority, direct = 0, completion = excluded.completion, attempts = 0, not_before = 0,
    last_status = NULL, last_error = '', queued_at = excluded.queued_at, since = excluded.since, first_try_at = NULL,
    settled_at = NULL
WHERE state = 6
RETURNING instance, size;

-- What only this study owes to others than the new member.
-- name: take
DELETE FROM delivery WHERE (instance, destination) IN (
    SELECT d.instance, d.destination FROM kept AS k CROSS JOIN delivery AS d ON d.instance = k.instance
    WHERE k.study = :study AND d.destination <> :member AND d.direct = 0 AND d.state IN (0, 1, 2, 5)
    AND NOT EXISTS (
        SELECT 1 FROM kept AS o CROSS JOIN group_study AS s ON s.id = o.study
        WHERE o.instance = k.instance AND o.study <> :study AND s.member = d.destination
    )
) RETURNING instance, (SELECT name FROM destination WHERE id = destination), size, state = 5;

-- name: move
UPDATE group_study SET member = :member, last_at = :since WHERE id = :study;

-- The images that have moved; JSON ids.
-- name: tell
INSERT INTO event (at, kind, text, instance, destination)
SELECT :at, 'moved', :text, value, :destination FROM json_each(:ids);

-- Studies that may be over, by the `keep` of their group (JSON; a group that is not there keeps nothing).
-- name: quiet
SELECT id FROM group_study AS s
WHERE last_at <= :since - coalesce((SELECT value FROM json_each(:keep) WHERE key = s.name), 0)
OR first_at <= :since - :longest
ORDER BY last_at LIMIT :limit;

-- Those of which something is on its way are not over, and not looked at again before another `keep`.
-- name: go_on
UPDATE group_study SET last_at = :since, first_at = :since WHERE id IN (SELECT value FROM json_each(:studies)) AND EXISTS (
    SELECT 1 FROM kept AS k CROSS JOIN delivery AS d ON d.instance = k.instance
    WHERE k.study = group_study.id AND d.direct = 0 AND d.state IN (0, 1, 2)
) RETURNING id;

-- name: let_go
DELETE FROM kept WHERE study IN (SELECT value FROM json_each(:studies)) RETURNING instance;

-- name: end
DELETE FROM group_study WHERE id IN (SELECT value FROM json_each(:studies)) RETURNING name, study;
