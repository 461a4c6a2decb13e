"""The copies of states that caches hold, as the pipelines see them: this process's own in front, a shared one behind.

A read takes a copy from here, asks the store about it, and tells what the store said; a put tells what it committed.
What is kept, trusted or thrown away is decided by `threadline.cache_protocol`; with no cache at all nothing is done.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from threadline import clock, telemetry
from threadline.backend import Batch, CheckpointRow, Head, Known, ThreadRow
from threadline.cache import Cache, Cached, SharedCache
from threadline.cache_protocol import Verdict, judge_copy, trusted
from threadline.checkpointer.snapshot import Snapshot, open_head
from threadline.codec.envelope import Codec
from threadline.errors import CorruptionError
from threadline.inline import is_inline


class Place(NamedTuple):
    """Which state: a thread and a namespace, and the thread's name for messages."""

    key: bytes
    ns: bytes
    thread_id: str


@dataclass(frozen=True, slots=True)
class Copy:
    """What the caches have of a state. `confirmed`: when the store was last asked and confirmed it, seconds on the
    monotonic clock. `shared`: it came from the shared cache, whose clock was at `now` when it was asked (None: it was
    not, or did not answer)."""

    snapshot: Snapshot | None = None
    confirmed: float = -math.inf
    shared: bool = False
    now: int | None = None

    @property
    def known(self) -> Known | None:
        """What the store is asked about."""
        return self.snapshot.known if self.snapshot else None


NONE = Copy()
#: Of how many lives this process remembers that they ended, or before which `gc` nothing of them is to be served; the
#: `gc` that stands for the end.
REMEMBERED, ERASED = 4096, 2**63


class Copies:
    """See the module. max_stale: seconds for which a copy may be served without asking the store, 0: never."""

    def __init__(
        self, local: Cache | None, shared: SharedCache | None, codec: Codec, max_stale: float
    ) -> None:
        self._local, self._shared, self._codec = local, shared, codec
        self._max_stale = max_stale
        self._gone: OrderedDict[bytes, int] = OrderedDict()
        self._looking: dict[tuple[asyncio.AbstractEventLoop, bytes, bytes], asyncio.Event] = {}

    # Reading ------------------------------------------------------------------------------------------

    async def near(self, place: Place) -> Copy:
        """The copy in this process."""
        cached = await self._local.get(place.key, place.ns) if self._local else None
        if cached is None or not isinstance(cached.content, Snapshot):
            return NONE
        return Copy(cached.content, cached.validated_at)

    @asynccontextmanager
    async def look(self, place: Place) -> AsyncIterator[Copy]:
        """The copy that there is, wherever. While a call is in here that found none in this process, others that look
        for the same state wait, and then ask the store about the copy that it brought."""
        copy = await self.near(place)
        if copy.snapshot is not None or is_inline():
            yield copy
            return
        at = (asyncio.get_running_loop(), place.key, place.ns)
        if (under_way := self._looking.get(at)) is not None:
            await under_way.wait()
            copy = await self.near(place)
            if copy.snapshot is not None:
                yield copy
                return
        done = self._looking[at] = asyncio.Event()
        try:
            yield await self._far(place)
        finally:
            done.set()
            if self._looking.get(at) is done:
                del self._looking[at]

    async def _far(self, place: Place) -> Copy:
        if self._shared is None:
            return NONE
        begun = clock.monotonic()
        found = await self._shared.get(place.key, place.ns)
        if found is None:
            return NONE
        if found.head is None:
            return Copy(now=found.now)
        try:
            snapshot = open_head(found.head, self._codec, place.thread_id)
        except CorruptionError:
            await self._shared.reject(place.key, place.ns)
            return Copy(now=found.now)
        # A negative age is a clock that went back, and tells nothing.
        known = found.age is not None and found.age >= 0
        confirmed = begun - found.age if known and found.age is not None else -math.inf
        return Copy(snapshot, confirmed, True, found.now)

    async def serve(self, place: Place, copy: Copy, user: str | None) -> Snapshot | None:
        """The copy's snapshot, if it may be served to this user without asking the store."""
        snapshot = copy.snapshot
        age = clock.monotonic() - copy.confirmed
        if snapshot is None or not trusted(age, self._max_stale, snapshot.owner, user):
            return None
        if snapshot.gc < self._gone.get(snapshot.incarnation, 0):
            return None  # This process knows better, whether or not the caches could be told.
        telemetry.note("cache", "trusted")
        if copy.shared and self._shared is not None:
            self._shared.counts.hits += 1
            await self._keep(place, snapshot, copy.confirmed)
        return snapshot

    async def settle(
        self, place: Place, copy: Copy, head: Head, *, user: str | None, begun: float
    ) -> Snapshot | None:
        """The state as the store has it, after it was asked about a copy at `begun` (monotonic) and said `head`."""
        verdict = judge_copy(head)
        telemetry.note("cache", _worth(copy, verdict))
        if copy.shared and self._shared is not None:
            if verdict is Verdict.SAME:
                self._shared.counts.hits += 1
            else:
                self._shared.counts.stale += 1
        if verdict is Verdict.SAME:
            await self._confirmed(place, copy, begun)
            return copy.snapshot
        if verdict is Verdict.GONE:
            if user is None and copy.snapshot is not None:  # Else it may only be another's.
                await self.drop(place.key, place.ns)
            return None
        snapshot = open_head(head, self._codec, place.thread_id)
        if snapshot is not None:
            await self._keep(place, snapshot, begun, copy.known)
        if self._shared is not None and copy.now is not None:
            refuted = copy.known if copy.shared else None
            await self._shared.publish(
                place.key, place.ns, head, refuted=refuted, confirmed=copy.now
            )
        return snapshot

    async def _confirmed(self, place: Place, copy: Copy, begun: float) -> None:
        if copy.snapshot is None or not (copy.shared or self._max_stale):
            return
        keep = self._keep if copy.shared else self._publish
        await keep(place, copy.snapshot, begun)
        old = begun - copy.confirmed > self._max_stale / 2
        if self._shared is not None and self._max_stale and copy.now is not None and old:
            await self._shared.stamp(place.key, place.ns, copy.snapshot.known, copy.now)

    # Writing ------------------------------------------------------------------------------------------

    async def committed(
        self,
        place: Place,
        snapshot: Snapshot,
        *,
        batch: Batch,
        parent: CheckpointRow | None,
        begun: float,
    ) -> None:
        """A put was committed, by a commit that began at `begun` (monotonic): what the batch wrote, computed from
        `parent`."""
        await self._keep(place, snapshot, begun)
        if self._shared is None or is_inline() or batch.checkpoint is None:
            return
        tenant, app, thread_id = batch.names
        thread = ThreadRow(
            key=place.key,
            tenant=tenant,
            app=app,
            thread_id=thread_id,
            user=snapshot.owner,
            incarnation=snapshot.incarnation,
            gc=snapshot.gc,
        )
        head = Head(
            thread=thread,
            head_version=snapshot.row.version,
            last_version=snapshot.last_version,
            marks=batch.marks,
            checkpoint=replace(snapshot.row, payload=batch.checkpoint.payload),
            rows=batch.rows + batch.merged,
            blobs=batch.blobs,
        )
        await self._shared.publish(place.key, place.ns, head, base=parent)

    async def _keep(
        self, place: Place, snapshot: Snapshot, confirmed: float, refuted: Known | None = None
    ) -> None:
        before = (await self.near(place)).snapshot
        if before is not None and before is not snapshot:
            snapshot.follows(before)
        await self._publish(place, snapshot, confirmed, refuted)

    async def grew(self, place: Place, snapshot: Snapshot) -> None:
        """A snapshot takes more memory than before: a read left something for the next. One that was dropped meanwhile
        stays away."""
        if (await self.near(place)).snapshot is snapshot:
            await self._publish(place, snapshot, -math.inf)

    async def _publish(
        self, place: Place, snapshot: Snapshot, confirmed: float, refuted: Known | None = None
    ) -> None:
        if self._local is not None:
            cached = Cached(snapshot.known, snapshot, confirmed)
            await self._local.publish(place.key, place.ns, cached, refuted)

    async def drop(self, key: bytes, ns: bytes, floor: Known | None = None) -> None:
        """Forget a namespace. `floor`: and keep nothing older than this from now on."""
        if floor is not None:
            self._remember(floor.incarnation, floor.gc)
        if self._local is not None:
            await self._local.drop(key, ns)
        if self._shared is None or is_inline():
            return
        if floor is None:
            await self._shared.drop(key, ns)
        else:
            await self._shared.floor(key, ns, floor)

    async def erase(self, key: bytes, incarnation: bytes) -> None:
        """Forget a thread; this life of it is never kept again."""
        self._remember(incarnation, ERASED)
        if self._local is not None:
            await self._local.drop(key, None)
        if self._shared is not None and not is_inline():
            await self._shared.erase(key, incarnation)

    def _remember(self, incarnation: bytes, gc: int) -> None:
        if self._max_stale:
            self._gone[incarnation] = max(gc, self._gone.get(incarnation, 0))
            while len(self._gone) > REMEMBERED:
                self._gone.popitem(last=False)


def _worth(copy: Copy, verdict: Verdict) -> str:
    """What a copy was worth: "hit", "stale", or "miss" where there was none."""
    if copy.snapshot is None:
        return "miss"
    return "hit" if verdict is Verdict.SAME else "stale"
