"""From rows to `CheckpointTuple`s: what is read together is fetched together, then decoded by the saver's codec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple

from threadline import CorruptionError
from threadline.adapters.langgraph.document import (
    FIELDS,
    BlobAt,
    Document,
    Inline,
    Item,
    Pieces,
    Skeleton,
    Start,
    Typed,
    list_of,
    plain_id,
    read_document,
    skeleton_of,
    stored_id,
)
from threadline.adapters.langgraph.plan import Ground, Listed, View
from threadline.adapters.langgraph.seen import Seen
from threadline.adapters.langgraph.settled import Settled, settled_on, unsettled
from threadline.adapters.langgraph.skeletons import Skeletons
from threadline.adapters.langgraph.spans import (
    BLOB,
    HEAD,
    Place,
    Spans,
    config_of,
)
from threadline.adapters.langgraph.writes import KIND as WRITE
from threadline.adapters.langgraph.writes import (
    WHERE,
    Stored,
    again_key,
    key_of,
    opened,
    pending,
    start_key,
)
from threadline.store import (
    At,
    CheckpointQuery,
    CheckpointRow,
    Head,
    Range,
    Row,
    Slot,
    SlotQuery,
    Store,
    joined,
    read_marks,
)

#: How many slots one read brings.
SLOTS = 100


class Given:
    """What a reader made for a user: the digest of the checkpoint, and the objects of its lists; and where the
    namespace's newest version was read, how the namespace stands."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.digest = b""
        self.lists: dict[str, Seen] = {}


class Reader:
    """Reading checkpoints of one store."""

    def __init__(self, store: Store) -> None:
        self.store, self.skeletons = store, Skeletons(store)

    async def documents(
        self, place: Place, rows: Sequence[CheckpointRow], beside: Sequence[Row] = ()
    ) -> list[Document]:
        """The document of each row; beside: the log's rows that were read with them, if they were. Raises
        CorruptionError, naming thread and checkpoint."""
        found = []
        for row in rows:
            with _naming(place, row):
                data = self.store.open(row.payload, HEAD, row.key_id)
                found.append((row, data, skeleton_of(data, row.refs)))
        known = await self.skeletons.read(place, {at for _, _, at in found if at}, beside)
        documents = []
        for row, data, at in found:
            with _naming(place, row):
                skeleton = known.get(at) if at else None
                documents.append(read_document(data, row.blob_refs, skeleton))
        return documents

    async def past(
        self, place: Place, query: CheckpointQuery
    ) -> tuple[list[CheckpointRow], list[Document]]:
        """Checkpoints and their documents. What was taken away between the two reads is not there. Raises
        CorruptionError."""
        rows = await self.store.aread(place.config, query)
        while True:
            try:
                return rows, await self.documents(place, rows)
            except CorruptionError:
                before, rows = rows, await self.store.aread(place.config, query)
                if rows == before:
                    raise

    async def at(self, place: Place, id: str) -> Head:
        """The checkpoint of an id with its content, also when it was put again."""
        head = await self.store.aread(place.config, At(ext_id=stored_id(id)))
        tried: int | None = None
        while head.thread is not None and head.checkpoint is None:
            slots = await self.store.aread(place.config, SlotQuery(WRITE, prefix=again_key(id)))
            if (version := self.again(id, slots)) == tried:
                break
            tried, head = version, await self.store.aread(place.config, At(version=version))
        return head

    def again(self, id: str, slots: Iterable[Slot]) -> int | None:
        """The version under which a checkpoint was put again, from its slots."""
        for slot in slots:
            if slot.key == again_key(id):
                return int(self.store.open(slot.payload, WHERE, slot.key_id))
        return None

    async def items(self, place: Place, near: Range) -> list[bytes]:
        """The items of a range. Raises CorruptionError."""
        rows = await self.store.aread(place.config, [near])
        return Spans(self.store, rows).items(near.log, [(near.start, near.end)])

    # What a put is computed against.

    async def ground(self, place: Place, serde: Any) -> Ground:
        """The namespace as it stands."""
        return await self.ground_of(place, await self.store.aread(place.config), serde)

    async def ground_of(self, place: Place, head: Head, serde: Any) -> Ground:
        """The namespace as a read of its newest version showed it."""
        if head.thread is None:
            return Ground(last_version=head.last_version)
        marks = tuple(read_marks(head.marks))
        view = await self.view(place, head, serde)
        tails = {
            row.log: self.store.open_row(row)
            for row in head.rows
            if row.log < len(marks)
            and (row.start, row.end) == (marks[row.log].open, marks[row.log].end)
        }
        top = (view.document.top or view.id or None) if view else None
        return Ground(
            head.thread.incarnation,
            head.head_version,
            head.last_version,
            head.thread.gc,
            marks,
            tails,
            view,
            top,
            view.document.mixed if view else False,
        )

    async def view(self, place: Place, head: Head, serde: Any) -> View | None:
        """The checkpoint of a head by its digests; None without one."""
        row = head.checkpoint
        if row is None:
            return None
        (document,) = await self.documents(place, [row], head.rows)
        spans = Spans(self.store, head.rows)
        digests: dict[str, bytes] = {}
        lists: dict[str, Listed] = {}
        for channel, found in document.places.items():
            match found:
                case Inline(value):
                    digests[channel] = value.digest
                case Item(form, position):
                    (data,) = spans.items(FIELDS, [(position, position + 1)])
                    digests[channel] = Typed(form, data).digest
                case BlobAt(_, address):
                    digests[channel] = address
                case Pieces(log, pieces):
                    lists[channel] = Listed.of(spans.items(log, pieces))
        near = skeleton_of(self.store.open(row.payload, HEAD, row.key_id), row.refs)
        content = self.skeletons.get(place, near) if near else None
        rest = serde.loads_typed(document.rest)
        return View(
            plain_id(row.ext_id or ""),
            row.version,
            row.digest,
            document,
            rest.get("channel_versions", {}),
            digests,
            lists,
            Skeleton(near, content) if near and content is not None else None,
        )

    # What users see.

    async def get(
        self, place: Place, id: str | None, serde: Any, given: Given | None = None
    ) -> CheckpointTuple | None:
        """The checkpoint of an id, or the greatest of a namespace; None when there is none. given: told which objects
        its lists are made of."""
        head = await (self.at(place, id) if id else self.store.aread(place.config))
        if given is not None and id is None:
            given.head = head
        row = head.checkpoint
        if row is None or row.ext_id is None:
            return None
        (document,) = await self.documents(place, [row], head.rows)
        if id is None and document.top is not None:
            latest = await self.get(place, document.top, serde, given)
            if latest is not None:
                return latest
            if (await self.store.aread(place.config)).head_version != row.version:
                return await self.get(place, None, serde, given)
        found = plain_id(row.ext_id)
        slots, settled = await self._written(place, row, head)
        if (version := self.again(found, slots[found])) not in (None, row.version):
            newer = await self.store.aread(place.config, At(version=version))
            if newer.checkpoint is not None:
                head, row = newer, newer.checkpoint
                (document,) = await self.documents(place, [row], head.rows)
        if given is not None:
            given.digest = row.digest
        after = {found: settled} if settled else {}
        (found_tuple,) = await self.tuples(
            place, [row], [document], serde, after, slots, head, given
        )
        return found_tuple

    async def _written(
        self, place: Place, row: CheckpointRow, head: Head
    ) -> tuple[dict[str, list[Slot]], Settled | None]:
        """What was written on a checkpoint: its slots, and what the version after it has of them. In this order: what
        is moved from the former to the latter meanwhile is in both, and nothing is in neither."""
        id = plain_id(row.ext_id or "")
        slots = await self.slots(place, [id])
        settled = await self.settled(place, row)
        if settled is None and row.version < head.last_version:
            # The version after it may just have gone; its writes were put back as slots before.
            slots = await self.slots(place, [id])
        return slots, settled

    async def settled(self, place: Place, row: CheckpointRow) -> Settled | None:
        """What the version after a checkpoint has of the writes on it, if there is one now."""
        query = CheckpointQuery(before=row.version + 2, limit=1)
        rows, documents = await self.past(place, query)
        after = documents[0] if rows and rows[0].version == row.version + 1 else None
        return settled_on(row, after)

    async def tuples(
        self,
        place: Place,
        rows: Sequence[CheckpointRow],
        documents: Sequence[Document],
        serde: Any,
        settled: Mapping[str, Settled],
        slots: Mapping[str, list[Slot]] | None = None,
        head: Head | None = None,
        given: Given | None = None,
    ) -> list[CheckpointTuple]:
        """The rows as users see them. settled: the writes that later versions have, by the ids of the checkpoints they
        were written on; slots: those of each checkpoint by its id, when they were read already; head: what the rows'
        content was read with."""
        store, config = self.store, place.config
        ids = [plain_id(row.ext_id or "") for row in rows]
        if slots is None:
            slots = await self.slots(place, ids)
        tasks = {
            id: {slot.key: opened(store, slot) for slot in slots[id] if slot.key != again_key(id)}
            for id in ids
        }
        ranges = [] if head else [each for document in documents for each in document.ranges]
        ranges += [each.near for found in tasks.values() for each in found.values() if each.near]
        ranges += [near for each in settled.values() for near in each.near]
        stored = list(head.rows) if head else []
        if ranges:
            stored += await store.aread(config, joined(ranges))
        spans = Spans(store, {(row.log, row.start): row for row in stored}.values())
        wanted = list(dict.fromkeys(id for document in documents for id in document.blobs))
        blobs = list(head.blobs) if head else await store.ablobs(config, wanted) if wanted else []
        opened_blobs = {each.id: store.open(each.payload, BLOB, each.key_id) for each in blobs}
        written = {id: unsettled(id, tasks[id], settled.get(id), spans) for id in ids}
        return [
            self._tuple(place, id, document, serde, spans, opened_blobs, written[id], given)
            for id, document in zip(ids, documents, strict=True)
        ]

    async def slots(self, place: Place, ids: Sequence[str]) -> dict[str, list[Slot]]:
        """The slots of each checkpoint. Those of neighbours come with one read."""
        found: dict[str, list[Slot]] = {id: [] for id in ids}
        wanted = sorted((key_of(id), id) for id in found)
        at, after = 0, ""
        while at < len(wanted):
            key, id = wanted[at]
            if len(wanted) == 1:
                found[id] = await self.store.aread(place.config, SlotQuery(WRITE, prefix=key))
                break
            query = SlotQuery(WRITE, after=max(after, key), limit=SLOTS)
            slots = await self.store.aread(place.config, query)
            for slot in slots:
                while at < len(wanted) and not slot.key.startswith(key) and key < slot.key:
                    at += 1
                    key, id = wanted[at] if at < len(wanted) else ("", "")
                if at < len(wanted) and slot.key.startswith(key):
                    found[id].append(slot)
            if len(slots) < SLOTS:
                break
            after = slots[-1].key
        return found

    def _tuple(
        self,
        place: Place,
        id: str,
        document: Document,
        serde: Any,
        spans: Spans,
        blobs: Mapping[bytes, bytes],
        tasks: Mapping[str, Stored],
        given: Given | None,
    ) -> CheckpointTuple:
        values: dict[str, Any] = {}
        try:
            for channel, found in document.places.items():
                match found:
                    case Inline(value):
                        typed: Typed | None = value
                    case Item(form, position):
                        typed = Typed(form, spans.items(FIELDS, [(position, position + 1)])[0])
                    case BlobAt(form, address):
                        typed = Typed(form, blobs[address])
                    case Pieces(log, pieces):
                        items = spans.items(log, pieces)
                        values[channel], typed = _listed(items, serde, channel, given), None
                    case Start():
                        typed = _start(tasks.get(start_key(id)), spans)
                if typed is not None:
                    values[channel] = serde.loads_typed(typed)
            checkpoint: Any = {
                **serde.loads_typed(document.rest),
                **({} if document.at is None else {"ts": document.at}),
                "id": id,
                "channel_values": values,
            }
            metadata = serde.loads_typed(document.metadata)
        except (CorruptionError, KeyError) as error:
            raise CorruptionError(
                f"thread {place.thread_id!r}, checkpoint {id!r}: {error}"
            ) from None
        return CheckpointTuple(
            config_of(place, id),
            checkpoint,
            metadata,
            config_of(place, document.parent) if document.parent else None,
            pending(tasks, start_key(id), spans, serde),
        )


@contextmanager
def _naming(place: Place, row: CheckpointRow) -> Iterator[None]:
    """Say in a CorruptionError whose it is."""
    try:
        yield
    except CorruptionError as error:
        raise CorruptionError(
            f"thread {place.thread_id!r}, checkpoint {row.ext_id!r}: {error}"
        ) from None


def _listed(items: list[bytes], serde: Any, channel: str, given: Given | None) -> Any:
    """A list of items as objects."""
    loads = getattr(serde, "loads_items", None)
    if loads is None:
        return serde.loads_typed(list_of(items))
    read = loads(items)
    if given is not None and (seen := Seen.given(read, sum(map(len, items)))):
        given.lists[channel] = seen
    return read.values


def _start(stored: Stored | None, spans: Spans) -> Typed | None:
    task = stored.read(spans) if stored else None
    return task.writes[0].value if task else None
