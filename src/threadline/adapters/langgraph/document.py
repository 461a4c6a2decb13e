"""What a LangGraph checkpoint is stored as: a document that says where each channel's value lies. Pure.

A list channel is pieces of a log of its own, an item a message, so that a step writes what is new. Another value stands
in the document when it is small, in log 0 when it is middling, and is a blob by its content when it is large. The
input of a run (`__start__`) is a slot, which is written anew as a difference from the message once that is stored.
Values are bytes of the saver's codec, with the codec's word for their form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ormsgpack

from threadline import CorruptionError
from threadline.store import Mark, Range, expand, item_digest, shrink

#: The kind of every item in the adapter's logs, and the log of middling values.
KIND, FIELDS = 16, 0
#: Largest value that stands in the document, and largest that is an item of log 0, in bytes.
INLINE_BYTES, ITEM_BYTES = 64, 4096
#: The channel that holds the input of a run.
START = "__start__"
#: A document is shrunk near these words (1), or near its skeleton (2): an earlier document that is kept as a blob.
_NEAR_WORDS, _NEAR_SKELETON = b"\x01", b"\x02"
#: A document that costs more than this is worth a skeleton, in bytes.
_DEAR = 120
_WORDS = (
    b"msgpack\xa9bytearray\xa4null\xa8__input__\xac__interrupt__\xaa__resume__\xae__pregel_tasks\xa7updates\xa9user_id"
    b"\xa6run_id\xadcounters_since_delta_snapshot\xa4fork\xa6update\x83\xa6source\xa5input\xa4step\xff\xa7parents\x80"
    b"\x83\xa6source\xa4loop\xa4step\x00\xa7parents\x80\x86\xa1v\x04\xa2ts\xd9 2026-01-01T00:00:00.000000+00:00"
    b"\xb0channel_versions\x83\xa9__start__\x02\xa8messages\x03\xafbranch:to:agent\x03\xadversions_seen\x82\xa9__input__"
    b"\x80\xa9__start__\x81\xa9__start__\x01\xa5agent\x81\xafbranch:to:agent\x02\xb0updated_channels\x91\xa8messages"
)

Piece = tuple[int, int]


class Typed(NamedTuple):
    """A value as the codec gives it: the word for its form, and its bytes."""

    form: str
    data: bytes

    @property
    def digest(self) -> bytes:
        """What tells it from other values."""
        return item_digest(KIND, self.form.encode() + b"\0" + self.data)


class Inline(NamedTuple):
    """A value in the document."""

    value: Typed


class Item(NamedTuple):
    """A value as the item at `position` of log 0."""

    form: str
    position: int


class BlobAt(NamedTuple):
    """A value by its digest."""

    form: str
    id: bytes


class Pieces(NamedTuple):
    """A list as pieces of log `log`."""

    log: int
    pieces: tuple[Piece, ...]


class Start(NamedTuple):
    """The input of a run, in the slot of its checkpoint."""


Place = Inline | Item | BlobAt | Pieces | Start


@dataclass(frozen=True, slots=True)
class Document:
    """A checkpoint but for its id and values. `parent`: an id, there or not. `logs`: the log of every list channel
    that there ever was, also of those without a value now. `rest`: the checkpoint's other keys. `top`: the greatest id
    of the namespace when this one is not it; `mixed`: whether ids were ever put in another order than their own."""

    parent: str | None
    places: Mapping[str, Place]
    rest: Typed
    metadata: Typed
    logs: Mapping[str, int] = field(default_factory=dict)
    top: str | None = None
    mixed: bool = False

    @property
    def ranges(self) -> tuple[Range, ...]:
        """Every range that the values need, in order."""
        spans: list[Range] = []
        for place in self.places.values():
            match place:
                case Item(_, position):
                    spans.append(Range(FIELDS, position, position + 1))
                case Pieces(log, pieces):
                    spans += [Range(log, start, end) for start, end in pieces]
        return tuple(sorted(spans))

    @property
    def blobs(self) -> tuple[bytes, ...]:
        """The address of each blob that the values need, each once."""
        return tuple(dict.fromkeys(p.id for p in self.places.values() if isinstance(p, BlobAt)))

    def to_bytes(self) -> bytes:
        """The document as msgpack."""
        blobs = self.blobs
        places = {name: _write_place(place, blobs) for name, place in self.places.items()}
        more = [self.top, self.mixed] if self.mixed else []
        return ormsgpack.packb(
            [self.parent, dict(self.logs), places, *self.rest, *self.metadata, *more]
        )

    @classmethod
    def from_bytes(cls, data: bytes, blobs: Sequence[bytes]) -> Document:
        """The document of some msgpack; `blobs`: the addresses beside it. Raises CorruptionError."""
        try:
            parent, logs, places, form, rest, of_metadata, metadata, *more = ormsgpack.unpackb(data)
            top, mixed = more or (None, False)
            return cls(
                parent,
                {name: _read_place(place, blobs) for name, place in places.items()},
                Typed(form, rest),
                Typed(of_metadata, metadata),
                logs,
                top,
                mixed,
            )
        except (ormsgpack.MsgpackDecodeError, TypeError, ValueError, LookupError) as error:
            raise CorruptionError(f"a checkpoint's document is damaged: {error!r}") from None


class Written(NamedTuple):
    """A document as it is stored: its payload, the addresses beside it, and its skeleton (address and content; new
    when `fresh`)."""

    payload: bytes
    blob_refs: tuple[bytes, ...]
    skeleton: tuple[bytes, bytes] | None
    fresh: bool


def write_document(
    data: bytes, blobs: tuple[bytes, ...], known: tuple[bytes, bytes] | None
) -> Written:
    """Store a document's bytes near the skeleton that is known, or begin another where that is worth it."""
    plain: bytes | None = None
    if known is not None:
        packed = shrink(data, known[1])
        if len(packed) > _DEAR:
            plain = shrink(data, _WORDS)
        if plain is None or len(packed) < 0.7 * len(plain):
            return Written(_NEAR_SKELETON + packed, (known[0], *blobs), known, False)
    plain = plain or shrink(data, _WORDS)
    if len(plain) <= _DEAR:
        return Written(_NEAR_WORDS + plain, blobs, known, False)
    skeleton = (Typed("skeleton", data).digest, data)
    packed = shrink(data, data)
    return Written(_NEAR_SKELETON + packed, (skeleton[0], *blobs), skeleton, True)


def skeleton_of(payload: bytes, blob_refs: Sequence[bytes]) -> bytes | None:
    """The address of the skeleton that is needed to read a document; None: it needs none."""
    return blob_refs[0] if payload[:1] == _NEAR_SKELETON and blob_refs else None


def read_document(payload: bytes, blob_refs: Sequence[bytes], skeleton: bytes | None) -> Document:
    """The document of what was stored. Raises CorruptionError."""
    if payload[:1] == _NEAR_SKELETON and skeleton is not None:
        return Document.from_bytes(expand(payload[1:], skeleton), blob_refs[1:])
    if payload[:1] == _NEAR_WORDS:
        return Document.from_bytes(expand(payload[1:], _WORDS), blob_refs)
    raise CorruptionError("this is no checkpoint of LangGraph's, or its skeleton is missing")


def ends(ranges: Sequence[Range], marks: Sequence[Mark]) -> list[tuple[int, int, bytes]]:
    """Each log that the ranges touch, with its end and the prefix digest there: what a checkpoint's digest covers."""
    logs = sorted({each.log for each in ranges})
    return [(log, marks[log].end, marks[log].prefix) for log in logs]


# Ids ------------------------------------------------------------------------------------------------------

_AGAIN = re.compile(r"~1\d+\Z")


def stored_id(id: str, again: int = 0) -> str:
    """A checkpoint's id as it is stored. Ids are unique in a namespace, so one that is put `again` (its new version)
    is told from the version that it replaces."""
    plain = id.replace("~", "~0")
    return f"{plain}~1{again}" if again else plain


def plain_id(stored: str) -> str:
    """The id of a stored one."""
    return _AGAIN.sub("", stored).replace("~0", "~")


# Lists of items in msgpack ---------------------------------------------------------------------------------


def item_of(typed: Typed) -> bytes | None:
    """The bytes of the one item in a list of one, or None when the codec's form is not plain msgpack."""
    return typed.data[1:] if typed.form == "msgpack" and typed.data[:1] == b"\x91" else None


def list_of(items: Sequence[bytes]) -> Typed:
    """A list in msgpack from the bytes of its items."""
    count = len(items)
    if count < 16:
        head = bytes([0x90 | count])
    elif count < 1 << 16:
        head = b"\xdc" + count.to_bytes(2, "big")
    else:
        head = b"\xdd" + count.to_bytes(4, "big")
    return Typed("msgpack", head + b"".join(items))


def _write_place(place: Place, blobs: Sequence[bytes]) -> list[Any]:
    match place:
        case Inline((form, data)):
            return [0, form, data]
        case Item(form, position):
            return [1, form, position]
        case BlobAt(form, address):
            return [2, form, blobs.index(address)]
        case Pieces(log, pieces):
            return [3, log, *(edge for piece in pieces for edge in piece)]
        case Start():
            return [4]


def _read_place(place: list[Any], blobs: Sequence[bytes]) -> Place:
    match place:
        case [0, str(form), bytes(data)]:
            return Inline(Typed(form, data))
        case [1, str(form), int(position)] if position >= 0:
            return Item(form, position)
        case [2, str(form), int(index)] if index >= 0:
            return BlobAt(form, blobs[index])
        case [3, int(log), *edges] if log >= 0 and len(edges) % 2 == 0:
            pieces = tuple(zip(edges[::2], edges[1::2], strict=True))
            if all(0 <= start < end for start, end in pieces):
                return Pieces(log, pieces)
        case [4]:
            return Start()
    raise ValueError(f"no place: {place!r}")
