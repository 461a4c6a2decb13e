"""What a LangGraph checkpoint is stored as: a document that says where each channel's value lies. Pure.

A list channel is pieces of a log of its own, an item a message, so that a step writes what is new. Another value stands
in the document when it is small, in log 0 when it is middling, and is a blob by its content when it is large. The
input of a run (`__start__`) is a slot, which is written anew as a difference from the message once that is stored.
Values are bytes of the saver's codec, with the codec's word for their form.
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import ormsgpack

from threadline import CorruptionError
from threadline.store import Mark, Near, Range, item_digest

#: The kind of every item in the adapter's logs, and the log of middling values.
KIND, FIELDS = 16, 0
#: Largest value that stands in the document, and largest that is an item of log 0, in bytes.
INLINE_BYTES, ITEM_BYTES = 64, 4096
#: The channel that holds the input of a run.
START = "__start__"
#: A document is shrunk near some words (1), or also near its skeleton (2): earlier documents that are kept as a blob.
#: With the writes that it settles before it: 3 and 4.
_NEAR_WORDS, _NEAR_SKELETON, _SETTLES = 1, 2, 2
#: A document that costs more than this makes the skeleton better, while it has room, in bytes.
_DEAR, _SKELETON_BYTES = 80, 4096
#: Documents of the three steps of a turn, as most of them look.
_WORDS = b"".join(
    (
        b"\x98\xc4\x10\x81\xa8messages\x01\x82\xa8messages\x94\x03\x01\x00\x08\xa9__start__\x91\x04\xa7msgpack\xc4\xc5\x84"
        b"\xa1v\x04\xb0channel_versions\x83\xa9__start__\x0d\xa8messages\x0c"
        b"\xafbranch:to:agent\x0c\xadversions_seen\x83\xa9__input__\x80\xa9__start__\x81\xa9__start__\x0a\xa5agent\x81"
        b"\xafbranch:to:agent\x0b\xb0updated_channels\x91\xa9__start__\xa7msgpack\xc4\x1d\x83\xa6source\xa5input\xa4step"
        b"\x0b\xa7parents\x80",
        b"\x98\xc4\x10\x81\xa8messages\x01\x82\xa8messages\x94\x03\x01\x00\x09\xafbranch:to:agent\x93\x00\xa4null\xc4\x00"
        b"\xa7msgpack\xc4\xd4\x84\xa1v\x04\xb0channel_versions\x83\xa9__start__"
        b"\x0e\xa8messages\x0e\xafbranch:to:agent\x0e\xadversions_seen\x83\xa9__input__\x80\xa9__start__\x81\xa9__start__"
        b"\x0d\xa5agent\x81\xafbranch:to:agent\x0b\xb0updated_channels\x92\xafbranch:to:agent\xa8messages\xa7msgpack\xc4"
        b"\x1c\x83\xa6source\xa4loop\xa4step\x0c\xa7parents\x80",
        b"\x98\xc4\x10\x81\xa8messages\x01\x81\xa8messages\x94\x03\x01\x00\x0a\xa7msgpack\xc4\xc4\x84\xa1v\x04"
        b"\xb0channel_versions\x83\xa9__start__\x0e\xa8messages\x0f"
        b"\xafbranch:to:agent\x0e\xadversions_seen\x83\xa9__input__\x80\xa9__start__\x81\xa9__start__\x0d\xa5agent\x81"
        b"\xafbranch:to:agent\x0e\xb0updated_channels\x91\xa8messages\xa7msgpack\xc4\x1c\x83\xa6source\xa4loop\xa4step"
        b"\x0d\xa7parents\x80",
    )
)
_NEAR = Near(_WORDS)


@lru_cache(maxsize=64)
def _near(skeleton: bytes) -> Near:
    """The words and a skeleton: that of a thread at work is used at each of its steps."""
    return Near(_WORDS + skeleton)


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
    """A checkpoint but for its id and values. `parent`: an id, there or not. `at`: its `ts`. `rest`: its other keys.
    `logs`: the log of every list channel that there ever was, also of those without a value now. `top`: the greatest
    id of the namespace when this one is not it; `mixed`: whether ids were ever put in another order than their own.
    `settled`: the writes on its parent, see `settled`; they stand beside the document, not in its bytes."""

    parent: str | None
    places: Mapping[str, Place]
    at: str | None
    rest: Typed
    metadata: Typed
    logs: Mapping[str, int] = field(default_factory=dict)
    top: str | None = None
    mixed: bool = False
    settled: bytes = b""

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
        parent = pack_id(self.parent) if self.parent is not None else None
        return ormsgpack.packb(
            [
                parent,
                _pack_time(self.at),
                dict(self.logs),
                places,
                *self.rest,
                *self.metadata,
                *more,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes, blobs: Sequence[bytes]) -> Document:
        """The document of some msgpack; `blobs`: the addresses beside it. Raises CorruptionError."""
        try:
            parent, at, logs, places, form, rest, of_metadata, metadata, *more = ormsgpack.unpackb(
                data
            )
            top, mixed = more or (None, False)
            return cls(
                None if parent is None else unpack_id(parent),
                {name: _read_place(place, blobs) for name, place in places.items()},
                _unpack_time(at),
                Typed(form, rest),
                Typed(of_metadata, metadata),
                logs,
                top,
                mixed,
            )
        except (ormsgpack.MsgpackDecodeError, TypeError, ValueError, LookupError) as error:
            raise CorruptionError(f"a checkpoint's document is damaged: {error!r}") from None


class Written(NamedTuple):
    """A document as it is stored: its payload with the writes that it settles, the addresses beside it, and its
    skeleton (address and content; new when `fresh`)."""

    payload: bytes
    blob_refs: tuple[bytes, ...]
    skeleton: tuple[bytes, bytes] | None
    fresh: bool


def write_document(
    data: bytes,
    blobs: tuple[bytes, ...],
    known: tuple[bytes, bytes] | None,
    settled: bytes = b"",
) -> Written:
    """Store a document's bytes near the words and the skeleton that is known, or begin or extend one where that is
    worth it; behind the writes that it settles."""
    plain = _NEAR.shrink(data)
    if len(plain) <= _DEAR:
        return Written(_payload(_NEAR_WORDS, settled, plain), blobs, known, False)
    skeleton, before = data, b""
    if known is not None:
        address, before = known
        packed = _near(before).shrink(data)
        roomy = len(before) + len(data) <= _SKELETON_BYTES
        if len(packed) <= _DEAR or not (roomy or len(packed) > 0.8 * len(plain)):
            return Written(
                _payload(_NEAR_SKELETON, settled, packed), (address, *blobs), known, False
            )
        skeleton = before + data if roomy else data
    address = Typed("skeleton", skeleton).digest
    packed = _near(skeleton).shrink(data)
    payload = _payload(_NEAR_SKELETON, settled, packed)
    return Written(payload, (address, *blobs), (address, skeleton), True)


def _payload(near: int, settled: bytes, packed: bytes) -> bytes:
    if not settled:
        return bytes([near]) + packed
    return bytes([near + _SETTLES]) + len(settled).to_bytes(2, "big") + settled + packed


def skeleton_of(payload: bytes, blob_refs: Sequence[bytes]) -> bytes | None:
    """The address of the skeleton that is needed to read a document; None: it needs none."""
    near = payload[:1] in (bytes([_NEAR_SKELETON]), bytes([_NEAR_SKELETON + _SETTLES]))
    return blob_refs[0] if near and blob_refs else None


def read_document(payload: bytes, blob_refs: Sequence[bytes], skeleton: bytes | None) -> Document:
    """The document of what was stored. Raises CorruptionError."""
    near, settled, packed = payload[0] if payload else 0, b"", payload[1:]
    if near > _SETTLES:
        end = 2 + int.from_bytes(packed[:2], "big")
        near, settled, packed = near - _SETTLES, packed[2:end], packed[end:]
    if near == _NEAR_SKELETON and skeleton is not None:
        found = Document.from_bytes(_near(skeleton).expand(packed), blob_refs[1:])
    elif near == _NEAR_WORDS:
        found = Document.from_bytes(_NEAR.expand(packed), blob_refs)
    else:
        raise CorruptionError("this is no checkpoint of LangGraph's, or its skeleton is missing")
    return dataclasses.replace(found, settled=settled) if settled else found


def ends(ranges: Sequence[Range], marks: Sequence[Mark]) -> list[tuple[int, int, bytes]]:
    """Each log that the ranges touch, with its end and the prefix digest there: what a checkpoint's digest covers."""
    logs = sorted({each.log for each in ranges})
    return [(log, marks[log].end, marks[log].prefix) for log in logs]


# Ids ------------------------------------------------------------------------------------------------------


def pack_id(id: str) -> str | bytes:
    """An id as it stands inside documents: the 16 bytes of a UUID in its usual form, else the text."""
    return bytes.fromhex(id.replace("-", "")) if _UUID.fullmatch(id) else id


def unpack_id(packed: str | bytes) -> str:
    """The id."""
    return str(uuid.UUID(bytes=packed)) if isinstance(packed, bytes) else packed


def _pack_time(text: str | None) -> str | int | None:
    try:
        microseconds = round(datetime.fromisoformat(text or "").timestamp() * 1_000_000)
        return microseconds if _unpack_time(microseconds) == text else text
    except (ValueError, OverflowError):
        return text


def _unpack_time(packed: str | int | None) -> str | None:
    if not isinstance(packed, int):
        return packed
    return (_EPOCH + timedelta(microseconds=packed)).isoformat()


_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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


def list_head(count: int) -> bytes:
    """What stands before the items of a list."""
    if count < 16:
        return bytes([0x90 | count])
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def list_of(items: Sequence[bytes]) -> Typed:
    """A list in msgpack from the bytes of its items."""
    return Typed("msgpack", list_head(len(items)) + b"".join(items))


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
