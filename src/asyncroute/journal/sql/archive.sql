-- name: tiers
SELECT id, uid, path, unindexed FROM tier ORDER BY id;

-- name: add_tier
INSERT INTO tier (uid, path, unindexed) VALUES (:uid, :path, :unindexed)
ON CONFLICT (uid) DO UPDATE SET path = excluded.path;

-- name: tier
SELECT id, uid, path, unindexed FROM tier WHERE uid = ?;

-- name: indexed
UPDATE tier SET unindexed = 0 WHERE id = ?;

-- name: setting
SELECT value FROM setting WHERE key = ?;

-- name: note
INSERT INTO setting VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value;

-- name: taken
SELECT EXISTS (SELECT 1 FROM image WHERE tier = :tier AND path = :path)
    OR EXISTS (SELECT 1 FROM intent WHERE tier = :tier AND path = :path)
    OR EXISTS (SELECT 1 FROM leftover WHERE tier = :tier AND path = :path);

-- name: alike
SELECT id, study, tier, path, sop_instance_uid, transfer_syntax, number, received_at, kept_at,
    data_offset, size, checksum, wrong
FROM image
WHERE uid_key = :key AND sop_instance_uid = :uid AND transfer_syntax = :syntax AND size = :size
    AND checksum = :checksum AND wrong = '';

-- name: intend
INSERT INTO intent (tier, path, image) VALUES (?, ?, ?);

-- name: intents
SELECT id, tier, path, image FROM intent WHERE tier = ? ORDER BY id;

-- name: withdraw
DELETE FROM intent WHERE id = ?;

-- name: study_seen
INSERT INTO study (uid, first_at, last_at) VALUES (:uid, :at, :at)
ON CONFLICT (uid) DO UPDATE SET first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at);

-- name: study
SELECT id FROM study WHERE uid = ?;

-- name: label
INSERT OR IGNORE INTO label VALUES (?, ?, ?);

-- name: image_comes
INSERT INTO image (
    study, tier, path, uid_key, sop_instance_uid, transfer_syntax, number, received_at, kept_at, data_offset, size,
    checksum
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tier, path) DO NOTHING;

-- name: leave_behind
INSERT INTO leftover (tier, path) SELECT tier, path FROM image WHERE id = ?;

-- name: move
UPDATE image SET (tier, path) = (SELECT tier, path FROM intent WHERE intent.id = :intent) WHERE id = :image;

-- name: leftovers
SELECT id, tier, path FROM leftover WHERE tier = ? ORDER BY id LIMIT ?;

-- name: cleared
DELETE FROM leftover WHERE id = ?;

-- name: blame
UPDATE image SET wrong = :wrong WHERE id = :id AND wrong <> :wrong;

-- name: oldest
SELECT h.study, s.uid, h.images, h.bytes, h.last_at
FROM holding AS h JOIN study AS s ON s.id = h.study
WHERE h.tier = :tier AND h.last_at < :before
ORDER BY h.last_at, h.study LIMIT :most;

-- name: holding
SELECT h.study, s.uid, h.images, h.bytes, h.last_at
FROM holding AS h JOIN study AS s ON s.id = h.study
WHERE h.study = ? AND h.tier = ?;

-- name: newest
SELECT max(last_at) FROM study;

-- name: images_of_study
SELECT id, study, tier, path, sop_instance_uid, transfer_syntax, number, received_at, kept_at,
    data_offset, size, checksum, wrong
FROM image WHERE study = ? AND wrong = '' ORDER BY id LIMIT ?;

-- name: images_of_study_on
SELECT id, study, tier, path, sop_instance_uid, transfer_syntax, number, received_at, kept_at,
    data_offset, size, checksum, wrong
FROM image WHERE study = ? AND tier = ? AND wrong = '' ORDER BY id LIMIT ?;

-- name: ending
SELECT s.id, s.uid, coalesce(sum(h.images), 0), coalesce(sum(h.bytes), 0), s.last_at
FROM (
    SELECT id, uid, last_at FROM study
    WHERE last_at < :before AND NOT EXISTS (SELECT 1 FROM replay WHERE replay.study = study.id)
    ORDER BY last_at LIMIT :most
) AS s LEFT JOIN holding AS h ON h.study = s.id
GROUP BY s.id ORDER BY s.last_at;

-- name: leave_study
INSERT INTO leftover (tier, path) SELECT tier, path FROM image WHERE study = ?;

-- name: end_images
DELETE FROM image WHERE study = ?;

-- name: end_study
DELETE FROM study WHERE id = ?;

-- name: forget_moves
DELETE FROM moving WHERE study = ?;

-- name: moving
SELECT study FROM moving WHERE tier = ? ORDER BY study;

-- name: begin_move
INSERT OR IGNORE INTO moving VALUES (:tier, :study);

-- name: end_move
DELETE FROM moving WHERE tier = :tier AND study = :study;

-- name: totals
SELECT t.id, count(h.study), coalesce(sum(h.images), 0), coalesce(sum(h.bytes), 0), coalesce(min(h.last_at), 0),
    (SELECT count(*) FROM image WHERE image.tier = t.id AND image.wrong <> '')
FROM tier AS t LEFT JOIN holding AS h ON h.tier = t.id GROUP BY t.id ORDER BY t.id;

-- name: find_last
SELECT id, uid, first_at, last_at FROM study ORDER BY last_at DESC LIMIT :most;

-- name: find_uid
SELECT id, uid, first_at, last_at FROM study WHERE uid = :uid;

-- name: find_label
SELECT s.id, s.uid, s.first_at, s.last_at
FROM label AS l JOIN study AS s ON s.id = l.study
WHERE l.kind = :kind AND l.value BETWEEN :low AND :high
ORDER BY s.last_at DESC LIMIT :most;

-- name: labels
SELECT kind, value FROM label WHERE study = ? ORDER BY kind, value;

-- name: holdings
SELECT t.path, h.images, h.bytes FROM holding AS h JOIN tier AS t ON t.id = h.tier WHERE h.study = ? ORDER BY t.id;

-- name: wrong_of_study
SELECT count(*) FROM image WHERE study = ? AND wrong <> '';

-- name: after
SELECT id, study, tier, path, sop_instance_uid, transfer_syntax, number, received_at, kept_at,
    data_offset, size, checksum, wrong
FROM image WHERE id > ? ORDER BY id LIMIT ?;

-- name: after_on
SELECT id, study, tier, path, sop_instance_uid, transfer_syntax, number, received_at, kept_at,
    data_offset, size, checksum, wrong
FROM image WHERE id > ? AND tier = ? ORDER BY id LIMIT ?;

-- name: image
SELECT id, study, tier, path, sop_instance_uid, transfer_syntax, number, received_at, kept_at,
    data_offset, size, checksum, wrong
FROM image WHERE id = ?;

-- name: study_by_accession
SELECT study FROM label WHERE kind = 2 AND value = ?;

-- name: ask
INSERT INTO request (at, what, target, images) VALUES (?, ?, ?, 0);

-- name: ask_study
INSERT INTO replay (request, image, study)
SELECT :request, id, study FROM image WHERE study = :study AND received_at BETWEEN :since AND :until
ORDER BY id;

-- name: ask_time
INSERT INTO replay (request, image, study)
SELECT :request, id, study FROM image WHERE received_at BETWEEN :since AND :until
ORDER BY received_at, id;

-- name: asked
UPDATE request SET images = (SELECT count(*) FROM replay WHERE replay.request = request.id) WHERE id = ?;

-- name: replays
SELECT p.id, p.request, p.image, r.target
FROM replay AS p JOIN request AS r ON r.id = p.request
WHERE p.id > ? ORDER BY p.id LIMIT ?;

-- name: replayed
DELETE FROM replay WHERE id = ?;

-- name: not_replayed
UPDATE request SET failed = failed + 1, error = :why WHERE id = (SELECT request FROM replay WHERE id = :id);

-- name: requests
SELECT id, at, what, target, images, (SELECT count(*) FROM replay WHERE replay.request = request.id) AS waiting,
    failed, error
FROM request ORDER BY waiting = 0, id DESC LIMIT 20;

-- name: request
SELECT id, at, what, target, images, (SELECT count(*) FROM replay WHERE replay.request = request.id) AS waiting,
    failed, error
FROM request WHERE id = ?;

-- name: take_back
DELETE FROM request WHERE id = ?;

-- name: forget_requests
DELETE FROM request
WHERE at < :before AND NOT EXISTS (SELECT 1 FROM replay WHERE replay.request = request.id);
