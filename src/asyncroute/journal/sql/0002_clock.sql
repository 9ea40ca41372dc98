-- Ages on the journal's own clock (journal/clock.py): when a delivery was queued, or was made ready again by a person.
-- What was queued before this column is as old as the clock itself. The clock is the counter named 'clock'.

ALTER TABLE delivery ADD COLUMN since REAL NOT NULL DEFAULT 0;
