"""`InMemoryCheckpointer`: everything in this process. For development, tests and demos."""

from __future__ import annotations

from threadline.backends.memory import MemoryBackend
from threadline.caches.local import LocalCache
from threadline.checkpointer.base import BaseCheckpointer
from threadline.history.retention import RetentionPolicy


class InMemoryCheckpointer(BaseCheckpointer):
    """Keeps state, messages and threads in memory, with the same promises as a store but that of surviving.

    Arguments: see `BaseCheckpointer`.
    """

    def __init__(
        self,
        *,
        state_class: type | None = None,
        require_user: bool = False,
        require_base: bool = False,
        retention: RetentionPolicy | None = None,
    ) -> None:
        super().__init__(
            MemoryBackend(),
            LocalCache(),
            state_class=state_class,
            require_user=require_user,
            require_base=require_base,
            retention=retention,
        )
