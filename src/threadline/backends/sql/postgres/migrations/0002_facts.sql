-- What is counted of a message (its tool calls, their results, tokens), so that counting opens no payload.
ALTER TABLE tl.entries ADD COLUMN facts text COLLATE "C";
