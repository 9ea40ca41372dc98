-- What a group writes into several tables goes through these, in one execution each. They belong to the writing
-- connection (TEMP), not to the journal: no other program meets them, and they may change without a migration.

-- Images with their deliveries: ready (1), or waiting (0) for a completion. A row without `uid_key` is a further delivery
-- of the image before it. Two routes that name one destination make one delivery: the first's.
CREATE TEMP VIEW admission (
    id, size, queued_at, strand, destination, route, priority, since, completion, received_at, header_group, uid_key,
    sop_instance_uid, sop_class_uid, transfer_syntax, study_uid, series_uid, patient_id, accession, modality,
    calling_aet, called_aet, listener, peer, path, data_offset, checksum, hold_reason
) AS SELECT
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL;

CREATE TEMP TRIGGER admit INSTEAD OF INSERT ON admission BEGIN
    INSERT INTO instance (id, uid_key, sop_instance_uid, sop_class_uid, transfer_syntax, study_uid, series_uid,
        patient_id, accession, modality, calling_aet, called_aet, listener, peer, received_at, path, data_offset, size,
        checksum, hold_reason, header_group)
    SELECT NEW.id, NEW.uid_key, NEW.sop_instance_uid, NEW.sop_class_uid, NEW.transfer_syntax, NEW.study_uid,
        NEW.series_uid, NEW.patient_id, NEW.accession, NEW.modality, NEW.calling_aet, NEW.called_aet, NEW.listener,
        NEW.peer, NEW.received_at, NEW.path, NEW.data_offset, NEW.size, NEW.checksum, NEW.hold_reason,
        NEW.header_group
    WHERE NEW.uid_key IS NOT NULL;
    INSERT INTO delivery (instance, destination, state, route, priority, strand, size, queued_at, since, completion)
    SELECT NEW.id, NEW.destination, NEW.completion IS NULL, NEW.route, NEW.priority, NEW.strand, NEW.size,
        NEW.queued_at, NEW.since, NEW.completion
    WHERE NEW.destination IS NOT NULL
    ON CONFLICT (instance, destination) DO NOTHING;
END;

-- What is written once per group: a row for each study, of which the first has the rest, as JSON: ids of images whose
-- files have left the spool, and lists of (name of a counter, number of its destination, what to add).
CREATE TEMP VIEW ledger (
    released, counts, calling_aet, study_uid, first_at, last_at, images
) AS SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL;

CREATE TEMP TRIGGER enter INSTEAD OF INSERT ON ledger BEGIN
    UPDATE instance SET path = NULL WHERE id IN (SELECT value FROM json_each(NEW.released));
    INSERT INTO study (calling_aet, study_uid, first_at, last_at, images)
    SELECT NEW.calling_aet, NEW.study_uid, NEW.first_at, NEW.last_at, NEW.images WHERE NEW.study_uid IS NOT NULL
    ON CONFLICT DO UPDATE SET first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at),
        images = images + excluded.images, complete = 0;
    INSERT INTO counter (name, destination, value)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
    FROM json_each(NEW.counts) WHERE true
    ON CONFLICT DO UPDATE SET value = value + excluded.value;
END;

-- An image that is tried for ever at a destination has its last hundred events there.
CREATE TEMP TRIGGER bound_events AFTER INSERT ON main.event WHEN NEW.instance IS NOT NULL BEGIN
    DELETE FROM event WHERE id = (
        SELECT id FROM event WHERE instance = NEW.instance AND destination IS NEW.destination
        ORDER BY id DESC LIMIT 1 OFFSET 100
    );
END;
