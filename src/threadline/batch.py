"""What crosses the seam between the pipelines and a store: rows, and the `Batch` that writes them.

Read in this order: the rows as they are stored, the `Batch` (the one door for writes) and its parts, what a commit
answers. Which writes are refused says `threadline.judging`.

A thread is named by `thread_key` (16 bytes), a namespace by `ns` (8 bytes). `user` is the canonical owner text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from threadline.history.row import Blob, Range, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """One version of one namespace's state. `payload` is the sealed head (small fields, where the others lie, the
    metadata); `refs` and `blob_refs` say which rows and blobs it needs, readable without opening it.

    `kind`: put, clear, rollback, fork. `base`: the version it was computed from, None when put without one.
    `ext_id`: a framework's own checkpoint id, unique in the namespace; None: the version. `bytes`: stored bytes.
    `digest`: over its content (see `codec.digest`). `created_at`: microseconds; 0: the store's clock at the commit.
    """

    version: int
    payload: bytes
    digest: bytes
    parent_version: int | None = None
    base: int | None = None
    kind: str = "put"
    ext_id: str | None = None
    name: str | None = None
    run_id: str | None = None
    refs: tuple[Range, ...] = ()
    blob_refs: tuple[bytes, ...] = ()
    key_id: int = 0
    bytes: int = 0
    created_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record of the message log. `seq` increases in a thread and is given by the store; `ext_id` is unique in
    thread and namespace, None for records without an id. `meta` is a sealed payload beside the record.

    `search`: the words it is found by, None when it is not searched. `derived`: the projection that the backend
    was given makes the same words from `payload`, so they need not be stored a second time. `facts`: what is counted
    of it, see `codec.facts`; None when there is nothing.
    """

    kind: str
    payload: bytes
    digest: bytes
    seq: int = 0
    ext_id: str | None = None
    role: str | None = None
    search: str | None = None
    derived: bool = False
    meta: bytes | None = None
    facts: str | None = None
    key_id: int = 0
    created_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A keyed row that is really overwritten and never in history. `expires_at`: microseconds or None."""

    kind: str
    key: str
    payload: bytes = b""
    meta: bytes | None = None
    key_id: int = 0
    expires_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadRow:
    """A thread as it stands. `info` is a sealed payload (None: nothing was said of it), `title` its searchable
    name. `lineage`: sealed, where it was forked from. Times are microseconds by the store's clock."""

    key: bytes
    tenant: str
    app: str
    thread_id: str
    user: str | None
    incarnation: bytes
    rev: int = 0
    gc: int = 0
    info: bytes | None = None
    lineage: bytes | None = None
    title: str | None = None
    key_id: int = 0
    created_at: int = 0
    activity_at: int = 0
    message_count: int = 0
    checkpoint_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a state is read from, in one snapshot. `thread` is None when there is none, or it is another user's.
    `checkpoint` is None when there is no such state (or `unchanged`: the caller has that version already). `marks` are
    the pipeline's own bytes about the logs of this namespace; `last_version` the highest version ever given out in
    it, also in earlier lives."""

    thread: ThreadRow | None = None
    head_version: int = 0
    last_version: int = 0
    marks: bytes = b""
    checkpoint: CheckpointRow | None = None
    unchanged: bool = False
    rows: tuple[Row, ...] = ()
    blobs: tuple[Blob, ...] = ()


class Known(NamedTuple):
    """What a reader has already: a version of an incarnation, as it was at that `gc`, with that `digest`. The digest
    tells when a store was set back to an earlier moment and then gave out the same version for another content."""

    incarnation: bytes
    version: int
    gc: int
    digest: bytes


# What is written --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expected:
    """The head a write was computed against: the thread's incarnation (None: any) and the version (0: none)."""

    incarnation: bytes | None
    version: int


@dataclass(frozen=True, slots=True)
class EntryPut:
    """Put an entry: at the end, or in place when its `ext_id` is there ("replace": with this content, position kept,
    and `meta` and its terms kept where this one brings none; "ignore": nothing happens)."""

    entry: Entry
    terms: tuple[int, ...] = ()
    on_duplicate: Literal["replace", "ignore"] = "replace"


@dataclass(frozen=True, slots=True)
class TailIs:
    """The entries after `after` (seq; 0: all) are exactly `expected` ((seq, digest) each); they are removed."""

    after: int
    expected: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class SlotPut:
    """Write a slot: "overwrite", only "if_absent" (an expired one is absent), or "delete" it. `ttl`: it expires so
    many microseconds after the commit, by the store's clock, whatever the slot itself says."""

    slot: Slot
    mode: Literal["overwrite", "if_absent", "delete"] = "overwrite"
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class SlotIs:
    """A condition on a whole batch: this slot of its namespace is there, has not expired by the store's clock at
    the commit, and its payload is exactly these bytes. A lease is such a slot, and this is its fence."""

    kind: str
    key: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class ThreadPut:
    """What is said of a thread: sealed info with its searchable title and metadata terms (None: what was said
    before stays). `owner` gives one to a thread without; `lineage`: where a new thread was forked from; a thread
    keeps its first one, unless this one `replaces_lineage`. `created_at`, `activity_at`: microseconds, for a thread
    that comes from another store; 0: the store's own clock."""

    info: bytes | None = None
    title: str | None = None
    terms: tuple[int, ...] = ()
    owner: str | None = None
    lineage: bytes | None = None
    key_id: int = 0
    replaces_lineage: bool = False
    created_at: int = 0
    activity_at: int = 0


@dataclass(frozen=True, slots=True)
class CopyFrom:
    """Copy from another thread, in the store and without decoding: the rows that cover `ranges`, the blobs, and every
    entry and slot of the namespace (entries up to `until`, microseconds; None: all). Refused as MISSING unless that
    thread lives in `incarnation` and is the batch's user's, and as STALE unless its `gc` and the namespace's
    `last_version` (None: any) are these: a put since then may have added to the rows that are copied.

    `whole`: instead the thread with all of its past, of every namespace, as it stands at the commit: checkpoints under
    their versions, names and ids, rows, blobs, entries at their positions, slots, whose it is and what is said of it.
    Of the batch only `thread`'s lineage counts beside it, and it is refused as CONFLICT where its thread is there.
    `ends` (namespace, version): only these namespaces, each up to that version. What expires is never copied.
    """

    key: bytes
    ns: bytes
    incarnation: bytes
    gc: int | None = None
    ranges: tuple[Range, ...] = ()
    blobs: tuple[bytes, ...] = ()
    until: int | None = None
    last_version: int | None = None
    whole: bool = False
    ends: tuple[tuple[bytes, int], ...] | None = None

    def is_as_read(self, gc: int, last_version: int) -> bool:
        """Whether what is copied is what it was when the copy was computed."""
        return self.gc in (None, gc) and self.last_version in (None, last_version)


@dataclass(frozen=True, slots=True)
class Drop:
    """Take away checkpoints, and rows (log, start) and blobs that no other checkpoint needs. `seen`: the last version
    when that was found out; a blob that a later one refers to stays. The head's checkpoint is never dropped."""

    versions: tuple[int, ...] = ()
    rows: tuple[tuple[int, int], ...] = ()
    blobs: tuple[bytes, ...] = ()
    seen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Everything one commit changes in one thread: all of it or nothing.

    `names` (tenant, app, thread_id) are compared with those stored; a differing thread under the same key is
    refused. `op_id` (16 bytes) makes a retry return the first result; `fresh`: it was made for this very batch, so that
    there is no first one but a sending of this. `create`: the thread may come into being,
    with `incarnation`. `expected`: the head that `checkpoint` was computed against; required with one.
    `last_version`: the counter it was computed against. `assumes_gc`: refused when content was taken away or moved
    since; `frees`: this one does so, and moves the counter. `assumes_rev`: refused as STALE when anything was
    committed since. `rows`: in place where one begins there already; `merged`: rows that replace all rows within
    their span. `forget`: ids of entries that leave what earlier commits of the thread answered (`Commit.popped`).
    `renames`: (version, name) of checkpoints to name; one that is not there is refused as CONFLICT.
    `requires_slots`: refused as FENCED unless each holds. `erase`: the thread goes, leaving a row without names.
    `idempotent`: it only writes slots that are not there, into a life of the thread that it `requires`, and to do so
    twice does no harm: its result is not remembered, and the same `op_id` commits it again.
    """

    key: bytes
    names: tuple[str, str, str]
    op_id: bytes
    kind: str
    fresh: bool = False
    user: str | None = None
    ns: bytes = bytes(8)
    namespace: str = ""
    create: bool = False
    incarnation: bytes = b""
    requires: bytes | None = None
    expected: Expected | None = None
    last_version: int = 0
    marks: bytes = b""
    assumes_gc: int | None = None
    assumes_rev: int | None = None
    frees: bool = False
    checkpoint: CheckpointRow | None = None
    checkpoint_terms: tuple[int, ...] = ()
    rows: tuple[Row, ...] = ()
    merged: tuple[Row, ...] = ()
    blobs: tuple[Blob, ...] = ()
    remove_entries: tuple[str, ...] = ()
    clear_entries: bool = False
    pop_entries: int = 0
    tail: TailIs | None = None
    entries: tuple[EntryPut, ...] = ()
    rewrite_entries: tuple[Entry, ...] = ()
    forget: tuple[str, ...] = ()
    slots: tuple[SlotPut, ...] = ()
    requires_slots: tuple[SlotIs, ...] = ()
    thread: ThreadPut | None = None
    renames: tuple[tuple[int, str | None], ...] = ()
    copy: CopyFrom | None = None
    drop: Drop | None = None
    erase: bool = False
    idempotent: bool = False

    @property
    def about(self) -> int | None:
        """The version that this writes, else the first that it names: what its `Commit` says."""
        if self.checkpoint is not None:
            return self.checkpoint.version
        return self.renames[0][0] if self.renames else None

    @property
    def copies_all(self) -> bool:
        """Whether its thread comes into being as the copy of another with all of its past."""
        return self.copy is not None and self.copy.whole

    @property
    def upkeep(self) -> bool:
        """Whether this is no activity of the thread: its `activity_at` stays."""
        return self.drop is not None or bool(self.forget)


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit did. `version` is the one that it wrote, else the first that it named, of a copy with all of its
    past the head, else None; `seqs` has the position of each entry of the batch, in its order; `removed` counts
    entries taken away, `popped` are those taken by `pop_entries`, oldest first; `slots` says of each slot of the batch
    whether it was written. `duplicate`: the `op_id` had been committed before, and this is its result."""

    rev: int
    at: int
    incarnation: bytes
    version: int | None = None
    seqs: tuple[int, ...] = ()
    removed: int = 0
    popped: tuple[Entry, ...] = ()
    slots: tuple[bool, ...] = ()
    duplicate: bool = False
