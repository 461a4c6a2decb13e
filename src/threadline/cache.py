"""The Cache port: bytes beside the store. The store decides, a cache only saves it from sending bytes.

A cache may lose, keep and delay as it likes: an entry is used only after the store has said that its
(incarnation, version) is the head, so a dead or lying cache can make a read slower and never wrong.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Cached(NamedTuple):
    """A state as it was read: the thread's incarnation, the version, the head and the content, as one object
    that is never mutated; `validated_at` is seconds on the monotonic clock when the store last confirmed it."""

    incarnation: bytes
    version: int
    content: object
    validated_at: float


class Cache(Protocol):
    """Three operations, best effort; none raises."""

    async def get(self, key: bytes, ns: bytes) -> Cached | None:
        """What is kept for this thread and namespace."""

    async def publish(self, key: bytes, ns: bytes, cached: Cached) -> None:
        """Keep this unless something newer of the same incarnation is kept."""

    async def drop(self, key: bytes, ns: bytes | None, incarnation: bytes | None = None) -> None:
        """Forget a namespace, or the whole thread (`ns` None); a dropped incarnation is never kept again."""
