-- Every statement of the PostgreSQL backend. First the store, then commits (the one statement of a put; then the steps of
-- commits that need a transaction), then reads. `:name` is a parameter, `tl.` the schema and the prefix of our tables,
-- `owner_type` the type of user ids, `{{name}}` the text of another query of this file.

-- clock --
-- The store's clock, in microseconds.
-- part: of other statements
(date_part('epoch', clock_timestamp()) * 1000000)::bigint

-- ping --
-- Whether the server answers.
SELECT 1

-- has_store --
-- Whether anything was ever migrated here.
-- scan: the catalog
SELECT to_regclass(:store) IS NOT NULL

-- has_schema --
-- Whether the schema is there.
-- scan: the catalog
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :schema)

-- lock_migrations --
-- One migrates at a time; the lock ends with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('threadline ' || :schema, 0))

-- create_store --
-- What is true of the store (the salt of its keys, its kind of user ids, its partitions), and what was applied to it. One
-- table, and no value that could be put out of line: each table takes 40 KB and more, whatever is in it.
CREATE TABLE IF NOT EXISTS tl.store (
    key varchar(50) COLLATE "C" PRIMARY KEY, value varchar(200) NOT NULL, at timestamptz NOT NULL DEFAULT now()
)

-- read_migrations --
-- What was applied, in order.
-- scan: a handful of rows
SELECT substr(key, 11)::integer AS version, split_part(value, ' ', 1) AS name,
       decode(split_part(value, ' ', 2), 'hex') AS checksum
  FROM tl.store WHERE key LIKE 'migration %' ORDER BY 1

-- add_migration --
-- Remember that it was applied.
INSERT INTO tl.store (key, value)
VALUES ('migration ' || :version::integer, :name::text || ' ' || encode(:checksum::bytea, 'hex'))

-- add_facts --
-- What is true of the store, said once: the salt of its keys is made by the server.
INSERT INTO tl.store (key, value)
VALUES ('salt', encode(uuid_send(gen_random_uuid()), 'hex')), ('user_ids', :user_ids::text),
       ('partitions', :partitions::text)
    ON CONFLICT (key) DO NOTHING

-- read_facts --
-- What was said of the store.
-- scan: a handful of rows
SELECT key, CASE WHEN key = 'salt' THEN decode(value, 'hex') ELSE convert_to(value, 'UTF8') END AS value
  FROM tl.store WHERE key NOT LIKE 'migration %'

-- relax --
-- This commit need not be on the disk when it returns.
SELECT set_config('synchronous_commit', 'off', true)

-- lock_row --
-- The thread's row, locked, if a commit may be made onto it as it is.
-- part: of put
SELECT thread, incarnation, rev, last_seq + :taken::bigint AS last_seq,
       greatest(coalesce(:now::bigint, {{clock}}), activity_at) AS at
  FROM tl.threads
 WHERE thread = :thread AND live AND tenant = :tenant AND app = :app AND thread_id = :thread_id
   AND (:user::owner_type IS NULL OR owner = :user)
   AND (:requires::bytea IS NULL OR incarnation = :requires)
   AND (:known::bytea IS NULL OR incarnation = :known)
   AND (:assumes_gc::bigint IS NULL OR gc = :assumes_gc) AND (:assumes_rev::bigint IS NULL OR rev = :assumes_rev)
   {{hold}}

-- hold --
-- The row is this transaction's: wait for it.
-- part: of put
FOR NO KEY UPDATE

-- hold_free --
-- The same, or nothing when another transaction has it.
-- part: of put
FOR NO KEY UPDATE SKIP LOCKED

-- move_head --
-- Compare and set the head; without `expected` it only has to be there.
-- part: of put
INSERT INTO tl.heads AS h (thread, ns, namespace, head_version, last_version, marks)
SELECT t.thread, :ns, :namespace, coalesce(:version::bigint, 0), coalesce(:version, 0), :marks
  FROM t
 WHERE {{fence}}
   AND (:expected::bigint IS NULL OR (:expected = 0 AND :last_version::bigint = 0)
        OR EXISTS (SELECT FROM tl.heads AS x WHERE x.thread = :thread AND x.ns = :ns))
    ON CONFLICT (thread, ns) DO UPDATE
   SET namespace = excluded.namespace, head_version = coalesce(:version, h.head_version),
       last_version = coalesce(:version, h.last_version),
       marks = CASE WHEN excluded.marks = '' THEN h.marks ELSE excluded.marks END
 WHERE :expected IS NULL OR (h.head_version = :expected AND h.last_version = :last_version)
RETURNING h.thread

-- advance_head --
-- The same where there must be one; what comes after it reads the thread's row from here (`held`).
-- part: of put
UPDATE tl.heads AS h
   SET namespace = :namespace, head_version = coalesce(:version::bigint, h.head_version),
       last_version = coalesce(:version, h.last_version), marks = CASE WHEN :marks::bytea = '' THEN h.marks ELSE :marks END
  FROM t
 WHERE h.thread = t.thread AND h.thread = :thread AND h.ns = :ns
   AND {{fence}} AND h.head_version = :expected::bigint AND h.last_version = :last_version::bigint
RETURNING t.*

-- held --
-- The thread's row, when the head moved.
-- part: of put
t, h

-- held_ahead --
-- The same behind `advance_head`.
-- part: of put
h AS t

-- hold_slots --
-- The slots that the commit requires, as they are now that the thread's row is locked; `t.at` may be from before that.
-- part: of put
SELECT s.key
  FROM t, unnest(:fence_kind::text[], :fence_key::bytea[], :fence_payload::bytea[]) AS n (kind, key, payload)
  JOIN tl.slots AS s ON s.thread = :thread AND s.ns = :ns AND s.kind = n.kind AND s.key = n.key
 WHERE s.thread = t.thread AND s.payload = n.payload
   AND (s.expires_at IS NULL OR s.expires_at > greatest(t.at, coalesce(:now::bigint, {{clock}})))
   FOR SHARE OF s

-- fence --
-- Whether every slot that the commit requires is as it says.
-- part: of put
(SELECT count(*) FROM f) = cardinality(:fence_kind::text[])

-- add_checkpoint --
-- One version.
-- part: of put
INSERT INTO tl.checkpoints (thread, ns, version, parent_version, base, based, kind, ext_id, name, run_id, refs,
                            blob_refs, digest, key_id, bytes, created_at, terms, payload, op, rev, first_seq)
SELECT t.thread, :ns, :version, :parent_version, :base, :based, :state_kind, :ext_id, :name, :run_id, :refs,
       :blob_refs, :digest, nullif(:key_id, 0), :bytes, coalesce(:created_at, t.at), :terms, :payload,
       {{op}}, {{rev}}, {{op_seq}}
  FROM {{held}}

-- op --
-- By what a commit is known again that its checkpoint's row tells of.
-- part: of put
:op::bigint

-- rev --
-- The number that the commit is given.
-- part: of put
t.rev + 1

-- op_seq --
-- The position before its first entry.
-- part: of put
t.last_seq

-- put_rows --
-- Items of logs; in place when a row begins there already.
-- part: of put
INSERT INTO tl.log_rows (thread, ns, log, start, count, kind, key_id, p_start, p_end, payload)
SELECT t.thread, :ns, n.*
  FROM {{held}}, unnest(:row_log::integer[], :row_start::integer[], :row_count::integer[], :row_kind::smallint[],
                    :row_key_id::integer[], :row_p_start::bytea[], :row_p_end::bytea[], :row_payload::bytea[]) AS n
    ON CONFLICT (thread, ns, log, start) DO UPDATE
   SET count = excluded.count, kind = excluded.kind, key_id = excluded.key_id, p_start = excluded.p_start,
       p_end = excluded.p_end, payload = excluded.payload

-- delete_merged --
-- The other rows within the span of a merged one.
-- part: of put
DELETE FROM tl.log_rows AS l
 USING {{held}}, unnest(:merged_log::integer[], :merged_start::integer[], :merged_end::integer[]) AS m (log, start, stop)
 WHERE l.thread = t.thread AND l.thread = :thread AND l.ns = :ns AND l.log = m.log
   AND l.start > m.start AND l.start < m.stop

-- add_blobs --
-- Large fields, unless they are there.
-- part: of put
INSERT INTO tl.blobs (thread, ns, id, key_id, payload)
SELECT t.thread, :ns, n.*
  FROM {{held}}, unnest(:blob_id::bytea[], :blob_key_id::integer[], :blob_payload::bytea[]) AS n
    ON CONFLICT (thread, ns, id) DO NOTHING

-- put_entries --
-- Entries: at the end, or in place when their id is there; metadata stays where a replacement brings none.
-- part: of put
INSERT INTO tl.entries AS e (thread, ns, seq, ext_id, kind, role, digest, search, derived, words, meta, terms,
                             key_id, created_at, payload, facts)
SELECT t.thread, :ns, t.last_seq + n.position, n.ext_id, n.kind, n.role, n.digest, n.search, n.derived,
       n.words::integer[], n.meta, n.terms::bigint[], nullif(n.key_id, 0),
       coalesce(n.created_at, t.at), n.payload, n.facts
  FROM {{held}}, unnest(:entry_ext_id::bytea[], :entry_kind::text[], :entry_role::text[], :entry_digest::bytea[],
                    :entry_search::text[], :entry_derived::boolean[], :entry_words::text[], :entry_meta::bytea[],
                    :entry_terms::text[], :entry_key_id::integer[], :entry_created_at::bigint[],
                    :entry_payload::bytea[], :entry_facts::text[])
       WITH ORDINALITY AS n (ext_id, kind, role, digest, search, derived, words, meta, terms, key_id, created_at,
                             payload, facts, position)
    ON CONFLICT (thread, ns, ext_id) WHERE ext_id IS NOT NULL DO UPDATE
   SET kind = {{ignored}} e.kind ELSE excluded.kind END, role = {{ignored}} e.role ELSE excluded.role END,
       digest = {{ignored}} e.digest ELSE excluded.digest END, search = {{ignored}} e.search ELSE excluded.search END,
       derived = {{ignored}} e.derived ELSE excluded.derived END, words = {{ignored}} e.words ELSE excluded.words END,
       key_id = {{ignored}} e.key_id ELSE excluded.key_id END, payload = {{ignored}} e.payload ELSE excluded.payload END,
       facts = {{ignored}} e.facts ELSE excluded.facts END,
       meta = CASE WHEN excluded.meta IS NULL OR e.ext_id = ANY (:ignored) THEN e.meta ELSE excluded.meta END,
       terms = CASE WHEN excluded.meta IS NULL OR e.ext_id = ANY (:ignored) THEN e.terms ELSE excluded.terms END
RETURNING e.seq, e.ext_id

-- ignored --
-- What is there stays when it was asked so.
-- part: of put
CASE WHEN e.ext_id = ANY (:ignored::bytea[]) THEN

-- put_slots --
-- Slots; those of `absent` only where there is none, or an expired one.
-- part: of put
INSERT INTO tl.slots AS s (thread, ns, kind, key, key_id, expires_at, meta, payload)
SELECT t.thread, :ns, n.kind, n.key, nullif(n.key_id, 0), coalesce(t.at + n.ttl, n.expires_at), n.meta, n.payload
  FROM {{held}}, unnest(:slot_kind::text[], :slot_key::bytea[], :slot_key_id::integer[], :slot_expires_at::bigint[],
                    :slot_ttl::bigint[], :slot_meta::bytea[], :slot_payload::bytea[])
       AS n (kind, key, key_id, expires_at, ttl, meta, payload) {{looked}}
    ON CONFLICT (thread, ns, kind, key) DO UPDATE
   SET key_id = excluded.key_id, expires_at = excluded.expires_at, meta = excluded.meta, payload = excluded.payload
 WHERE s.expires_at <= coalesce(:now::bigint, {{clock}})
    OR NOT EXISTS (SELECT FROM unnest(:absent_kind::text[], :absent_key::bytea[]) AS a (kind, key)
                    WHERE a.kind = excluded.kind AND a.key = excluded.key)
RETURNING s.kind, s.key

-- looked --
-- True, after a look at the slot before it. PostgreSQL frees the room of deleted rows in a page when it reads the page,
-- not when it inserts into it: slots that come and go would fill one page after the other.
-- part: of put
WHERE coalesce((SELECT x.key FROM tl.slots AS x WHERE x.thread = :thread AND x.ns = :ns AND x.kind = n.kind
                  AND x.key < n.key ORDER BY x.key DESC LIMIT 1), '') <> n.key

-- delete_slots --
-- Slots that the commit requires to be there, and takes away.
-- part: of put
DELETE FROM tl.slots AS s
 USING {{held}}, unnest(:gone_kind::text[], :gone_key::bytea[]) AS n (kind, key)
 WHERE s.thread = t.thread AND s.thread = :thread AND s.ns = :ns AND s.kind = n.kind AND s.key = n.key

-- drop_thread_terms --
-- What a thread's metadata no longer says.
-- part: of put
DELETE FROM tl.thread_terms AS x
 USING {{held}}
 WHERE x.thread = t.thread AND x.thread = :thread AND x.term <> ALL (:thread_terms::bigint[])

-- add_thread_terms --
-- What it says now.
-- part: of put
INSERT INTO tl.thread_terms (thread, term)
SELECT t.thread, n.term FROM {{held}}, unnest(:thread_terms::bigint[]) AS n (term)
    ON CONFLICT DO NOTHING

-- move_thread --
-- Every commit moves rev and activity.
-- part: of put
UPDATE tl.threads AS x
   SET rev = t.rev + 1, gc = x.gc + :frees::bigint, last_seq = t.last_seq + :entry_count::bigint,
       activity_at = {{active}},
       message_count = x.message_count + :messages::bigint + {{fresh}},
       checkpoint_count = x.checkpoint_count + :checkpoints::bigint{{said}}
  FROM {{held}}
 WHERE x.thread = t.thread AND x.thread = :thread
RETURNING x.thread, x.rev, t.at, x.incarnation

-- active --
-- When the thread was last active.
-- part: of put
coalesce(:active_at::bigint, {{active_now}})

-- active_now --
-- The same when nothing is said of it.
-- part: of put
CASE WHEN :upkeep::boolean THEN x.activity_at ELSE t.at END

-- said --
-- What is said of the thread: without info what was said stays, and a first owner and a first lineage stay.
-- part: of put
, created_at = coalesce(:born_at::bigint, x.created_at), info = coalesce(:info::bytea, x.info),
       lineage = CASE WHEN :replaces_lineage::boolean THEN coalesce(:lineage::bytea, x.lineage)
                      ELSE coalesce(x.lineage, :lineage) END,
       title = CASE WHEN :info IS NULL THEN x.title ELSE :title::text END,
       key_id = CASE WHEN :info IS NULL THEN x.key_id ELSE :info_key_id::integer END,
       owner = coalesce(x.owner, :owner::owner_type)

-- create_thread --
-- A thread comes into being with its first commit, unless there is a row of it.
-- part: of put
INSERT INTO tl.threads (thread, thread_key, live, tenant, app, thread_id, owner, incarnation, rev, gc, last_seq, info, lineage,
                        title, key_id, created_at, activity_at, message_count, checkpoint_count)
SELECT :thread, :key, true, :tenant, :app, :thread_id, coalesce(:user::owner_type, :owner::owner_type), :incarnation, 1,
       :frees::bigint, :taken::bigint + :entry_count::bigint, :info::bytea, :lineage::bytea, :title::text,
       :info_key_id::integer, coalesce(:born_at::bigint, n.at), coalesce(:active_at::bigint, n.at), :messages::bigint + :entry_count, :checkpoints::bigint
  FROM (SELECT coalesce(:now::bigint, {{clock}}) AS at) AS n
 WHERE :expected::bigint IS NULL OR (:expected = 0 AND :last_version::bigint = 0)
    ON CONFLICT (thread) DO NOTHING
RETURNING thread, incarnation, rev, :taken AS last_seq, coalesce(:now, activity_at) AS at

-- create_head --
-- The first namespace of a new thread.
-- part: of put
INSERT INTO tl.heads (thread, ns, namespace, head_version, last_version, marks)
SELECT t.thread, :ns, :namespace, coalesce(:version::bigint, 0), coalesce(:version, 0), :marks FROM t
RETURNING thread

-- created --
-- The thread's row as a commit leaves it.
-- part: of put
SELECT t.thread, t.rev, t.at, t.incarnation FROM {{held}}

-- fresh --
-- How many entries are new, and stand where the counter says.
-- part: of put
(SELECT count(*) FROM e WHERE e.seq > t.last_seq)

-- told --
-- What the commit did.
-- part: of put
SELECT u.*, {{first_seq}}::bigint AS first_seq, {{seqs}}::bigint[] AS seqs, {{slots}}::boolean[] AS slots FROM u

-- remember --
-- The same, for those who make it again.
-- part: of put
INSERT INTO tl.journal (thread, op_id, rev, kind, at, version, first_seq, seqs, slots, removed, popped)
SELECT a.thread, :op_id, a.rev, :kind, a.at, :about, a.first_seq, a.seqs, a.slots, :removed, :popped
  FROM a {{unless}}

-- unless --
-- Only what its checkpoint's row does not tell.
-- part: of put
 WHERE a.seqs IS NOT NULL OR a.slots IS NOT NULL

-- answer --
-- What is answered; it holds the op_id, since commits that are sent together are told apart by it.
-- part: of put
SELECT uuid_send(:op_id::uuid) AS op_id, a.rev, a.at, a.first_seq, a.seqs, a.slots, a.incarnation

-- first_seq --
-- The position before the first new entry.
-- part: of put
(SELECT t.last_seq FROM t)

-- seqs --
-- The position of each entry, when they do not simply follow the first.
-- part: of put
(SELECT CASE WHEN bool_and(coalesce(e.seq > t.last_seq, true)) THEN NULL
             ELSE array_agg(coalesce(e.seq, t.last_seq + n.position) ORDER BY n.position) END
   FROM unnest(:entry_ext_id::bytea[]) WITH ORDINALITY AS n (ext_id, position)
  CROSS JOIN t
   LEFT JOIN e ON e.ext_id = n.ext_id)

-- slots --
-- Whether each slot was written, when one was not.
-- part: of put
(SELECT CASE WHEN bool_and(s.key IS NOT NULL) THEN NULL ELSE array_agg(s.key IS NOT NULL ORDER BY n.position) END
   FROM unnest(:slot_kind::text[], :slot_key::bytea[]) WITH ORDINALITY AS n (kind, key, position)
   LEFT JOIN s ON s.kind = n.kind AND s.key = n.key)

-- commit_facts --
-- What a refused commit must know of the thread and the head.
SELECT t.live, t.tenant, t.app, t.thread_id, t.owner, t.incarnation, t.gc, t.rev, t.last_seq, t.activity_at,
       coalesce(h.head_version, 0) AS head_version, coalesce(h.last_version, 0) AS last_version
  FROM tl.threads AS t
  LEFT JOIN tl.heads AS h ON h.thread = t.thread AND h.ns = :ns
 WHERE t.thread = :thread

-- lock_thread --
-- The thread's row, locked: nobody else commits onto it until the transaction ends.
SELECT FROM tl.threads WHERE thread = :thread FOR NO KEY UPDATE

-- hold_source --
-- The row of a thread that is copied from: nothing of it is freed until the transaction ends.
SELECT FROM tl.threads WHERE thread = :thread FOR SHARE

-- find_operation --
-- What an operation did, if it was committed before: as the journal says, else the checkpoint that its op_id names. In one
-- statement, since the one may become the other meanwhile.
SELECT o.rev, o.at, coalesce(o.incarnation, t.incarnation) AS incarnation, o.version, o.first_seq, o.seqs, o.slots,
       o.removed, o.popped
  FROM (SELECT 0 AS place, j.rev, j.at, j.incarnation, j.version, j.first_seq, j.seqs, j.slots, j.removed, j.popped
          FROM tl.journal AS j
         WHERE j.thread = :thread AND j.op_id = :op_id
         UNION ALL
        SELECT 1, c.rev, c.created_at, NULL, c.version, c.first_seq, NULL, NULL, NULL, NULL
          FROM tl.checkpoints AS c
         WHERE c.thread = :thread AND c.ns = :ns AND c.version = :named::bigint AND c.op = :op::bigint) AS o
  JOIN tl.threads AS t ON t.thread = :thread
 ORDER BY o.place LIMIT 1

-- find_popped --
-- The commits of a thread that answered entries.
SELECT j.op_id, j.popped FROM tl.journal AS j WHERE j.thread = :thread AND j.popped IS NOT NULL

-- change_popped --
-- Another answer.
UPDATE tl.journal SET popped = :popped WHERE thread = :thread AND op_id = :op_id

-- find_old --
-- Results that nobody asks for again, among neighbours in the index: of this thread and those behind it, also deleted ones.
SELECT x.thread, x.op_id
  FROM (SELECT j.thread, j.op_id, j.at FROM tl.journal AS j
         WHERE j.thread >= :first ORDER BY j.thread, j.op_id LIMIT :limit) AS x
 WHERE x.at < :before

-- trim_journal --
-- They go. Nobody is waited for who has one of them.
WITH o AS (
         SELECT j.thread, j.op_id
           FROM unnest(:threads::bigint[], :op_ids::uuid[]) AS n (thread, op_id)
           JOIN tl.journal AS j ON j.thread = n.thread AND j.op_id = n.op_id
            FOR UPDATE OF j SKIP LOCKED)
DELETE FROM tl.journal AS j USING o WHERE j.thread = o.thread AND j.op_id = o.op_id

-- revive_thread --
-- A deleted thread comes into being again, as a new one.
UPDATE tl.threads
   SET live = true, thread_key = :key, tenant = :tenant, app = :app, thread_id = :thread_id, owner = :user::owner_type,
       incarnation = :incarnation, gc = 0,
       created_at = greatest(coalesce(:now::bigint, {{clock}}), activity_at)
 WHERE thread = :thread

-- retire_journal --
-- Old results keep the incarnation they were given for.
UPDATE tl.journal AS j SET incarnation = t.incarnation
  FROM tl.threads AS t
 WHERE j.thread = :thread AND t.thread = :thread AND j.incarnation IS NULL

-- copy_rows --
-- The rows that cover some ranges, from another thread, as they are.
INSERT INTO tl.log_rows (thread, ns, log, start, count, kind, key_id, p_start, p_end, payload)
SELECT DISTINCT ON (l.log, l.start) :thread, :ns, l.log, l.start, l.count, l.kind, l.key_id, l.p_start, l.p_end, l.payload
  FROM unnest(:log::integer[], :start::integer[], :stop::integer[]) AS n (log, start, stop)
  JOIN tl.log_rows AS l ON l.thread = :source AND l.ns = :source_ns AND l.log = n.log AND l.start < n.stop
   AND l.start + l.count > n.start
   AND l.start >= coalesce((SELECT max(f.start) FROM tl.log_rows AS f
                             WHERE f.thread = :source AND f.ns = :source_ns AND f.log = n.log
                               AND f.start <= n.start), 0)
    ON CONFLICT DO NOTHING

-- copy_blobs --
-- Large fields from another thread.
INSERT INTO tl.blobs (thread, ns, id, key_id, payload)
SELECT :thread, :ns, b.id, b.key_id, b.payload
  FROM tl.blobs AS b
 WHERE b.thread = :source AND b.ns = :source_ns AND b.id = ANY (:ids::bytea[])
    ON CONFLICT DO NOTHING

-- copy_slots --
-- The slots of another thread; what expires, a lease for one, belongs to that thread alone.
INSERT INTO tl.slots (thread, ns, kind, key, key_id, expires_at, meta, payload)
SELECT :thread, :ns, s.kind, s.key, s.key_id, s.expires_at, s.meta, s.payload
  FROM tl.slots AS s
 WHERE s.thread = :source AND s.ns = :source_ns AND s.expires_at IS NULL
    ON CONFLICT DO NOTHING

-- copy_entries --
-- The entries of another thread behind the position `last_seq`, in their order: the position of each.
INSERT INTO tl.entries AS e (thread, ns, seq, ext_id, kind, role, digest, search, derived, words, meta, terms,
                             key_id, created_at, payload, facts)
SELECT :thread, :ns, :last_seq::bigint + row_number() OVER (ORDER BY f.seq), f.ext_id, f.kind, f.role, f.digest, f.search,
       f.derived, f.words, f.meta, f.terms, f.key_id, f.created_at, f.payload, f.facts
  FROM tl.entries AS f
 WHERE f.thread = :source AND f.ns = :source_ns AND (:until::bigint IS NULL OR f.created_at <= :until)
    ON CONFLICT (thread, ns, ext_id) WHERE ext_id IS NOT NULL DO UPDATE
   SET kind = excluded.kind, role = excluded.role, digest = excluded.digest, search = excluded.search,
       derived = excluded.derived, words = excluded.words, meta = coalesce(excluded.meta, e.meta),
       terms = CASE WHEN excluded.meta IS NULL THEN e.terms ELSE excluded.terms END, key_id = excluded.key_id,
       payload = excluded.payload, facts = excluded.facts
RETURNING e.seq

-- adopt_thread --
-- A thread comes into being as the copy of another with all of its past (or `revives`): whose it is, what is said of it.
INSERT INTO tl.threads AS x (thread, thread_key, live, tenant, app, thread_id, owner, incarnation, rev, gc, last_seq, info,
                             lineage, title, key_id, created_at, activity_at, message_count, checkpoint_count)
SELECT :thread, :key, true, :tenant, :app, :thread_id, s.owner, :incarnation, 1, 0, s.last_seq, s.info, :lineage, s.title,
       s.key_id, n.at, n.at, 0, 0
  FROM tl.threads AS s, (SELECT coalesce(:now::bigint, {{clock}}) AS at) AS n
 WHERE s.thread = :source
    ON CONFLICT (thread) DO UPDATE
   SET live = true, thread_key = excluded.thread_key, tenant = excluded.tenant, app = excluded.app,
       thread_id = excluded.thread_id, owner = excluded.owner, incarnation = excluded.incarnation, rev = x.rev + 1, gc = 0,
       last_seq = x.last_seq + excluded.last_seq, info = excluded.info, lineage = excluded.lineage,
       title = excluded.title, key_id = excluded.key_id,
       created_at = greatest(excluded.created_at, x.activity_at),
       activity_at = greatest(excluded.activity_at, x.activity_at)
 WHERE NOT x.live AND :revives::boolean
RETURNING x.rev, x.activity_at AS at, x.incarnation

-- copy_content --
-- Everything that stands under another thread's key, in one statement: of every namespace as it stands, or of those of
-- `ends` up to a version; entries until then, behind the positions that were ever given out here. The counters of versions
-- never go back. What expires belongs to the other thread alone.
WITH h AS (
         INSERT INTO tl.heads AS x (thread, ns, namespace, head_version, last_version, marks)
         SELECT :thread, o.ns, o.namespace, coalesce(k.version, o.head_version), coalesce(k.version, o.last_version), o.marks
           FROM tl.heads AS o
           LEFT JOIN unnest(:end_ns::bytea[], :end_version::bigint[]) AS n (ns, version) ON n.ns = o.ns
           LEFT JOIN LATERAL (SELECT coalesce(max(x.version), 0) AS version FROM tl.checkpoints AS x
                               WHERE x.thread = :source AND x.ns = o.ns AND x.version <= n.version) AS k ON n.ns = o.ns
          WHERE o.thread = :source AND o.namespace IS NOT NULL AND (:every::boolean OR n.ns IS NOT NULL)
             ON CONFLICT (thread, ns) DO UPDATE
            SET namespace = excluded.namespace, head_version = excluded.head_version, marks = excluded.marks,
                last_version = greatest(x.last_version, excluded.last_version)
         RETURNING x.ns, x.head_version),
     c AS (
         INSERT INTO tl.checkpoints (thread, ns, version, parent_version, base, based, kind, ext_id, name, run_id,
                                     refs, blob_refs, digest, key_id, bytes, created_at, terms, payload)
         SELECT :thread, o.ns, o.version, o.parent_version, o.base, o.based, o.kind, o.ext_id, o.name, o.run_id,
                o.refs, o.blob_refs, o.digest, o.key_id, o.bytes, o.created_at, o.terms, o.payload
           FROM h JOIN tl.checkpoints AS o ON o.thread = :source AND o.ns = h.ns
          WHERE :every OR o.version <= h.head_version
         RETURNING 1),
     l AS (
         INSERT INTO tl.log_rows (thread, ns, log, start, count, kind, key_id, p_start, p_end, payload)
         SELECT :thread, o.ns, o.log, o.start, o.count, o.kind, o.key_id, o.p_start, o.p_end, o.payload
           FROM h JOIN tl.log_rows AS o ON o.thread = :source AND o.ns = h.ns),
     b AS (
         INSERT INTO tl.blobs (thread, ns, id, key_id, payload)
         SELECT :thread, o.ns, o.id, o.key_id, o.payload
           FROM h JOIN tl.blobs AS o ON o.thread = :source AND o.ns = h.ns),
     e AS (
         INSERT INTO tl.entries (thread, ns, seq, ext_id, kind, role, digest, search, derived, words, meta, terms, key_id,
                                 created_at, payload, facts)
         SELECT :thread, o.ns, :last_seq::bigint + o.seq, o.ext_id, o.kind, o.role, o.digest, o.search, o.derived, o.words,
                o.meta, o.terms, o.key_id, o.created_at, o.payload, o.facts
           FROM h JOIN tl.entries AS o ON o.thread = :source AND o.ns = h.ns
          WHERE :until::bigint IS NULL OR o.created_at <= :until
         RETURNING 1),
     s AS (
         INSERT INTO tl.slots (thread, ns, kind, key, key_id, expires_at, meta, payload)
         SELECT :thread, o.ns, o.kind, o.key, o.key_id, o.expires_at, o.meta, o.payload
           FROM h JOIN tl.slots AS o ON o.thread = :source AND o.ns = h.ns
          WHERE o.expires_at IS NULL),
     m AS (
         INSERT INTO tl.thread_terms (thread, term)
         SELECT :thread, o.term FROM tl.thread_terms AS o WHERE o.thread = :source)
UPDATE tl.threads AS x
   SET message_count = (SELECT count(*) FROM e), checkpoint_count = (SELECT count(*) FROM c)
 WHERE x.thread = :thread
RETURNING (SELECT nullif(h.head_version, 0) FROM h WHERE h.ns = :ns) AS version

-- rename_checkpoints --
-- Other names for versions.
UPDATE tl.checkpoints AS c SET name = n.name
  FROM unnest(:versions::bigint[], :names::text[]) AS n (version, name)
 WHERE c.thread = :thread AND c.ns = :ns AND c.version = n.version
RETURNING c.version

-- drop_checkpoints --
-- Versions go; the head's never. What their rows told of commits, the journal tells from now on.
WITH c AS (
         DELETE FROM tl.checkpoints AS x
          WHERE x.thread = :thread AND x.ns = :ns AND x.version = ANY (:versions::bigint[]) AND x.version <> :head_version
         RETURNING x.*),
     k AS ({{keep_results}})
SELECT c.version FROM c

-- keep_results --
-- The results of commits whose checkpoints go, unless nobody asks for them again.
-- part: of other statements
INSERT INTO tl.journal (thread, op_id, rev, kind, at, version, first_seq)
SELECT c.thread, encode(int8send(c.version) || int8send(c.op), 'hex')::uuid, c.rev, c.kind, c.created_at, c.version,
       c.first_seq
  FROM c
 WHERE c.op IS NOT NULL AND c.created_at >= coalesce(:now::bigint, {{clock}}) - :asked::bigint
    ON CONFLICT DO NOTHING

-- drop_rows --
-- Rows that no checkpoint needs.
DELETE FROM tl.log_rows AS l
 USING unnest(:log::integer[], :start::integer[]) AS n (log, start)
 WHERE l.thread = :thread AND l.ns = :ns AND l.log = n.log AND l.start = n.start

-- drop_blobs --
-- Large fields that no checkpoint needs, and no later one has come to need.
DELETE FROM tl.blobs AS b
 WHERE b.thread = :thread AND b.ns = :ns AND b.id = ANY (:ids::bytea[])
   AND NOT EXISTS (SELECT FROM tl.checkpoints AS c, generate_series(0, length(c.blob_refs) / 16 - 1) AS n
                    WHERE c.thread = :thread AND c.ns = :ns AND c.version > :seen
                      AND substr(c.blob_refs, n * 16 + 1, 16) = b.id)

-- find_tail --
-- What stands behind a position.
SELECT e.seq, e.digest FROM tl.entries AS e WHERE e.thread = :thread AND e.ns = :ns AND e.seq > :after ORDER BY e.seq

-- find_last --
-- The positions of the last entries.
SELECT e.seq FROM tl.entries AS e WHERE e.thread = :thread AND e.ns = :ns ORDER BY e.seq DESC LIMIT :limit

-- find_named --
-- The positions of entries by their ids.
SELECT e.ext_id, e.seq FROM tl.entries AS e
 WHERE e.thread = :thread AND e.ns = :ns AND e.ext_id = ANY (:ext_ids::bytea[])

-- delete_entries --
-- Entries go.
DELETE FROM tl.entries AS e
 WHERE e.thread = :thread AND e.ns = :ns AND e.seq = ANY (:seqs::bigint[])
RETURNING {{entry}}

-- entry --
-- The columns of an entry.
-- part: of other statements
e.seq, e.ext_id, e.kind, e.role, e.payload, e.digest, e.search, e.derived, e.meta,
coalesce(e.key_id, 0) AS key_id, e.created_at, e.facts

-- rewrite_entries --
-- Another content in the same positions.
UPDATE tl.entries AS e
   SET kind = n.kind, role = n.role, digest = n.digest, search = n.search, derived = n.derived,
       words = n.words::integer[], meta = n.meta, key_id = nullif(n.key_id, 0), payload = n.payload,
       facts = n.facts
  FROM unnest(:seqs::bigint[], :kind::text[], :role::text[], :digest::bytea[], :search::text[], :derived::boolean[],
              :words::text[], :meta::bytea[], :key_id::integer[], :payload::bytea[], :facts::text[])
       AS n (seq, kind, role, digest, search, derived, words, meta, key_id, payload, facts)
 WHERE e.thread = :thread AND e.ns = :ns AND e.seq = n.seq
RETURNING e.seq

-- find_slot --
-- What a slot holds, unless it has expired.
SELECT s.payload FROM tl.slots AS s
 WHERE s.thread = :thread AND s.ns = :ns AND s.kind = :kind AND s.key = :slot
   AND (s.expires_at IS NULL OR s.expires_at > coalesce(:now::bigint, {{clock}}))

-- put_slot --
-- Write a slot over what is there.
INSERT INTO tl.slots (thread, ns, kind, key, key_id, expires_at, meta, payload)
VALUES (:thread, :ns, :kind, :slot, nullif(:key_id::integer, 0),
        coalesce(coalesce(:now::bigint, {{clock}}) + :ttl::bigint, :expires_at), :meta, :payload)
    ON CONFLICT (thread, ns, kind, key) DO UPDATE
   SET key_id = excluded.key_id, expires_at = excluded.expires_at, meta = excluded.meta, payload = excluded.payload

-- delete_slot --
-- A slot goes.
DELETE FROM tl.slots AS s WHERE s.thread = :thread AND s.ns = :ns AND s.kind = :kind AND s.key = :slot

-- erase_content --
-- Erasing a thread: everything that stands under its key, in one statement, but for the results of its commits.
WITH c AS (DELETE FROM tl.checkpoints AS x WHERE x.thread = :thread RETURNING x.*),
     k AS ({{keep_results}}),
     l AS (DELETE FROM tl.log_rows AS x WHERE x.thread = :thread),
     b AS (DELETE FROM tl.blobs AS x WHERE x.thread = :thread),
     e AS (DELETE FROM tl.entries AS x WHERE x.thread = :thread),
     s AS (DELETE FROM tl.slots AS x WHERE x.thread = :thread),
     m AS (DELETE FROM tl.thread_terms AS x WHERE x.thread = :thread),
     j AS (UPDATE tl.journal AS x SET popped = NULL WHERE x.thread = :thread AND x.popped IS NOT NULL)
UPDATE tl.heads AS h SET namespace = NULL, head_version = 0, marks = '' WHERE h.thread = :thread

-- erase_thread --
-- Erasing a thread: the row stays without names.
UPDATE tl.threads AS x
   SET live = false, tenant = NULL, app = NULL, thread_id = NULL, owner = NULL, info = NULL, lineage = NULL,
       title = NULL, key_id = 0, rev = x.rev + 1, message_count = 0, checkpoint_count = 0,
       activity_at = greatest(coalesce(:now::bigint, {{clock}}), x.activity_at)
 WHERE x.thread = :thread
RETURNING x.rev, x.activity_at AS at, x.incarnation

-- add_journal --
-- What a commit did that was more than a put.
INSERT INTO tl.journal (thread, op_id, rev, kind, at, version) VALUES (:thread, :op_id, :rev, :kind, :at, :version)

-- thread --
-- The columns of a thread.
-- part: of other statements
t.thread_key, t.tenant, t.app, t.thread_id, t.owner, t.incarnation, t.rev, t.gc, t.info, t.lineage, t.title, t.key_id,
t.created_at, t.activity_at, t.message_count, t.checkpoint_count

-- checkpoint --
-- The columns of a checkpoint.
-- part: of other statements
c.version, c.payload, c.digest, c.parent_version, c.base, c.based, c.kind, c.ext_id, c.name, c.run_id, c.refs,
c.blob_refs, c.key_id, c.bytes, c.created_at

-- row --
-- The columns of a log's row.
-- part: of other statements
l.log, l.start, l.count, l.payload, l.p_start, l.p_end, l.kind, l.key_id

-- owned --
-- The thread of a read, if it is this user's.
-- part: of other statements
t.thread = :thread AND t.thread_key = :key AND t.live AND (:user::owner_type IS NULL OR t.owner = :user)

-- read_head --
-- The thread and its head: "the same version", or the checkpoint with the rows and blobs that it needs.
SELECT {{head}}
  FROM tl.threads AS t
  LEFT JOIN tl.heads AS h ON h.thread = t.thread AND h.ns = :ns
  LEFT JOIN tl.checkpoints AS c ON c.thread = t.thread AND c.ns = :ns AND c.version = h.head_version
   AND {{visible}}
   AND (t.incarnation, c.version, t.gc, c.digest)
       IS DISTINCT FROM (:incarnation::bytea, :version::bigint, :gc::bigint, :digest::bytea)
{{content}}

-- read_version --
-- The thread and one version of it.
SELECT {{head}}
  FROM tl.threads AS t
  LEFT JOIN tl.heads AS h ON h.thread = t.thread AND h.ns = :ns
  LEFT JOIN tl.checkpoints AS c ON c.thread = t.thread AND c.ns = :ns AND c.version = :version AND {{visible}}
{{content}}

-- read_ext_id --
-- The thread and a framework's own checkpoint of it.
SELECT {{head}}
  FROM tl.threads AS t
  LEFT JOIN tl.heads AS h ON h.thread = t.thread AND h.ns = :ns
  LEFT JOIN tl.checkpoints AS c ON c.thread = t.thread AND c.ns = :ns AND c.ext_id = :ext_id AND {{visible}}
{{content}}

-- read_name --
-- The thread and the latest of a name.
SELECT {{head}}
  FROM tl.threads AS t
  LEFT JOIN tl.heads AS h ON h.thread = t.thread AND h.ns = :ns
  LEFT JOIN LATERAL (SELECT * FROM tl.checkpoints AS x
                      WHERE x.thread = t.thread AND x.ns = :ns AND x.name = :name
                      ORDER BY x.version DESC LIMIT 1) AS c ON {{visible}}
{{content}}

-- visible --
-- Whether the thread is there for this user.
-- part: of other statements
t.live AND (:user::owner_type IS NULL OR t.owner = :user)

-- head --
-- What a read of a head gives.
-- part: of other statements
{{visible}} AS visible, t.live, {{thread}}, coalesce(h.head_version, 0) AS head_version,
coalesce(h.last_version, 0) AS last_version, coalesce(h.marks, '') AS marks, {{checkpoint}}, r.rows, b.blobs

-- content --
-- The rows that cover a checkpoint's ranges, each from the one it begins in; and its blobs.
-- part: of other statements
  LEFT JOIN LATERAL (
       SELECT array_agg(({{row}})) AS rows
         FROM string_to_array(c.refs, ',') AS f (refs)
        CROSS JOIN generate_series(1, cardinality(f.refs), 3) AS i
        CROSS JOIN LATERAL (SELECT f.refs[i]::integer AS log, f.refs[i + 1]::integer AS start,
                                   f.refs[i + 2]::integer AS stop) AS n
         JOIN tl.log_rows AS l ON l.thread = t.thread AND l.ns = :ns AND l.log = n.log
          AND l.start < n.stop AND l.start + l.count > n.start
          AND l.start >= coalesce((SELECT max(f.start) FROM tl.log_rows AS f
                                    WHERE f.thread = t.thread AND f.ns = :ns AND f.log = n.log
                                      AND f.start <= n.start), 0)) AS r ON :content::boolean
  LEFT JOIN LATERAL (
       SELECT array_agg((x.id, x.payload, x.key_id)) AS blobs
         FROM generate_series(0, length(c.blob_refs) / 16 - 1) AS n
         JOIN tl.blobs AS x ON x.thread = t.thread AND x.ns = :ns
          AND x.id = substr(c.blob_refs, n * 16 + 1, 16)) AS b ON :content
 WHERE t.thread = :thread AND t.thread_key = :key

-- read_rows --
-- The rows that cover some ranges, each from the one it begins in.
SELECT DISTINCT ON (l.log, l.start) {{row}}
  FROM tl.threads AS t
 CROSS JOIN unnest(:log::integer[], :start::integer[], :stop::integer[]) AS n (log, start, stop)
  JOIN tl.log_rows AS l ON l.thread = t.thread AND l.ns = :ns AND l.log = n.log AND l.start < n.stop
   AND l.start + l.count > n.start
   AND l.start >= coalesce((SELECT max(f.start) FROM tl.log_rows AS f
                             WHERE f.thread = t.thread AND f.ns = :ns AND f.log = n.log
                               AND f.start <= n.start), 0)
 WHERE {{owned}}
 ORDER BY l.log, l.start

-- read_blobs --
-- Large fields by their ids.
SELECT x.id, x.payload, x.key_id
  FROM tl.threads AS t
  JOIN tl.blobs AS x ON x.thread = t.thread AND x.ns = :ns AND x.id = ANY (:ids::bytea[])
 WHERE {{owned}}

-- read_checkpoints --
-- Versions, newest first.
SELECT {{checkpoint}}
  FROM tl.threads AS t
  JOIN tl.checkpoints AS c ON c.thread = t.thread AND c.ns = :ns AND c.version < :before
 WHERE {{owned}} AND (cardinality(:terms::bigint[]) = 0 OR c.terms @> :terms)
 ORDER BY c.version DESC LIMIT :limit

-- read_named_checkpoints --
-- Versions of a name, newest first.
SELECT {{checkpoint}}
  FROM tl.threads AS t
  JOIN tl.checkpoints AS c ON c.thread = t.thread AND c.ns = :ns AND c.name = :name AND c.version < :before
 WHERE {{owned}} AND (cardinality(:terms::bigint[]) = 0 OR c.terms @> :terms)
 ORDER BY c.version DESC LIMIT :limit

-- asked_entries --
-- Which entries of a thread are asked for, but for their words and ids.
-- part: of other statements
  FROM tl.threads AS t
  JOIN tl.entries AS e ON e.thread = t.thread AND e.ns = :ns AND e.seq > :after AND e.seq < :before
 WHERE {{owned}} AND (:role::text IS NULL OR e.role = :role)
   AND (cardinality(:terms::bigint[]) = 0 OR e.terms @> :terms)

-- read_entries_oldest --
-- Entries by position, oldest first.
SELECT {{entry}}
{{asked_entries}}
 ORDER BY e.seq LIMIT :limit

-- read_entries_newest --
-- Entries by position, newest first.
SELECT {{entry}}
{{asked_entries}}
 ORDER BY e.seq DESC LIMIT :limit

-- read_worded_oldest --
-- Entries that hold every word, oldest first.
SELECT {{entry}}
{{asked_entries}}
   AND e.words @> :match::integer[]
 ORDER BY e.seq LIMIT :limit

-- read_worded_newest --
-- Entries that hold every word, newest first.
SELECT {{entry}}
{{asked_entries}}
   AND e.words @> :match::integer[]
 ORDER BY e.seq DESC LIMIT :limit

-- read_named_entries --
-- Entries by their ids, oldest first.
SELECT {{entry}}
{{asked_entries}}
   AND e.ext_id = ANY (:ext_ids::bytea[]) AND (:match::integer[] IS NULL OR e.words @> :match::integer[])
 ORDER BY e.seq

-- asked_threads --
-- Which threads are asked for, but for their order.
-- part: of other statements
t.live AND (:tenant::text IS NULL OR t.tenant = :tenant) AND (:app::text IS NULL OR t.app = :app)
   AND (:user::owner_type IS NULL OR t.owner = :user) AND {{with_terms}}

-- with_terms --
-- The threads that have every term.
-- part: of other statements
(cardinality(:terms::bigint[]) = 0 OR t.thread IN (
           SELECT x.thread FROM tl.thread_terms AS x WHERE x.term = ANY (:terms)
            GROUP BY x.thread HAVING count(*) = cardinality(:terms)))

-- behind_hit --
-- Newest first, behind the hit before.
-- part: of other statements
   AND (:before_at::bigint IS NULL
        OR (e.created_at, e.thread, e.ns, e.seq) < (:before_at, :before_thread::bigint, :before_ns::bytea, :before_seq::bigint))
 ORDER BY e.created_at DESC, e.thread DESC, e.ns DESC, e.seq DESC LIMIT :limit

-- search_words --
-- Entries of any thread that hold every word, newest first, when there are no more than `most` of them (NULL: any
-- number) before it is asked whose they are; `found` is how many there are. The words come first: whatever the planner
-- believes of the threads, it must not look the words up once for each of them.
WITH found AS MATERIALIZED (
SELECT e.thread, e.ns, e.seq, e.created_at FROM tl.entries AS e WHERE e.words @> :match::integer[] LIMIT :most::bigint
), hits AS MATERIALIZED (
SELECT e.thread, e.ns, e.seq
  FROM found AS e
  JOIN tl.threads AS t ON t.thread = e.thread
 WHERE {{asked_threads}}
{{behind_hit}})
SELECT e.ns, {{entry}}, {{thread}}, n.found
  FROM (SELECT count(*) AS found FROM found) AS n
  LEFT JOIN (hits AS h
             JOIN tl.entries AS e ON e.thread = h.thread AND e.ns = h.ns AND e.seq = h.seq
             JOIN tl.threads AS t ON t.thread = h.thread) ON true
 ORDER BY e.created_at DESC, e.thread DESC, e.ns DESC, e.seq DESC

-- search_words_of --
-- The same among the threads of one user, when the words are common: all entries of these threads are looked at (what is
-- joined to the array keeps the index of all words out of it).
WITH t AS MATERIALIZED (
SELECT t.* FROM tl.threads AS t
 WHERE t.live AND t.tenant = :tenant AND t.app = :app AND t.owner = :user::owner_type AND {{with_terms}}
)
SELECT e.ns, {{entry}}, {{thread}}
  FROM t
 CROSS JOIN LATERAL (
SELECT * FROM tl.entries AS e
 WHERE e.thread = t.thread AND e.words || '{}'::integer[] @> :match::integer[]
OFFSET 0) AS e
 WHERE true
{{behind_hit}}

-- search_texts --
-- The same without a word to look up.
-- scan: reads every entry
SELECT e.ns, {{entry}}, {{thread}}
  FROM tl.entries AS e
  JOIN tl.threads AS t ON t.thread = e.thread
 WHERE e.words IS NOT NULL AND {{asked_threads}}
{{behind_hit}}

-- read_slots --
-- Slots of a kind, in byte order of their keys.
SELECT s.kind, s.key, s.payload, s.meta, coalesce(s.key_id, 0), s.expires_at
  FROM tl.threads AS t
  JOIN tl.slots AS s ON s.thread = t.thread AND s.ns = :ns AND s.kind = :kind AND s.key >= :first
   AND (:stop::bytea IS NULL OR s.key < :stop)
 WHERE {{owned}} AND (:after::bytea IS NULL OR s.key > :after)
   AND (s.expires_at IS NULL OR s.expires_at > coalesce(:now::bigint, {{clock}}))
 ORDER BY s.key LIMIT :limit

-- read_all_slots --
-- Slots of every kind, kind by kind, in byte order of their keys.
SELECT s.kind, s.key, s.payload, s.meta, coalesce(s.key_id, 0), s.expires_at
  FROM tl.threads AS t
  JOIN tl.slots AS s ON s.thread = t.thread AND s.ns = :ns AND s.key >= :first
   AND (:stop::bytea IS NULL OR s.key < :stop)
 WHERE {{owned}} AND (:after::bytea IS NULL OR s.key > :after)
   AND (s.expires_at IS NULL OR s.expires_at > coalesce(:now::bigint, {{clock}}))
 ORDER BY s.kind, s.key LIMIT :limit

-- threads_newest --
-- The threads of a tenant and app, most recent activity first.
SELECT {{thread}}
  FROM tl.threads AS t
 WHERE t.live AND t.tenant = :tenant AND t.app = :app AND t.active_on <= :after_at::bigint >> 23
   AND (t.activity_at, t.thread) < (:after_at, :after_thread)
   AND {{with_terms}}
 ORDER BY t.active_on DESC, t.activity_at DESC, t.thread DESC LIMIT :limit OFFSET :offset

-- threads_oldest --
-- The threads of a tenant and app, oldest activity first.
SELECT {{thread}}
  FROM tl.threads AS t
 WHERE t.live AND t.tenant = :tenant AND t.app = :app AND t.active_on >= :after_at::bigint >> 23
   AND (t.activity_at, t.thread) > (:after_at, :after_thread)
   AND {{with_terms}}
 ORDER BY t.active_on, t.activity_at, t.thread LIMIT :limit OFFSET :offset

-- user_threads_newest --
-- The threads of an owner in a tenant and app, most recent activity first.
SELECT {{thread}}
  FROM tl.threads AS t
 WHERE t.live AND t.tenant = :tenant AND t.app = :app AND t.owner = :user
   AND t.active_on <= :after_at::bigint >> 23
   AND (t.activity_at, t.thread) < (:after_at, :after_thread) AND {{with_terms}}
 ORDER BY t.active_on DESC, t.activity_at DESC, t.thread DESC LIMIT :limit OFFSET :offset

-- user_threads_oldest --
-- The threads of an owner in a tenant and app, oldest activity first.
SELECT {{thread}}
  FROM tl.threads AS t
 WHERE t.live AND t.tenant = :tenant AND t.app = :app AND t.owner = :user
   AND t.active_on >= :after_at::bigint >> 23
   AND (t.activity_at, t.thread) > (:after_at, :after_thread) AND {{with_terms}}
 ORDER BY t.active_on, t.activity_at, t.thread LIMIT :limit OFFSET :offset

-- all_threads_newest --
-- The threads of all tenants or apps, most recent activity first.
-- scan: asked for by upkeep and statistics only
SELECT {{thread}}
  FROM tl.threads AS t
 WHERE {{asked_threads}} AND (t.activity_at, t.thread) < (:after_at, :after_thread)
 ORDER BY t.activity_at DESC, t.thread DESC LIMIT :limit OFFSET :offset

-- all_threads_oldest --
-- The threads of all tenants or apps, oldest activity first.
-- scan: asked for by upkeep and statistics only
SELECT {{thread}}
  FROM tl.threads AS t
 WHERE {{asked_threads}} AND (t.activity_at, t.thread) > (:after_at, :after_thread)
 ORDER BY t.activity_at, t.thread LIMIT :limit OFFSET :offset

-- read_stock --
-- Where the rows of a namespace lie, its blobs, and the bytes of each.
SELECT r.log, r.start, r.start + r.count AS stop, NULL::bytea AS id, length(r.payload) AS bytes
  FROM tl.threads AS t
  JOIN tl.log_rows AS r ON r.thread = t.thread AND r.ns = :ns
 WHERE {{owned}}
 UNION ALL
SELECT NULL, NULL, NULL, x.id, length(x.payload)
  FROM tl.threads AS t
  JOIN tl.blobs AS x ON x.thread = t.thread AND x.ns = :ns
 WHERE {{owned}}
 ORDER BY 1, 2

-- read_namespaces --
-- The names of a thread's namespaces; those of an earlier life have none.
SELECT h.namespace
  FROM tl.threads AS t
  JOIN tl.heads AS h ON h.thread = t.thread
 WHERE {{owned}} AND h.namespace IS NOT NULL
 ORDER BY h.namespace

-- measure_threads --
-- Counts and bytes of each of some threads.
SELECT t.thread_key, 1 AS threads,
       (SELECT count(*) FROM tl.heads AS x WHERE x.thread = t.thread AND x.namespace IS NOT NULL) AS namespaces,
       c.count AS checkpoints, c.bytes AS checkpoint_bytes, e.count AS messages, e.bytes AS message_bytes,
       l.count AS rows, l.bytes + b.bytes AS row_bytes
  FROM tl.threads AS t,
       LATERAL (SELECT count(*), coalesce(sum(length(x.payload)), 0)::bigint AS bytes FROM tl.checkpoints AS x
                 WHERE x.thread = t.thread) AS c,
       LATERAL (SELECT count(*), coalesce(sum(length(x.payload)), 0)::bigint AS bytes FROM tl.entries AS x
                 WHERE x.thread = t.thread) AS e,
       LATERAL (SELECT count(*), coalesce(sum(length(x.payload)), 0)::bigint AS bytes FROM tl.log_rows AS x
                 WHERE x.thread = t.thread) AS l,
       LATERAL (SELECT coalesce(sum(length(x.payload)), 0)::bigint AS bytes FROM tl.blobs AS x
                 WHERE x.thread = t.thread) AS b
 WHERE t.thread = ANY(:threads::bigint[]) AND t.thread_key = ANY(:keys::bytea[]) AND t.live

-- measure_all --
-- Counts and bytes of everything.
-- scan: it is asked about everything
SELECT (SELECT count(*) FROM tl.threads AS x WHERE x.live) AS threads,
       (SELECT count(*) FROM tl.heads AS x WHERE x.namespace IS NOT NULL) AS namespaces,
       c.count AS checkpoints, c.bytes AS checkpoint_bytes, e.count AS messages, e.bytes AS message_bytes,
       l.count AS rows, l.bytes + b.bytes AS row_bytes
  FROM (SELECT count(*), coalesce(sum(length(x.payload)), 0)::bigint AS bytes FROM tl.checkpoints AS x) AS c,
       (SELECT count(*), coalesce(sum(length(x.payload)), 0)::bigint AS bytes FROM tl.entries AS x) AS e,
       (SELECT count(*), coalesce(sum(length(x.payload)), 0)::bigint AS bytes FROM tl.log_rows AS x) AS l,
       (SELECT coalesce(sum(length(x.payload)), 0)::bigint AS bytes FROM tl.blobs AS x) AS b

-- store_bytes --
-- The bytes that our tables and their indexes take on the disk.
-- scan: the catalog
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = :schema AND c.relkind = 'r' AND c.relname LIKE 'threadline\_%'

-- summary_threads --
-- How many threads, and how long they were active, in microseconds.
-- scan: it counts all that it is asked about
SELECT count(*), coalesce(sum(t.activity_at - t.created_at), 0)::bigint,
       coalesce(max(t.activity_at - t.created_at), 0)::bigint
  FROM tl.threads AS t
 WHERE t.live AND (:key::bytea IS NULL OR (t.thread = :thread AND t.thread_key = :key)) AND t.tenant = :tenant
   AND t.app = :app AND (:user::owner_type IS NULL OR t.owner = :user)

-- summary_messages --
-- Messages by day and role.
-- scan: it counts all that it is asked about
SELECT e.created_at / 86400000000, e.role, count(*)
  FROM tl.threads AS t
  JOIN tl.entries AS e ON e.thread = t.thread AND e.kind IS NULL
 WHERE t.live AND (:key::bytea IS NULL OR (t.thread = :thread AND t.thread_key = :key)) AND t.tenant = :tenant
   AND t.app = :app AND (:user::owner_type IS NULL OR t.owner = :user)
 GROUP BY 1, 2 ORDER BY 1, coalesce(e.role, '')

-- summary_checkpoints --
-- Checkpoints by day and name.
-- scan: it counts all that it is asked about
SELECT c.created_at / 86400000000, c.name, count(*)
  FROM tl.threads AS t
  JOIN tl.checkpoints AS c ON c.thread = t.thread
 WHERE t.live AND (:key::bytea IS NULL OR (t.thread = :thread AND t.thread_key = :key)) AND t.tenant = :tenant
   AND t.app = :app AND (:user::owner_type IS NULL OR t.owner = :user)
 GROUP BY 1, 2 ORDER BY 1, coalesce(c.name, '')

-- summary_tools --
-- Calls by tool. A result belongs to the call of its id that stands right before it.
-- scan: it counts all that it is asked about
WITH facts AS MATERIALIZED (
         SELECT e.thread, e.seq, e.facts::jsonb AS facts, (e.facts::jsonb ->> 'at')::bigint AS at
           FROM tl.threads AS t
           JOIN tl.entries AS e ON e.thread = t.thread AND e.kind IS NULL AND e.facts IS NOT NULL
          WHERE t.live AND (:key::bytea IS NULL OR (t.thread = :thread AND t.thread_key = :key)) AND t.tenant = :tenant
   AND t.app = :app AND (:user::owner_type IS NULL OR t.owner = :user)),
     steps AS (
         SELECT f.thread, f.seq, 0 AS part, c.place, f.at, c.value ->> 0 AS id, c.value ->> 1 AS name, 0 AS error
           FROM facts AS f, jsonb_array_elements(f.facts -> 'c') WITH ORDINALITY AS c (value, place)
          UNION ALL
         SELECT f.thread, f.seq, 1, r.place, f.at, r.value ->> 0, NULL, (r.value ->> 1)::integer
           FROM facts AS f, jsonb_array_elements(f.facts -> 'r') WITH ORDINALITY AS r (value, place)),
     paired AS (
         SELECT s.part, s.name, s.error, s.at, lag(s.name) OVER each AS called, lag(s.at) OVER each AS called_at
           FROM steps AS s
         WINDOW each AS (PARTITION BY s.thread, s.id ORDER BY s.seq, s.part, s.place))
SELECT coalesce(p.name, p.called) COLLATE "C" AS tool, count(*) FILTER (WHERE p.part = 0),
       count(*) FILTER (WHERE p.part = 1), count(*) FILTER (WHERE p.part = 1 AND p.error = 1),
       count(*) FILTER (WHERE p.part = 1 AND p.at >= p.called_at),
       coalesce(sum(p.at - p.called_at) FILTER (WHERE p.part = 1 AND p.at >= p.called_at), 0)::bigint
  FROM paired AS p
 WHERE p.part = 0 OR p.called IS NOT NULL
 GROUP BY 1 ORDER BY 1

-- summary_tokens --
-- Tokens, each kind together.
-- scan: it counts all that it is asked about
SELECT coalesce(sum((f.t ->> 0)::bigint), 0)::bigint, coalesce(sum((f.t ->> 1)::bigint), 0)::bigint,
       coalesce(sum((f.t ->> 2)::bigint), 0)::bigint, coalesce(sum((f.t ->> 3)::bigint), 0)::bigint,
       coalesce(sum((f.t ->> 4)::bigint), 0)::bigint
  FROM (SELECT e.facts::jsonb -> 't' AS t
          FROM tl.threads AS t
          JOIN tl.entries AS e ON e.thread = t.thread AND e.kind IS NULL AND e.facts IS NOT NULL
         WHERE t.live AND (:key::bytea IS NULL OR (t.thread = :thread AND t.thread_key = :key)) AND t.tenant = :tenant
   AND t.app = :app AND (:user::owner_type IS NULL OR t.owner = :user)) AS f
