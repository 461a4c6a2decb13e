"""The skeletons that documents are written near: items of log 0, read once and remembered by this process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from threading import Lock

from threadline import CorruptionError
from threadline.adapters.langgraph.document import FIELDS, Skeleton, SkeletonAt
from threadline.adapters.langgraph.spans import Place, Spans
from threadline.store import Row, Store, joined

#: How many are remembered.
SKELETONS = 1000


class Skeletons:
    """The skeletons of one store, by where they are; the least recent are forgotten."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, Lock()
        self._kept: OrderedDict[tuple[Place, SkeletonAt], bytes] = OrderedDict()

    def get(self, place: Place, at: SkeletonAt) -> bytes | None:
        """The content of one that is remembered."""
        with self._lock:
            return self._kept.get((place, at))

    def put(self, place: Place, skeleton: Skeleton) -> None:
        """Remember one."""
        with self._lock:
            self._kept[place, skeleton.at] = skeleton.content
            self._kept.move_to_end((place, skeleton.at))
            while len(self._kept) > SKELETONS:
                self._kept.popitem(last=False)

    async def read(
        self, place: Place, wanted: Iterable[SkeletonAt], beside: Sequence[Row]
    ) -> dict[SkeletonAt, bytes]:
        """The content of some; none of those that are damaged or gone. beside: rows that were read already and have
        them, if any were."""
        known = {at: self.get(place, at) for at in wanted}
        if missing := [at for at, content in known.items() if content is None]:
            ranges = joined([at.range for at in missing])
            spans = Spans(self._store, beside or await self._store.aread(place.config, ranges))
            for at in missing:
                with suppress(CorruptionError):
                    (content,) = spans.items(FIELDS, [(at.position, at.position + 1)])
                    if at.fits(content):
                        known[at] = content
                        self.put(place, Skeleton(at, content))
        return {at: content for at, content in known.items() if content is not None}
