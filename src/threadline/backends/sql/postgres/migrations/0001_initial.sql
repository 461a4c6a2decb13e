-- The whole layout. A thread is named by 16 bytes (thread_key). They stand once, in `threads`; every key begins with the
-- first 8 of them as a number (thread), so that the tables can be hash-partitioned by it, or distributed. `ns` is the
-- 8-byte key of a namespace, '' for the default. `tl.` is the schema and the prefix of our tables; `owner_type` the type
-- of user ids; what stands behind `by thread` are the storage parameters of a table, or of each of its partitions.
-- Read in this order: threads, heads; then what a head leads to: checkpoints, log_rows, blobs; then the message
-- log: entries; then slots and the journal. NULL is the common case wherever it saves bytes. `ext_id` is UTF-8, but for
-- hexadecimal ids and UUIDs, which are half as long (see pg_values). Times are microseconds.

-- A thread. Two whose keys begin alike cannot both be there: the second is refused, since names are compared. Deletion
-- leaves the row with live = false and without names: the retired incarnation, rev and last_seq stay, so that one created
-- again is a new one. `gc` moves when rows are freed. Every commit locks this row first, and moves `activity_at`; lists go
-- by `active_on`, its 8 seconds, so that most commits leave the indexes as they are (HOT).
CREATE TABLE tl.threads (
    thread bigint PRIMARY KEY,
    thread_key bytea NOT NULL,
    live boolean NOT NULL,
    tenant text COLLATE "C",
    app text COLLATE "C",
    thread_id text COLLATE "C",
    owner owner_type,
    incarnation bytea NOT NULL,
    rev bigint NOT NULL,
    gc bigint NOT NULL,
    last_seq bigint NOT NULL,
    info bytea,
    lineage bytea,
    title text COLLATE "C",
    key_id integer NOT NULL,
    created_at bigint NOT NULL,
    activity_at bigint NOT NULL,
    message_count bigint NOT NULL,
    checkpoint_count bigint NOT NULL,
    active_on bigint GENERATED ALWAYS AS (activity_at >> 23) STORED
) by thread (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX threadline_threads_by_activity ON tl.threads (tenant, app, active_on) WHERE live;
CREATE INDEX threadline_threads_by_owner ON tl.threads (tenant, app, owner, active_on)
    WHERE live AND owner IS NOT NULL;

-- The metadata of threads as 64-bit terms: a table of its own, since the rows of `threads` move at every commit.
CREATE TABLE tl.thread_terms (
    thread bigint NOT NULL,
    term bigint NOT NULL,
    PRIMARY KEY (thread, term)
) by thread ();
CREATE INDEX threadline_thread_terms_by_term ON tl.thread_terms (term, thread);

-- Where each namespace of a thread stands. `namespace` is its name (NULL after deletion), `last_version` the highest
-- version ever given out, `marks` the pipeline's own bytes about its logs. No other index: updated in place.
CREATE TABLE tl.heads (
    thread bigint NOT NULL,
    ns bytea NOT NULL,
    namespace text COLLATE "C",
    head_version bigint NOT NULL,
    last_version bigint NOT NULL,
    marks bytea NOT NULL,
    PRIMARY KEY (thread, ns)
) by thread (autovacuum_vacuum_scale_factor = 0.05);

-- One version of one namespace's state, in few bytes: there is one for each put. `kind`: NULL is put. `parent_version`:
-- NULL is the version before, 0 none. `based`: NULL when `base` is the parent. `key_id`: NULL is 0. `refs`: log, start, end,
-- log, start, end, ... with commas between (an array takes 20 bytes before its first number); `blob_refs`: 16 bytes each.
-- `op`: the second half of the op_id of the commit that wrote it, where the first half is the version; NULL where it is
-- another, which the journal has. Beside it what else a retry must be told: `rev`, and `first_seq` as in the journal.
CREATE TABLE tl.checkpoints (
    thread bigint NOT NULL,
    version bigint NOT NULL,
    created_at bigint NOT NULL,
    parent_version bigint,
    base bigint,
    op bigint,
    rev bigint,
    first_seq bigint,
    bytes integer NOT NULL,
    key_id integer,
    based boolean,
    ns bytea NOT NULL,
    digest bytea NOT NULL,
    payload bytea NOT NULL,
    refs text COLLATE "C",
    ext_id bytea,
    blob_refs bytea,
    kind text COLLATE "C",
    name text COLLATE "C",
    run_id text COLLATE "C",
    terms bigint[],
    PRIMARY KEY (thread, ns, version)
) by thread ();
ALTER TABLE tl.checkpoints ALTER COLUMN payload SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX threadline_checkpoints_by_ext_id ON tl.checkpoints (thread, ns, ext_id)
    WHERE ext_id IS NOT NULL;
CREATE INDEX threadline_checkpoints_by_name ON tl.checkpoints (thread, ns, name, version)
    WHERE name IS NOT NULL;

-- The items of the append-only logs, several neighbours in a row; p_start and p_end are prefix digests. The open row of
-- a log is small enough to be rewritten where it lies: up to 4 KB stay in the row. Pages are filled: what is rewritten
-- finds the room that its own older versions leave, and room that is kept free besides is never used.
CREATE TABLE tl.log_rows (
    thread bigint NOT NULL,
    ns bytea NOT NULL,
    log integer NOT NULL,
    start integer NOT NULL,
    count integer NOT NULL,
    kind smallint NOT NULL,
    key_id integer NOT NULL,
    p_start bytea NOT NULL,
    p_end bytea NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (thread, ns, log, start)
) by thread (toast_tuple_target = 4080, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE tl.log_rows ALTER COLUMN payload SET STORAGE EXTERNAL;

-- Large fields by content address.
CREATE TABLE tl.blobs (
    thread bigint NOT NULL,
    ns bytea NOT NULL,
    id bytea NOT NULL,
    key_id integer NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (thread, ns, id)
) by thread ();
ALTER TABLE tl.blobs ALTER COLUMN payload SET STORAGE EXTERNAL;

-- The message log. `kind`: NULL is message. `words`: each word that it is found by, once, as a number of 32 bits (two
-- words may share one: what is found is checked on the texts); `search`: all of them in order, unless the projection
-- makes them again from the payload (derived). `key_id`: NULL is 0, here and in `slots`.
CREATE TABLE tl.entries (
    thread bigint NOT NULL,
    seq bigint NOT NULL,
    created_at bigint NOT NULL,
    key_id integer,
    derived boolean NOT NULL,
    ns bytea NOT NULL,
    digest bytea NOT NULL,
    payload bytea NOT NULL,
    ext_id bytea,
    role text COLLATE "C",
    kind text COLLATE "C",
    search text COLLATE "C",
    words integer[],
    meta bytea,
    terms bigint[],
    PRIMARY KEY (thread, ns, seq)
) by thread (toast_tuple_target = 4080);
ALTER TABLE tl.entries ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE tl.entries ALTER COLUMN words SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX threadline_entries_by_ext_id ON tl.entries (thread, ns, ext_id) WHERE ext_id IS NOT NULL;
-- New words wait in a list within the index. Its pages are never given back: by default there may be 4 MB of them.
CREATE INDEX threadline_entries_by_words ON tl.entries USING gin (words) WITH (gin_pending_list_limit = 256)
    WHERE words IS NOT NULL;

-- Keyed rows that are really overwritten and never in history. `key`: UTF-8, compared by bytes.
CREATE TABLE tl.slots (
    thread bigint NOT NULL,
    expires_at bigint,
    key_id integer,
    ns bytea NOT NULL,
    kind text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    payload bytea NOT NULL,
    meta bytea,
    PRIMARY KEY (thread, ns, kind, key)
) by thread ();
ALTER TABLE tl.slots ALTER COLUMN payload SET STORAGE EXTERNAL;

-- One row a commit, but for those that a checkpoint's row tells of (`op`). `kind`: NULL is put. What a retry with the same
-- op_id must be told and nothing else knows:
-- `first_seq` and `seqs` (NULL: the entries follow `first_seq` one by one), `slots` (NULL: all were written), `removed`,
-- `popped` (JSON); `incarnation`: NULL is the thread's own. Kept for 24 h at least.
CREATE TABLE tl.journal (
    thread bigint NOT NULL,
    rev bigint NOT NULL,
    at bigint NOT NULL,
    version bigint,
    first_seq bigint,
    op_id uuid NOT NULL,
    kind text COLLATE "C",
    seqs bigint[],
    slots boolean[],
    removed integer,
    popped text,
    incarnation bytea,
    PRIMARY KEY (thread, op_id)
) by thread ();
