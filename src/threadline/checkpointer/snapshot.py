"""A state as the store has it, opened: which fields, which items, in JSON bytes. Never mutated.

It is what a read decodes, what the next put computes its delta against, and what the cache keeps.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from threadline.backend import CheckpointRow, Head, Known, Row
from threadline.codec.digest import blob_id
from threadline.codec.envelope import Codec, Where
from threadline.codec.records import (
    NONE,
    VALUE,
    Shape,
    build_messages,
    default_kind,
    shape_of,
)
from threadline.codec.rows import Items
from threadline.codec.twins import COPIES, Mould, mould_bytes
from threadline.codec.values import decode, decode_items
from threadline.errors import CorruptionError
from threadline.history.delta import Piece
from threadline.history.head import FIELDS, BlobAt, HeadDoc, Inline, Item, Pieces
from threadline.history.logs import Mark, open_row, read_marks

_OURS = b'{"s":'
#: Most bytes (roughly) of the moulds of a list: with more, a cache would sooner lose the state itself.
MOULD_BYTES = 8 * 1024 * 1024
#: The field that holds a state which is no record (a dict with other keys than plain texts).
WHOLE = "value"


class Warm:
    """What the reads of a state leave to those that follow, also of its next versions: moulds of its messages. They are
    made at the second read, since making one is lost where there is none. `reads`: how many there were; `kept`: by
    field, the chunks whose messages a mould gives. `size`: roughly the bytes of memory it takes."""

    __slots__ = ("kept", "reads", "size")

    def __init__(self) -> None:
        self.reads = self.size = 0
        self.kept: dict[str, tuple[tuple[Items, ...], Mould]] = {}

    def follow(self, before: Warm) -> None:
        """Take over what another one has."""
        self.reads, self.kept, self.size = before.reads, dict(before.kept), before.size

    def messages(self, name: str, chunks: tuple[Items, ...]) -> list[Any]:
        """The messages of a list field, new ones. Raises CorruptionError, ValueError."""
        if _bytes(chunks) + mould_bytes(sum(map(_count, chunks))) > MOULD_BYTES:
            if self.kept.pop(name, None) is not None:
                self._weigh()
            return build_messages(decode_items(_body(chunks)))
        seen, mould = self.kept.get(name, ((), Mould()))
        rest = _behind(seen, chunks)
        if rest is None:
            rest, mould = _body(chunks), Mould()
        if not rest:
            return mould.make()
        fresh = build_messages(decode_items(rest))
        self.kept[name] = chunks, mould.grown(fresh)
        self._weigh()
        return [*mould.make(), *fresh]

    def _weigh(self) -> None:
        self.size = sum(_bytes(chunks) + mould.size for chunks, mould in list(self.kept.values()))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of one namespace's state. `fields`: the JSON bytes of each field that is no list; `lists`: the
    items of each list. `marks` and `last_version` belong to the namespace as it was when this was the head; `tails`
    are the items of the open rows, as far as this process has them. `owner`: the thread's, as it was then (a thread
    without one may be given one later)."""

    incarnation: bytes
    row: CheckpointRow
    doc: HeadDoc
    marks: tuple[Mark, ...]
    last_version: int
    fields: Mapping[str, bytes]
    lists: Mapping[str, tuple[Items, ...]]
    tails: Mapping[int, Items] = field(default_factory=dict)
    gc: int = 0
    owner: str | None = None
    warm: Warm = field(default_factory=Warm, compare=False)
    content_size: int = field(default=-1, init=False, compare=False)

    @property
    def version(self) -> int:
        """The version of this state."""
        return self.row.version

    @property
    def known(self) -> Known:
        """What a store is asked whether it still holds."""
        return Known(self.incarnation, self.row.version, self.gc, self.row.digest)

    @property
    def cleared(self) -> bool:
        """Whether this version says that there is no state."""
        return self.doc.shape == NONE

    @property
    def size(self) -> int:
        """Roughly the bytes of memory it takes."""
        if self.content_size < 0:  # It is asked at every read.
            size = (
                2048 + sum(map(len, self.fields.values())) + sum(map(_bytes, self.lists.values()))
            )
            object.__setattr__(self, "content_size", size)
        return self.content_size + self.warm.size

    def values(self) -> dict[str, Any]:
        """The decoded value of each field, in the order of the state."""
        return {name: self.value(name) for name in self.doc.fields}

    def value(self, name: str) -> Any:
        """The decoded value of one field; a new object at each call."""
        if name in self.lists:
            return decode_items(_body(self.lists[name]))
        return decode(self.fields[name])

    def build(self, kind: type | None) -> Any:
        """The state as an object of `kind` (None: the class that its shape tells). Raises TypeError, ValueError."""
        shape = self.shape(kind)
        if self.doc.shape == VALUE:
            return shape.build(self.value(WHOLE))
        self.warm.reads += 1
        if self.warm.reads == 1 or not COPIES:
            return shape.build(self.values())
        return shape.build({name: self._kept(shape, name) for name in self.doc.fields})

    def follows(self, before: Snapshot) -> None:
        """Take over what the reads of another version left, if nothing of the thread was taken away since."""
        same = (before.incarnation, before.gc) == (self.incarnation, self.gc)
        if same and self.warm.reads == 0:
            self.warm.follow(before.warm)

    def _kept(self, shape: Shape, name: str) -> Any:
        if name not in self.lists or not shape.takes_messages(name):
            return self.value(name)
        try:
            return self.warm.messages(name, self.lists[name])
        except ValueError:
            return self.value(name)  # What is wrong with it is said when the state is built.

    def shape(self, kind: type | None) -> Shape:
        """The shape that `build` uses."""
        return shape_of(kind or default_kind(self.doc.shape, self.doc.fields))


@dataclass(frozen=True, slots=True)
class Ground:
    """What a put is computed against: the head as this process knows it, and whether it was just read."""

    snapshot: Snapshot | None
    marks: tuple[Mark, ...]
    version: int
    last_version: int
    incarnation: bytes | None
    gc: int | None
    owner: str | None
    fresh: bool


def _count(chunk: Items) -> int:
    return len(chunk.lengths)


def _bytes(chunks: Iterable[Items]) -> int:
    return sum(len(chunk.body) for chunk in chunks)


def _body(chunks: Iterable[Items]) -> bytes:
    return b",".join(chunk.body for chunk in chunks)


def _behind(before: tuple[Items, ...], chunks: tuple[Items, ...]) -> bytes | None:
    """The items of `chunks` behind those of `before`, if it begins with them."""
    if before is chunks:
        return b""
    start, whole = _body(before), _body(chunks)
    if start == whole:
        return b""
    return whole[len(start) + 1 :] if start and whole.startswith(start + b",") else None


def open_head(head: Head, codec: Codec, thread_id: str) -> Snapshot | None:
    """The snapshot in what a backend read with its content; None when there is no state.

    Raises CorruptionError, naming thread and version.
    """
    row, thread = head.checkpoint, head.thread
    if row is None or thread is None:
        return None
    try:
        doc = open_doc(row, codec)
        spans = _Spans(head.rows, codec)
        blobs = {blob.id: blob for blob in head.blobs}
        fields: dict[str, bytes] = {}
        lists: dict[str, tuple[Items, ...]] = {}
        for name, place in doc.fields.items():
            match place:
                case Inline(data):
                    fields[name] = data
                case Item(position):
                    fields[name] = spans.item(FIELDS, position)
                case BlobAt(address):
                    fields[name] = _open_blob(blobs, address, codec)
                case Pieces(log, pieces):
                    lists[name] = tuple(spans.items(log, pieces))
        marks = tuple(read_marks(head.marks))
    except CorruptionError as error:
        raise CorruptionError(f"thread {thread_id!r}, version {row.version}: {error}") from None
    slim = dataclasses.replace(row, payload=b"")
    tails = spans.open_rows(marks)
    return Snapshot(
        thread.incarnation,
        slim,
        doc,
        marks,
        head.last_version,
        fields,
        lists,
        tails,
        thread.gc,
        thread.user,
    )


def open_doc(row: CheckpointRow, codec: Codec) -> HeadDoc:
    """The head document of a checkpoint's row. Raises CorruptionError."""
    data = codec.open(row.payload, row.key_id, Where("head"))
    if not data.startswith(_OURS):
        raise CorruptionError(
            f"this checkpoint (kind {row.kind!r}) holds no state of ours; read it through the adapter that wrote it"
        )
    return HeadDoc.from_bytes(data, row.blob_refs)


def read_metadata(row: CheckpointRow, codec: Codec) -> dict[str, Any]:
    """The metadata of a checkpoint's row; that of an adapter's checkpoint is its own affair, and not in it.

    Raises CorruptionError.
    """
    data = codec.open(row.payload, row.key_id, Where("head"))
    return open_doc(row, codec).read_metadata() if data.startswith(_OURS) else {}


def _open_blob(blobs: Mapping[bytes, Any], address: bytes, codec: Codec) -> bytes:
    blob = blobs.get(address)
    if blob is None:
        raise CorruptionError(f"the blob {address.hex()} is missing")
    data = codec.open(blob.payload, blob.key_id, Where("blob"))
    if blob_id(data) != address:
        raise CorruptionError(f"the blob {address.hex()} has another content")
    return data


class _Spans:
    """Opened rows, found by log and position."""

    def __init__(self, rows: Iterable[Row], codec: Codec) -> None:
        self._rows: dict[int, list[tuple[int, int, Items]]] = {}
        for row in sorted(rows, key=lambda row: (row.log, row.start)):
            opened = (row.start, row.end, open_row(row, codec))
            self._rows.setdefault(row.log, []).append(opened)

    def open_rows(self, marks: Sequence[Mark]) -> dict[int, Items]:
        """The items of each log's open row, where it was read."""
        lasts = {log: rows[-1] for log, rows in self._rows.items() if log < len(marks)}
        return {
            log: items
            for log, (start, end, items) in lasts.items()
            if (start, end) == (marks[log].open, marks[log].end)
        }

    def item(self, log: int, position: int) -> bytes:
        (items,) = self.items(log, [(position, position + 1)])
        return items.body

    def items(self, log: int, pieces: Sequence[Piece]) -> Iterable[Items]:
        rows = self._rows.get(log, [])
        starts = [start for start, _, _ in rows]
        for start, end in pieces:
            number = max(bisect_right(starts, start) - 1, 0)
            while start < end:
                if number >= len(rows) or not rows[number][0] <= start < rows[number][1]:
                    raise CorruptionError(f"items {start} to {end} of log {log} are missing")
                row_start, row_end, items = rows[number]
                stop = min(end, row_end)
                yield _slice(items, start - row_start, stop - row_start)
                start, number = stop, number + 1


def _slice(items: Items, start: int, stop: int) -> Items:
    if start == 0 and stop == len(items.lengths):
        return items
    before = sum(items.lengths[:start]) + start
    lengths = items.lengths[start:stop]
    return Items(lengths, items.body[before : before + sum(lengths) + len(lengths) - 1])
