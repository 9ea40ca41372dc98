-- Stretches of images, the newest first, and the headers of their groups.

-- name: images
SELECT id, calling_aet, called_aet, listener, peer, sop_class_uid, sop_instance_uid, transfer_syntax, received_at,
    coalesce(path, ''), data_offset, size, checksum, study_uid, series_uid, patient_id, accession, modality,
    hold_reason, header, header_group
FROM instance WHERE id < ? ORDER BY id DESC LIMIT ?;

-- name: headers
SELECT images, lengths, data FROM header_group WHERE id IN (SELECT value FROM json_each(?));
