-- When the journal of a deleted thread, which nothing is committed to any more, is let go: NULL is never, or done.
ALTER TABLE threads ADD COLUMN trim_at INTEGER;
CREATE INDEX threads_to_trim ON threads (trim_at) WHERE trim_at IS NOT NULL;
UPDATE threads SET trim_at = activity_at + 86400000000 WHERE live = 0;
