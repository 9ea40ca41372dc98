-- What a group writes into several tables goes through these, in one execution each. They belong to the writing
-- connection (TEMP), not to the journal: no other program meets them, and they may change without a migration.

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
