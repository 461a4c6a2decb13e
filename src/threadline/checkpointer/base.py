"""`BaseCheckpointer`: what users call. Its methods stand in groups (`state_calls`, `message_calls`, `thread_calls`):
each reads its config, checks its arguments, and hands on to a pipeline.

The async methods are the ones to override; each sync face calls its async twin through `self`. Pipelines and
backends never see each other's insides: a checkpointer is a backend, perhaps a cache, and the same code on top.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Any, Self

from threadline.backend import Backend
from threadline.cache import Cache, SharedCache
from threadline.checkpointer.checkpoints import Checkpoints
from threadline.checkpointer.copying import Copying
from threadline.checkpointer.counting import Counting
from threadline.checkpointer.diff_calls import DiffCalls
from threadline.checkpointer.diffs import Diffs
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.erasure import Erasure
from threadline.checkpointer.exporting import Exporter
from threadline.checkpointer.history_calls import HistoryCalls
from threadline.checkpointer.importing import Importer
from threadline.checkpointer.message_calls import MessageCalls
from threadline.checkpointer.messages import Messages
from threadline.checkpointer.past import Past
from threadline.checkpointer.prune import Prunes
from threadline.checkpointer.prune_calls import Keeper, KeptStates, PruneCalls
from threadline.checkpointer.reads import Reads
from threadline.checkpointer.redact import Redaction
from threadline.checkpointer.session_calls import SessionCalls
from threadline.checkpointer.state_calls import StateCalls
from threadline.checkpointer.states import States
from threadline.checkpointer.store import Store
from threadline.checkpointer.sync import face
from threadline.checkpointer.thread_calls import ThreadCalls
from threadline.checkpointer.threads import Threads
from threadline.checkpointer.transfer_calls import TransferCalls
from threadline.checkpointer.verify import Verifier
from threadline.history.retention import RetentionPolicy
from threadline.telemetry import operation

#: How long `arelease` waits for tasks that were started and have not finished, in seconds.
RELEASE_WAIT = 10.0
#: The largest `max_stale`, in seconds.
MOST_STALE = 60.0


class BaseCheckpointer(
    StateCalls,
    HistoryCalls,
    DiffCalls,
    PruneCalls,
    MessageCalls,
    ThreadCalls,
    TransferCalls,
    SessionCalls,
):
    """The session memory of agents, on any backend.

    `config` is a plain dict that is never written to: `thread_id`; optional `user_id` (str or int), `tenant`, `app`,
    `namespace`, `run_id`, `state_class`; and `version`, `checkpoint_id` or `name` to address the past. Without a
    `user_id` a call sees every thread; with one that is not the owner's, a thread does not exist.

    state_class: the class that states come back as when the config names none; default: the class they were put
    as in this process, else AgentState or dict. require_user: refuse calls without a `user_id`. require_base: refuse
    to put a state that was not loaded from its thread. retention: what to keep of each thread that is put to, applied
    beside the puts after every few versions (a quarter of the policy's bound, 8 to 64), so that a thread may for a
    while hold more; default None: everything is kept. shared: a cache that processes share, for a backend behind a
    network; max_stale: for how many seconds (at most 60) `aget_state_cache` may serve a copy without asking the store,
    default 0: it always asks.

    Errors of every method: TypeError and ValueError for bad input, before anything is written; `UnavailableError`
    (a builtin ConnectionError) when the store cannot be reached; `ReleasedError` after `arelease`.
    """

    def __init__(
        self,
        backend: Backend,
        cache: Cache | None = None,
        *,
        shared: SharedCache | None = None,
        max_stale: float = 0.0,
        state_class: type | None = None,
        require_user: bool = False,
        require_base: bool = False,
        retention: RetentionPolicy | None = None,
    ) -> None:
        if not isinstance(retention, RetentionPolicy | None):
            raise TypeError(f"retention must be a RetentionPolicy, not {type(retention).__name__}")
        if not isinstance(state_class, type | None):
            raise TypeError(f"state_class must be a class, not {state_class!r}")
        self._engine = Engine(
            backend,
            cache,
            shared=shared,
            max_stale=_max_stale(max_stale),
            state_class=state_class,
            require_user=require_user,
            require_base=require_base,
        )
        self._reads = Reads(self._engine)
        self._prunes, self._retention = Prunes(self._engine), retention
        self._keeper = Keeper(self._engine, self._prunes, retention) if retention else None
        self._states = (
            KeptStates(self._engine, self._reads, self._keeper)
            if self._keeper
            else States(self._engine, self._reads)
        )
        self._checkpoints = Checkpoints(self._engine, self._reads)
        self._diffs = Diffs(self._engine)
        self._messages = Messages(self._engine)
        self._threads = Threads(self._engine)
        self._erasure = Erasure(self._engine)
        self._redaction = Redaction(self._engine)
        self._past = Past(self._engine, self._reads)
        self._copying = Copying(self._engine, self._reads)
        self._verifier = Verifier(self._engine)
        self._exporter = Exporter(self._engine)
        self._importer = Importer(self._engine)
        self._counting = Counting(self._engine)
        #: The floor for adapters: batches, reads, scans.
        self.store = Store(self._engine)

    @operation
    async def asetup(self) -> Self:
        """Make the store ready: create or migrate its schema. Called by the first use too; safe to repeat."""
        await self._engine.ready()
        return self

    @operation
    async def arelease(self) -> None:
        """Wait (at most 10 s) for calls of this checkpointer that were started as tasks, then close what it opened."""
        if ours := _tasks_of(self):
            await asyncio.wait(ours, timeout=RELEASE_WAIT)
        if self._keeper is not None:
            await self._keeper.close()
        await self._engine.release()

    def release(self) -> None:
        """`arelease` for sync code. Raises RuntimeError inside a loop on which calls of this checkpointer still run."""
        if _tasks_of(self):
            raise RuntimeError(
                "calls of this checkpointer run on this thread's event loop, which a sync release cannot wait for: "
                "`await arelease()`, the async method, instead"
            )
        self._run(self.arelease())

    async def __aenter__(self) -> Self:
        await self.asetup()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.arelease()

    def __enter__(self) -> Self:
        self.setup()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    @operation
    async def ahealth(self) -> dict[str, Any]:
        """Whether the store answers, and what it is: `{"ok", "backend", ...}`; never raises for a store that is
        down, but says so (`"ok": False, "error": ...`)."""
        try:
            info = await self._engine.ready()
            (counts,) = await self._engine.backend.measure(None)
        except ConnectionError as error:
            return {"ok": False, "backend": self._engine.backend.name, "error": str(error)}
        shared = self._engine.shared
        cache = {} if shared is None else {"cache": shared.facts()}
        return {"ok": True, "backend": self._engine.backend.name, **info.facts, **counts, **cache}

    setup = face(asetup)
    health = face(ahealth)


def _max_stale(value: float) -> float:
    if not 0 <= _seconds(value, "max_stale") <= MOST_STALE:
        raise ValueError(f"max_stale must be 0 to {MOST_STALE:.0f} seconds, not {value}")
    return float(value)


def checked_timeout(value: float) -> float:
    """The seconds in which every call is to end. Raises TypeError, ValueError for what can be none."""
    if not 0 < _seconds(value, "timeout") < math.inf:
        raise ValueError(f"timeout must be more than 0 seconds, and finite, not {value}")
    return float(value)


def _seconds(value: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be seconds, not {type(value).__name__}")
    return value


def _tasks_of(checkpointer: BaseCheckpointer) -> list[asyncio.Task[Any]]:
    """The tasks of this loop that run a method of this checkpointer, begun or not."""
    try:
        tasks = asyncio.all_tasks()
        current = asyncio.current_task()
    except RuntimeError:  # No loop is running.
        return []
    return [
        task for task in tasks if task is not current and _belongs(task.get_coro(), checkpointer)
    ]


def _belongs(coroutine: object, checkpointer: BaseCheckpointer) -> bool:
    frame = getattr(coroutine, "cr_frame", None)
    return frame is not None and frame.f_locals.get("self") is checkpointer
