-- When the journal of a deleted thread, which nothing is committed to any more, is let go: NULL is never, or done.
ALTER TABLE tl.threads ADD COLUMN trim_at bigint;
CREATE INDEX threadline_threads_to_trim ON tl.threads (trim_at) WHERE trim_at IS NOT NULL;
UPDATE tl.threads SET trim_at = activity_at + 86400000000 WHERE NOT live;
