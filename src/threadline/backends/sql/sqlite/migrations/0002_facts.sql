-- What is counted of a message (its tool calls, their results, tokens), so that counting opens no payload. Messages that
-- were put before have none, and are counted as messages only.
ALTER TABLE entries ADD COLUMN facts TEXT;
