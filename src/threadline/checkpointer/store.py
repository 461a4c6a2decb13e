"""The floor that adapters and sessions stand on: batches of rows in, rows out, in one thread or several.

An adapter for any framework can be written on this alone: it addresses with the same config dicts, seals its own
bytes with `seal`, and gets from `acommit` the same promises as everything else (all or nothing, compare-and-set,
one result for one `op_id`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

from threadline import clock
from threadline.backend import (
    At,
    Batch,
    Blob,
    CheckpointQuery,
    CheckpointRow,
    Commit,
    Entry,
    EntryQuery,
    Head,
    Range,
    Refused,
    Row,
    Slot,
    SlotQuery,
    ThreadQuery,
    ThreadRow,
)
from threadline.checkpointer.checked import check
from threadline.checkpointer.copying import Copying
from threadline.checkpointer.engine import Engine, refuse
from threadline.checkpointer.messages import encode_entry
from threadline.checkpointer.reads import Reads
from threadline.checkpointer.sync import drain, face, face_iter
from threadline.checkpointer.walk import each_thread
from threadline.codec.envelope import Payload, Where
from threadline.codec.rows import Items
from threadline.config import Config, read_config
from threadline.history.logs import Growth, Mark, grow, joins, open_row
from threadline.model import Message

T = TypeVar("T")


class Store:
    """`checkpointer.store`: public and stable."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._copying = engine, Copying(engine, Reads(engine))

    async def abatch(
        self, /, config: Config, kind: str, *, op_id: str | None = None, **parts: Any
    ) -> Batch:
        """A `Batch` for the thread and namespace of `config`, with its keys, names and owner filled in.

        kind: what the journal calls it, of your choice; op_id: 32 hexadecimal digits, new when None; parts: the
        other fields of `Batch`. Raises TypeError, ValueError.
        """
        address = read_config(config, write=True)
        return await self._engine.batch(address, kind, op_id, **parts)

    @overload
    async def acommit(self, batches: Batch) -> Commit: ...
    @overload
    async def acommit(self, batches: Sequence[Batch]) -> list[Commit]: ...
    async def acommit(self, batches: Batch | Sequence[Batch]) -> Commit | list[Commit]:
        """Commit a batch, or several of distinct threads in one transaction: all of it or nothing.

        Raises ConflictError when a head, a tail or a counter is not what the batch expects, ThreadNotFoundError for
        a missing, deleted or foreign thread; ValueError for two batches of one thread and for parts that do not go
        together; TypeError for a part of another type; NotStorableError for what not every store can hold (a text with
        a NUL or a lone surrogate, a key of more than 2,048 bytes, a number that is too large or negative, facts that
        cannot be counted), or an `Entry.search` that is not what `threadline.store.words` makes.
        """
        several = [batches] if isinstance(batches, Batch) else list(batches)
        if len({batch.key for batch in several}) < len(several):
            raise ValueError(
                "two batches of one thread cannot be in one commit: make them one batch"
            )
        for batch in several:
            check(batch)
        await self._engine.ready()
        try:
            commits = await self._engine.backend.commit(several) if several else []
        except Refused as refused:
            _, _, thread_id = several[0].names
            expected = several[0].expected
            address = read_config({"thread_id": thread_id})
            refuse(address, refused, expected.version if expected else None)
        for batch, commit in zip(several, commits, strict=True):
            if batch.erase:
                await self._engine.copies.erase(batch.key, commit.incarnation)
            elif batch.checkpoint or batch.merged or batch.frees or batch.copies_all:
                await self._engine.copies.drop(batch.key, batch.ns)
        return commits[0] if isinstance(batches, Batch) else commits

    @overload
    async def aread(self, config: Config, what: At | None = None) -> Head: ...
    @overload
    async def aread(self, config: Config, what: EntryQuery) -> list[Entry]: ...
    @overload
    async def aread(self, config: Config, what: SlotQuery) -> list[Slot]: ...
    @overload
    async def aread(self, config: Config, what: CheckpointQuery) -> list[CheckpointRow]: ...
    @overload
    async def aread(self, config: Config, what: Sequence[Range]) -> list[Row]: ...
    async def aread(self, config: Config, what: Any = None) -> Any:
        """Read from one thread and namespace.

        what: None or an `At` gives the `Head` (thread, versions, checkpoint, rows, blobs; its `thread` is None when
        there is none for this user); an `EntryQuery`, `SlotQuery` or `CheckpointQuery` those rows; a list of
        `Range` the rows that cover them.
        """
        address = read_config(config)
        engine, key, ns = self._engine, await self._engine.key(address), address.ns_key
        match what:
            case None | At():
                return await engine.backend.read_head(key, ns, address.user, at=what)
            case EntryQuery():
                return await engine.backend.read_entries(key, ns, address.user, what)
            case SlotQuery():
                return await engine.backend.read_slots(key, ns, address.user, what)
            case CheckpointQuery():
                return await engine.backend.read_checkpoints(key, ns, address.user, what)
            case list() | tuple():
                return await engine.backend.read_rows(key, ns, address.user, what)
        raise TypeError(f"cannot read a {type(what).__name__}; see Store.aread")

    async def ablobs(self, config: Config, ids: Sequence[bytes]) -> list[Blob]:
        """The blobs of these ids in one thread and namespace, in this order; those that are not there are left out."""
        address = read_config(config)
        key = await self._engine.key(address)
        return await self._engine.backend.read_blobs(key, address.ns_key, address.user, ids)

    async def ascan(self, config: Config, *, page: int = 200) -> AsyncIterator[ThreadRow]:
        """Every live thread of the config's tenant, app and user, most recent activity first, page by page."""
        address = read_config(config, thread=False)
        self._engine.check_user(address)
        await self._engine.ready()
        query = ThreadQuery(address.tenant, address.app, address.user)
        async for row in each_thread(self._engine, query, page):
            yield row

    async def anamespaces(self, config: Config) -> list[str]:
        """The names of the thread's namespaces, in order; empty when there is no such thread for this user."""
        address = read_config(config)
        key = await self._engine.key(address)
        return await self._engine.backend.read_namespaces(key, address.user)

    async def aerase(self, config: Config, *, op_id: str | None = None) -> bool:
        """Erase the config's thread, every namespace of it; False when there is none."""
        batch = await self.abatch(config, "erase", op_id=op_id, erase=True)
        commit = await self._engine.commit_if_any(read_config(config), batch)
        if commit is None:
            return False
        await self._engine.copies.erase(batch.key, commit.incarnation)
        await self._engine.scrub()
        return True

    async def acopy(
        self,
        config: Config,
        thread_id: str,
        *,
        ends: Mapping[str, int] | None = None,
        until: int | None = None,
        read: Head | None = None,
        op_id: str | None = None,
    ) -> Commit:
        """Copy the config's thread with all of its past into one that does not exist: in the store, in one commit.

        Every namespace comes, as it stands at that moment: checkpoints under their versions, ids and names, rows,
        blobs, entries, slots (but those that expire); the owner and the description of the thread. The copy knows where
        it came from; from then on the two share nothing. A version that an earlier life of a deleted thread gave out
        may be given again by a copy into it, never by a put.

        ends: only these namespaces, each up to a version, which is then its head; until: only entries put up to then,
        in microseconds. read: a `Head` of the thread, read before what these two say: nothing may have been taken away
        since.

        Raises ThreadNotFoundError for a missing or foreign thread; ValueError when the new one exists; ConflictError
        when something was taken away since `read`, or the config's namespace changed all the time.
        """
        return await self._copying.copy(
            read_config(config, write=True), thread_id, op_id, ends=ends, until=until, read=read
        )

    def entry(self, message: Message) -> Entry:
        """A message as an entry of the message log, found and listed like one that `put_messages` put.

        Raises TypeError, ValueError, NotStorableError.
        """
        return encode_entry(self._engine, message)

    def now_us(self) -> int:
        """The time, in microseconds, by the clock that a test may replace."""
        return clock.now_us()

    def seal(self, data: bytes, where: Where) -> Payload:
        """Your bytes as a payload (compressed, framed, checked when opened). Raises LimitError."""
        return self._engine.codec.seal(data, where)

    def open(self, data: bytes, where: Where, key_id: int = 0) -> bytes:
        """The bytes of a payload. Raises CorruptionError."""
        return self._engine.codec.open(data, key_id, where)

    def grow(
        self,
        log: int,
        mark: Mark,
        items: Sequence[bytes],
        tail: Items | None = None,
        kind: int = 16,
    ) -> Growth:
        """What appending items of your own bytes to a log makes of it: see `Growth`.

        mark: where the log stands (the `marks` of a `Head`, read by `read_marks`); tail: the items of its open row, as
        the last `Growth` or `open_row` gave them, without which a new row is begun; kind: 16 or more.
        """
        row_size = self._engine.backend.row_size
        return grow(log, mark, items, self._engine.codec, tail, kind, row_size)

    def joins(self, mark: Mark, items: Sequence[bytes]) -> bool:
        """Whether these items go into the log's open row, so that `grow` needs what is in it."""
        return joins(mark, items, self._engine.backend.row_size)

    def open_row(self, row: Row) -> Items:
        """The items of a row of a log. Raises CorruptionError."""
        return open_row(row, self._engine.codec)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Drive an async method of your own to its end, for its sync twin, as this store's own are driven."""
        return self._run(coroutine)

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items of an async iterator of your own, for its sync twin."""
        return drain(self, items)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._engine.run(coroutine)

    batch = face(abatch)
    commit = face(acommit)
    read = face(aread)
    scan = face_iter(ascan)
    erase = face(aerase)
    copy = face(acopy)
