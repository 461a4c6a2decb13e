"""What every pipeline shares: the backend, the caches, the codec, and how a refusal becomes an error for the user."""

from __future__ import annotations

import logging
import weakref
from collections import OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from threading import RLock
from typing import Any, NoReturn, Protocol, TypeVar, runtime_checkable

from threadline import clock, telemetry
from threadline.backend import (
    Backend,
    Batch,
    CheckpointRow,
    Commit,
    Expected,
    Reason,
    Refused,
    SlotIs,
    StoreInfo,
)
from threadline.cache import Cache, SharedCache
from threadline.checkpointer.copies import Copies
from threadline.codec.envelope import Codec, Payload, Where
from threadline.codec.values import decode, encode
from threadline.config import Address
from threadline.errors import (
    ConflictError,
    LeaseLostError,
    ReleasedError,
    ThreadlineError,
    ThreadNotFoundError,
)
from threadline.history.watch import Watch
from threadline.inline import is_inline, run_inline
from threadline.loops import run_private

T = TypeVar("T")

#: Kind and key of the slot that is a namespace's lease; its payload is the token of the run that holds it.
LEASE, LEASE_KEY = "lease", "run"
_log = logging.getLogger("threadline.erasure")

#: How often a write that has no base is computed again because others were faster.
ATTEMPTS = 1000
#: For how many threads this process remembers which class a state was put as.
KINDS_KEPT = 10_000


@runtime_checkable
class Scrubbed(Protocol):
    """An optional power of a backend: to let nothing of what was taken away stay where the store keeps its bytes."""

    async def scrub(self) -> bool:
        """Overwrite and merge what was erased and redacted before; False when something has to stay for a while."""


class Engine:
    """One store as the pipelines see it."""

    def __init__(
        self,
        backend: Backend,
        cache: Cache | None,
        *,
        shared: SharedCache | None = None,
        max_stale: float = 0.0,
        state_class: type | None = None,
        require_user: bool = False,
        require_base: bool = False,
        codec: Codec | None = None,
    ) -> None:
        self.backend, self.codec, self.shared = backend, codec or Codec(), shared
        self.copies = Copies(cache, shared, self.codec, max_stale)
        if shared is not None:
            telemetry.watch_cache(shared)
        self.state_class = state_class
        self.require_user, self.require_base = require_user, require_base
        self.watches = StateWatches()
        self._info: StoreInfo | None = None
        self.released = False

    async def ready(self) -> StoreInfo:
        """The store, opened at the first call. Raises ReleasedError after `release`."""
        if self.released:
            raise ReleasedError()
        if self._info is None:
            info = await self.backend.open()
            if self.shared is not None:
                self.shared.open(info.salt)
            self._info = info
        return self._info

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine, for a sync caller. Raises RuntimeError where it would wait for itself."""
        if self.backend.suspends:
            return run_private(coroutine, self.backend.loop)
        return run_inline(coroutine)

    async def release(self) -> None:
        """Let go of the store; every later call raises ReleasedError."""
        if not self.released:
            self.released = True
            try:
                await self.backend.close()
            finally:
                if self.shared is not None and not is_inline():
                    await self.shared.close()

    async def key(self, address: Address) -> bytes:
        """The thread key of an address. Raises ValueError when a user is required and none is named."""
        self.check_user(address)
        return address.thread_key((await self.ready()).salt)

    def check_user(self, address: Address) -> None:
        """Raise ValueError when this checkpointer requires a user and the config names none."""
        if self.require_user and address.user is None:
            raise ValueError("this checkpointer requires a user_id in every config")

    async def commit(self, batch: Batch) -> Commit:
        """Commit one batch. Raises Refused, for the pipeline to judge."""
        (commit,) = await self.backend.commit([batch])
        return commit

    async def commit_if_any(self, address: Address, batch: Batch) -> Commit | None:
        """Commit one batch; None when the store refuses it, since there is nothing that it could change. Raises
        LeaseLostError."""
        try:
            return await self.commit(batch)
        except Refused as refused:
            if refused.reason is Reason.FENCED:
                refuse(address, refused)
            return None

    async def made_before(
        self, address: Address, kind: str, op_id: str | None, expected: Expected | None = None
    ) -> Commit | None:
        """The result of the operation with this `op_id` if it was committed before, else None; nothing is written."""
        if op_id is None:
            return None
        # No head was ever given version -1: such a batch is answered, or refused.
        probe = await self.batch(
            address, kind, op_id, expected=expected or Expected(None, 0), last_version=-1
        )
        try:
            return await self.commit(probe)
        except Refused:
            return None

    async def scrub(self) -> bool | None:
        """Let nothing of what was just taken away stay in the store's files; False when that has to come later, None
        when the store cannot say."""
        if not isinstance(self.backend, Scrubbed):
            return None
        try:
            return await self.backend.scrub()
        except ThreadlineError as error:
            _log.warning("what was erased is not overwritten everywhere yet: %s", error)
            return False

    async def batch(
        self,
        address: Address,
        kind: str,
        op_id: str | None = None,
        requires_slots: Sequence[SlotIs] = (),
        **parts: Any,
    ) -> Batch:
        """A batch on the thread and namespace of an address: its keys, names and owner, and `parts`.

        op_id: 32 hexadecimal digits, new when None. Raises TypeError, ValueError.
        """
        row: CheckpointRow | None = parts.get("checkpoint")
        return Batch(
            key=await self.key(address),
            names=(address.tenant, address.app, address.thread_id),
            user=address.user,
            ns=address.ns_key,
            namespace=address.namespace,
            op_id=read_op_id(op_id, row.version if row else 0),
            kind=kind,
            fresh=op_id is None,
            incarnation=clock.random_bytes(16),
            requires_slots=(*fence(address), *requires_slots),
            **parts,
        )

    def seal(self, value: Any, where: Where) -> Payload:
        """A plain value as a payload. Raises NotStorableError."""
        return self.codec.seal(encode(value), where)

    def open(self, data: bytes, key_id: int, where: Where) -> Any:
        """The plain value of a payload. Raises CorruptionError."""
        return decode(self.codec.open(data, key_id, where))


def fence(address: Address) -> tuple[SlotIs, ...]:
    """What a batch requires when its config holds a lease."""
    if address.lease is None:
        return ()
    return (SlotIs(LEASE, LEASE_KEY, address.lease.encode()),)


def read_op_id(op_id: str | None, version: int = 0) -> bytes:
    """The 16 bytes of a caller's `op_id` (32 hexadecimal digits, e.g. a UUID), or new ones, which name the version that
    the commit writes, if it writes one: so a store need not note them anywhere else.

    Raises TypeError, ValueError.
    """
    if op_id is None:
        return clock.new_id_of(version)
    if not isinstance(op_id, str):
        raise TypeError(f"op_id must be a str, not {type(op_id).__name__}")
    try:
        data = bytes.fromhex(op_id.replace("-", ""))
    except ValueError:
        data = b""
    if len(data) != 16:
        raise ValueError(f"op_id must be 32 hexadecimal digits (e.g. a UUID), not {op_id!r}")
    return data


def refuse(address: Address, refused: Refused, expected: int | None = None) -> NoReturn:
    """Raise what a refused write means to the user."""
    thread = repr(address.thread_id)
    if refused.reason is Reason.CONFLICT:
        current = refused.current
        raise ConflictError(
            f"thread {thread} has moved: it is at version {current}, and this write was computed from version "
            f"{expected}; nothing was written. Load the state again, or put it to another thread to keep both."
            if expected is not None
            else f"thread {thread} is not as this write expected; nothing was written. Read it again.",
            thread_id=address.thread_id,
            expected=expected,
            current=current,
        ) from None
    if refused.reason is Reason.FENCED:
        raise LeaseLostError(
            f"the lease of thread {thread} was lost: it expired, or another run took it over; nothing was written",
            thread_id=address.thread_id,
            expected=expected,
        ) from None
    if refused.reason is Reason.MISSING:
        whose = "" if address.user_id is None else f" for user {address.user_id!r}"
        raise ThreadNotFoundError(
            f"thread {thread} does not exist{whose}, or was deleted since; nothing was written"
        ) from None
    if refused.reason is Reason.NAMES:
        raise ThreadlineError(f"the key of thread {thread} is taken by another thread") from None
    raise ConflictError(
        f"thread {thread} changed too often while this write was being computed; nothing was written",
        thread_id=address.thread_id,
        expected=expected,
    ) from None


class StateWatches:
    """The watches of each state object that was loaded or put, by identity; gone with the object."""

    def __init__(self) -> None:
        self._lock = (
            RLock()
        )  # Re-entrant: a collection inside the lock may end another state's life.
        self._kept: dict[
            int, tuple[weakref.ref[Any], tuple[bytes, bytes, int], dict[str, Watch]]
        ] = {}

    def of(
        self, state: object, key: bytes, incarnation: bytes, version: int
    ) -> Mapping[str, Watch]:
        """The watches of this very object, if they were taken at this version of this address."""
        with self._lock:
            kept = self._kept.get(id(state))
        if kept is None or kept[0]() is not state or kept[1] != (key, incarnation, version):
            return {}
        return kept[2]

    def keep(
        self, state: object, key: bytes, incarnation: bytes, version: int, watches: dict[str, Watch]
    ) -> None:
        """Remember them, instead of what was known of this object."""
        number = id(state)

        def gone(dead: weakref.ref[Any]) -> None:
            with self._lock:
                if number in self._kept and self._kept[number][0] is dead:
                    del self._kept[number]

        with self._lock:
            try:
                self._kept[number] = (
                    weakref.ref(state, gone),
                    (key, incarnation, version),
                    watches,
                )
            except (
                TypeError
            ):  # A plain dict or a slotted class: such a state is compared by content.
                self._kept.pop(number, None)


class Kinds:
    """The class that a state was last put as in this process, by address and shape; the least recent are forgotten."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._kinds: OrderedDict[tuple[bytes, str], type] = OrderedDict()

    def get(self, key: bytes, shape: str) -> type | None:
        """The class, or None."""
        with self._lock:
            return self._kinds.get((key, shape))

    def copy(self, source: bytes, into: bytes) -> None:
        """What is known of one address, or of all of a thread, holds for another, which was forked from it."""
        with self._lock:
            for key, shape in [each for each in self._kinds if each[0].startswith(source)]:
                self._kinds[into + key[len(source) :], shape] = self._kinds[key, shape]

    def put(self, key: bytes, shape: str, kind: type) -> None:
        """Remember the class."""
        with self._lock:
            self._kinds[key, shape] = kind
            self._kinds.move_to_end((key, shape))
            while len(self._kinds) > KINDS_KEPT:
                self._kinds.popitem(last=False)


#: Shared by every checkpointer of the process: keys hold the store's salt, so that stores never meet.
kinds = Kinds()
