-- Batches. `journal/batches.py` writes, `journal/batch_reader.py` reads.

-- name: link
INSERT INTO batch_image (instance, batch, file, uid_key) VALUES (?, ?, ?, ?);

-- What is on its way, or was with the same stamp, is not queued again.
-- name: enqueue
INSERT INTO batch (watch, name, run, path, inode, changed, state, queued_at)
SELECT :watch, :name, (SELECT coalesce(max(run), 0) + 1 FROM batch WHERE watch = :watch AND name = :name),
    :path, :inode, :changed, 0, :at
WHERE NOT EXISTS (SELECT 1 FROM batch WHERE watch = :watch AND path = :path
    AND (state < 3 OR leftover = 1 OR (leftover = 0 AND inode = :inode AND changed = :changed)));

-- name: begin
UPDATE batch SET state = 1, begun_at = coalesce(begun_at, :at), inode = :inode, changed = :changed
WHERE id = :batch AND state IN (0, 1);

-- name: read
UPDATE batch SET state = 2, read_at = :at, signature = :signature, files = :files, images = :images, bytes = :bytes,
    not_dicom = :not_dicom, skipped = :skipped, duplicates = :duplicates, discarded = :discarded, bad = :bad,
    errors = :errors, warnings = :warnings
WHERE id = :batch AND state = 1;

-- name: forget_troubles
DELETE FROM batch_trouble WHERE batch = ?;

-- name: trouble
INSERT INTO batch_trouble (batch, number, error, file, text) VALUES (?, ?, ?, ?, ?);

-- name: next_trouble
SELECT coalesce(max(number), 0) + 1 FROM batch_trouble WHERE batch = ?;

-- name: end
UPDATE batch SET state = :state, reason = :reason, ended_at = :at, after = :after, leftover = :leftover,
    delivered = :delivered, held = :held, failed = :failed, given_up = :given_up
WHERE id = :batch AND state < 3;

-- name: left
UPDATE batch SET leftover = :leftover, warnings = warnings + :more WHERE id = :batch AND leftover = 1;

-- name: retry
UPDATE batch SET state = 0, reason = '', cancelled = 0, dismissed = 0, read_at = NULL, ended_at = NULL
WHERE id = ? AND state = 5;

-- An image of it is on its way again, or was given up: a batch that ended in error is looked at anew. One that a person
-- has put aside stays so.
-- name: reopen
UPDATE batch SET state = 2, reason = '', ended_at = NULL WHERE state = 5 AND read_at IS NOT NULL
AND id IN (SELECT batch FROM batch_image WHERE instance IN (SELECT value FROM json_each(?)));

-- name: cancel_queued
UPDATE batch SET state = 5, cancelled = 1, dismissed = 1, reason = 'cancelled by a person', ended_at = :at
WHERE id = :batch AND state = 0;

-- name: cancel_reading
UPDATE batch SET cancelled = 1 WHERE id = ? AND state IN (1, 2) AND cancelled = 0;

-- name: dismiss
UPDATE batch SET dismissed = 1 WHERE id = ? AND state = 5 AND dismissed = 0;

-- name: set_watch
INSERT INTO watch (name, stopped) VALUES (:watch, :stopped)
ON CONFLICT DO UPDATE SET stopped = excluded.stopped WHERE stopped <> excluded.stopped;

-- name: prune
DELETE FROM batch WHERE id IN (SELECT id FROM batch INDEXED BY batch_ended WHERE leftover = 2 AND ended_at < ? LIMIT ?);

-- The read side.

-- A stopped router's journal may be of an older program.
-- name: exists
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'batch';

-- name: stopped
SELECT name FROM watch WHERE stopped;

-- The latest run of each path whose source may still be there.
-- name: known
SELECT path, inode, changed, signature, max(id) FROM batch WHERE watch = ? AND leftover < 2 GROUP BY path;

-- Those that are under way come first.
-- name: next
SELECT * FROM batch INDEXED BY batch_open WHERE watch = :watch AND state < 3
AND id NOT IN (SELECT value FROM json_each(:exclude)) ORDER BY state DESC, id LIMIT :limit;

-- name: owed
SELECT * FROM batch INDEXED BY batch_owed WHERE watch = ? AND leftover = 1 ORDER BY id;

-- name: open
SELECT watch, state, count(*) FROM batch WHERE state < 3 GROUP BY watch, state;

-- name: errors
SELECT watch, count(*) FROM batch WHERE state = 5 AND dismissed = 0 GROUP BY watch;

-- Watches that have batches which are not over, or not well.
-- name: unfinished
SELECT DISTINCT watch FROM batch WHERE state < 3 OR state = 5;

-- name: one
SELECT * FROM batch WHERE id = ?;

-- name: list
SELECT * FROM batch WHERE (:watch IS NULL OR watch = :watch) AND (:name IS NULL OR name = :name)
AND (:state IS NULL OR state = :state) AND (:since IS NULL OR queued_at >= :since) AND (:run IS NULL OR run = :run)
ORDER BY id DESC LIMIT :limit;

-- name: troubles
SELECT error, file, text FROM batch_trouble WHERE batch = ? ORDER BY error DESC, number LIMIT ?;

-- name: admitted
SELECT b.file, i.size, i.received_at FROM json_each(:files) AS j CROSS JOIN batch_image AS b ON b.batch = :batch AND b.file = j.value
CROSS JOIN instance AS i ON i.id = b.instance;

-- name: copies
SELECT b.uid_key, b.file, i.sop_instance_uid, i.size, i.checksum
FROM json_each(:keys) AS j CROSS JOIN batch_image AS b ON b.batch = :batch AND b.uid_key = j.value
CROSS JOIN instance AS i ON i.id = b.instance;

-- The first image, from one on, that is not delivered, held, failed or given up yet.
-- name: pending
SELECT b.instance FROM batch_image AS b INDEXED BY batch_image_of
WHERE b.batch = :batch AND b.instance >= :after AND (
    EXISTS (SELECT 1 FROM delivery WHERE instance = b.instance AND state IN (0, 1, 2))
    OR EXISTS (SELECT 1 FROM proof WHERE instance = b.instance)
) ORDER BY b.instance LIMIT 1;

-- An image without deliveries that is not held was, and a person gave it up. Of a delivery that was rerouted the other
-- destination's counts.
-- name: tally
SELECT count(*), coalesce(sum(i.size), 0),
    coalesce(sum(EXISTS (SELECT 1 FROM delivery WHERE instance = i.id AND state IN (0, 1, 2))), 0),
    coalesce(sum((SELECT count(*) FROM delivery WHERE instance = i.id AND state IN (3, 4))), 0),
    coalesce(sum(i.hold_reason IS NOT NULL), 0),
    coalesce(sum((SELECT count(*) FROM delivery WHERE instance = i.id AND state = 5)), 0),
    coalesce(sum(iif(
        i.hold_reason IS NULL AND NOT EXISTS (SELECT 1 FROM delivery WHERE instance = i.id), 1,
        (SELECT count(*) FROM delivery AS d WHERE d.instance = i.id AND d.state = 6 AND coalesce((
            SELECT e.kind FROM event AS e WHERE e.instance = i.id AND e.kind IN ('rerouted', 'discarded')
            AND e.destination = (SELECT name FROM destination WHERE id = d.destination) ORDER BY e.id DESC LIMIT 1
        ), 'discarded') = 'discarded')
    )), 0),
    coalesce(sum(EXISTS (SELECT 1 FROM proof WHERE instance = i.id)), 0)
FROM batch_image AS b CROSS JOIN instance AS i ON i.id = b.instance WHERE b.batch = ?;

-- name: many
SELECT count(DISTINCT nullif(i.patient_id, '')), count(DISTINCT nullif(i.study_uid, '')),
    count(DISTINCT nullif(i.accession, ''))
FROM batch_image AS b CROSS JOIN instance AS i ON i.id = b.instance WHERE b.batch = ?;

-- name: unwell
SELECT i.id, i.hold_reason IS NOT NULL,
    EXISTS (SELECT 1 FROM delivery WHERE instance = i.id AND state = 5)
FROM batch_image AS b INDEXED BY batch_image_of CROSS JOIN instance AS i ON i.id = b.instance
WHERE b.batch = :batch AND b.instance > :after AND (i.hold_reason IS NOT NULL
    OR EXISTS (SELECT 1 FROM delivery WHERE instance = i.id AND state = 5)) ORDER BY b.instance LIMIT :limit;

-- What happened to deliveries of a batch that did not arrive.
-- name: failures
SELECT b.file, n.name, d.last_error FROM batch_image AS b CROSS JOIN delivery AS d ON d.instance = b.instance
CROSS JOIN destination AS n ON n.id = d.destination
WHERE b.batch = :batch AND d.state = 5 LIMIT :limit;

-- By day (local time) and watch.
-- name: days
SELECT date(ended_at, 'unixepoch', 'localtime') AS day, watch, count(*), sum(state = 3), sum(state = 4),
    sum(state = 5), sum(files), sum(images), sum(bytes), sum(not_dicom), sum(duplicates), sum(delivered), sum(held),
    sum(failed), sum(errors), sum(warnings), sum(ended_at - begun_at)
FROM batch WHERE ended_at IS NOT NULL AND (:watch IS NULL OR watch = :watch)
AND (:since IS NULL OR ended_at >= :since) GROUP BY day, watch ORDER BY day, watch;
