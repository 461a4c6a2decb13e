"""The ports of the caches: copies beside the store. The store decides, a cache only saves it from sending bytes.

`Cache` is in this process and keeps opened states; `SharedCache` is behind a network, for many processes, and keeps
the rows that a state is read from. Either may lose, keep and delay as it likes: what it returns is used after the
store has said that it is the head, or (`aget_state_cache`) for a bounded time after. What may be kept is said by
`threadline.cache_protocol`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from threadline.backend import CheckpointRow, Head, Known


class Cached(NamedTuple):
    """A state as it was read: which head it is, the content as one object that is never mutated, and the seconds on
    the monotonic clock before which the store was last asked and confirmed it."""

    known: Known
    content: object
    validated_at: float


class Cache(Protocol):
    """A cache in this process. Best effort; nothing raises."""

    async def get(self, key: bytes, ns: bytes) -> Cached | None:
        """What is kept for this thread and namespace."""

    async def publish(
        self, key: bytes, ns: bytes, cached: Cached, refuted: Known | None = None
    ) -> None:
        """Keep this unless something newer of the same incarnation is kept. `refuted`: what the store has just
        contradicted, which gives way also to something older."""

    async def drop(self, key: bytes, ns: bytes | None) -> None:
        """Forget a namespace, or the whole thread (`ns` None)."""


class Found(NamedTuple):
    """What a shared cache answered. `head`: the rows, checked (None: it has none). `age`: seconds since the store
    confirmed them, by the cache's clock (None: not known). `now`: that clock, read before it answered: to be handed
    back with what the store says after."""

    head: Head | None
    age: float | None
    now: int


class SharedCache(Protocol):
    """A cache that processes share. Best effort: nothing raises, and every call ends by a short timeout."""

    #: What happened so far.
    counts: CacheCounts

    def open(self, salt: bytes) -> None:
        """Take the store's salt, from which the keys and the marks of authenticity are made. No input or output."""

    async def get(self, key: bytes, ns: bytes) -> Found | None:
        """What is kept; None when the cache did not answer. What is damaged or forged is dropped and counted."""

    async def publish(
        self,
        key: bytes,
        ns: bytes,
        head: Head,
        *,
        base: CheckpointRow | None = None,
        refuted: Known | None = None,
        confirmed: int | None = None,
    ) -> None:
        """Keep a head. With `base`, the version of the same life and `gc` that it was computed from, `head` holds
        only the rows and blobs that are new, and is kept only where that version is. `refuted`: what the store has
        just contradicted. `confirmed`: `Found.now` of before the store was asked."""

    async def reject(self, key: bytes, ns: bytes) -> None:
        """What was returned turned out to be damaged: forget and count it."""

    async def stamp(self, key: bytes, ns: bytes, known: Known, confirmed: int) -> None:
        """The store has confirmed this head, when asked after `confirmed`."""

    async def floor(self, key: bytes, ns: bytes, floor: Known) -> None:
        """Forget what is not newer than this, and keep nothing older from now on."""

    async def drop(self, key: bytes, ns: bytes) -> None:
        """Forget a namespace."""

    async def erase(self, key: bytes, incarnation: bytes | None) -> None:
        """Forget a thread; this incarnation is not kept again."""

    async def close(self) -> None:
        """Let go of what this object opened."""

    def facts(self) -> dict[str, object]:
        """For `ahealth`: the counts, and whether the cache answers."""


@dataclass(slots=True)
class CacheCounts:
    """How often a shared cache was of use. hits: its copy was the head; stale: it was not; misses: it had none;
    poison: what it had was damaged, foreign or forged; errors: it did not answer, or refused; skipped: it was not
    asked, since it had not answered before."""

    hits: int = 0
    misses: int = 0
    stale: int = 0
    poison: int = 0
    errors: int = 0
    skipped: int = 0
