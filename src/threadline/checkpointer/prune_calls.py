"""The public methods of retention, and the policy that a checkpointer applies by itself, beside its puts."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor, wait

from threadline import clock
from threadline.checkpointer.calls import Calls, read_limit
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.prune import PruneReport, Prunes
from threadline.checkpointer.reads import Reads
from threadline.checkpointer.states import States, _Put
from threadline.checkpointer.sync import face
from threadline.config import Address, Config, read_config
from threadline.history.retention import RetentionPolicy
from threadline.inline import is_inline, run_inline
from threadline.model import Checkpoint
from threadline.telemetry import operation

#: A thread is looked at when it has grown by a quarter of its policy's bound: at least and at most so many versions.
SOONEST, LATEST = 8, 64
#: After a prune that took t seconds its thread is left alone for this many times t.
REST = 20
#: How many threads may wait to be looked at, and of how many it is known when they were.
WAITING, KNOWN = 64, 10_000
#: How long, in seconds, a release waits for prunes that are under way before it stops them; and then for the last
#: commit.
GRACE, LAST = 2.0, 10.0

_log = logging.getLogger("threadline.retention")


class PruneCalls(Calls):
    """Taking away what a policy does not keep."""

    @operation
    async def aprune(
        self,
        config: Config,
        policy: RetentionPolicy | None = None,
        *,
        dry_run: bool = False,
        batch_size: int = 500,
    ) -> PruneReport:
        """Drop the checkpoints that a policy does not keep, with the rows and large fields that only they needed.

        config: with a `thread_id` that thread, every namespace of it (a `namespace`: only that one); without, all
        threads of its tenant, app and user, page by page, the most recently active first. policy: default: that of
        the checkpointer. dry_run: write nothing, and report what would go. batch_size: at most so many checkpoints
        in one commit, default 500; writers go on between commits, and what a kept checkpoint needs stays.

        Every kept version reads back as before. The report counts what was taken. After a crash, call it again.
        A framework's checkpoints (those with ids of their own) may need one another: of many threads they are kept, of
        one thread a policy that could drop them is refused; their adapter prunes them.
        Raises TypeError, ValueError; ConflictError when other prunes, rollbacks and redactions always come first.
        """
        address = read_config(config, thread=False, write=True)
        policy = self._retention if policy is None else policy
        if policy is None:
            raise ValueError("prune needs a policy: give one, or make the checkpointer with one")
        if not isinstance(policy, RetentionPolicy):
            raise TypeError(f"policy must be a RetentionPolicy, not {type(policy).__name__}")
        if read_limit(batch_size, "batch_size") is None:
            raise TypeError("batch_size must be an int, not NoneType")
        return await self._prunes.prune(
            address,
            policy,
            namespace=address.namespace or None,
            dry_run=dry_run,
            batch_size=batch_size,
        )

    prune = face(aprune)


class Keeper:
    """Applies a policy to the threads that are put to: in a thread of its own, or (a backend that waits on a network)
    as a task. A put only says that it was made; what fails here is logged and tried again later."""

    def __init__(self, engine: Engine, prunes: Prunes, policy: RetentionPolicy) -> None:
        bound = policy.max_per_thread or policy.keep_last or 4 * LATEST
        self._every = min(max(bound // 4, SOONEST), LATEST)
        self._engine, self._prunes, self._policy = engine, prunes, policy
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._pid, self._stopped = os.getpid(), False
        self._executor: ThreadPoolExecutor | None = None
        self._waiting: dict[Address, Future[None]] = {}
        self._owed: set[Address] = set()
        self._rest: OrderedDict[Address, float] = OrderedDict()

    def put(self, address: Address, version: int) -> None:
        """A version was put. After every so many of a namespace, whoever put them, it is looked at."""
        if version % self._every or not self._policy.bounded:
            return
        names = (address.tenant, address.app, address.thread_id, address.namespace)
        address = Address(*names, address.user)
        with self._lock:
            if self._pid != os.getpid():
                self._begin()  # In a forked child: the thread of the parent is not here.
            resting = clock.monotonic() < self._rest.get(address, 0.0)
            if resting or address in self._waiting or len(self._waiting) >= WAITING:
                if len(self._owed) < WAITING:
                    self._owed.add(address)
                return
            future = self._start(address)
        if future is not None:
            future.add_done_callback(lambda _: self._done(address))

    def _start(self, address: Address) -> Future[None] | None:
        if self._stopped:
            return None
        self._owed.discard(address)
        try:
            if self._engine.backend.suspends:
                loop = asyncio.get_running_loop()
                future = asyncio.run_coroutine_threadsafe(self._look(address), loop)
            else:
                if self._executor is None:
                    self._executor = ThreadPoolExecutor(1, "threadline-retention")
                future = self._executor.submit(lambda: run_inline(self._look(address)))
        except RuntimeError:
            return None  # The interpreter is ending.
        self._waiting[address] = future
        return future

    async def _look(self, address: Address) -> None:
        begun = clock.monotonic()
        try:
            await self._prunes.prune(
                address, self._policy, namespace=address.namespace, stop=lambda: self._stopped
            )
        except Exception as error:  # noqa: BLE001 - nobody waits for it; the next look tries again
            kind = type(error).__name__
            _log.warning("retention of thread %r failed: %s", address.thread_id, kind)
        ended = clock.monotonic()
        with self._lock:
            self._rest[address] = ended + REST * (ended - begun)
            self._rest.move_to_end(address)
            while len(self._rest) > KNOWN:
                self._rest.popitem(last=False)

    def _done(self, address: Address) -> None:
        with self._lock:
            self._waiting.pop(address, None)

    async def close(self) -> None:
        """Look once more where it was put off, let that go on for a moment, then stop it; the next prune finds what
        is left."""
        with self._lock:
            if self._pid != os.getpid():
                self._begin()
            futures = list(self._waiting.values())
            for address in list(self._owed):
                if address not in self._waiting and (future := self._start(address)):
                    futures.append(future)
        await _settle(futures, GRACE)
        self._stopped = True
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        await _settle(futures, LAST)


async def _settle(futures: list[Future[None]], timeout: float) -> None:
    if is_inline():
        wait(futures, timeout)
    elif futures:
        await asyncio.to_thread(wait, futures, timeout)


class KeptStates(States):
    """Putting states, and telling the keeper of each."""

    def __init__(self, engine: Engine, reads: Reads, keeper: Keeper) -> None:
        super().__init__(engine, reads)
        self._keeper = keeper

    async def _write(self, put: _Put) -> Checkpoint:
        checkpoint = await super()._write(put)
        self._keeper.put(put.address, checkpoint.version)
        return checkpoint
