"""A session: one state of one thread, loaded, worked on, and put back with compare-and-set.

`SessionCore` loads and puts: the one door through which a session writes (`_put`), what a conflict means, and the
lease. `runs.py` builds the running of nodes on it, `session_sync.py` the sync face.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from threadline import clock
from threadline.checkpointer import handover
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.lease import Lease, Strategy
from threadline.checkpointer.messages import listed
from threadline.config import read_config
from threadline.errors import ConflictError, LeaseLostError
from threadline.history.repair import Repair, find_orphans, repair_messages
from threadline.model import AgentState, Checkpoint, Message, StateDict, base_of, carry

_log = logging.getLogger("threadline.session")

OnConflict = Literal["raise", "fork", "reload"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a session behaves; see `BaseCheckpointer.session`."""

    on_conflict: OnConflict = "raise"
    lease: Strategy | None = None
    ttl: float = 30.0
    lease_timeout: float = 60.0
    repair: Repair | None = None
    container: Any = None

    def __post_init__(self) -> None:
        _one_of("on_conflict", self.on_conflict, ("raise", "fork", "reload"))
        _one_of("lease", self.lease, (None, "reject", "wait"))
        _one_of("repair", self.repair, (None, "close", "drop"))
        for name, value in (("ttl", self.ttl), ("lease_timeout", self.lease_timeout)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
        if self.ttl <= 0 or self.lease_timeout < 0:
            raise ValueError(f"ttl must be above 0 and lease_timeout 0 or more, not {self}")


class Progress(NamedTuple):
    """How far a run has come, as its checkpoints say in their metadata. `plan`: its nodes' names; `done`: how many of
    them are complete; `good`: the version that the last complete one left, where that is not this checkpoint itself."""

    run: str
    plan: tuple[str, ...] = ()
    done: int = 0
    good: int | None = None

    @property
    def finished(self) -> bool:
        """Whether no node is left."""
        return self.done >= len(self.plan)

    def metadata(self, **more: Any) -> dict[str, Any]:
        """What a checkpoint says of it."""
        said = {"run": self.run, "step": self.done, **more}
        if self.plan:
            said["nodes"] = list(self.plan)
        if self.good is not None:
            said["good"] = self.good
        return said

    @classmethod
    def of(cls, checkpoint: Checkpoint | None) -> Progress | None:
        """What a checkpoint's metadata says; None when it was not made in a run."""
        said: Mapping[str, Any] = checkpoint.metadata if checkpoint else {}
        run, plan, done = said.get("run"), said.get("nodes", ()), said.get("step", 0)
        if not isinstance(run, str) or not isinstance(done, int):
            return None
        return cls(run, tuple(map(str, plan)), done, said.get("good"))


class SessionCore:
    """What every session has: the state, and the way it is loaded and put.

    `state`: may be changed and replaced freely; `checkpoint`: the version it stands on, None when there is none yet;
    `thread_id`: where it is put, another one after a fork; `forked_from`: the thread that was left then.
    """

    def __init__(self, checkpointer: Any, config: dict[str, Any], options: SessionOptions) -> None:
        read_config(config, write=True)
        self.checkpointer, self.options = checkpointer, options
        self._engine: Engine = checkpointer._engine
        self.state: Any = None
        self.checkpoint: Checkpoint | None = None
        self.forked_from: str | None = None
        self.lease: Lease | None = None
        self._config = dict(config)
        self._progress: Progress | None = None
        self._unlogged: list[Message] = []

    @property
    def config(self) -> dict[str, Any]:
        """The config of this session's calls, a new dict; with the lease, so that calls made with it are fenced too."""
        lease = {"lease": self.lease.token} if self.lease is not None else {}
        return {**self._config, **lease}

    @property
    def thread_id(self) -> str:
        """The thread that the state is put to."""
        return str(self._config["thread_id"])

    async def open(self) -> None:
        """Take the lease, if one is wanted, and load the state, or make a new one."""
        options = self.options
        if options.lease is not None:
            lease = Lease(self.checkpointer.store, self._config, options.ttl)
            await lease.acquire(options.lease, options.lease_timeout)
            self.lease = lease
            lease.keep()
        try:
            await self.reload()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Give the lease back. What was not saved is not saved."""
        if self.lease is not None:
            lease, self.lease = self.lease, None
            await lease.release()

    async def reload(self) -> None:
        """Load the state as the store has it now; what was not saved is gone."""
        self.checkpoint = await self.checkpointer.aget_checkpoint(self._config)
        self.state = self.checkpoint.state if self.checkpoint is not None else None
        if self.state is None:
            self.state = self._new_state()
        self._progress = Progress.of(self.checkpoint)
        self._unlogged.clear()
        if self.options.repair is not None:
            self.repair(self.options.repair)

    def repair(self, repair: Repair = "close") -> bool:
        """Mend the state's `context`: see `threadline.repair_messages`. True when there was something to mend; it is
        stored with the next save."""
        context = self._context()
        if context is None or not find_orphans(context):
            return False
        context[:] = repair_messages(context, repair)
        return True

    async def append(self, messages: Sequence[Message], *, log: bool = True) -> None:
        """Add messages to the state's `context` and to the message log (unless `log` is False), in one commit whose
        cost is that of what is new. Inside a node they are kept with the node's own checkpoint."""
        items = listed(messages)
        await self._append(items, log)
        context = self._context()
        if context is not None:
            context.extend(items)

    async def save(
        self,
        name: str | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        messages: Sequence[Message] = (),
    ) -> Checkpoint:
        """Put the state; messages go into the message log in the same commit.

        Raises ConflictError when the head has moved (with `on_conflict="fork"` the state is put to a branch instead;
        with "reload" the session's state is the current one then); LeaseLostError.
        """
        return await self._save(name, {**self._said(), **(metadata or {})}, messages)

    # The door -------------------------------------------------------------------------------------------------

    async def _save(
        self, name: str | None, metadata: dict[str, Any], messages: Sequence[Message] = ()
    ) -> Checkpoint:
        logged = [*self._unlogged, *messages]
        given: dict[str, Any] = {"name": name, "metadata": metadata, "messages": logged}
        given = {key: value for key, value in given.items() if value}
        self._check_lease()
        try:
            checkpoint = await self._put(self.state, given)
        except ConflictError as error:
            if self.options.on_conflict != "fork":
                await self._meet(error)
            checkpoint = await self._put_on_branch(error, given)
        self._unlogged.clear()
        self._progress = Progress.of(checkpoint)
        return checkpoint

    async def _put(
        self, state: Any, given: dict[str, Any], onto: Checkpoint | None = None
    ) -> Checkpoint:
        """Put through the checkpointer's own `aput_state`, with what was given and it takes; what it does not take
        reaches the put behind it (see `handover`)."""
        config = self.config
        address = read_config(config, write=True)
        if (expected := onto or await self._expected(state)) is not None:
            given = {**given, "expected_version": expected}
        method = self.checkpointer.aput_state
        direct, waiting = handover.split(method, given)
        with handover.handing(address, waiting) as handed:
            await method(config, state, **direct)
        if handed.checkpoint is None:
            raise TypeError(
                f"{type(self.checkpointer).__name__}.aput_state did not put to thread {self.thread_id!r}: an override "
                "must call super().aput_state with the config it was given"
            )
        self.checkpoint = handed.checkpoint
        return handed.checkpoint

    async def _expected(self, state: Any) -> int | Checkpoint | None:
        """What to say of the head this put is computed from; None where the state itself says it."""
        if self.checkpoint is None:
            return 0
        known = bytes.fromhex(self.checkpoint.incarnation), self.checkpoint.version
        return None if base_of(state).at(await self._at()) == known else self.checkpoint

    async def _append(self, items: list[Message], log: bool) -> None:
        self._check_lease()
        more: dict[str, Any] = {"metadata": said} if (said := self._said()) else {}
        for _ in range(2):
            expected = self.checkpoint if self.checkpoint is not None else 0
            try:
                checkpoint = await self.checkpointer.aappend(
                    self.config, items, log=log, expected_version=expected, **more
                )
            except ConflictError as error:
                if self.options.on_conflict == "fork":
                    await self._put_on_branch(error, {})
                    continue
                if self.options.on_conflict == "raise" or isinstance(error, LeaseLostError):
                    await self._meet(error)
                await self.reload()
                continue
            self.checkpoint = checkpoint
            base = base_of(self.state).moved(
                await self._at(), bytes.fromhex(checkpoint.incarnation), checkpoint.version
            )
            carry(self.state, base)
            return
        raise ConflictError(
            f"thread {self.thread_id!r} moves too often to append to", thread_id=self.thread_id
        )

    async def _meet(self, error: ConflictError) -> None:
        """Raise what a conflict means; with "reload" after loading what is there now."""
        if self.lease is not None and not isinstance(error, LeaseLostError):
            if self.lease.lost is None and await self.lease.held():
                raise error
            raise LeaseLostError(
                f"the lease of thread {self.thread_id!r} was lost, and another run has moved it; nothing was written",
                thread_id=self.thread_id,
                expected=error.expected,
                current=error.current,
            ) from error
        if self.options.on_conflict == "reload" and not isinstance(error, LeaseLostError):
            await self.reload()
        raise error

    async def _put_on_branch(self, error: ConflictError, given: dict[str, Any]) -> Checkpoint:
        """Put the state to a new thread, which is this session's from now on."""
        left, branch = self.thread_id, f"{self.thread_id}-{clock.new_id()[-12:]}"
        onto: Checkpoint | None = None
        if self.checkpoint is not None:
            past = {**self._config, "version": self.checkpoint.version}
            with contextlib.suppress(
                ValueError
            ):  # Pruned since: the branch begins with what is put.
                onto = await self.checkpointer.afork(past, branch)
        await self.close()
        self._config["thread_id"], self.forked_from = branch, left
        self.checkpoint = onto
        checkpoint = await self._put(self.state, given, onto)
        _log.warning(
            "thread %r moved on to version %s: this session goes on in %r",
            left,
            error.current,
            branch,
        )
        return checkpoint

    def _check_lease(self) -> None:
        if self.lease is not None and self.lease.lost is not None:
            raise self.lease.lost

    def _said(self) -> dict[str, Any]:
        """What a checkpoint beside the nodes of an unfinished run says, so that the run can go on behind it."""
        progress = self._progress
        return {} if progress is None or progress.finished else progress.metadata()

    def _context(self) -> list[Any] | None:
        state = self.state
        found = state.get("context") if isinstance(state, dict) else getattr(state, "context", None)
        return found if isinstance(found, list) else None

    def _new_state(self) -> Any:
        kind = self._config.get("state_class") or self._engine.state_class
        kind = kind or AgentState
        return StateDict() if kind is dict else kind()

    async def _at(self) -> bytes:
        address = read_config(self._config)
        key: bytes = await self._engine.key(address)
        return key + address.ns_key


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
