"""The delta: what a state brings that its thread does not have yet. No I/O, and nothing awaits while it looks at
the caller's objects.

`plan` compares a state's fields with the snapshot it was computed against, and yields the new head, the items to
append to each log and the new blobs. Lists are compared by their `Watch` where the state object is the one that was
loaded or last put (so an edit in place is found without encoding what is unchanged), else by content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from threadline.checkpointer.snapshot import WHOLE, Snapshot
from threadline.codec.digest import blob_id, item_digest
from threadline.codec.records import DICT, VALUE, Shape
from threadline.codec.rows import JSON, Items, items_of, join
from threadline.codec.tombstones import is_tombstone, stood_there
from threadline.history.delta import appended, length, place, positions
from threadline.history.head import (
    FIELDS,
    INLINE_BYTES,
    ITEM_BYTES,
    BlobAt,
    HeadDoc,
    Inline,
    Item,
    Pieces,
    Place,
)
from threadline.history.logs import Mark
from threadline.history.watch import Watch

#: A list of plain values becomes a log of its own when it is longer than this; one of records always does.
SHORT_LIST = 16
#: Up to so many items a list is watched at once.
SHORT_WATCH = 64
#: A list that grew by so many puts is joined in memory, so that a put stays O(new).
MANY_CHUNKS = 64


@dataclass(slots=True)
class Plan:
    """What one put writes. `appends`: the items for each log, in order; `watches`: each list as it is now."""

    shape: str
    metadata: bytes
    marks: list[Mark]
    places: dict[str, Place] = field(default_factory=dict)
    appends: dict[int, list[bytes]] = field(default_factory=dict)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    fields: dict[str, bytes] = field(default_factory=dict)
    lists: dict[str, tuple[Items, ...]] = field(default_factory=dict)
    watches: dict[str, Watch] = field(default_factory=dict)

    def end(self, log: int) -> int:
        """Where the next item of a log goes."""
        return self.marks[log].end + len(self.appends.get(log, ()))

    def new_log(self) -> int:
        """The number of a log that did not exist."""
        self.marks.append(Mark())
        return len(self.marks) - 1

    def doc(self) -> HeadDoc:
        """The head to store."""
        logs = sorted({p.log for p in self.places.values() if isinstance(p, Pieces)})
        if any(isinstance(place, Item) for place in self.places.values()):
            logs.insert(0, FIELDS)
        ends = tuple((log, self.end(log)) for log in logs)
        return HeadDoc(self.shape, self.places, self.metadata, ends)


def plan(
    shape: Shape,
    state: Any,
    metadata: bytes,
    known: Snapshot | None,
    marks: Sequence[Mark],
    watches: Mapping[str, Watch] | None = None,
) -> Plan:
    """The plan of a put of `state` onto `known` (None: nothing is there; `marks` may still stand from before).

    watches: those of this very object at `known`; None: it was not put there before. Taking a watch costs more than
    one put gains by it, so a long list is watched from the second put of the same object on.

    Raises NotStorableError, LimitError.
    """
    fields = shape.take(state)
    name = shape.name
    if name == DICT and not all(type(key) is str and key.isprintable() for key in fields):
        name, fields = VALUE, {WHOLE: state}
    draft = Plan(name, metadata, list(marks) or [Mark()])
    for field_name, value in fields.items():
        before = known.doc.fields.get(field_name) if known else None
        if type(value) is list and _is_log(value, before):
            watch = watches.get(field_name) if watches else None
            _plan_list(draft, shape, field_name, value, known, watch)
            if watch is None and (watches is not None or len(value) <= SHORT_WATCH):
                draft.watches[field_name] = Watch.of(list(value))
        else:
            _plan_field(draft, shape, field_name, value, known)
    return draft


def plan_append(
    known: Snapshot, shape: Shape, name: str, items: list[Any], metadata: bytes
) -> Plan:
    """The plan of a state that is `known` but for `items` at the end of its list `name`: O(new)."""
    draft = Plan(known.doc.shape, metadata, list(known.marks) or [Mark()])
    draft.places, draft.fields = dict(known.doc.fields), dict(known.fields)
    draft.lists = dict(known.lists)
    before = known.doc.fields.get(name)
    if not isinstance(before, Pieces):
        if not shape.has(name):
            raise ValueError(f"a {shape.kind.__name__} has no field {name!r} to append to")
        whole = grown(name, known.value(name) if before is not None else [], items)
        draft.fields.pop(name, None)
        _plan_list(draft, shape, name, whole, None, None)
        return draft
    encoded = shape.encode_items(name, items)
    pieces = appended(before.pieces, draft.end(before.log), len(encoded))
    _write_list(draft, name, before.log, pieces, encoded, known.lists[name])
    return draft


def grown(name: str, value: Any, items: list[Any]) -> list[Any]:
    """A list with items at its end. Raises TypeError for what is no list."""
    if type(value) is not list:
        raise TypeError(f"{name!r} is a {type(value).__name__}; only a list can be appended to")
    return [*value, *items]


def _is_log(value: list[Any], before: Place | None) -> bool:
    if isinstance(before, Pieces) or len(value) > SHORT_LIST:
        return True
    return bool(value) and isinstance(value[0], dict | BaseModel)


def _plan_field(draft: Plan, shape: Shape, name: str, value: Any, known: Snapshot | None) -> None:
    before = known.doc.fields.get(name) if known else None
    if known and name in known.fields and before is not None:
        data = shape.encode(name, value, known.fields[name])
        if data == known.fields[name]:
            draft.places[name], draft.fields[name] = before, data
            return
    else:
        data = shape.encode(name, value)
    draft.fields[name] = data
    if len(data) <= INLINE_BYTES:
        draft.places[name] = Inline(data)
    elif len(data) <= ITEM_BYTES:
        draft.places[name] = Item(draft.end(FIELDS))
        draft.appends.setdefault(FIELDS, []).append(data)
    else:
        address = blob_id(data)
        draft.places[name] = BlobAt(address)
        draft.blobs[address] = data


def _plan_list(
    draft: Plan,
    shape: Shape,
    name: str,
    value: list[Any],
    known: Snapshot | None,
    watch: Watch | None,
) -> None:
    before = known.doc.fields.get(name) if known else None
    old = before if known and isinstance(before, Pieces) else None
    log = old.log if old else draft.new_log()
    chunks = known.lists[name] if known and old else ()
    count = length(old.pieces) if old else 0
    items = list(value)  # The caller's list could change under a thread; this copy cannot.
    suspects = [(0, count)] if count else []
    if watch is not None and len(watch) == count:
        suspects = watch.suspects(items)
        draft.watches[name] = watch.updated(items, suspects)
    if not suspects and len(items) >= count:
        encoded = shape.encode_items(name, items[count:])
        pieces = appended(old.pieces if old else (), draft.end(log), len(encoded))
        _write_list(draft, name, log, pieces, encoded, chunks)
        return
    known_bytes = [data for chunk in chunks for data in chunk.cut()]
    digests = [stood_there(data) for data in known_bytes]
    there = dict(zip(digests, known_bytes, strict=True))
    doubtful = {i for start, stop in suspects for i in range(start, min(stop, len(items)))}
    looked_at = [i for i in range(len(items)) if i in doubtful or i >= count]
    encoded = shape.encode_items(
        name, [items[i] for i in looked_at], lambda data: item_digest(JSON, data) in there
    )
    by_index = dict(zip(looked_at, encoded, strict=True))
    wanted: list[int | bytes] = [
        _wanted(by_index[i], there) if i in by_index else i for i in range(len(items))
    ]
    for i, digest in enumerate(wanted):
        if isinstance(
            digest, bytes
        ):  # What is there already, perhaps as a tombstone, stays as it is there.
            by_index[i] = there.get(digest, by_index[i])
    pieces, fresh = place(positions(old.pieces) if old else [], digests, wanted, draft.end(log))
    all_bytes = [by_index[i] if i in by_index else known_bytes[i] for i in range(len(items))]
    draft.places[name] = Pieces(log, tuple(pieces))
    draft.appends.setdefault(log, []).extend(all_bytes[i] for i in fresh)
    draft.lists[name] = (items_of(all_bytes),) if all_bytes else ()


def _write_list(
    draft: Plan,
    name: str,
    log: int,
    pieces: Sequence[tuple[int, int]],
    encoded: list[bytes],
    chunks: tuple[Items, ...],
) -> None:
    draft.places[name] = Pieces(log, tuple(pieces))
    draft.lists[name] = chunks
    if encoded:
        draft.appends.setdefault(log, []).extend(encoded)
        if len(chunks) >= MANY_CHUNKS:
            chunks = (join(chunks),)
        draft.lists[name] = (*chunks, items_of(encoded))


def _wanted(data: bytes, there: Mapping[bytes, bytes]) -> bytes:
    """The digest by which an item is looked for: a tombstone that was loaded is the one that stands there."""
    if not is_tombstone(data):
        return item_digest(JSON, data)
    stood = stood_there(data)
    old = there.get(stood)
    return stood if old is not None and is_tombstone(old) else item_digest(JSON, data)
