-- Whether tables and indexes say the same about what is still owed; run at every start.

-- name: open_by_index
SELECT count(*), coalesce(sum(
    d.state = o.state AND d.priority = o.priority AND d.strand = o.strand AND d.not_before = o.not_before AND d.size = o.size
    AND i.size = o.size AND i.path IS NOT NULL AND n.name IS NOT NULL), 0)
FROM delivery AS o INDEXED BY delivery_open
LEFT JOIN delivery AS d NOT INDEXED ON d.instance = o.instance AND d.destination = o.destination
LEFT JOIN instance AS i NOT INDEXED ON i.id = o.instance
LEFT JOIN destination AS n NOT INDEXED ON n.id = o.destination
WHERE o.state IN (0, 1, 2, 5);

-- name: open_by_table
SELECT coalesce(sum(i.hold_reason IS NOT NULL), 0), coalesce(sum((
    SELECT count(*) FROM delivery AS d NOT INDEXED WHERE d.instance = i.id AND d.state IN (0, 1, 2, 5))), 0)
FROM instance AS i INDEXED BY instance_file WHERE path IS NOT NULL;

-- name: held_by_index
SELECT count(*) FROM instance INDEXED BY instance_held WHERE hold_reason IS NOT NULL;

-- name: destinations_unlike_their_index
SELECT count(*) FROM destination AS d NOT INDEXED WHERE (SELECT id FROM destination WHERE name = d.name) IS NOT d.id;
