-- Every statement of the SQLite backend. First the connection, then the file, then commits in the order of their
-- steps, then reads. Parameters are named; lists of them come as one JSON text.

-- busy_timeout --
-- Wait for a lock this long (milliseconds).
PRAGMA busy_timeout = 5000

-- busy_timeout_short --
-- Hardly wait: a checkpoint that is held up by a reader comes again later.
PRAGMA busy_timeout = 50

-- secure_delete --
-- What is deleted is overwritten with zeros.
PRAGMA secure_delete = ON

-- trusted_schema --
-- A file that somebody else made cannot run functions.
PRAGMA trusted_schema = OFF

-- temp_store --
-- No content in temporary files.
PRAGMA temp_store = MEMORY

-- auto_vacuum --
-- Freed pages can be given back; works only before the first table.
PRAGMA auto_vacuum = INCREMENTAL

-- synchronous_full --
-- Every commit is on the disk when it returns.
PRAGMA synchronous = FULL

-- synchronous_normal --
-- A power cut may lose the last commits; a crash of the process does not.
PRAGMA synchronous = NORMAL

-- journal_wal --
-- Readers and the writer do not wait for each other.
PRAGMA journal_mode = WAL

-- journal_delete --
-- The rollback journal, where the WAL would not be safe.
PRAGMA journal_mode = DELETE

-- journal_mode --
-- What the file uses.
PRAGMA journal_mode

-- no_autocheckpoint --
-- No commit checkpoints by itself.
PRAGMA wal_autocheckpoint = 0

-- query_only --
-- A reader cannot write.
PRAGMA query_only = ON

-- checkpoint --
-- Move the WAL into the file and empty it: (busy, frames, moved).
PRAGMA wal_checkpoint(TRUNCATE)

-- free_pages --
-- How many pages of the file hold nothing.
PRAGMA freelist_count

-- shrink --
-- Give some of them back: the last pages of the file move into them, and the file ends earlier.
PRAGMA incremental_vacuum(256)

-- application_id --
-- Whose file it is.
PRAGMA application_id

-- claim --
-- It is ours ("Thrd").
PRAGMA application_id = 1416131172

-- is_empty --
-- Whether the file has no tables at all.
-- scan: the schema is small
SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)

-- has_migrations --
-- Whether anything was ever migrated here.
-- scan: the schema is small
SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'migrations')

-- has_words --
-- Whether the file has a word index, and whether this SQLite can use it.
-- scan: the schema is small
SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'entries_fts'),
       EXISTS (SELECT 1 FROM pragma_module_list WHERE name = 'fts5')

-- create_migrations --
-- The list of what was applied.
CREATE TABLE IF NOT EXISTS migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum BLOB NOT NULL, at INTEGER NOT NULL
) STRICT

-- read_migrations --
-- What was applied, in order.
-- scan: a handful of rows
SELECT version, name, checksum FROM migrations ORDER BY version

-- add_migration --
-- Remember that it was applied.
INSERT INTO migrations (version, name, checksum, at) VALUES (:version, :name, :checksum, :at)

-- add_fact --
-- Say something of the store once.
INSERT INTO store (key, value) VALUES (:key, :value) ON CONFLICT (key) DO NOTHING

-- read_fact --
-- What was said of the store.
SELECT value FROM store WHERE key = :key

-- begin_write --
-- The one way to start writing: no lock is ever upgraded.
BEGIN IMMEDIATE

-- begin_read --
-- One snapshot for the reads that follow.
BEGIN

-- commit --
-- End of a transaction.
COMMIT

-- rollback --
-- Undo a transaction.
ROLLBACK

-- commit_facts --
-- What a commit must know of the thread and the head.
SELECT t.id, t.live, t.tenant, t.app, t.thread_id, t.user, t.incarnation, t.rev, t.gc, t.last_seq,
       t.activity_at, h.namespace, coalesce(h.head_version, 0), coalesce(h.last_version, 0)
  FROM threads AS t
  LEFT JOIN heads AS h ON h.thread = t.id AND h.ns = :ns
 WHERE t.thread_key = :key

-- find_operation --
-- What an operation did, if it was committed before.
SELECT j.rev, j.at, coalesce(j.incarnation, t.incarnation), j.version, j.result, j.popped
  FROM journal AS j
  JOIN threads AS t ON t.id = j.thread
 WHERE j.thread = :thread AND j.op_id = :op_id

-- add_thread --
-- A thread comes into being.
INSERT INTO threads (thread_key, live, tenant, app, thread_id, user, incarnation, rev, gc, last_seq, key_id,
                     created_at, activity_at, message_count, checkpoint_count)
VALUES (:key, 1, :tenant, :app, :thread_id, :user, :incarnation, 0, 0, 0, 0, :at, :at, 0, 0)

-- revive_thread --
-- A deleted thread comes into being again, as a new one.
UPDATE threads
   SET live = 1, tenant = :tenant, app = :app, thread_id = :thread_id, user = :user, incarnation = :incarnation,
       gc = 0, created_at = :at, trim_at = NULL
 WHERE id = :thread

-- retire_journal --
-- Old results keep the incarnation they were given for.
UPDATE journal SET incarnation = :incarnation WHERE thread = :thread AND incarnation IS NULL

-- move_thread --
-- Every commit moves rev and activity.
UPDATE threads
   SET rev = :rev, gc = gc + :gc, last_seq = :last_seq, activity_at = :at,
       message_count = message_count + :messages, checkpoint_count = checkpoint_count + :checkpoints
 WHERE id = :thread

-- describe_thread --
-- What is said of a thread: without info what was said stays, and a first owner and a first lineage stay too.
UPDATE threads
   SET title = iif(:info IS NULL, title, :title), key_id = iif(:info IS NULL, key_id, :key_id),
       info = coalesce(:info, info), user = coalesce(user, :owner),
       lineage = iif(:replaces_lineage, coalesce(:lineage, lineage), coalesce(lineage, :lineage)),
       created_at = iif(:created_at > 0, :created_at, created_at)
 WHERE id = :thread

-- put_head --
-- Where a namespace stands now.
INSERT INTO heads (thread, ns, namespace, incarnation, head_version, last_version, marks)
VALUES (:thread, :ns, :namespace, :incarnation, :head_version, :last_version, :marks)
    ON CONFLICT (thread, ns) DO UPDATE
   SET namespace = excluded.namespace, incarnation = excluded.incarnation, head_version = excluded.head_version,
       last_version = excluded.last_version, marks = iif(length(excluded.marks) > 0, excluded.marks, marks)

-- add_checkpoint --
-- One version.
INSERT INTO checkpoints (thread, ns, version, parent_version, base, kind, ext_id, name, run_id, refs,
                         blob_refs, digest, key_id, bytes, created_at, payload)
VALUES (:thread, :ns, :version, :parent_version, :base, :kind, :ext_id, :name, :run_id, :refs,
        :blob_refs, :digest, :key_id, :bytes, :created_at, :payload)

-- put_row --
-- Items of a log; in place when a row begins there already.
INSERT INTO log_rows (thread, ns, log, start, count, kind, key_id, p_start, p_end, payload)
VALUES (:thread, :ns, :log, :start, :count, :kind, :key_id, :p_start, :p_end, :payload)
    ON CONFLICT (thread, ns, log, start) DO UPDATE
   SET count = excluded.count, kind = excluded.kind, key_id = excluded.key_id, p_start = excluded.p_start,
       p_end = excluded.p_end, payload = excluded.payload

-- delete_merged --
-- The other rows within the span of a merged one.
DELETE FROM log_rows WHERE thread = :thread AND ns = :ns AND log = :log AND start > :start AND start < :end

-- copy_rows --
-- The rows that cover a range, from another thread, as they are.
INSERT INTO log_rows (thread, ns, log, start, count, kind, key_id, p_start, p_end, payload)
SELECT :thread, :ns, l.log, l.start, l.count, l.kind, l.key_id, l.p_start, l.p_end, l.payload
  FROM log_rows AS l
 WHERE l.thread = :source AND l.ns = :source_ns AND l.log = :log AND l.start < :end AND l.start + l.count > :start
   AND l.start >= coalesce((SELECT max(f.start) FROM log_rows AS f WHERE f.thread = :source AND f.ns = :source_ns
                               AND f.log = :log AND f.start <= :start), 0)
    ON CONFLICT (thread, ns, log, start) DO NOTHING

-- copy_blob --
-- A large field from another thread.
INSERT INTO blobs (thread, ns, id, key_id, payload)
SELECT :thread, :ns, id, key_id, payload FROM blobs WHERE thread = :source AND ns = :source_ns AND id = :id
    ON CONFLICT (thread, ns, id) DO NOTHING

-- copied_entries --
-- The entries of another thread that are copied, oldest first.
SELECT id, seq, ext_id, kind, role, payload, digest, search, derived, meta, key_id, created_at, facts
  FROM entries WHERE thread = :source AND ns = :source_ns AND (:until IS NULL OR created_at <= :until)
 ORDER BY seq

-- copy_entry_terms --
-- The metadata of a copied entry.
INSERT INTO terms (thread, kind, ns, term, ref)
SELECT :thread, 2, :ns, term, :ref FROM terms WHERE thread = :source AND kind = 2 AND ns = :source_ns
                                                AND term IN (SELECT t.term FROM terms AS t WHERE t.thread = :source
                                                AND t.kind = 2 AND t.ns = :source_ns AND t.ref = :seq) AND ref = :seq
    ON CONFLICT DO NOTHING

-- copy_slots --
-- The slots of another thread; what expires, a lease for one, belongs to that thread alone.
INSERT INTO slots (thread, ns, kind, key, key_id, expires_at, meta, payload)
SELECT :thread, :ns, kind, key, key_id, expires_at, meta, payload
  FROM slots WHERE thread = :source AND ns = :source_ns AND expires_at IS NULL
    ON CONFLICT (thread, ns, kind, key) DO NOTHING

-- adopt_thread --
-- What is said of a thread that is copied with all of its past, and whose it is.
UPDATE threads
   SET user = s.user, info = s.info, title = s.title, key_id = s.key_id, lineage = :lineage
  FROM (SELECT user, info, title, key_id FROM threads WHERE id = :source) AS s
 WHERE id = :thread

-- copy_all_heads --
-- Where every namespace stands, or those of `ends` ([hexadecimal, version]) at that version. The counters never go back.
-- The namespaces of the copy lead everything else: those that a deletion left have no name.
INSERT INTO heads (thread, ns, namespace, incarnation, head_version, last_version, marks)
SELECT :thread, x.ns, x.namespace, :incarnation, coalesce(x.kept, x.head_version), coalesce(x.kept, x.last_version), x.marks
  FROM (SELECT h.*, iif(n.value IS NULL, NULL, (SELECT coalesce(max(c.version), 0) FROM checkpoints AS c
                                                 WHERE c.thread = :source AND c.ns = h.ns
                                                   AND c.version <= json_extract(n.value, '$[1]'))) AS kept
          FROM heads AS h
          LEFT JOIN json_each(:ends) AS n ON json_extract(n.value, '$[0]') = lower(hex(h.ns))
         WHERE h.thread = :source AND h.namespace IS NOT NULL AND (:ends IS NULL OR n.value IS NOT NULL)) AS x
 WHERE true
    ON CONFLICT (thread, ns) DO UPDATE
   SET namespace = excluded.namespace, incarnation = excluded.incarnation, head_version = excluded.head_version,
       last_version = max(last_version, excluded.last_version), marks = excluded.marks

-- copy_all_checkpoints --
-- Every version of these namespaces, or those up to where they end.
INSERT INTO checkpoints (thread, ns, version, parent_version, base, kind, ext_id, name, run_id, refs,
                         blob_refs, digest, key_id, bytes, created_at, payload)
SELECT :thread, c.ns, c.version, c.parent_version, c.base, c.kind, c.ext_id, c.name, c.run_id, c.refs,
       c.blob_refs, c.digest, c.key_id, c.bytes, c.created_at, c.payload
  FROM heads AS h
  JOIN checkpoints AS c ON c.thread = :source AND c.ns = h.ns AND (:ends IS NULL OR c.version <= h.head_version)
 WHERE h.thread = :thread AND h.namespace IS NOT NULL

-- copy_all_rows --
-- Every row of these namespaces.
INSERT INTO log_rows (thread, ns, log, start, count, kind, key_id, p_start, p_end, payload)
SELECT :thread, l.ns, l.log, l.start, l.count, l.kind, l.key_id, l.p_start, l.p_end, l.payload
  FROM heads AS h
  JOIN log_rows AS l ON l.thread = :source AND l.ns = h.ns
 WHERE h.thread = :thread AND h.namespace IS NOT NULL

-- copy_all_blobs --
-- Every large field of these namespaces.
INSERT INTO blobs (thread, ns, id, key_id, payload)
SELECT :thread, b.ns, b.id, b.key_id, b.payload
  FROM heads AS h
  JOIN blobs AS b ON b.thread = :source AND b.ns = h.ns
 WHERE h.thread = :thread AND h.namespace IS NOT NULL

-- copy_all_slots --
-- Every slot of these namespaces; what expires belongs to the other thread alone.
INSERT INTO slots (thread, ns, kind, key, key_id, expires_at, meta, payload)
SELECT :thread, s.ns, s.kind, s.key, s.key_id, s.expires_at, s.meta, s.payload
  FROM heads AS h
  JOIN slots AS s ON s.thread = :source AND s.ns = h.ns AND s.expires_at IS NULL
 WHERE h.thread = :thread AND h.namespace IS NOT NULL

-- copy_all_entries --
-- Every entry of these namespaces until then, at its position, behind those that were ever given out here.
INSERT INTO entries (thread, ns, seq, ext_id, kind, role, digest, search, derived, meta, key_id, created_at,
                     payload, facts)
SELECT :thread, e.ns, :base + e.seq, e.ext_id, e.kind, e.role, e.digest, e.search, e.derived, e.meta, e.key_id,
       e.created_at, e.payload, e.facts
  FROM heads AS h
  JOIN entries AS e ON e.thread = :source AND e.ns = h.ns AND (:until IS NULL OR e.created_at <= :until)
 WHERE h.thread = :thread AND h.namespace IS NOT NULL

-- copy_all_terms --
-- The metadata of what was copied, and of the thread.
INSERT INTO terms (thread, kind, ns, term, ref)
SELECT :thread, t.kind, t.ns, t.term, iif(t.kind = 2, :base + t.ref, t.ref)
  FROM terms AS t
 WHERE t.thread = :source
   AND (t.kind = 3
        OR t.kind = 1 AND EXISTS (SELECT 1 FROM checkpoints AS c
                                   WHERE c.thread = :thread AND c.ns = t.ns AND c.version = t.ref)
        OR t.kind = 2 AND EXISTS (SELECT 1 FROM entries AS e
                                   WHERE e.thread = :thread AND e.ns = t.ns AND e.seq = :base + t.ref))

-- rename_checkpoint --
-- Another name for a version.
UPDATE checkpoints SET name = :name WHERE thread = :thread AND ns = :ns AND version = :version

-- drop_checkpoints --
-- Versions go; the head's never.
DELETE FROM checkpoints
 WHERE thread = :thread AND ns = :ns AND version IN (SELECT value FROM json_each(:versions)) AND version <> :head

-- drop_checkpoint_terms --
-- Their metadata goes with them: one pass for all, since terms are not found by version.
DELETE FROM terms
 WHERE thread = :thread AND kind = 1 AND ns = :ns AND ref IN (SELECT value FROM json_each(:versions)) AND ref <> :head

-- drop_row --
-- A row that no checkpoint needs.
DELETE FROM log_rows WHERE thread = :thread AND ns = :ns AND log = :log AND start = :start

-- later_blobs --
-- What the checkpoints behind a version refer to.
SELECT blob_refs FROM checkpoints WHERE thread = :thread AND ns = :ns AND version > :seen AND blob_refs IS NOT NULL

-- drop_blob --
-- A large field that no checkpoint needs.
DELETE FROM blobs WHERE thread = :thread AND ns = :ns AND id = :id

-- add_blob --
-- A large field, unless it is there.
INSERT INTO blobs (thread, ns, id, key_id, payload) VALUES (:thread, :ns, :id, :key_id, :payload)
    ON CONFLICT (thread, ns, id) DO NOTHING

-- add_term --
-- A metadata term of a checkpoint (1), an entry (2) or a thread (3).
INSERT INTO terms (thread, kind, ns, term, ref) VALUES (:thread, :kind, :ns, :term, :ref) ON CONFLICT DO NOTHING

-- delete_entry_terms --
-- The terms of some entries.
DELETE FROM terms
 WHERE thread = :thread AND kind = 2 AND ns = :ns AND ref IN (SELECT value FROM json_each(:refs))

-- delete_thread_terms --
-- The terms of a thread's own metadata.
DELETE FROM terms WHERE thread = :thread AND kind = 3 AND ns = x''

-- find_tail --
-- The entries behind a position.
SELECT id, seq, ext_id, kind, role, payload, digest, search, derived, meta, key_id, created_at, facts
  FROM entries WHERE thread = :thread AND ns = :ns AND seq > :after ORDER BY seq

-- find_named --
-- Entries by their ids.
SELECT e.id, e.seq, e.ext_id, e.kind, e.role, e.payload, e.digest, e.search, e.derived, e.meta, e.key_id,
       e.created_at, e.facts
  FROM json_each(:ext_ids) AS wanted
  CROSS JOIN entries AS e ON e.thread = :thread AND e.ns = :ns AND e.ext_id = wanted.value

-- find_last --
-- The last entries, newest first.
SELECT id, seq, ext_id, kind, role, payload, digest, search, derived, meta, key_id, created_at, facts
  FROM entries WHERE thread = :thread AND ns = :ns ORDER BY seq DESC LIMIT :limit

-- find_seq --
-- An entry by its position.
SELECT id, seq, ext_id, kind, role, payload, digest, search, derived, meta, key_id, created_at, facts
  FROM entries WHERE thread = :thread AND ns = :ns AND seq = :seq

-- find_worded --
-- The entries of a thread that have words in the index.
SELECT id, seq, ext_id, kind, role, payload, digest, search, derived, meta, key_id, created_at, facts
  FROM entries WHERE thread = :thread AND (derived = 1 OR search IS NOT NULL)

-- last_entry_id --
-- The highest entry row there is.
SELECT coalesce(max(id), 0) FROM entries

-- add_entry --
-- An entry at the end.
INSERT INTO entries (id, thread, ns, seq, ext_id, kind, role, digest, search, derived, meta, key_id, created_at,
                     payload, facts)
VALUES (:id, :thread, :ns, :seq, :ext_id, :kind, :role, :digest, :search, :derived, :meta, :key_id, :created_at,
        :payload, :facts)

-- change_entry --
-- Another content in the same position.
UPDATE entries
   SET kind = :kind, role = :role, digest = :digest, search = :search, derived = :derived, meta = :meta,
       key_id = :key_id, payload = :payload, facts = :facts
 WHERE id = :id

-- delete_entry --
-- An entry goes.
DELETE FROM entries WHERE id = :id

-- add_words --
-- The words of an entry enter the index.
INSERT INTO entries_fts (rowid, words) VALUES (:id, :words)

-- delete_words --
-- They leave it; they must be the same words.
INSERT INTO entries_fts (entries_fts, rowid, words) VALUES ('delete', :id, :words)

-- merge_words --
-- Merge segments of the index, about so many pages; a negative number begins to merge all of them.
INSERT INTO entries_fts (entries_fts, rank) VALUES ('merge', :pages)

-- find_slot --
-- The payload of a slot that is there and has not expired.
SELECT payload FROM slots
 WHERE thread = :thread AND ns = :ns AND kind = :kind AND key = :key
   AND (expires_at IS NULL OR expires_at > :at)

-- put_slot --
-- Write a slot over what is there. A new row and not an update: one that shrinks would leave its page half empty.
INSERT OR REPLACE INTO slots (thread, ns, kind, key, key_id, expires_at, meta, payload)
VALUES (:thread, :ns, :kind, :key, :key_id, :expires_at, :meta, :payload)

-- delete_slot --
-- A slot goes.
DELETE FROM slots WHERE thread = :thread AND ns = :ns AND kind = :kind AND key = :key

-- add_journal --
-- What a commit did.
INSERT INTO journal (thread, rev, op_id, kind, at, version, result, popped)
VALUES (:thread, :rev, :op_id, :kind, :at, :version, :result, :popped)

-- find_popped --
-- The commits of a thread that answered entries.
SELECT rev, popped FROM journal WHERE thread = :thread AND popped IS NOT NULL

-- change_popped --
-- Another answer.
UPDATE journal SET popped = :popped WHERE thread = :thread AND rev = :rev

-- trim_journal --
-- Results that nobody asks for again.
DELETE FROM journal WHERE thread = :thread AND at < :before

-- trim_retired --
-- Those of a few deleted threads, which no commit of their own would let go.
DELETE FROM journal WHERE thread IN (SELECT id FROM threads WHERE trim_at <= :at ORDER BY trim_at LIMIT :limit)

-- trimmed_retired --
-- They have none any more.
UPDATE threads SET trim_at = NULL
 WHERE id IN (SELECT id FROM threads WHERE trim_at <= :at ORDER BY trim_at LIMIT :limit)

-- erase_checkpoints --
-- Erasing a thread.
DELETE FROM checkpoints WHERE thread = :thread

-- erase_rows --
-- Erasing a thread.
DELETE FROM log_rows WHERE thread = :thread

-- erase_blobs --
-- Erasing a thread.
DELETE FROM blobs WHERE thread = :thread

-- erase_entries --
-- Erasing a thread; its words have left the index before.
DELETE FROM entries WHERE thread = :thread

-- erase_slots --
-- Erasing a thread.
DELETE FROM slots WHERE thread = :thread

-- erase_terms --
-- Erasing a thread.
DELETE FROM terms WHERE thread = :thread

-- erase_popped --
-- Erasing a thread: results keep no content.
UPDATE journal SET popped = NULL WHERE thread = :thread AND popped IS NOT NULL

-- erase_heads --
-- Erasing a thread: its counters stay.
UPDATE heads SET namespace = NULL, head_version = 0, marks = x'' WHERE thread = :thread

-- erase_thread --
-- Erasing a thread: the row stays without names.
UPDATE threads
   SET live = 0, tenant = NULL, app = NULL, thread_id = NULL, user = NULL, info = NULL, lineage = NULL,
       title = NULL, key_id = 0, rev = :rev, activity_at = :at, message_count = 0, checkpoint_count = 0,
       trim_at = :trim_at
 WHERE id = :thread

-- read_head --
-- The thread, where the namespace stands, and the digest of its head.
SELECT t.thread_key, t.tenant, t.app, t.thread_id, t.user, t.incarnation, t.rev, t.gc, t.info, t.lineage, t.title,
       t.key_id, t.created_at, t.activity_at, t.message_count, t.checkpoint_count,
       coalesce(h.head_version, 0), coalesce(h.last_version, 0), coalesce(h.marks, x''), t.id, c.digest
  FROM threads AS t
  LEFT JOIN heads AS h ON h.thread = t.id AND h.ns = :ns
  LEFT JOIN checkpoints AS c ON c.thread = t.id AND c.ns = :ns AND c.version = h.head_version
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user)

-- read_retired --
-- The last version of a namespace in the earlier life of a deleted thread.
SELECT h.last_version
  FROM threads AS t
  JOIN heads AS h ON h.thread = t.id AND h.ns = :ns
 WHERE t.thread_key = :key AND t.live = 0

-- checkpoint_by_version --
-- A version of a thread that was read in the same snapshot.
SELECT version, payload, digest, parent_version, base, kind, ext_id, name, run_id, refs, blob_refs, key_id,
       bytes, created_at
  FROM checkpoints WHERE thread = :thread AND ns = :ns AND version = :version

-- checkpoint_by_ext_id --
-- A framework's own checkpoint of a thread that was read in the same snapshot.
SELECT version, payload, digest, parent_version, base, kind, ext_id, name, run_id, refs, blob_refs, key_id,
       bytes, created_at
  FROM checkpoints WHERE thread = :thread AND ns = :ns AND ext_id = :ext_id

-- checkpoint_by_name --
-- The latest of a name in a thread that was read in the same snapshot.
SELECT version, payload, digest, parent_version, base, kind, ext_id, name, run_id, refs, blob_refs, key_id,
       bytes, created_at
  FROM checkpoints WHERE thread = :thread AND ns = :ns AND name = :name ORDER BY version DESC LIMIT 1

-- read_rows --
-- The rows that cover a range, from the one it begins in.
SELECT l.log, l.start, l.count, l.payload, l.p_start, l.p_end, l.kind, l.key_id
  FROM threads AS t
  JOIN log_rows AS l ON l.thread = t.id AND l.ns = :ns AND l.log = :log AND l.start < :end
   AND l.start >= coalesce((SELECT max(f.start) FROM log_rows AS f WHERE f.thread = t.id AND f.ns = :ns
                               AND f.log = :log AND f.start <= :start), 0)
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user) AND l.start + l.count > :start

-- read_blob --
-- A large field.
SELECT b.id, b.payload, b.key_id
  FROM threads AS t
  JOIN blobs AS b ON b.thread = t.id AND b.ns = :ns AND b.id = :id
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user)

-- read_checkpoints --
-- Versions, newest first.
SELECT c.version, c.payload, c.digest, c.parent_version, c.base, c.kind, c.ext_id, c.name, c.run_id, c.refs,
       c.blob_refs, c.key_id, c.bytes, c.created_at
  FROM threads AS t
  JOIN checkpoints AS c ON c.thread = t.id AND c.ns = :ns AND c.version < :before
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user)
   AND (:term_count = 0 OR :term_count = (
           SELECT count(*) FROM json_each(:terms) AS w
             JOIN terms AS x ON x.thread = t.id AND x.kind = 1 AND x.ns = :ns AND x.term = w.value
              AND x.ref = c.version))
 ORDER BY c.version DESC LIMIT :limit

-- read_named_checkpoints --
-- Versions of a name, newest first.
SELECT c.version, c.payload, c.digest, c.parent_version, c.base, c.kind, c.ext_id, c.name, c.run_id, c.refs,
       c.blob_refs, c.key_id, c.bytes, c.created_at
  FROM threads AS t
  JOIN checkpoints AS c ON c.thread = t.id AND c.ns = :ns AND c.name = :name AND c.version < :before
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user)
   AND (:term_count = 0 OR :term_count = (
           SELECT count(*) FROM json_each(:terms) AS w
             JOIN terms AS x ON x.thread = t.id AND x.kind = 1 AND x.ns = :ns AND x.term = w.value
              AND x.ref = c.version))
 ORDER BY c.version DESC LIMIT :limit

-- read_entries_oldest --
-- Entries by position, oldest first.
SELECT e.id, e.seq, e.ext_id, e.kind, e.role, e.payload, e.digest, e.search, e.derived, e.meta, e.key_id,
       e.created_at, e.facts
  FROM threads AS t
  JOIN entries AS e ON e.thread = t.id AND e.ns = :ns AND e.seq > :after AND e.seq < :before
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user)
   AND (:role IS NULL OR e.role = :role)
   AND (:term_count = 0 OR :term_count = (
           SELECT count(*) FROM json_each(:terms) AS w
             JOIN terms AS x ON x.thread = t.id AND x.kind = 2 AND x.ns = :ns AND x.term = w.value AND x.ref = e.seq))
   AND NOT EXISTS (SELECT 1 FROM json_each(:words) AS p
                    WHERE ifnull(instr(' ' || e.search || ' ', ' ' || p.value || ' '), 0) = 0)
 ORDER BY e.seq LIMIT :limit

-- read_entries_newest --
-- Entries by position, newest first.
SELECT e.id, e.seq, e.ext_id, e.kind, e.role, e.payload, e.digest, e.search, e.derived, e.meta, e.key_id,
       e.created_at, e.facts
  FROM threads AS t
  JOIN entries AS e ON e.thread = t.id AND e.ns = :ns AND e.seq > :after AND e.seq < :before
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user)
   AND (:role IS NULL OR e.role = :role)
   AND (:term_count = 0 OR :term_count = (
           SELECT count(*) FROM json_each(:terms) AS w
             JOIN terms AS x ON x.thread = t.id AND x.kind = 2 AND x.ns = :ns AND x.term = w.value AND x.ref = e.seq))
   AND NOT EXISTS (SELECT 1 FROM json_each(:words) AS p
                    WHERE ifnull(instr(' ' || e.search || ' ', ' ' || p.value || ' '), 0) = 0)
 ORDER BY e.seq DESC LIMIT :limit

-- read_worded_oldest --
-- Entries that hold every word, by the word index, oldest first.
SELECT e.id, e.seq, e.ext_id, e.kind, e.role, e.payload, e.digest, e.search, e.derived, e.meta, e.key_id,
       e.created_at, e.facts
  FROM threads AS t
  JOIN entries AS e ON e.thread = t.id AND e.ns = :ns AND e.seq > :after AND e.seq < :before
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user)
   AND (:role IS NULL OR e.role = :role)
   AND (:term_count = 0 OR :term_count = (
           SELECT count(*) FROM json_each(:terms) AS w
             JOIN terms AS x ON x.thread = t.id AND x.kind = 2 AND x.ns = :ns AND x.term = w.value AND x.ref = e.seq))
   AND e.id IN (SELECT rowid FROM entries_fts WHERE entries_fts MATCH :match)
 ORDER BY e.seq LIMIT :limit

-- read_worded_newest --
-- Entries that hold every word, by the word index, newest first.
SELECT e.id, e.seq, e.ext_id, e.kind, e.role, e.payload, e.digest, e.search, e.derived, e.meta, e.key_id,
       e.created_at, e.facts
  FROM threads AS t
  JOIN entries AS e ON e.thread = t.id AND e.ns = :ns AND e.seq > :after AND e.seq < :before
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user)
   AND (:role IS NULL OR e.role = :role)
   AND (:term_count = 0 OR :term_count = (
           SELECT count(*) FROM json_each(:terms) AS w
             JOIN terms AS x ON x.thread = t.id AND x.kind = 2 AND x.ns = :ns AND x.term = w.value AND x.ref = e.seq))
   AND e.id IN (SELECT rowid FROM entries_fts WHERE entries_fts MATCH :match)
 ORDER BY e.seq DESC LIMIT :limit

-- read_named_entries --
-- Entries by their ids, oldest first; words are looked for in what comes back.
SELECT e.id, e.seq, e.ext_id, e.kind, e.role, e.payload, e.digest, e.search, e.derived, e.meta, e.key_id,
       e.created_at, e.facts
  FROM threads AS t
 CROSS JOIN (SELECT DISTINCT value FROM json_each(:ext_ids)) AS wanted
 CROSS JOIN entries AS e ON e.thread = t.id AND e.ns = :ns AND e.ext_id = wanted.value
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user)
   AND e.seq > :after AND e.seq < :before AND (:role IS NULL OR e.role = :role)
   AND (:term_count = 0 OR :term_count = (
           SELECT count(*) FROM json_each(:terms) AS w
             JOIN terms AS x ON x.thread = t.id AND x.kind = 2 AND x.ns = :ns AND x.term = w.value AND x.ref = e.seq))
 ORDER BY e.seq

-- search_words --
-- Entries of any thread that hold every word, by the word index, newest first.
SELECT e.id, e.seq, e.ext_id, e.kind, e.role, e.payload, e.digest, e.search, e.derived, e.meta, e.key_id,
       e.created_at, e.facts,
       t.thread_key, t.tenant, t.app, t.thread_id, t.user, t.incarnation, t.rev, t.gc, t.info, t.lineage, t.title,
       t.key_id, t.created_at, t.activity_at, t.message_count, t.checkpoint_count
  FROM entries_fts AS f
 CROSS JOIN entries AS e ON e.id = f.rowid
 CROSS JOIN threads AS t ON t.id = e.thread
 WHERE f.entries_fts MATCH :match AND f.rowid < :before
   AND t.live = 1 AND (:tenant IS NULL OR t.tenant = :tenant) AND (:app IS NULL OR t.app = :app)
   AND (:user IS NULL OR t.user = :user)
   AND (:term_count = 0 OR t.id IN (
           SELECT x.thread FROM json_each(:terms) AS w JOIN terms AS x ON x.kind = 3 AND x.term = w.value
            GROUP BY x.thread HAVING count(*) = :term_count))
 ORDER BY f.rowid DESC LIMIT :limit

-- search_texts --
-- The same without a word index, or without a word to look up.
-- scan: reads every entry from the newest on until the limit
SELECT e.id, e.seq, e.ext_id, e.kind, e.role, e.payload, e.digest, e.search, e.derived, e.meta, e.key_id,
       e.created_at, e.facts,
       t.thread_key, t.tenant, t.app, t.thread_id, t.user, t.incarnation, t.rev, t.gc, t.info, t.lineage, t.title,
       t.key_id, t.created_at, t.activity_at, t.message_count, t.checkpoint_count
  FROM entries AS e
 CROSS JOIN threads AS t ON t.id = e.thread
 WHERE e.id < :before
   AND t.live = 1 AND (:tenant IS NULL OR t.tenant = :tenant) AND (:app IS NULL OR t.app = :app)
   AND (:user IS NULL OR t.user = :user)
   AND (:term_count = 0 OR t.id IN (
           SELECT x.thread FROM json_each(:terms) AS w JOIN terms AS x ON x.kind = 3 AND x.term = w.value
            GROUP BY x.thread HAVING count(*) = :term_count))
   AND NOT EXISTS (SELECT 1 FROM json_each(:words) AS p
                    WHERE ifnull(instr(' ' || e.search || ' ', ' ' || p.value || ' '), 0) = 0)
 ORDER BY e.id DESC LIMIT :limit

-- read_slots --
-- Slots of a kind, in byte order of their keys.
SELECT s.kind, s.key, s.payload, s.meta, s.key_id, s.expires_at
  FROM threads AS t
  JOIN slots AS s ON s.thread = t.id AND s.ns = :ns AND s.kind = :kind AND s.key >= :first AND s.key < :end
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user)
   AND (:after IS NULL OR s.key > :after) AND (s.expires_at IS NULL OR s.expires_at > :now)
 ORDER BY s.key LIMIT :limit

-- read_all_slots --
-- Slots of every kind, kind by kind, in byte order of their keys.
SELECT s.kind, s.key, s.payload, s.meta, s.key_id, s.expires_at
  FROM threads AS t
  JOIN slots AS s ON s.thread = t.id AND s.ns = :ns
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user)
   AND s.key >= :first AND s.key < :end
   AND (:after IS NULL OR s.key > :after) AND (s.expires_at IS NULL OR s.expires_at > :now)
 ORDER BY s.kind, s.key LIMIT :limit

-- threads_newest --
-- The threads of a tenant and app, most recent activity first.
SELECT t.thread_key, t.tenant, t.app, t.thread_id, t.user, t.incarnation, t.rev, t.gc, t.info, t.lineage, t.title,
       t.key_id, t.created_at, t.activity_at, t.message_count, t.checkpoint_count
  FROM threads AS t
 WHERE t.live = 1 AND t.tenant = :tenant AND t.app = :app
   AND (t.activity_at, t.thread_key) < (:after_at, :after_key)
   AND (:term_count = 0 OR t.id IN (
           SELECT x.thread FROM json_each(:terms) AS w JOIN terms AS x ON x.kind = 3 AND x.term = w.value
            GROUP BY x.thread HAVING count(*) = :term_count))
 ORDER BY t.activity_at DESC, t.thread_key DESC LIMIT :limit OFFSET :offset

-- threads_oldest --
-- The threads of a tenant and app, oldest activity first.
SELECT t.thread_key, t.tenant, t.app, t.thread_id, t.user, t.incarnation, t.rev, t.gc, t.info, t.lineage, t.title,
       t.key_id, t.created_at, t.activity_at, t.message_count, t.checkpoint_count
  FROM threads AS t
 WHERE t.live = 1 AND t.tenant = :tenant AND t.app = :app
   AND (t.activity_at, t.thread_key) > (:after_at, :after_key)
   AND (:term_count = 0 OR t.id IN (
           SELECT x.thread FROM json_each(:terms) AS w JOIN terms AS x ON x.kind = 3 AND x.term = w.value
            GROUP BY x.thread HAVING count(*) = :term_count))
 ORDER BY t.activity_at, t.thread_key LIMIT :limit OFFSET :offset

-- user_threads_newest --
-- The threads of an owner in a tenant and app, most recent activity first.
SELECT t.thread_key, t.tenant, t.app, t.thread_id, t.user, t.incarnation, t.rev, t.gc, t.info, t.lineage, t.title,
       t.key_id, t.created_at, t.activity_at, t.message_count, t.checkpoint_count
  FROM threads AS t
 WHERE t.live = 1 AND t.tenant = :tenant AND t.app = :app AND t.user = :user
   AND (t.activity_at, t.thread_key) < (:after_at, :after_key)
   AND (:term_count = 0 OR t.id IN (
           SELECT x.thread FROM json_each(:terms) AS w JOIN terms AS x ON x.kind = 3 AND x.term = w.value
            GROUP BY x.thread HAVING count(*) = :term_count))
 ORDER BY t.activity_at DESC, t.thread_key DESC LIMIT :limit OFFSET :offset

-- user_threads_oldest --
-- The threads of an owner in a tenant and app, oldest activity first.
SELECT t.thread_key, t.tenant, t.app, t.thread_id, t.user, t.incarnation, t.rev, t.gc, t.info, t.lineage, t.title,
       t.key_id, t.created_at, t.activity_at, t.message_count, t.checkpoint_count
  FROM threads AS t
 WHERE t.live = 1 AND t.tenant = :tenant AND t.app = :app AND t.user = :user
   AND (t.activity_at, t.thread_key) > (:after_at, :after_key)
   AND (:term_count = 0 OR t.id IN (
           SELECT x.thread FROM json_each(:terms) AS w JOIN terms AS x ON x.kind = 3 AND x.term = w.value
            GROUP BY x.thread HAVING count(*) = :term_count))
 ORDER BY t.activity_at, t.thread_key LIMIT :limit OFFSET :offset

-- all_threads_newest --
-- The threads of all tenants or apps, most recent activity first.
-- scan: asked for by upkeep and statistics only
SELECT t.thread_key, t.tenant, t.app, t.thread_id, t.user, t.incarnation, t.rev, t.gc, t.info, t.lineage, t.title,
       t.key_id, t.created_at, t.activity_at, t.message_count, t.checkpoint_count
  FROM threads AS t
 WHERE t.live = 1 AND (:tenant IS NULL OR t.tenant = :tenant) AND (:app IS NULL OR t.app = :app)
   AND (:user IS NULL OR t.user = :user) AND (t.activity_at, t.thread_key) < (:after_at, :after_key)
   AND (:term_count = 0 OR t.id IN (
           SELECT x.thread FROM json_each(:terms) AS w JOIN terms AS x ON x.kind = 3 AND x.term = w.value
            GROUP BY x.thread HAVING count(*) = :term_count))
 ORDER BY t.activity_at DESC, t.thread_key DESC LIMIT :limit OFFSET :offset

-- all_threads_oldest --
-- The threads of all tenants or apps, oldest activity first.
-- scan: asked for by upkeep and statistics only
SELECT t.thread_key, t.tenant, t.app, t.thread_id, t.user, t.incarnation, t.rev, t.gc, t.info, t.lineage, t.title,
       t.key_id, t.created_at, t.activity_at, t.message_count, t.checkpoint_count
  FROM threads AS t
 WHERE t.live = 1 AND (:tenant IS NULL OR t.tenant = :tenant) AND (:app IS NULL OR t.app = :app)
   AND (:user IS NULL OR t.user = :user) AND (t.activity_at, t.thread_key) > (:after_at, :after_key)
   AND (:term_count = 0 OR t.id IN (
           SELECT x.thread FROM json_each(:terms) AS w JOIN terms AS x ON x.kind = 3 AND x.term = w.value
            GROUP BY x.thread HAVING count(*) = :term_count))
 ORDER BY t.activity_at, t.thread_key LIMIT :limit OFFSET :offset

-- row_stock --
-- Where the rows of a namespace lie, and the bytes of each.
SELECT r.log, r.start, r.start + r.count, length(r.payload)
  FROM threads AS t
  JOIN log_rows AS r ON r.thread = t.id AND r.ns = :ns
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user)
 ORDER BY r.log, r.start

-- blob_stock --
-- The blobs of a namespace, and the bytes of each.
SELECT b.id, length(b.payload)
  FROM threads AS t
  JOIN blobs AS b ON b.thread = t.id AND b.ns = :ns
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user)

-- read_namespaces --
-- The names of a thread's namespaces; those of an earlier life have none.
SELECT h.namespace
  FROM threads AS t
  JOIN heads AS h ON h.thread = t.id
 WHERE t.thread_key = :key AND t.live = 1 AND (:user IS NULL OR t.user = :user) AND h.namespace IS NOT NULL
 ORDER BY h.namespace

-- measure_thread --
-- Counts and bytes of a thread.
SELECT 1, (SELECT count(*) FROM heads AS h WHERE h.thread = t.id AND h.namespace IS NOT NULL),
       states.count, states.bytes, said.count, said.bytes, items.count, items.bytes + large.bytes
  FROM threads AS t,
       (SELECT count(*) AS count, ifnull(sum(length(x.payload)), 0) AS bytes FROM checkpoints AS x
         WHERE x.thread = (SELECT id FROM threads WHERE thread_key = :key)) AS states,
       (SELECT count(*) AS count, ifnull(sum(length(x.payload)), 0) AS bytes FROM entries AS x
         WHERE x.thread = (SELECT id FROM threads WHERE thread_key = :key)) AS said,
       (SELECT count(*) AS count, ifnull(sum(length(x.payload)), 0) AS bytes FROM log_rows AS x
         WHERE x.thread = (SELECT id FROM threads WHERE thread_key = :key)) AS items,
       (SELECT ifnull(sum(length(x.payload)), 0) AS bytes FROM blobs AS x
         WHERE x.thread = (SELECT id FROM threads WHERE thread_key = :key)) AS large
 WHERE t.thread_key = :key AND t.live = 1

-- measure_all --
-- Counts and bytes of everything.
-- scan: it is asked about everything
SELECT (SELECT count(*) FROM threads WHERE live = 1), (SELECT count(*) FROM heads WHERE namespace IS NOT NULL),
       states.count, states.bytes, said.count, said.bytes, items.count, items.bytes + large.bytes
  FROM (SELECT count(*) AS count, ifnull(sum(length(payload)), 0) AS bytes FROM checkpoints) AS states,
       (SELECT count(*) AS count, ifnull(sum(length(payload)), 0) AS bytes FROM entries) AS said,
       (SELECT count(*) AS count, ifnull(sum(length(payload)), 0) AS bytes FROM log_rows) AS items,
       (SELECT ifnull(sum(length(payload)), 0) AS bytes FROM blobs) AS large

-- summary_thread --
-- A thread that is counted, and how long it was active, in microseconds.
SELECT t.id, t.activity_at - t.created_at
  FROM threads AS t
 WHERE t.thread_key = :key AND t.live = 1 AND t.tenant = :tenant AND t.app = :app
   AND (:user IS NULL OR t.user = :user)

-- summary_user --
-- The threads of a user, that are counted.
SELECT t.id, t.activity_at - t.created_at
  FROM threads AS t
 WHERE t.live = 1 AND t.tenant = :tenant AND t.app = :app AND t.user = :user

-- summary_all --
-- The threads of a tenant and app, that are counted.
SELECT t.id, t.activity_at - t.created_at
  FROM threads AS t
 WHERE t.live = 1 AND t.tenant = :tenant AND t.app = :app

-- summary_messages --
-- Messages of these threads by day and role.
SELECT e.created_at / 86400000000, e.role, count(*)
  FROM json_each(:threads) AS n
  JOIN entries AS e ON e.thread = n.value AND e.kind IS NULL
 GROUP BY 1, 2

-- summary_checkpoints --
-- Checkpoints of these threads by day and name.
SELECT c.created_at / 86400000000, c.name, count(*)
  FROM json_each(:threads) AS n
  JOIN checkpoints AS c ON c.thread = n.value
 GROUP BY 1, 2

-- summary_tools --
-- Calls by tool. A result belongs to the call of its id that stands right before it.
WITH facts AS (
         SELECT e.thread, e.seq, e.facts, json_extract(e.facts, '$.at') AS at
           FROM json_each(:threads) AS n
           JOIN entries AS e ON e.thread = n.value AND e.kind IS NULL AND e.facts IS NOT NULL),
     steps AS (
         SELECT f.thread, f.seq, 0 AS part, c.key AS place, f.at, json_extract(c.value, '$[0]') AS id,
                json_extract(c.value, '$[1]') AS name, 0 AS error
           FROM facts AS f, json_each(f.facts, '$.c') AS c
          UNION ALL
         SELECT f.thread, f.seq, 1, r.key, f.at, json_extract(r.value, '$[0]'), NULL, json_extract(r.value, '$[1]')
           FROM facts AS f, json_each(f.facts, '$.r') AS r),
     paired AS (
         SELECT s.part, s.name, s.error, s.at,
                lag(s.name) OVER each AS called, lag(s.at) OVER each AS called_at
           FROM steps AS s
         WINDOW each AS (PARTITION BY s.thread, s.id ORDER BY s.seq, s.part, s.place))
SELECT coalesce(p.name, p.called) AS tool, sum(p.part = 0), sum(p.part = 1), sum(p.part = 1 AND p.error = 1),
       coalesce(sum(p.part = 1 AND p.at >= p.called_at), 0),
       coalesce(sum(CASE WHEN p.part = 1 AND p.at >= p.called_at THEN p.at - p.called_at END), 0)
  FROM paired AS p
 WHERE p.part = 0 OR p.called IS NOT NULL
 GROUP BY 1

-- summary_tokens --
-- Tokens of these threads, each kind together.
SELECT coalesce(sum(json_extract(e.facts, '$.t[0]')), 0), coalesce(sum(json_extract(e.facts, '$.t[1]')), 0),
       coalesce(sum(json_extract(e.facts, '$.t[2]')), 0), coalesce(sum(json_extract(e.facts, '$.t[3]')), 0),
       coalesce(sum(json_extract(e.facts, '$.t[4]')), 0)
  FROM json_each(:threads) AS n
  JOIN entries AS e ON e.thread = n.value AND e.kind IS NULL AND e.facts IS NOT NULL
