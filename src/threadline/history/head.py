"""The head of a state: where each of its fields lies. What a checkpoint stores is this, and nothing else.

A small field stands in the head itself. A middling one is an item of log 0, the log of fields, and a large one a
blob by content address, so that a field that did not change is never written again. A list is pieces of a log of
its own. In JSON: `{"s": shape, "f": {name: place}, "m": metadata, "e": [[log, end], ...]}` ("m" when there is
metadata, "e" for logs that end behind the last position the head refers to), a place being
`[0, value]`, `[1, position]`, `[2, blob]` (its index) or `[3, log, start, end, start, end, ...]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from threadline.codec.values import decode
from threadline.errors import CorruptionError
from threadline.history.delta import Piece

#: The log that holds middling fields.
FIELDS = 0
#: Largest field that stands in the head, and largest that is an item of log 0, in bytes of JSON.
INLINE_BYTES, ITEM_BYTES = 48, 4096


@dataclass(frozen=True, slots=True)
class Inline:
    """A field in the head: its JSON bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Item:
    """A field as the item at `position` of log 0."""

    position: int


@dataclass(frozen=True, slots=True)
class BlobAt:
    """A field by content address."""

    id: bytes


@dataclass(frozen=True, slots=True)
class Pieces:
    """A list as pieces of log `log`."""

    log: int
    pieces: tuple[Piece, ...]


Place = Inline | Item | BlobAt | Pieces


@dataclass(frozen=True, slots=True)
class HeadDoc:
    """A decoded head. `shape`: agent, model, dataclass, dict, value, or none (a cleared state). `ends`: the end of
    each log it refers to, at the time it was written: what its digest covers."""

    shape: str
    fields: Mapping[str, Place] = field(default_factory=dict)
    metadata: bytes = b"{}"
    ends: tuple[tuple[int, int], ...] = ()

    @property
    def ranges(self) -> list[tuple[int, int, int]]:
        """Every (log, start, end) that the head needs, ordered, neighbours joined."""
        spans: list[tuple[int, int, int]] = []
        for place in self.fields.values():
            if isinstance(place, Item):
                spans.append((FIELDS, place.position, place.position + 1))
            elif isinstance(place, Pieces):
                spans += [(place.log, start, end) for start, end in place.pieces]
        joined: list[tuple[int, int, int]] = []
        for log, start, end in sorted(spans):
            if joined and joined[-1][0] == log and joined[-1][2] >= start:
                joined[-1] = (log, joined[-1][1], max(end, joined[-1][2]))
            else:
                joined.append((log, start, end))
        return joined

    def _reached(self) -> dict[int, int]:
        return {log: end for log, _, end in self.ranges}

    @property
    def blobs(self) -> tuple[bytes, ...]:
        """The address of each blob that the head needs, each once."""
        ids = (place.id for place in self.fields.values() if isinstance(place, BlobAt))
        return tuple(dict.fromkeys(ids))

    def to_bytes(self) -> bytes:
        """The canonical JSON bytes of the head."""
        blobs = self.blobs
        fields = {name: _write_place(place, blobs) for name, place in self.fields.items()}
        document: dict[str, Any] = {"s": self.shape, "f": fields}
        if self.metadata != b"{}":
            document["m"] = orjson.Fragment(self.metadata)
        reached = self._reached()
        beyond = [(log, end) for log, end in self.ends if reached.get(log) != end]
        if beyond:
            document["e"] = beyond
        return orjson.dumps(document)

    @classmethod
    def from_bytes(cls, data: bytes, blobs: Sequence[bytes]) -> HeadDoc:
        """The head of some JSON bytes; `blobs`: the addresses beside them. Raises CorruptionError."""
        try:
            document = orjson.loads(data)
            fields = {name: _read_place(place, blobs) for name, place in document["f"].items()}
            if type(document["s"]) is not str:
                raise ValueError(f"no shape: {document['s']!r}")
            doc = cls(document["s"], fields, orjson.dumps(document.get("m", {})))
            ends = doc._reached() | {int(log): int(end) for log, end in document.get("e", ())}
            return replace(doc, ends=tuple(sorted(ends.items())))
        except (
            orjson.JSONDecodeError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
        ) as error:
            raise CorruptionError(f"a checkpoint's head is damaged: {error!r}") from None

    def read_metadata(self) -> dict[str, Any]:
        """The metadata that was put with the state."""
        value = decode(self.metadata)
        if not isinstance(value, dict):
            raise CorruptionError("a checkpoint's metadata is no object")
        return value


def _write_place(place: Place, blobs: Sequence[bytes]) -> list[Any]:
    match place:
        case Inline(data):
            return [0, orjson.Fragment(data)]
        case Item(position):
            return [1, position]
        case BlobAt(address):
            return [2, blobs.index(address)]
        case Pieces(log, pieces):
            return [3, log, *(edge for piece in pieces for edge in piece)]


def _read_place(place: list[Any], blobs: Sequence[bytes]) -> Place:
    match place:
        case [0, value]:
            return Inline(orjson.dumps(value))
        case [1, int(position)] if type(position) is int and position >= 0:
            return Item(position)
        case [2, int(index)] if type(index) is int and index >= 0:
            return BlobAt(blobs[index])
        case [3, int(log), *edges] if type(log) is int and log >= 0 and len(edges) % 2 == 0:
            pieces = tuple(zip(edges[::2], edges[1::2], strict=True))
            if all(type(start) is type(end) is int and 0 <= start < end for start, end in pieces):
                return Pieces(log, pieces)
    raise ValueError(f"no place: {place!r}")
