"""The objects of lists as this process last put or gave them: what is still the same need not be encoded to know it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from operator import is_
from threading import Lock
from typing import Any, NamedTuple

from threadline.adapters.langgraph.copies import Read
from threadline.adapters.langgraph.spans import Place
from threadline.store import Snapshot, Watch

#: In which put of the same objects a long list is watched: taking a watch costs as much as encoding it two or three
#: times. One of a few objects is watched at once.
WORTH_A_WATCH, FEW = 4, 16
#: Of how many checkpoints the objects are held on to, and how many bytes they may be stored in.
CHECKPOINTS, BYTES = 1000, 8 << 20


class Seen(NamedTuple):
    """The objects of a list, and in how many puts of a row they were the same. `copies`: what those held that the
    saver made; `watch`: the others, which stand at `rest`. Without a watch nothing is known but the objects."""

    objects: tuple[Any, ...]
    size: int
    times: int
    watch: Watch | None = None
    rest: tuple[int, ...] = ()
    copies: Snapshot | None = None

    @classmethod
    def of(cls, value: Sequence[Any], size: int, before: Seen | None) -> Seen:
        """A list that was just encoded, to so many bytes."""
        same = before and len(value) >= len(before.objects) and _begins(value, before.objects)
        times = before.times + 1 if before and same else 1
        watched = times >= WORTH_A_WATCH or len(value) <= FEW
        watch = Watch.of(value) if watched else None
        return cls(tuple(value), size, times, watch, tuple(range(len(value))) if watch else ())

    @classmethod
    def given(cls, read: Read, size: int) -> Seen | None:
        """A list that the saver is about to give; None where it did not make most of the objects."""
        if read.copies is None:
            return None
        made = set(map(id, read.copies.objects))
        rest = tuple([at for at, each in enumerate(read.values) if id(each) not in made])
        if len(rest) > FEW:
            return None
        watch = Watch.of([read.values[at] for at in rest])
        return cls(tuple(read.values), size, 1, watch, rest, read.copies.snapshot())

    def begins(self, value: Sequence[Any]) -> bool:
        """Whether a list certainly begins with these objects, none of them edited."""
        return (
            self.watch is not None
            and len(value) >= len(self.objects)
            and _begins(value, self.objects)
            and (self.copies is None or self.copies.unchanged())
            and not self.watch.suspects([value[at] for at in self.rest])
        )

    def grown(self, value: Sequence[Any], size: int) -> Seen:
        """With the objects behind these, when the list begins with these."""
        rest = (*self.rest, *range(len(self.objects), len(value)))
        watch = self.watch
        if watch is not None and len(watch) < len(rest):
            watch = watch.updated([value[at] for at in rest], [])
        return Seen(tuple(value), size, self.times + 1, watch, rest, self.copies)


def _begins(value: Sequence[Any], objects: Sequence[Any]) -> bool:
    return all(map(is_, objects, value))


class Sights:
    """What was seen of the lists of checkpoints, by place and digest; the least recent are let go."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[tuple[Place, bytes], Mapping[str, Seen]] = OrderedDict()
        self._size = 0

    def get(self, place: Place, digest: bytes | None) -> Mapping[str, Seen]:
        """The lists of a checkpoint."""
        with self._lock:
            return self._kept.get((place, digest or b""), {})

    def put(
        self, place: Place, digest: bytes, seen: Mapping[str, Seen], instead: bytes | None = None
    ) -> None:
        """Remember the lists of a checkpoint, instead of those of another."""
        with self._lock:
            for old in (digest, instead or b""):
                self._size -= _size(self._kept.pop((place, old), {}))
            if seen:
                self._kept[place, digest] = seen
                self._size += _size(seen)
            while self._size > BYTES or len(self._kept) > CHECKPOINTS:
                self._size -= _size(self._kept.popitem(last=False)[1])

    def forget(self, place: Place, *, thread: bool = False) -> None:
        """Forget a namespace, or its whole thread."""
        with self._lock:
            for key in list(self._kept):
                if key[0] == place or (thread and key[0].thread_id == place.thread_id):
                    self._size -= _size(self._kept.pop(key))


def _size(seen: Mapping[str, Seen]) -> int:
    return sum(each.size for each in seen.values())
