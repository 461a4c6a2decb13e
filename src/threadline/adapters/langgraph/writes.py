"""Pending writes as slots: what tasks wrote on a checkpoint, and the input of a run. Pure.

The regular writes of a task are one slot, written by the first call and completed by later ones; each special write
(an error, an interrupt, a resume) is a slot of its own that the last call wins. A slot may be written as its
difference from items of a log: a message that a task wrote is, nearly byte for byte, the item that the next
checkpoint stores. Most slots do not live that long: see `settled`.

A slot's key is that of its checkpoint, then 8 characters for the task, then the index of a special write; `$` in
their place is the input of the run, `!` says that the checkpoint was put again and under which version.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ormsgpack
from langgraph.checkpoint.base import WRITES_IDX_MAP

from threadline import CorruptionError
from threadline.adapters.langgraph.document import START, Typed, pack_id, unpack_id
from threadline.adapters.langgraph.plan import Added
from threadline.adapters.langgraph.spans import Spans
from threadline.store import Near, Range, Slot, Store, Where, expand, shrink

KIND = "w"
WHERE = Where("slot", KIND)
#: Base 64 whose letters are in the order of their values, so that keys are in the order of ids.
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_ORDERED = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_LETTERS, _BACK = bytes.maketrans(_BASE64, _ORDERED), bytes.maketrans(_ORDERED, _BASE64)
_PLAIN, _NEAR = b"\x00", b"\x01"
#: Below this a slot is not worth writing as a difference, in bytes; items beyond this are not tried.
_WORTH, MOST = 96, 65536
#: How many bytes of an item are looked for in a slot, before it is tried as its difference from that item.
_PROBE = 24
#: What stands in nearly every slot, beside the items.
_WORDS = (
    b"\x93\xa0\xa0\x91\x94\x00\xa9__start__\xc0\xc5\x02\x81\xa8messages\x91\x93\xb5~__pregel_pull, agent\xc4\x10"
    b"\x93\xb9~__pregel_pull, __start__\xc4\x10\x92\x94\x01\xafbranch:to:agent\xc0\xc4\x01\xc0"
    b"\x94\x00\xa8messages\xc0\xc5\x02\x91"
)
#: What it takes alone.
_ALONE = Near()


class Write(NamedTuple):
    """One write of a task. `path`: the task's path, where it is another than that of the task's first call."""

    idx: int
    channel: str
    value: Typed
    path: str | None = None


class Task(NamedTuple):
    """Some writes of one task on one checkpoint."""

    path: str
    id: str
    writes: tuple[Write, ...]

    def completed(self, more: Task) -> Task:
        """With the writes of a later call whose index is not taken."""
        taken = {write.idx for write in self.writes}
        path = None if more.path == self.path else more.path
        new = [write._replace(path=path) for write in more.writes if write.idx not in taken]
        return self._replace(writes=(*self.writes, *new))

    def to_bytes(self) -> bytes:
        """As msgpack."""
        writes = [
            [
                i,
                c,
                None if v.form == "msgpack" else v.form,
                v.data,
                *([] if path is None else [path]),
            ]
            for i, c, v, path in self.writes
        ]
        return ormsgpack.packb([self.path, pack_id(self.id), writes])

    @classmethod
    def from_bytes(cls, data: bytes) -> Task:
        """Of some msgpack. Raises CorruptionError."""
        try:
            path, task_id, writes = ormsgpack.unpackb(data)
            read = [Write(i, c, Typed(f or "msgpack", v), *more) for i, c, f, v, *more in writes]
            return cls(path, unpack_id(task_id), tuple(read))
        except (ormsgpack.MsgpackDecodeError, TypeError, ValueError) as error:
            raise CorruptionError(f"a pending write is damaged: {error!r}") from None


class Stored(NamedTuple):
    """What a slot holds: its content, or the content shrunk near items of a log."""

    data: bytes
    near: Range | None = None

    def read(self, spans: Spans) -> Task | None:
        """The writes; None when the items that they are near to were pruned: then they count as never saved, and
        LangGraph runs the task again."""
        if self.near is None:
            return self.task()
        try:
            items = spans.items(self.near.log, [(self.near.start, self.near.end)])
        except CorruptionError:
            return None
        return self.task(items)

    def task(self, items: Sequence[bytes] = ()) -> Task:
        """The writes, given the items that they are near to. Raises CorruptionError."""
        return Task.from_bytes(expand(self.data, beside(items)) if self.near else self.data)


def numbered(writes: Iterable[tuple[str, Typed]]) -> list[Write]:
    """The writes of one call with their indexes: the position, or below zero for the special channels."""
    return [Write(WRITES_IDX_MAP.get(c, index), c, v) for index, (c, v) in enumerate(writes)]


def key_of(checkpoint_id: str) -> str:
    """What the keys of a checkpoint's slots begin with; no other checkpoint's do."""
    packed = pack_id(checkpoint_id)
    if isinstance(packed, bytes):
        return "u" + _letters(packed)
    return f"x{len(checkpoint_id)}:{checkpoint_id}/"


def checkpoint_of(key: str) -> str:
    """The id of the checkpoint whose slot has this key."""
    if key.startswith("u"):
        return unpack_id(b64decode(key[1:23].encode().translate(_BACK) + b"=="))
    size, _, rest = key[1:].partition(":")
    return rest[: int(size)]


def task_key(checkpoint_id: str, task_id: str, index: int = 0) -> str:
    """The key of a task's regular writes, or of one special write."""
    digest = hashlib.blake2b(task_id.encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return key_of(checkpoint_id) + _letters(digest) + (str(index) if index < 0 else "")


def start_key(checkpoint_id: str) -> str:
    """The key of the input of a run."""
    return key_of(checkpoint_id) + "$"


def again_key(checkpoint_id: str) -> str:
    """The key of the version that replaces a checkpoint."""
    return key_of(checkpoint_id) + "!"


def start_task(value: Typed) -> Task:
    """The input of a run in the form of a write."""
    return Task("", "", (Write(0, START, value),))


def slots_of(
    store: Store, checkpoint_id: str, task: Task, added: Sequence[Added]
) -> tuple[Slot | None, list[Slot]]:
    """The slots of one call: that of the regular writes (None without), and those of the special ones."""
    regular = tuple([write for write in task.writes if write.idx >= 0])
    special = {write.idx: write for write in task.writes if write.idx < 0}
    first = None
    if regular:
        content = task._replace(writes=regular).to_bytes()
        first = sealed(store, task_key(checkpoint_id, task.id), content, added)
    more = [
        sealed(
            store,
            task_key(checkpoint_id, task.id, index),
            task._replace(writes=(write,)).to_bytes(),
            added,
        )
        for index, write in special.items()
    ]
    return first, more


def pending(
    tasks: Mapping[str, Stored], start: str, spans: Spans, serde: Any, only: str | None = None
) -> list[tuple[str, str, Any]]:
    """The pending writes, in the order in which a step applies them. only: those of one channel."""
    found: list[tuple[tuple[str, str, int], str, Typed]] = []
    for key, stored in tasks.items():
        task = stored.read(spans) if key != start else None
        if task is None:
            continue
        for index, channel, value, path in task.writes:
            if only in (None, channel):
                order = (task.path if path is None else path, task.id, index)
                found.append((order, channel, value))
    found.sort(key=lambda each: each[0])
    return [(order[1], channel, serde.loads_typed(value)) for order, channel, value in found]


def sealed(store: Store, key: str, content: bytes, added: Sequence[Added] = ()) -> Slot:
    """A slot with this content, written near items that were just added when that is much shorter."""
    data = near_items(content, added)
    payload = store.seal(data or _PLAIN + content, WHERE)
    return Slot(kind=KIND, key=key, payload=payload.data, key_id=payload.key_id)


def near_items(content: bytes, added: Sequence[Added]) -> bytes | None:
    """The content as its difference from items that were just added; None where that is not much shorter."""
    if len(content) < _WORTH:
        return None
    best: bytes | None = None
    for each in added:
        if sum(map(len, each.items)) <= MOST and shares(content, each.items):
            data = shrink(content, beside(each.items))
            place = b"".join(map(number, (each.log, each.start, len(each.items))))
            if best is None or len(data) < len(best):
                best = _NEAR + place + data
    return best if best and len(best) < 0.5 * len(_ALONE.shrink(content)) else None


def shares(content: bytes, items: Sequence[bytes]) -> bool:
    """Whether some bytes from within the items stand in the content: a look costs far less than to compress."""
    for item in items:
        for part in (1, 2, 3):
            at = len(item) * part // 4
            if item[at : at + _PROBE] in content:
                return True
    return False


def opened(store: Store, slot: Slot) -> Stored:
    """What a slot holds. Raises CorruptionError."""
    data = store.open(slot.payload, WHERE, slot.key_id)
    if data[:1] == _PLAIN:
        return Stored(data[1:])
    if data[:1] == _NEAR:
        log, at = read_number(data, 1)
        start, at = read_number(data, at)
        count, at = read_number(data, at)
        return Stored(data[at:], Range(log, start, start + count))
    raise CorruptionError("a pending write is damaged")


def number(value: int) -> bytes:
    """A number in groups of seven bits, the lowest first (LEB128)."""
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """The number at a position, and the position behind it. Raises CorruptionError."""
    value = shift = 0
    while at < len(data) and shift < 63:
        group = data[at]
        value, shift, at = value | (group & 127) << shift, shift + 7, at + 1
        if group < 128:
            return value, at
    raise CorruptionError("a pending write is damaged")


def beside(items: Sequence[bytes]) -> bytes:
    """What a slot is written near to: what stands in most of them, and some items."""
    return b"".join((_WORDS, *items))


def _letters(data: bytes) -> str:
    return b64encode(data).rstrip(b"=").translate(_LETTERS).decode()
