-- The whole layout. A thread is named by 16 bytes (thread_key); they and its names stand once, in `threads`, and every
-- other key begins with the small integer that stands for them in this file: 25 % fewer bytes a put than with the 16
-- bytes in every key, and rows of one thread lie together. `ns` is the 8-byte key of a namespace, x'' for the default.
-- Read in this order: store, threads, heads; then what a head leads to: checkpoints, log_rows, blobs; then the
-- message log: entries, entries_fts; then slots, terms and the journal. NULL is the common case wherever it saves bytes.

-- What is true of the file: the salt of its keys.
CREATE TABLE store (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- A thread. Deletion leaves the row with live = 0 and without names: the retired incarnation, rev and last_seq stay, so
-- that one created again is a new one. `user`: the owner. `gc` moves when rows are freed. Microseconds.
CREATE TABLE threads (
    id INTEGER PRIMARY KEY,
    thread_key BLOB NOT NULL UNIQUE,
    live INTEGER NOT NULL,
    tenant TEXT,
    app TEXT,
    thread_id TEXT,
    user TEXT,
    incarnation BLOB NOT NULL,
    rev INTEGER NOT NULL,
    gc INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    info BLOB,
    lineage BLOB,
    title TEXT,
    key_id INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    activity_at INTEGER NOT NULL,
    message_count INTEGER NOT NULL,
    checkpoint_count INTEGER NOT NULL
) STRICT;
CREATE INDEX threads_by_activity ON threads (tenant, app, activity_at, thread_key) WHERE live = 1;
CREATE INDEX threads_by_user ON threads (tenant, app, user, activity_at, thread_key)
    WHERE live = 1 AND user IS NOT NULL;

-- Where each namespace of a thread stands. `namespace` is its name (NULL after deletion), `last_version` the highest
-- version ever given out, `marks` the pipeline's own bytes about its logs.
CREATE TABLE heads (
    thread INTEGER NOT NULL,
    ns BLOB NOT NULL,
    namespace TEXT,
    incarnation BLOB NOT NULL,
    head_version INTEGER NOT NULL,
    last_version INTEGER NOT NULL,
    marks BLOB NOT NULL,
    PRIMARY KEY (thread, ns)
) STRICT, WITHOUT ROWID;

-- One version of one namespace's state. `kind`: NULL is put. `refs`: JSON [log, start, end, ...], NULL is none;
-- `blob_refs`: 16 bytes each. A rowid table, since rows over 1 KB would spill otherwise.
CREATE TABLE checkpoints (
    thread INTEGER NOT NULL,
    ns BLOB NOT NULL,
    version INTEGER NOT NULL,
    parent_version INTEGER,
    base INTEGER,
    kind TEXT,
    ext_id TEXT,
    name TEXT,
    run_id TEXT,
    refs TEXT,
    blob_refs BLOB,
    digest BLOB NOT NULL,
    key_id INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (thread, ns, version)
) STRICT;
CREATE UNIQUE INDEX checkpoints_by_ext_id ON checkpoints (thread, ns, ext_id) WHERE ext_id IS NOT NULL;
CREATE INDEX checkpoints_by_name ON checkpoints (thread, ns, name, version) WHERE name IS NOT NULL;

-- The items of the append-only logs, several neighbours in a row; p_start and p_end are prefix digests.
CREATE TABLE log_rows (
    thread INTEGER NOT NULL,
    ns BLOB NOT NULL,
    log INTEGER NOT NULL,
    start INTEGER NOT NULL,
    count INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    p_start BLOB NOT NULL,
    p_end BLOB NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (thread, ns, log, start)
) STRICT;

-- Large fields by content address.
CREATE TABLE blobs (
    thread INTEGER NOT NULL,
    ns BLOB NOT NULL,
    id BLOB NOT NULL,
    key_id INTEGER NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (thread, ns, id)
) STRICT;

-- The message log. `kind`: NULL is message. `search`: the words it is found by, unless the projection makes
-- them again from the payload (derived = 1). `id` is the row of its words in the index.
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL,
    ns BLOB NOT NULL,
    seq INTEGER NOT NULL,
    ext_id TEXT,
    kind TEXT,
    role TEXT,
    digest BLOB NOT NULL,
    search TEXT,
    derived INTEGER NOT NULL,
    meta BLOB,
    key_id INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (thread, ns, seq)
) STRICT;
CREATE UNIQUE INDEX entries_by_ext_id ON entries (thread, ns, ext_id) WHERE ext_id IS NOT NULL;

-- The word index: no copy of the text. What it is given are folded words with spaces between them, so the plain
-- tokenizer leaves them whole. No positions (detail): what stands beside what is checked on the texts that are found, and
-- the index is a quarter of the size. Words leave it by 'delete' with the old words.
-- needs: fts5
CREATE VIRTUAL TABLE entries_fts USING fts5 (words, content = '', columnsize = 0, detail = none,
    tokenize = 'ascii');

-- Keyed rows that are really overwritten and never in history.
CREATE TABLE slots (
    thread INTEGER NOT NULL,
    ns BLOB NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    key_id INTEGER NOT NULL,
    expires_at INTEGER,
    meta BLOB,
    payload BLOB NOT NULL,
    PRIMARY KEY (thread, ns, kind, key)
) STRICT;

-- Metadata as 64-bit terms. `kind`: 1 checkpoint (ref: version), 2 entry (ref: seq), 3 thread (ns x'', ref 0).
CREATE TABLE terms (
    thread INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    ns BLOB NOT NULL,
    term INTEGER NOT NULL,
    ref INTEGER NOT NULL,
    PRIMARY KEY (thread, kind, ns, term, ref)
) STRICT, WITHOUT ROWID;
CREATE INDEX terms_of_threads ON terms (term, thread) WHERE kind = 3;

-- One row a commit. `kind`: NULL is put. `version`, `result` (JSON) and `popped` (JSON) are what a retry with the
-- same op_id must be told and nothing else knows; `incarnation`: NULL is the thread's own. Kept for 24 h at least.
CREATE TABLE journal (
    thread INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    op_id BLOB NOT NULL,
    kind TEXT,
    at INTEGER NOT NULL,
    version INTEGER,
    result TEXT,
    popped TEXT,
    incarnation BLOB,
    digest BLOB,
    parent INTEGER,
    PRIMARY KEY (thread, rev)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX journal_by_op_id ON journal (thread, op_id);
