-- What takes turns within a class of priority: the images of one study from one source are a strand, and this is its
-- number (journal/values.py). What was queued before this column is one strand. The index leads from strand to strand,
-- however long each of them is.

ALTER TABLE delivery ADD COLUMN strand INTEGER NOT NULL DEFAULT 0;

DROP INDEX delivery_open;
CREATE INDEX delivery_open ON delivery (destination, state, priority, strand, instance, not_before, size)
    WHERE state IN (0, 1, 2, 5);
