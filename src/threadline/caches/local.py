"""A cache in this process: the states read or put last, bounded by number and by bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict

from threadline.backend import Known
from threadline.cache import Cached
from threadline.cache_protocol import Kept, Rule, Write, decide

#: Most states kept, and most bytes of them.
ENTRIES, BYTES = 1024, 64 * 1024 * 1024


class LocalCache:
    """Least recently used states, shared by the threads of a process.

    `max_entries`: states, default 1,024. `max_bytes`: roughly the memory of their JSON, and of what reads
    of them leave for the next, default 64 MB; a state larger than a quarter of it is not kept.
    """

    def __init__(self, max_entries: int = ENTRIES, max_bytes: int = BYTES) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[bytes, bytes], tuple[Cached, int]] = OrderedDict()
        self._bytes = 0

    async def get(self, key: bytes, ns: bytes) -> Cached | None:
        """What is kept for this thread and namespace."""
        with self._lock:
            kept = self._kept.get((key, ns))
            if kept is None:
                return None
            self._kept.move_to_end((key, ns))
            return kept[0]

    async def publish(
        self, key: bytes, ns: bytes, cached: Cached, refuted: Known | None = None
    ) -> None:
        """Keep this unless something newer of the same incarnation is kept."""
        size = int(getattr(cached.content, "size", 1024))
        with self._lock:
            old = self._kept.get((key, ns))
            kept = Kept(old[0].known) if old else None
            rule = decide(kept, False, Write(cached.known, refuted=refuted))
            if rule is Rule.IGNORE:
                return
            if rule is Rule.TOUCH and old is not None:
                newest = max(old[0].validated_at, cached.validated_at)
                cached = old[0]._replace(validated_at=newest)
            self._forget((key, ns))
            if size > self._max_bytes // 4:
                return
            self._kept[key, ns] = (cached, size)
            self._bytes += size
            while len(self._kept) > self._max_entries or self._bytes > self._max_bytes:
                self._forget(next(iter(self._kept)))

    async def drop(self, key: bytes, ns: bytes | None) -> None:
        """Forget a namespace, or the whole thread (`ns` None)."""
        with self._lock:
            for place in [p for p in self._kept if p[0] == key and ns in (None, p[1])]:
                self._forget(place)

    def _forget(self, place: tuple[bytes, bytes]) -> None:
        old = self._kept.pop(place, None)
        if old is not None:
            self._bytes -= old[1]
