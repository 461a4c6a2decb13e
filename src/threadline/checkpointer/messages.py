"""The pipelines of the message log: a thread's messages in order, put, read, searched and removed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from threadline.backend import (
    LARGEST,
    Entry,
    EntryPut,
    EntryQuery,
    Reason,
    Refused,
    TailIs,
    ThreadQuery,
)
from threadline.checkpointer.engine import Engine, refuse
from threadline.codec.digest import item_digest
from threadline.codec.envelope import Codec, Where
from threadline.codec.facts import facts_of
from threadline.codec.records import decode_message, decode_messages, encode_message
from threadline.codec.rows import JSON
from threadline.codec.searchtext import Query, read_query, words
from threadline.codec.terms import matches
from threadline.config import Address, message_key
from threadline.errors import ConflictError, CorruptionError
from threadline.model import Message

#: The kind of an entry that is a Message of ours.
MESSAGE = "message"
#: What the payload of an entry is.
_ENTRY = Where("entry")
#: How many entries one read brings when a caller wants them all.
PAGE = 500
#: A tail that no log has.
NO_TAIL = ((-1, b""),)

OnDuplicate = Literal["replace", "ignore"]


def listed(messages: Iterable[Any]) -> list[Any]:
    """Messages as a list of its own. Raises TypeError for a single one, which can be gone through as well."""
    if isinstance(messages, Message | str | bytes | Mapping):
        raise TypeError(
            f"messages must be a list of Message objects, not a {type(messages).__name__}"
        )
    return list(messages)


def encode_entries(
    engine: Engine,
    messages: Iterable[Message],
    metadata: Mapping[str, Any] | None,
    on_duplicate: OnDuplicate,
) -> tuple[EntryPut, ...]:
    """Messages as entries; an id that occurs twice keeps its first place and its last content.

    Raises TypeError, NotStorableError, ValueError.
    """
    if on_duplicate not in ("replace", "ignore"):
        raise ValueError(f'on_duplicate must be "replace" or "ignore", not {on_duplicate!r}')
    messages = listed(messages)
    meta = engine.seal(dict(metadata), Where("meta")).data if metadata else None
    puts: dict[str, EntryPut] = {}
    for message in messages:
        entry = encode_entry(engine, message, meta)
        if on_duplicate == "ignore" and entry.ext_id in puts:
            continue
        puts[str(entry.ext_id)] = EntryPut(entry, on_duplicate=on_duplicate)
    return tuple(puts.values())


def encode_entry(engine: Engine, message: Message, meta: bytes | None = None) -> Entry:
    """One message as an entry."""
    data = encode_message(message)
    payload = engine.codec.seal(data, _ENTRY)
    return Entry(
        kind=MESSAGE,
        ext_id=message_key(message.message_id),
        role=message.role,
        payload=payload.data,
        key_id=payload.key_id,
        digest=item_digest(JSON, data),
        search=words(message.text()) or None,
        derived=True,
        meta=meta,
        facts=facts_of(message),
    )


def decode_entry(engine: Engine, entry: Entry) -> Message:
    """The message of an entry; metadata that was put beside it fills what its own does not say."""
    return _completed(engine, entry, decode_message(_opened(engine, entry)))


def decode_entries(engine: Engine, entries: Sequence[Entry]) -> Iterator[Message]:
    """The messages of entries, decoded together; where one is damaged, those before it come first."""
    try:
        messages = decode_messages(_opened(engine, entry) for entry in entries)
    except (CorruptionError, ValueError):
        yield from (decode_entry(engine, entry) for entry in entries)
        return
    for entry, message in zip(entries, messages, strict=True):
        yield _completed(engine, entry, message)


def _completed(engine: Engine, entry: Entry, message: Message) -> Message:
    if entry.meta is not None:
        beside = engine.open(entry.meta, entry.key_id, Where("meta"))
        message.metadata = {**beside, **message.metadata}
    return message


def _opened(engine: Engine, entry: Entry) -> bytes:
    return engine.codec.open(entry.payload, entry.key_id, _ENTRY)


class Messages:
    """Putting, reading and removing messages, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def put(
        self,
        address: Address,
        messages: Sequence[Message],
        metadata: Mapping[str, Any] | None,
        on_duplicate: OnDuplicate,
        op_id: str | None,
    ) -> None:
        """Put messages in one commit; see `BaseCheckpointer.aput_messages`."""
        entries = encode_entries(self._engine, messages, metadata, on_duplicate)
        batch = await self._engine.batch(address, "messages", op_id, create=True, entries=entries)
        if not entries:
            return
        try:
            await self._engine.commit(batch)
        except Refused as refused:
            refuse(address, refused)

    async def get(self, address: Address, message_id: str) -> Message | None:
        """One message, or None."""
        entry = await self._entry(address, message_id)
        return decode_entry(self._engine, entry) if entry else None

    async def iterate(
        self,
        address: Address,
        *,
        search: str | None = None,
        role: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        after: str | None = None,
        newest: bool = False,
        skip: int = 0,
        count: int | None = None,
    ) -> AsyncGenerator[Message, None]:
        """The messages that match, oldest first (or newest first), page by page, from the one behind the first `skip`
        on; `count`: how many there will be asked for, if that is known."""
        query = None
        if search is not None:
            query = read_query(search)
        key, ns = await self._engine.key(address), address.ns_key
        cursor = await self._seq_of(address, after) if after is not None else 0
        before: int | None = None
        filtered = query is not None or bool(metadata)
        page = PAGE if filtered or count is None else min(skip + count, PAGE)
        while True:
            asked = EntryQuery(
                after=cursor,
                before=before,
                newest=newest,
                limit=page,
                role=role,
                words=query.words if query else (),
            )
            entries = await self._engine.backend.read_entries(key, ns, address.user, asked)
            ours = [entry for entry in entries if entry.kind == MESSAGE]
            if not filtered:  # What is left out need not be looked into.
                ours, skip = ours[skip:], max(skip - len(ours), 0)
            for message in decode_entries(self._engine, ours):
                if metadata and not matches(message.metadata, metadata):
                    continue
                if query is not None and not query.matches(message.text()):
                    continue
                if skip:
                    skip -= 1
                    continue
                yield message
            if len(entries) < page:
                return
            if newest:
                before = entries[-1].seq
            else:
                cursor = entries[-1].seq
            page = PAGE

    async def delete(self, address: Address, message_id: str, op_id: str | None) -> bool:
        """Take a message out of the log; False when it is not there."""
        if await self._entry(address, message_id) is None and op_id is None:
            return False
        return await self._remove(address, "delete", op_id, remove_entries=(message_id,)) > 0

    async def clear(self, address: Address, op_id: str | None) -> int:
        """Take every message out of the log; returns how many there were."""
        return await self._remove(address, "clear_messages", op_id, clear_entries=True)

    async def pop(self, address: Address, count: int, op_id: str | None) -> list[Message]:
        """Take the newest messages out of the log, oldest of them first."""
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"n must be an int, not {type(count).__name__}")
        if count < 1:
            raise ValueError(f"n must be 1 or more, not {count}")
        batch = await self._engine.batch(address, "pop", op_id, pop_entries=min(count, LARGEST))
        commit = await self._engine.commit_if_any(address, batch)
        return [decode_entry(self._engine, entry) for entry in commit.popped] if commit else []

    async def replace(
        self,
        address: Address,
        after: str | None,
        expected_tail: Sequence[Message | str],
        messages: Sequence[Message],
        op_id: str | None,
    ) -> None:
        """Replace what stands after a message, if it is what the caller expects."""
        anchor = None if after is None else await self._entry(address, after)
        gone = after is not None and anchor is None
        if gone and op_id is None:
            raise ValueError(f"thread {address.thread_id!r} has no message {after!r}")
        start = anchor.seq if anchor else 0
        key, ns = await self._engine.key(address), address.ns_key
        query = EntryQuery(after=start)
        tail = await self._engine.backend.read_entries(key, ns, address.user, query)
        as_expected = not gone and self._is_tail(tail, expected_tail)
        if op_id is None and not as_expected:
            raise ConflictError(
                f"the messages of thread {address.thread_id!r} after {after!r} are not the expected ones; "
                "nothing was written. Read them again.",
                thread_id=address.thread_id,
            )
        # Refused unless this op_id was committed before, which is then what is answered.
        pairs = tuple((entry.seq, entry.digest) for entry in tail) if as_expected else NO_TAIL
        entries = encode_entries(self._engine, messages, None, "replace")
        batch = await self._engine.batch(
            address, "replace", op_id, create=not tail, tail=TailIs(start, pairs), entries=entries
        )
        try:
            await self._engine.commit(batch)
        except Refused as refused:
            if gone and refused.reason is Reason.CONFLICT:
                raise ValueError(f"thread {address.thread_id!r} has no message {after!r}") from None
            refuse(address, refused)

    async def search(
        self, threads: ThreadQuery, search: str, role: str | None, limit: int
    ) -> list[tuple[str, Message]]:
        """Messages of any thread that match, newest first, each with its thread's id."""
        query = read_query(search)
        if query is None:
            return []
        await self._engine.ready()
        found: list[tuple[str, Message]] = []
        before: int | None = None
        while len(found) < limit:
            hits = await self._engine.backend.search(
                threads, query.words, before=before, limit=PAGE
            )
            for _, thread, entry in hits:
                message = self._hit(entry, query, role)
                if message is not None and len(found) < limit:
                    found.append((thread.thread_id, message))
            if len(hits) < PAGE:
                break
            before = hits[-1][0]
        return found

    def _hit(self, entry: Entry, query: Query, role: str | None) -> Message | None:
        if entry.kind != MESSAGE or role not in (None, entry.role):
            return None
        message = decode_entry(self._engine, entry)
        return message if query.matches(message.text()) else None

    async def _remove(self, address: Address, kind: str, op_id: str | None, **parts: Any) -> int:
        batch = await self._engine.batch(address, kind, op_id, **parts)
        commit = await self._engine.commit_if_any(address, batch)
        return commit.removed if commit else 0

    async def _entry(self, address: Address, message_id: str) -> Entry | None:
        wanted = message_key(message_id)
        key, ns = await self._engine.key(address), address.ns_key
        query = EntryQuery(ext_ids=(wanted,), limit=1)
        entries = await self._engine.backend.read_entries(key, ns, address.user, query)
        return entries[0] if entries and entries[0].kind == MESSAGE else None

    async def _seq_of(self, address: Address, message_id: str) -> int:
        entry = await self._entry(address, message_id)
        if entry is None:
            raise ValueError(f"thread {address.thread_id!r} has no message {message_id!r}")
        return entry.seq

    def _is_tail(self, tail: Sequence[Entry], expected: Sequence[Message | str]) -> bool:
        if len(tail) != len(expected):
            return False
        for entry, wanted in zip(tail, expected, strict=True):
            if isinstance(wanted, Message):
                data = encode_message(wanted)
                if entry.digest != item_digest(JSON, data) and not self._reads_as(entry, data):
                    return False
            elif entry.ext_id != wanted:
                return False
        return True

    def _reads_as(self, entry: Entry, data: bytes) -> bool:
        # As it is read, a message shows the metadata beside it; a tombstone is not what its digest says.
        return entry.kind == MESSAGE and encode_message(decode_entry(self._engine, entry)) == data


def projection(codec: Codec) -> Callable[[str, bytes, int], str | None]:
    """What a backend is given to make an entry's words from its payload, so that it need not store them."""

    def project(kind: str, payload: bytes, key_id: int) -> str | None:
        if kind != MESSAGE:
            return None
        message = decode_message(codec.open(payload, key_id, _ENTRY))
        return words(message.text()) or None

    return project
