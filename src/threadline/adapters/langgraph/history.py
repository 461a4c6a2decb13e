"""Walking the past of threads: listing checkpoints by their own ids, and what delta channels are rebuilt from."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from langgraph.checkpoint.base import CheckpointTuple

from threadline import CorruptionError
from threadline.adapters.langgraph.document import Document, plain_id
from threadline.adapters.langgraph.reading import Reader
from threadline.adapters.langgraph.settled import Settled, settled_on, unsettled
from threadline.adapters.langgraph.spans import Place, Spans
from threadline.adapters.langgraph.writes import again_key, opened, pending, start_key
from threadline.store import CheckpointQuery, CheckpointRow

#: How many checkpoints one read of heads brings, and how many are decoded together.
PAGE, DECODED = 200, 20


class Found(NamedTuple):
    """A checkpoint that was walked over. `after`: the document of the version after it, which may have the writes on
    it; `newest`: there was none yet."""

    row: CheckpointRow
    document: Document
    after: Document | None = None
    newest: bool = False


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
            ids = [id_of(each.row) for each in found]
            slots = await self._reader.slots(place, ids)
            try:
                tuples += await self._reader.tuples(
                    place,
                    [each.row for each in found],
                    [each.document for each in found],
                    serde,
                    await self._settled(place, found),
                    slots,
                )
            except CorruptionError:  # Or some were taken away since they were found.
                each_alone = [await self._reader.get(place, id, serde) for id in ids]
                tuples += [each for each in each_alone if each is not None]
        return tuples

    async def _settled(self, place: Place, found: Sequence[Found]) -> dict[str, Settled]:
        """What later versions have of the writes on some checkpoints, by their ids; asked for after their slots."""
        settled: dict[str, Settled] = {}
        for each in found:
            writes = settled_on(each.row, each.after)
            if each.newest:  # Another may have come since.
                writes = await self._reader.settled(place, each.row)
            if writes is not None:
                settled[id_of(each.row)] = writes
        return settled

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
        async for found in self.walk(place, limit):
            id = id_of(found.row)
            if (query.id and id != query.id) or (query.before and id >= query.before):
                continue
            if query.filter:
                metadata = serde.loads_typed(found.document.metadata)
                if not all(metadata.get(key) == value for key, value in query.filter.items()):
                    continue
            yield found
            if query.id:
                return

    async def around(self, place: Place, row: CheckpointRow) -> list[Found]:
        """A checkpoint, and those of the versions beside it."""
        query = CheckpointQuery(before=row.version + 2, limit=3)
        return await self._found(place, query, None)

    async def _found(
        self, place: Place, query: CheckpointQuery, later: Found | None
    ) -> list[Found]:
        """Some neighbours, newest first, behind `later`."""
        found: list[Found] = []
        rows, documents = await self._reader.past(place, query)
        for row, document in zip(rows, documents, strict=True):
            after = later.document if later and later.row.version == row.version + 1 else None
            found.append(later := Found(row, document, after, later is None))
        return found

    async def walk(self, place: Place, limit: int | None = None) -> AsyncIterator[Found]:
        """Every checkpoint of a namespace, greatest id first; limit: how many are likely wanted."""
        size = PAGE if limit is None else max(1, min(PAGE, limit))
        seen: set[str] = set()
        before: int | None = None
        everything: list[Found] = []
        mixed: bool | None = None
        later: Found | None = None
        while True:
            query = CheckpointQuery(before=before, limit=size)
            page = await self._found(place, query, later)
            if mixed is None and page:
                mixed = page[0].document.mixed
            for found in page:
                id = id_of(found.row)
                if found.row.ext_id is None or id in seen:
                    continue  # A namespace without checkpoints, or one that was put again.
                seen.add(id)
                if mixed:
                    everything.append(found)
                else:
                    yield found
            if len(page) < size:
                break
            later, size = page[-1], PAGE
            before = later.row.version
        for found in sorted(everything, key=lambda found: id_of(found.row), reverse=True):
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
                known[id_of(found.row)] = found
                if wanted is None:
                    return found
            return known[wanted]

        writes: dict[str, list[Any]] = {channel: [] for channel in channels}
        seeds: dict[str, Any] = {}
        target = await find(id)
        cursor = target.document.parent if target else None
        while cursor is not None and len(seeds) < len(writes):
            found = await find(cursor)
            if found is None:
                break
            document = found.document
            open_channels = [channel for channel in writes if channel not in seeds]
            for channel, mine in (await self._writes(place, found, open_channels, serde)).items():
                writes[channel] += reversed(mine)
            ended = [channel for channel in open_channels if channel in document.places]
            if ended:
                for whole in await self._decoded([(place, [found])], serde):
                    values = whole.checkpoint["channel_values"]
                    seeds |= {channel: values[channel] for channel in ended if channel in values}
            cursor = document.parent
        return {
            channel: {"writes": mine[::-1]} | ({"seed": seeds[channel]} if channel in seeds else {})
            for channel, mine in writes.items()
        }

    async def _writes(
        self, place: Place, found: Found, channels: Sequence[str], serde: Any
    ) -> dict[str, list[Any]]:
        id = id_of(found.row)
        slots = (await self._reader.slots(place, [id]))[id]
        settled = (await self._settled(place, [found])).get(id)
        tasks = {s.key: opened(self._store, s) for s in slots if s.key != again_key(id)}
        near = [each.near for each in tasks.values() if each.near]
        near += settled.near if settled else ()
        rows = await self._store.aread(place.config, near) if near else []
        spans = Spans(self._store, rows)
        tasks = unsettled(id, tasks, settled, spans)
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
        heapq.heappush(heap, (_Descending(id_of(found.row)), number, found))
