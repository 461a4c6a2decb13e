"""Walking the past of threads: listing checkpoints by their own ids, and what delta channels are rebuilt from."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple

from threadline.adapters.langgraph.document import Document, plain_id
from threadline.adapters.langgraph.reading import Reader, pending
from threadline.adapters.langgraph.spans import Place, Spans
from threadline.adapters.langgraph.writes import again_key, opened, start_key
from threadline.store import CheckpointQuery, CheckpointRow

#: How many checkpoints one read of heads brings, and how many are decoded together.
PAGE, DECODED = 200, 20

Found = tuple[CheckpointRow, Document]


@dataclass(frozen=True, slots=True)
class Query:
    """What is listed. `id`: this one only; `before`: ids strictly smaller; `filter`: metadata that must be equal."""

    id: str | None = None
    before: str | None = None
    filter: Mapping[str, Any] | None = None
    limit: int | None = None


class History:
    """Listing the checkpoints of one store."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._store = reader, reader.store

    async def tuples(
        self, places: Sequence[Place], query: Query, serde: Any
    ) -> AsyncIterator[CheckpointTuple]:
        """The checkpoints of some namespaces, greatest id first."""
        left = query.limit
        waiting: list[tuple[Place, list[Found]]] = []
        async for place, found in self._merged(places, query, serde):
            if left is not None and left <= 0:
                break
            left = None if left is None else left - 1
            if not waiting or waiting[-1][0] != place:
                waiting.append((place, []))
            waiting[-1][1].append(found)
            if sum(len(run) for _, run in waiting) >= DECODED:
                for each in await self._decoded(waiting, serde):
                    yield each
                waiting = []
        for each in await self._decoded(waiting, serde):
            yield each

    async def _decoded(
        self, runs: Sequence[tuple[Place, list[Found]]], serde: Any
    ) -> list[CheckpointTuple]:
        tuples: list[CheckpointTuple] = []
        for place, found in runs:
            rows, documents = [row for row, _ in found], [document for _, document in found]
            tuples += await self._reader.tuples(place, rows, documents, serde)
        return tuples

    async def _merged(
        self, places: Sequence[Place], query: Query, serde: Any
    ) -> AsyncIterator[tuple[Place, Found]]:
        streams = [self._namespace(place, query, serde) for place in places]
        heap: list[tuple[_Descending, int, Found]] = []
        for number, stream in enumerate(streams):
            await _push(heap, number, stream)
        while heap:
            _, number, found = heapq.heappop(heap)
            yield places[number], found
            await _push(heap, number, streams[number])

    async def _namespace(self, place: Place, query: Query, serde: Any) -> AsyncIterator[Found]:
        limit = None if query.filter or query.before or query.id else query.limit
        async for row, document in self.walk(place, limit):
            id = plain_id(row.ext_id or "")
            if (query.id and id != query.id) or (query.before and id >= query.before):
                continue
            if query.filter:
                metadata = serde.loads_typed(document.metadata)
                if not all(metadata.get(key) == value for key, value in query.filter.items()):
                    continue
            yield row, document
            if query.id:
                return

    async def walk(self, place: Place, limit: int | None = None) -> AsyncIterator[Found]:
        """Every checkpoint of a namespace, greatest id first; limit: how many are likely wanted."""
        size = PAGE if limit is None else max(1, min(PAGE, limit))
        seen: set[str] = set()
        before: int | None = None
        everything: list[Found] = []
        mixed: bool | None = None
        while True:
            query = CheckpointQuery(before=before, limit=size)
            rows = await self._store.aread(place.config, query)
            documents = await self._reader.documents(place, rows)
            if mixed is None and documents:
                mixed = documents[0].mixed
            for row, document in zip(rows, documents, strict=True):
                id = plain_id(row.ext_id or "")
                if row.ext_id is None or id in seen:
                    continue  # A namespace without checkpoints, or one that was put again.
                seen.add(id)
                if mixed:
                    everything.append((row, document))
                else:
                    yield row, document
            if len(rows) < size:
                break
            before, size = rows[-1].version, PAGE
        for found in sorted(
            everything, key=lambda found: plain_id(found[0].ext_id or ""), reverse=True
        ):
            yield found

    async def deltas(
        self, place: Place, id: str | None, channels: Sequence[str], serde: Any
    ) -> dict[str, Any]:
        """What each channel of a checkpoint is rebuilt from: the writes on its ancestors, oldest first, back to the
        nearest one with a value, which is the seed."""
        known: dict[str, Found] = {}
        walk = self.walk(place)

        async def find(wanted: str | None) -> Found | None:
            while wanted is None or wanted not in known:
                found = await anext(walk, None)
                if found is None:
                    return None
                known[plain_id(found[0].ext_id or "")] = found
                if wanted is None:
                    return found
            return known[wanted]

        writes: dict[str, list[Any]] = {channel: [] for channel in channels}
        seeds: dict[str, Any] = {}
        target = await find(id)
        cursor = target[1].parent if target else None
        while cursor is not None and len(seeds) < len(writes):
            found = await find(cursor)
            if found is None:
                break
            row, document = found
            open_channels = [channel for channel in writes if channel not in seeds]
            for channel, mine in (await self._writes(place, cursor, open_channels, serde)).items():
                writes[channel] += reversed(mine)
            ended = [channel for channel in open_channels if channel in document.places]
            if ended:
                (whole,) = await self._reader.tuples(place, [row], [document], serde)
                for channel in ended:
                    if channel in whole.checkpoint["channel_values"]:
                        seeds[channel] = whole.checkpoint["channel_values"][channel]
            cursor = document.parent
        return {
            channel: {"writes": mine[::-1]} | ({"seed": seeds[channel]} if channel in seeds else {})
            for channel, mine in writes.items()
        }

    async def _writes(
        self, place: Place, id: str, channels: Sequence[str], serde: Any
    ) -> dict[str, list[Any]]:
        slots = (await self._reader.slots(place, [id]))[id]
        tasks = {s.key: opened(self._store, s) for s in slots if s.key != again_key(id)}
        near = [each.near for each in tasks.values() if each.near]
        rows = await self._store.aread(place.config, near) if near else []
        spans = Spans(self._store, rows)
        return {
            channel: pending(tasks, start_key(id), spans, serde, channel) for channel in channels
        }


def id_of(row: CheckpointRow) -> str:
    """A checkpoint's own id."""
    return plain_id(row.ext_id or "")


class _Descending(str):
    """A text that sorts the other way round."""

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


async def _push(
    heap: list[tuple[_Descending, int, Found]], number: int, stream: AsyncIterator[Found]
) -> None:
    found = await anext(stream, None)
    if found is not None:
        heapq.heappush(heap, (_Descending(plain_id(found[0].ext_id or "")), number, found))
