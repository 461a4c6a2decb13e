"""A run's lease of a thread: one run at a time, and a run that was overtaken cannot write.

The lease is a slot whose payload is the token of the run that holds it. It expires by the store's clock, so it can be
taken over when its holder died. Every write of the run carries the token in its config, and the store compares it in
the very commit (`Batch.requires_slots`): a holder that was paused, and woke up after another took over, is refused.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Literal

from threadline import clock
from threadline.backend import Slot, SlotPut, SlotQuery
from threadline.checkpointer.engine import LEASE, LEASE_KEY
from threadline.checkpointer.store import Store
from threadline.errors import LeaseHeldError, LeaseLostError, ThreadNotFoundError
from threadline.inline import is_inline

Strategy = Literal["reject", "wait"]
#: Between two attempts to get a lease, in seconds: at first, and at most.
_FIRST, _MOST = 0.02, 1.0


class Lease:
    """One run's lease. `token`: what stands in `config["lease"]`. `fence`: a number that grows with every lease of the
    thread, for other systems that want to tell a late writer; 0 before it was acquired. `lost`: the error, once it was
    found to be lost."""

    def __init__(self, store: Store, config: dict[str, Any], ttl: float) -> None:
        self._store, self._config, self.ttl = store, config, ttl
        self.token, self.fence = clock.new_id(), 0
        self.lost: LeaseLostError | None = None
        self._stop: threading.Event | None = None
        self._task: asyncio.Task[None] | None = None

    async def acquire(self, strategy: Strategy, timeout: float) -> None:
        """Get the lease. Raises LeaseHeldError when another run holds it ("wait": still, after `timeout` seconds)."""
        deadline, pause = clock.monotonic() + timeout, _FIRST
        while not await self._try():
            left = deadline - clock.monotonic()
            if strategy == "reject" or left <= 0:
                thread = self._config["thread_id"]
                waited = "" if strategy == "reject" else f" and kept it for {timeout:g} s"
                raise LeaseHeldError(
                    f"another run holds the lease of thread {thread!r}{waited}: wait for it, or come back later",
                    thread_id=thread,
                )
            await _pause(min(pause, left))
            pause = min(2 * pause, _MOST)

    async def renew(self) -> None:
        """Hold it for another `ttl` seconds. Raises LeaseLostError."""
        await self._write(SlotPut(self._slot(), ttl=self._ttl_us))

    async def release(self) -> None:
        """Give it back; nothing happens when it was lost."""
        self._stop_renewing()
        try:
            await self._write(SlotPut(self._slot(), "delete"))
        except (LeaseLostError, ThreadNotFoundError):
            return

    async def held(self) -> bool:
        """Whether the store still has it for this run's."""
        found = await self._store.aread(self._config, SlotQuery(LEASE, prefix=LEASE_KEY))
        return any(slot.key == LEASE_KEY and slot.payload == self._payload for slot in found)

    def keep(self) -> None:
        """Renew it beside the run, three times in each `ttl`, until it is released: by a task of the running loop, or,
        for a sync run, by a thread."""
        if is_inline():
            self._stop = threading.Event()
            name = f"threadline-lease-{self.token[-6:]}"
            threading.Thread(target=self._renew_in_thread, name=name, daemon=True).start()
        else:
            self._task = asyncio.get_running_loop().create_task(self._renew_in_task())

    async def _try(self) -> bool:
        put = SlotPut(self._slot(), "if_absent", ttl=self._ttl_us)
        batch = await self._store.abatch(self._config, "lease", create=True, slots=(put,))
        commit = await self._store.acommit(batch)
        self.fence = commit.rev
        return commit.slots == (True,)

    async def _write(self, put: SlotPut) -> None:
        config = {**self._config, "lease": self.token}
        batch = await self._store.abatch(config, "lease", slots=(put,))
        await self._store.acommit(batch)

    async def _renew_in_task(self) -> None:
        while self.lost is None:
            await asyncio.sleep(self.ttl / 3)
            await self._renew_once()

    def _renew_in_thread(self) -> None:
        stop = self._stop
        while stop is not None and self.lost is None and not stop.wait(self.ttl / 3):
            self._store._run(self._renew_once())

    async def _renew_once(self) -> None:
        try:
            await self.renew()
        except LeaseLostError as error:
            self.lost = error
        except ThreadNotFoundError as error:
            self.lost = LeaseLostError(str(error), thread_id=self._config["thread_id"])
        except ConnectionError:
            return  # The next time may do; if none does, the lease expires.

    def _stop_renewing(self) -> None:
        if self._stop is not None:
            self._stop.set()
        if self._task is not None:
            # The loop that it runs on need not be this one.
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
            self._task = None

    @property
    def _payload(self) -> bytes:
        return self.token.encode()

    @property
    def _ttl_us(self) -> int:
        return int(self.ttl * 1_000_000)

    def _slot(self) -> Slot:
        return Slot(kind=LEASE, key=LEASE_KEY, payload=self._payload)


async def _pause(seconds: float) -> None:
    if is_inline():
        threading.Event().wait(seconds)
    else:
        await asyncio.sleep(seconds)
