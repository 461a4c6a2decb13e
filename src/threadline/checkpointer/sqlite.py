"""`SqliteCheckpointer`: a file. For one machine, and the default."""

from __future__ import annotations

import os
from typing import Literal

from threadline.backends.sqlite import SqliteBackend
from threadline.caches.local import LocalCache
from threadline.checkpointer.base import BaseCheckpointer, checked_timeout
from threadline.checkpointer.messages import projection
from threadline.codec.envelope import Codec
from threadline.history.retention import RetentionPolicy


class SqliteCheckpointer(BaseCheckpointer):
    """Keeps state, messages and threads in an SQLite file, which several processes may share.

    path: the file; made with its folder when missing, readable by its owner only. durability: "strict" (default; a
    put that returned survives the power failing) or "relaxed" (it survives the process being killed; the last few
    commits may go with the power). timeout: seconds in which every call ends, default 10. Other arguments: see
    `BaseCheckpointer`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["strict", "relaxed"] = "strict",
        timeout: float = 10.0,
        state_class: type | None = None,
        require_user: bool = False,
        require_base: bool = False,
        retention: RetentionPolicy | None = None,
    ) -> None:
        if durability not in ("strict", "relaxed"):
            raise ValueError(f'durability must be "strict" or "relaxed", not {durability!r}')
        backend = SqliteBackend(
            path,
            synchronous="FULL" if durability == "strict" else "NORMAL",
            timeout=checked_timeout(timeout),
            projection=projection(Codec()),
        )
        super().__init__(
            backend,
            LocalCache(),
            state_class=state_class,
            require_user=require_user,
            require_base=require_base,
            retention=retention,
        )
