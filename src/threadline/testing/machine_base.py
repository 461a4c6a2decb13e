"""What every rule of the state machine stands on: a checkpointer, its model, the states in hand, a fixed clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from threadline import clock
from threadline.checkpointer import BaseCheckpointer
from threadline.errors import ConflictError, ThreadlineError
from threadline.model import Checkpoint
from threadline.testing.model import Handle, Place, User, Version
from threadline.testing.model_past import PastWorld
from threadline.testing.strategies import faithful

THREADS = ("t1", "t2", "t3")
PLACES: tuple[Place, ...] = (*((thread, "") for thread in THREADS), ("t1", "sub"), ("t2", "sub"))
#: Where a rule plays, who plays, and which of what there is.
places = st.sampled_from([*PLACES[:3], *PLACES])
users: st.SearchStrategy[User] = st.sampled_from([*[None] * 6, *["alice"] * 3, "bob", 7, "7"])
which = st.integers(0, 50)
message_ids = st.sampled_from([f"m{number}" for number in range(10)])
names = st.sampled_from([None, None, "checked", "done\u2713"])
#: States in hand, and finished writes that may be repeated, kept at most.
HANDLES, DONE = 8, 8


@dataclass(frozen=True)
class Done:
    """A write that was committed: how to call it again, and what it answered. `made`: the life of the version that it
    wrote or named."""

    name: str
    config: dict[str, Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: Any
    life: int
    made: int
    handle: Handle | None


class Table(RuleBasedStateMachine):
    """The table that the game is played on. Subclasses say how a checkpointer is opened."""

    #: Steps played by every machine of a class.
    steps: ClassVar[int] = 0

    def open(self) -> BaseCheckpointer:
        """A new checkpointer on an empty store."""
        raise NotImplementedError("say how a checkpointer on an empty store is opened")

    def reopen(self) -> BaseCheckpointer | None:
        """A new checkpointer on the store of this machine, whose old one was released; None: nothing survives."""
        return None

    #: Whether `reopen` gives a checkpointer, so that the machine restarts now and then.
    durable: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.world, self.handles, self.done = PastWorld(), list[Handle](), list[Done]()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.writes, self._now = 0, 1_700_000_000_000_000
        self._stack = ExitStack()
        # No secret is made of it: the same run must come out the same.
        source = random.Random(7)
        self._stack.enter_context(clock.use(self._tick, source.randbytes))
        self.checkpointer = self.open()
        self.cold = BaseCheckpointer(self.checkpointer._engine.backend, None)

    def _tick(self) -> int:
        self._now += 1_000
        return self._now

    def teardown(self) -> None:
        """Release what was opened."""
        self._stack.push(lambda *_: self._close_loop())
        with self._stack:
            self.call(self.checkpointer, "arelease")

    def _close_loop(self) -> None:
        if self.loop is not None:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()

    def call(self, target: Any, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call an async method through the face that this run plays with."""
        if self.loop is None:
            return getattr(target, name.removeprefix("a"))(*args, **kwargs)
        return self.loop.run_until_complete(getattr(target, name)(*args, **kwargs))

    def read(self, name: str, config: dict[str, Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a method that changes nothing."""
        return self.call(self.checkpointer, name, config, *args, **kwargs)

    def write(
        self,
        name: str,
        config: dict[str, Any],
        model: Callable[[], Any],
        /,
        *args: Any,
        handle: Handle | None = None,
        **kwargs: Any,
    ) -> tuple[Any, Any] | None:
        """Call a method that changes something, and its model: both answers, or None when both refused alike.

        Every other call carries an `op_id`, and can be repeated later.
        """
        self.writes += 1
        if self.writes % 2:
            kwargs["op_id"] = f"{self.writes:032x}"
        commits, thread = self.world.commits, self.world.threads.get(config["thread_id"])
        real, raised = _caught(lambda: self.call(self.checkpointer, name, config, *args, **kwargs))
        model_answer, refused = _caught(model)
        assert type(raised) is type(refused), (
            f"{name} of {config}: {raised!r} where the model says {refused!r}"
        )
        if isinstance(refused, ConflictError) and refused.current is not None:
            assert isinstance(raised, ConflictError)
            assert raised.current == refused.current
        if refused is not None:
            return None
        thread = self.world.threads.get(config["thread_id"]) or thread
        changed = self.world.commits > commits or (name == "adelete_thread" and model_answer)
        if "op_id" in kwargs and changed and thread is not None:
            made = getattr(model_answer, "life", thread.life)
            done = Done(name, config, args, kwargs, real, thread.life, made, handle)
            self.done = [*self.done, done][-DONE:]
        return real, model_answer

    def hold(self, handle: Handle) -> None:
        """Keep a state in hand, instead of the oldest."""
        self.handles = [*self.handles, handle][-HANDLES:]


def _caught(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return call(), None
    except (ThreadlineError, ValueError) as error:
        return None, error


def config_of(place: Place, user: User, **more: Any) -> dict[str, Any]:
    """The config of a place as a user writes it."""
    config: dict[str, Any] = {"thread_id": place[0], **more}
    if place[1]:
        config["namespace"] = place[1]
    if user is not None:
        config["user_id"] = user
    return config


def agree(what: str, real: Any, model: Any) -> None:
    """Fail unless both are equal, types included."""
    where, left, right = difference(faithful(real), faithful(model)) or ("", None, None)
    assert not where, f"{what} {where}: is {left}, where the model says {right}"


def difference(left: Any, right: Any, where: str = "at") -> tuple[str, Any, Any] | None:
    """Where two values first differ, and what stands there; None when they are equal."""
    if left == right:
        return None
    pair = isinstance(left, tuple | list) and isinstance(right, tuple | list)
    if not pair or len(left) != len(right):
        return where, left, right
    steps = enumerate(zip(left, right, strict=True))
    inner = (difference(*two, f"{where} {number}") for number, two in steps)
    return next((found for found in inner if found), None)


def agree_on_checkpoint(real: Checkpoint | None, model: Version | None) -> None:
    """Fail unless a checkpoint says what the model's version says."""
    assert (real is None) == (model is None), f"{real} where the model says {model}"
    if real is None or model is None:
        return
    told = (real.version, real.name, real.metadata, real.parent_version, real.base)
    meant = (model.version, model.name, model.metadata, model.parent, model.base)
    agree("checkpoint", told, meant)
