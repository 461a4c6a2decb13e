"""Writes that are settled: what tasks wrote on a checkpoint, kept in the document of the version after it. Pure.

Pending writes are slots while their checkpoint is the newest. The version after it stores the same messages as items of
its lists; from then on its document keeps the writes, as their difference from those items, and the slots go in the
same commit. So a message is written in full once for the write and once for good, and no row stays for either.

They belong to the checkpoint of the version just before, if that one's id is the document's parent. Whoever takes
one of the two versions away writes them back as slots first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ormsgpack

from threadline import CorruptionError
from threadline.adapters.langgraph.document import Document, plain_id
from threadline.adapters.langgraph.plan import Added
from threadline.adapters.langgraph.spans import Spans
from threadline.adapters.langgraph.writes import (
    MOST,
    Stored,
    Task,
    beside,
    number,
    read_number,
    shares,
    start_key,
    task_key,
)
from threadline.store import CheckpointRow, Range, expand, shrink

#: What a document takes of the writes on the checkpoint before it, in bytes. It is read with every version.
_ROOM = 512


class Settled(NamedTuple):
    """The input of a run and the writes of tasks, as their difference from the items of some ranges."""

    near: tuple[Range, ...]
    data: bytes

    @classmethod
    def from_bytes(cls, packed: bytes) -> Settled:
        """What a document holds. Raises CorruptionError."""
        near: list[Range] = []
        count, at = read_number(packed, 0)
        for _ in range(count):
            log, at = read_number(packed, at)
            start, at = read_number(packed, at)
            length, at = read_number(packed, at)
            near.append(Range(log, start, start + length))
        return cls(tuple(near), packed[at:])

    def slots(self, id: str, items: Sequence[bytes]) -> dict[str, bytes]:
        """The contents of the slots that there were on the checkpoint `id`, by their keys, given the items of `near`.
        Raises CorruptionError."""
        try:
            start, *tasks = ormsgpack.unpackb(expand(self.data, beside(items)))
        except (ormsgpack.MsgpackDecodeError, TypeError, ValueError) as error:
            raise CorruptionError(f"some pending writes are damaged: {error!r}") from None
        found = {task_key(id, Task.from_bytes(task).id): task for task in tasks}
        return found if start is None else {start_key(id): start, **found}


def settle(id: str, contents: Mapping[str, bytes], added: Sequence[Added]) -> bytes:
    """The contents of slots on the checkpoint `id`, by their keys, as a document holds them; empty where they have
    little in common with the items that were just added."""
    near = [
        each
        for each in added
        if sum(map(len, each.items)) <= MOST
        and any(shares(content, each.items) for content in contents.values())
    ]
    start = contents.get(start_key(id))
    tasks = [content for key, content in contents.items() if key != start_key(id)]
    items = [item for each in near for item in each.items]
    data = shrink(ormsgpack.packb([start, *tasks]), beside(items))
    places = (place for each in near for place in (each.log, each.start, len(each.items)))
    packed = b"".join((*map(number, (len(near), *places)), data))
    return packed if len(packed) <= _ROOM else b""


def settled_on(row: CheckpointRow, after: Document | None) -> Settled | None:
    """What the document of the version after a checkpoint has of the writes on it."""
    if after is None or not after.settled or after.parent != plain_id(row.ext_id or ""):
        return None
    return Settled.from_bytes(after.settled)


def unsettled(
    id: str, slots: Mapping[str, Stored], settled: Settled | None, spans: Spans
) -> dict[str, Stored]:
    """The slots on a checkpoint and what is settled of them together. Where both have writes of a task, those of the
    slot came later, and complete the others; an input that came later replaces the other."""
    if settled is None:
        return dict(slots)
    try:
        items = [item for r in settled.near for item in spans.items(r.log, [(r.start, r.end)])]
    except (
        CorruptionError
    ):  # They were pruned: the writes count as never saved, like those of a slot.
        return dict(slots)
    before = settled.slots(id, items)
    found = {**{key: Stored(content) for key, content in before.items()}, **slots}
    for key in slots.keys() & before.keys() - {start_key(id)}:
        found[key] = Stored(before[key])
        if (later := slots[key].read(spans)) is not None:
            found[key] = Stored(Task.from_bytes(before[key]).completed(later).to_bytes())
    return found
