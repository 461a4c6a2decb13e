"""What is read, each function on one connection and of one snapshot: one statement, but for counting."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from threadline.backend import (
    At,
    Blob,
    CheckpointQuery,
    CheckpointRow,
    Entry,
    EntryQuery,
    Head,
    Known,
    Range,
    Row,
    Slot,
    SlotQuery,
    ThreadQuery,
    ThreadRow,
)
from threadline.backends import pg_rows, pg_values
from threadline.backends.pg_link import Connection
from threadline.backends.pg_sql import Sql
from threadline.errors import CorruptionError
from threadline.history.freeing import Span, Stock
from threadline.summary import Dated, Summary, Tokens, ToolCounts

#: A word as the index cuts them: what is none is in no entry.
_WORD = re.compile(r"[A-Za-z0-9\u0080-\U0010ffff]+")
_MOST: Final = 2**63 - 1
#: Where the columns of the thread and of the checkpoint lie in what a read of a head gives; and those of a hit.
_THREAD, _HEAD, _CHECKPOINT, _CONTENT = slice(2, 18), slice(18, 21), slice(21, 36), slice(36, 38)
_HIT_ENTRY, _HIT_THREAD = slice(1, 13), slice(13, 29)
_CURSOR = ("at", "thread", "ns", "seq")


class Reader:
    """The reads of one thread and namespace, or of all, on one connection."""

    def __init__(self, sql: Sql, connection: Connection, now: int | None) -> None:
        self._sql, self._connection, self._now = sql, connection, now

    def place(self, key: bytes, ns: bytes, user: str | None) -> dict[str, Any]:
        """The parameters that every read of a thread has."""
        return {**pg_values.place(key, ns), "user": self.owner(user)}

    def owner(self, user: str | None) -> str | int | None:
        """The value of the owner column. Raises ValueError."""
        return pg_values.owner_in(user, self._sql.user_ids)

    async def head(
        self, place: dict[str, Any], at: At | None, known: Known | None, content: bool
    ) -> Head:
        """See `Backend.read_head`."""
        name, asked = _asked(at, known)
        found = await self._all(name, **place, **asked, content=content)
        if not found:
            return Head()
        columns = tuple(found[0])
        (visible, live), (version, last, marks) = columns[:2], columns[_HEAD]
        if not visible:
            return Head(last_version=0 if live else last)
        thread = pg_rows.thread_row(columns[_THREAD])
        told = columns[_CHECKPOINT]
        if told[0] is None:  # Without a version there is none.
            same = known is not None and known[:3] == (thread.incarnation, version, thread.gc)
            return Head(
                thread=thread,
                head_version=version,
                last_version=last,
                marks=marks,
                unchanged=same and at is None,
            )
        checkpoint, (rows_in, blobs_in) = pg_rows.checkpoint_row(told), columns[_CONTENT]
        rows, blobs = pg_rows.log_rows(rows_in or ()), pg_rows.blobs(blobs_in or ())
        if content and len(blobs) < len(set(checkpoint.blob_refs)):
            raise CorruptionError("a checkpoint refers to a large field that is not there")
        return Head(
            thread=thread,
            head_version=version,
            last_version=last,
            marks=marks,
            checkpoint=checkpoint,
            rows=rows,
            blobs=blobs,
        )

    async def rows(self, place: dict[str, Any], ranges: Sequence[Range]) -> list[Row]:
        """See `Backend.read_rows`."""
        log, start, stop = ([each[n] for each in ranges] for n in range(3))
        found = await self._all("read_rows", **place, log=log, start=start, stop=stop)
        return list(pg_rows.log_rows(found))

    async def blobs(self, place: dict[str, Any], ids: Sequence[bytes]) -> list[Blob]:
        """See `Backend.read_blobs`."""
        wanted = list(dict.fromkeys(ids))
        found = pg_rows.blobs(await self._all("read_blobs", **place, ids=wanted))
        return sorted(found, key=lambda blob: wanted.index(blob.id))

    async def checkpoints(
        self, place: dict[str, Any], query: CheckpointQuery
    ) -> list[CheckpointRow]:
        """See `Backend.read_checkpoints`."""
        name = "read_checkpoints" if query.name is None else "read_named_checkpoints"
        found = await self._all(
            name,
            **place,
            name=query.name,
            terms=list(query.terms),
            before=_MOST if query.before is None else query.before,
            limit=query.limit,
        )
        return [pg_rows.checkpoint_row(tuple(row)) for row in found]

    async def entries(self, place: dict[str, Any], query: EntryQuery) -> list[Entry]:
        """See `Backend.read_entries`."""
        if not all(map(_WORD.fullmatch, query.words)):
            return []
        order = "newest" if query.newest else "oldest"
        name = f"read_worded_{order}" if query.words else f"read_entries_{order}"
        if query.ext_ids is not None:
            name = "read_named_entries"
        found = await self._all(
            name,
            **place,
            after=query.after,
            before=_MOST if query.before is None else query.before,
            role=query.role,
            terms=list(query.terms),
            match=pg_values.match_of(query.words) or None,
            ext_ids=None if query.ext_ids is None else list(map(pg_values.id_in, query.ext_ids)),
            limit=query.limit,
        )
        entries = [pg_rows.entry_row(tuple(row)) for row in found]
        if query.ext_ids is None:
            return entries
        return (entries[::-1] if query.newest else entries)[: query.limit]

    async def search(
        self, threads: ThreadQuery, words: Sequence[str], before: int | None, limit: int
    ) -> list[tuple[int, ThreadRow, Entry]]:
        """See `Backend.search`."""
        if not all(map(_WORD.fullmatch, words)):
            return []
        asked = {**self._threads(threads), **_behind(before), "limit": limit}
        if not words:
            return [_hit(row) for row in await self._all("search_texts", **asked)]
        asked["match"] = pg_values.match_of(words)
        narrow = None not in (threads.tenant, threads.app, threads.user)
        most = _RARE if narrow else None
        rows = await self._all("search_words", **asked, most=most)
        if narrow and rows[0]["found"] == most:
            rows = await self._all("search_words_of", **asked)
        return [_hit(row) for row in rows if row["seq"] is not None]

    async def slots(self, place: dict[str, Any], query: SlotQuery) -> list[Slot]:
        """See `Backend.read_slots`."""
        first = query.prefix.encode()
        found = await self._all(
            "read_slots" if query.kind is not None else "read_all_slots",
            **place,
            kind=query.kind,
            first=first,
            stop=_end_of(first),
            after=None if query.after is None else query.after.encode(),
            now=self._now,
            limit=query.limit,
        )
        return [pg_rows.slot_row(tuple(row)) for row in found]

    async def threads(self, query: ThreadQuery) -> list[ThreadRow]:
        """See `Backend.read_threads`."""
        name = "threads_" + ("oldest" if query.oldest else "newest")
        if query.tenant is None or query.app is None:
            name = "all_" + name
        elif query.user is not None:
            name = "user_" + name
        at, key = query.after or ((-1, b"") if query.oldest else (_MOST, b""))
        cursor = {
            "after_at": at,
            "after_thread": pg_values.number_of(key),
            "limit": query.limit,
            "offset": query.offset,
        }
        found = await self._all(name, **self._threads(query), **cursor)
        return [pg_rows.thread_row(tuple(row)) for row in found]

    async def namespaces(self, place: dict[str, Any]) -> list[str]:
        """See `Backend.read_namespaces`."""
        return [row["namespace"] for row in await self._all("read_namespaces", **place)]

    async def stock(self, place: dict[str, Any]) -> Stock:
        """See `Backend.read_stock`."""
        found = await self._all("read_stock", **place)
        spans = [
            Span(row["log"], row["start"], row["stop"], row["bytes"])
            for row in found
            if row["id"] is None
        ]
        return Stock(spans, {row["id"]: row["bytes"] for row in found if row["id"] is not None})

    async def measure(self, keys: Sequence[bytes] | None) -> list[dict[str, int]]:
        """See `Backend.measure`."""
        if keys is None:
            ((*sizes,),) = await self._all("measure_all")
            ((whole,),) = await self._all("store_bytes", schema=self._sql.schema)
            return [{**_sizes(sizes), "store_bytes": whole}]
        threads = list(map(pg_values.number_of, keys))
        found = await self._all("measure_threads", threads=threads, keys=list(keys))
        by_key = {key: _sizes(sizes) for key, *sizes in found}
        return [by_key.get(key) or _sizes([0] * len(_MEASURED)) for key in keys]

    async def summarize(self, query: ThreadQuery, key: bytes | None) -> Summary:
        """See `Backend.summarize`."""
        asked = {"tenant": query.tenant, "app": query.app, "user": self.owner(query.user)}
        of = {"key": key, "thread": pg_values.number_of(key or b"")}
        parts = ("threads", "messages", "checkpoints", "tools", "tokens")
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            found = [await self._all(f"summary_{part}", **asked, **of) for part in parts]
        (count, total, longest), (tokens,) = found[0][0], found[4]
        return Summary(
            threads=count,
            seconds=total / 1e6,
            longest=longest / 1e6,
            messages=tuple(Dated(*row) for row in found[1]),
            checkpoints=tuple(Dated(*row) for row in found[2]),
            tools=tuple(ToolCounts(*row) for row in found[3]),
            tokens=Tokens(*tokens),
        )

    def _threads(self, query: ThreadQuery) -> dict[str, Any]:
        terms = sorted(set(query.terms))
        asked = {"tenant": query.tenant, "app": query.app, "user": self.owner(query.user)}
        return {**asked, "terms": terms}

    async def _all(self, name: str, /, **parameters: Any) -> list[Any]:
        statement = self._sql[name]
        found: list[Any] = await self._connection.fetch(
            statement.text, *statement.arguments(parameters)
        )
        return found


_MEASURED = (
    "threads",
    "namespaces",
    "checkpoints",
    "checkpoint_bytes",
    "messages",
    "message_bytes",
    "rows",
    "row_bytes",
)


def _sizes(row: Sequence[int]) -> dict[str, int]:
    sizes = dict(zip(_MEASURED, row, strict=True))
    stored = sum(size for name, size in sizes.items() if name.endswith("_bytes"))
    return {**sizes, "store_bytes": stored}


def _asked(at: At | None, known: Known | None) -> tuple[str, dict[str, Any]]:
    """Which statement reads a head, and with which parameters."""
    if at is None:
        incarnation, version, gc, digest = known or (None, None, None, None)
        return "read_head", {
            "incarnation": incarnation,
            "version": version,
            "gc": gc,
            "digest": digest,
        }
    if at.ext_id is not None:
        return "read_ext_id", {"ext_id": pg_values.id_in(at.ext_id)}
    if at.name is not None:
        return "read_name", {"name": at.name}
    return "read_version", {"version": at.version}


#: Words that so many entries hold are common: whoever asks for one user's looks at his threads instead.
_RARE = 2000


def _behind(before: int | None) -> dict[str, Any]:
    """The place of a hit, from the number that stands for it: time, thread, namespace and position in one."""
    if before is None:
        return {f"before_{name}": None for name in _CURSOR}
    rest, seq = divmod(before, 1 << 64)
    rest, ns = divmod(rest, 1 << 64)
    at, thread = divmod(rest, 1 << 64)
    place = (at, thread - 2**63, pg_values.short(ns.to_bytes(8, "big")), seq)
    return {f"before_{name}": part for name, part in zip(_CURSOR, place, strict=True)}


def _hit(row: Any) -> tuple[int, ThreadRow, Entry]:
    columns, ns = tuple(row), row["ns"] or bytes(8)
    thread, entry = pg_rows.thread_row(columns[_HIT_THREAD]), pg_rows.entry_row(columns[_HIT_ENTRY])
    cursor = entry.created_at
    for part in (thread.key[:8], ns):
        cursor = cursor << 64 | int.from_bytes(part, "big")
    return cursor << 64 | entry.seq, thread, entry


def _end_of(prefix: bytes) -> bytes | None:
    """The first key that sorts behind all that begin with `prefix`; None: there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
