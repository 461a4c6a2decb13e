"""The Backend port: what a store must do, in rows and bytes. It knows no codec, no framework and no cache.

The rows and the `Batch` of `threadline.batch`, and what is refused (`threadline.judging`), are part of it and can be
imported from here; then what may be asked, and the primitives. A read with a user that is not the owner finds nothing,
as if there were no thread.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from threadline.batch import Batch as Batch
from threadline.batch import CheckpointRow as CheckpointRow
from threadline.batch import Commit as Commit
from threadline.batch import CopyFrom as CopyFrom
from threadline.batch import Drop as Drop
from threadline.batch import Entry as Entry
from threadline.batch import EntryPut as EntryPut
from threadline.batch import Expected as Expected
from threadline.batch import Head as Head
from threadline.batch import Known as Known
from threadline.batch import Slot as Slot
from threadline.batch import SlotIs as SlotIs
from threadline.batch import SlotPut as SlotPut
from threadline.batch import TailIs as TailIs
from threadline.batch import ThreadPut as ThreadPut
from threadline.batch import ThreadRow as ThreadRow
from threadline.history.row import ROW_SIZE, RowSize
from threadline.history.row import Blob as Blob
from threadline.history.row import Range as Range
from threadline.history.row import Row as Row
from threadline.judging import HeadFacts as HeadFacts
from threadline.judging import Reason as Reason
from threadline.judging import Refused as Refused
from threadline.judging import ThreadFacts as ThreadFacts
from threadline.judging import holds as holds
from threadline.judging import judge as judge
from threadline.judging import judge_again as judge_again
from threadline.judging import judge_copy as judge_copy
from threadline.summary import Summary as Summary
from threadline.texts import check_text

#: The largest number that every store can be asked about. A version or position beyond it means the same as it does.
LARGEST = 2**63 - 1


def _bound(query: object, *names: str) -> None:
    for name in names:
        if (getattr(query, name) or 0) > LARGEST:
            object.__setattr__(
                query, name, LARGEST
            )  # The classes are frozen: it happens as they are made.


def _check(query: object, *names: str) -> None:
    for name in names:
        if (text := getattr(query, name)) is not None:
            check_text(text, name)


@dataclass(frozen=True, slots=True)
class At:
    """A moment of the past: a version, a checkpoint id, or the latest checkpoint of a name."""

    version: int | None = None
    ext_id: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        _bound(self, "version")
        _check(self, "ext_id", "name")


@dataclass(frozen=True, slots=True)
class CheckpointQuery:
    """Checkpoints newest first, those before version `before`, at most `limit` (None: all)."""

    name: str | None = None
    terms: tuple[int, ...] = ()
    before: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        _bound(self, "before", "limit")
        _check(self, "name")


@dataclass(frozen=True, slots=True)
class EntryQuery:
    """Entries by position: after `after`, before `before`, oldest first (or newest first when `newest`); only these
    `ext_ids`, this `role`, those with all `terms`, those that hold every one of `words` (each
    a run of letters and digits, as `codec.searchtext.words` makes them; anything else is in no entry)."""

    after: int = 0
    before: int | None = None
    newest: bool = False
    limit: int | None = None
    ext_ids: tuple[str, ...] | None = None
    role: str | None = None
    terms: tuple[int, ...] = ()
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _bound(self, "after", "before", "limit")
        _check(self, "role")
        for text in (*(self.ext_ids or ()), *self.words):
            check_text(text, "ext_ids and words")


@dataclass(frozen=True, slots=True)
class ThreadQuery:
    """Threads of a tenant and app (None: of all) and owner (None: of all), ordered by (activity_at, key), behind the
    cursor `after` of that form, and behind the first `offset` of these."""

    tenant: str | None = ""
    app: str | None = ""
    user: str | None = None
    terms: tuple[int, ...] = ()
    oldest: bool = False
    after: tuple[int, bytes] | None = None
    limit: int | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        _bound(self, "limit", "offset")


@dataclass(frozen=True, slots=True)
class SlotQuery:
    """Slots of a kind (None: of every kind, kind by kind) whose key begins with `prefix`, in byte order of their
    UTF-8 keys, behind `after`."""

    kind: str | None
    prefix: str = ""
    after: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        _check(self, "kind", "prefix", "after")


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a store says of itself: the salt of its keys and facts for `ahealth`."""

    salt: bytes
    facts: dict[str, object] = field(default_factory=dict)


class Backend(ABC):
    """A store. A few primitives; everything else lives above, for every backend alike.

    Calls may come from any thread and any event loop. Reads are one snapshot each. Failures are raised as
    `threadline.errors`; a refused write as `Refused`.
    """

    #: The scheme of this store, for messages and health.
    name: ClassVar[str]
    #: Whether calls wait on a network, so that sync callers need a loop of their own.
    suspends: ClassVar[bool] = False
    #: When a row of a log is full, and the next one begins.
    row_size: ClassVar[RowSize] = ROW_SIZE

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that calls are carried out on, whichever they come from; None: the caller's."""
        return None

    @abstractmethod
    async def open(self) -> StoreInfo:
        """Make the store ready (create or migrate its schema); safe to call again, and from many processes."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what was accepted and let go of what this object opened."""

    @abstractmethod
    async def commit(self, batches: Sequence[Batch]) -> list[Commit]:
        """Write the batches, of distinct threads, in one transaction. Raises Refused."""

    @abstractmethod
    async def read_head(
        self,
        key: bytes,
        ns: bytes,
        user: str | None,
        *,
        at: At | None = None,
        known: Known | None = None,
        content: bool = True,
    ) -> Head:
        """The thread and its head (or the checkpoint `at`), with rows and blobs when `content`. When the head is what
        the caller has (`known`, its digest included), only says that it is `unchanged`."""

    @abstractmethod
    async def read_rows(
        self, key: bytes, ns: bytes, user: str | None, ranges: Sequence[Range]
    ) -> list[Row]:
        """The rows that cover the ranges, in order of log and position."""

    @abstractmethod
    async def read_blobs(
        self, key: bytes, ns: bytes, user: str | None, ids: Sequence[bytes]
    ) -> list[Blob]:
        """The large fields with these ids, each once and in this order; those that are not there are left out."""

    @abstractmethod
    async def read_checkpoints(
        self, key: bytes, ns: bytes, user: str | None, query: CheckpointQuery
    ) -> list[CheckpointRow]:
        """Checkpoints of a namespace, newest first."""

    @abstractmethod
    async def read_entries(
        self, key: bytes, ns: bytes, user: str | None, query: EntryQuery
    ) -> list[Entry]:
        """Entries of the message log."""

    @abstractmethod
    async def search(
        self, threads: ThreadQuery, words: Sequence[str], *, before: int | None, limit: int
    ) -> list[tuple[int, ThreadRow, Entry]]:
        """Entries of any thread that hold every word, newest first, each with a cursor for `before`."""

    @abstractmethod
    async def read_slots(
        self, key: bytes, ns: bytes, user: str | None, query: SlotQuery
    ) -> list[Slot]:
        """Slots that have not expired."""

    @abstractmethod
    async def read_threads(self, query: ThreadQuery) -> list[ThreadRow]:
        """Live threads, most recent activity first unless `oldest`."""

    @abstractmethod
    async def read_namespaces(self, key: bytes, user: str | None) -> list[str]:
        """The names of a thread's namespaces, in order; empty when there is no such thread."""

    @abstractmethod
    async def summarize(self, query: ThreadQuery, key: bytes | None = None) -> Summary:
        """Count, in the store, the live threads of the query's tenant, app (both named) and owner (None: of all), or of
        these the one with this key: messages (entries of the kind "message") by role, checkpoints by name, tools,
        tokens."""

    @abstractmethod
    async def measure(self, keys: Sequence[bytes] | None) -> list[dict[str, int]]:
        """Counts and bytes of each of these threads, in this order (all 0 where there is none), or (None) of
        everything, alone in the list: threads, checkpoints, messages, rows, row_bytes, checkpoint_bytes, message_bytes,
        store_bytes, namespaces."""
