"""How the contract sees a checkpointer: through its async face and through its sync one, with the same tests.

First the states that the tests put; then `Face`; then the fixtures that every part of the contract stands on.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
import pytest_asyncio
from pydantic import BaseModel, Field

from threadline.checkpointer import BaseCheckpointer
from threadline.checkpointer import reads as _reads
from threadline.checkpointer.engine import Kinds
from threadline.model import AgentState, Message

Mode = Literal["async", "sync"]


class TripState(AgentState):
    """An agent's state with fields of its own."""

    city: str = ""
    visited: list[str] = Field(default_factory=list)
    budget: dict[str, Any] = Field(default_factory=dict)


class Ledger(BaseModel):
    """A state that is another pydantic model."""

    title: str = ""
    rows: list[dict[str, Any]] = Field(default_factory=list)
    total: int | None = None


@dataclasses.dataclass
class Board:
    """A state that is a dataclass."""

    name: str = ""
    cells: list[int] = dataclasses.field(default_factory=list)
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class Slotted:
    """A state that nothing can be attached to, so that it carries no base."""

    name: str = ""


class Face:
    """A checkpointer through one of its faces: its async methods by their names, to be awaited in both modes.

    "async" hands on to the method itself; "sync" runs its sync twin in a thread in which no event loop runs.
    """

    def __init__(self, target: Any, mode: Mode = "async") -> None:
        self.target, self.mode = target, mode

    def __getattr__(self, name: str) -> Any:
        if self.mode == "async" or not name.startswith("a"):
            return getattr(self.target, name)
        twin = getattr(self.target, name.removeprefix("a"))

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(twin, *args, **kwargs)

        return call

    @property
    def store(self) -> Face:
        """The checkpointer's store, through the same face."""
        return Face(self.target.store, self.mode)

    async def collect(self, name: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Everything that an async iterator, or its sync twin, yields."""
        if self.mode == "async":
            return [item async for item in getattr(self.target, name)(*args, **kwargs)]
        twin = getattr(self.target, name.removeprefix("a"))
        return await asyncio.to_thread(lambda: list(twin(*args, **kwargs)))

    def twin(self, kind: type[BaseCheckpointer] = BaseCheckpointer, **options: Any) -> Face:
        """Another checkpointer on the same store, without a cache: what another process sees.

        Skips the test for a checkpointer that is not made of a backend, and so cannot be made twice.
        """
        if not isinstance(self.target, BaseCheckpointer):
            pytest.skip("this checkpointer has no backend that a second one could share")
        return Face(kind(self.target._engine.backend, None, **options), self.mode)


class FaceTests:
    """The fixtures of the contract. Every test is async, so that it runs with pytest-asyncio in any mode."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def checkpointer(self) -> Any:
        """The checkpointer under test, on an empty store: the one fixture to override."""
        raise NotImplementedError(
            "override the fixture `checkpointer`: a new one on an empty store"
        )

    @pytest_asyncio.fixture(params=["async", "sync"])
    async def face(self, checkpointer: Any, request: pytest.FixtureRequest) -> AsyncIterator[Face]:
        """The checkpointer through each of its faces; released afterwards, through the same."""
        face = Face(checkpointer, request.param)
        yield face
        await face.arelease()


def at(thread_id: str = "t", **more: Any) -> dict[str, Any]:
    """A config."""
    return {"thread_id": thread_id, **more}


def said(*texts: str, ids: str = "m") -> list[Message]:
    """Messages of these texts, with the ids m1, m2 and so on; equal ones for equal arguments."""
    messages = [
        Message.text_message(text, message_id=f"{ids}{n}") for n, text in enumerate(texts, 1)
    ]
    for n, message in enumerate(messages):
        message.timestamp = 1_700_000_000.5 + n
    return messages


def ids_of(messages: list[Message]) -> list[str]:
    """The ids of messages, in order."""
    return [message.message_id for message in messages]


async def picture(face: Face, config: dict[str, Any]) -> dict[str, Any]:
    """All that can be read of a thread and namespace; two pictures are equal when nothing was written between."""
    return {
        "state": await face.aget_state({**config, "state_class": dict}),
        "checkpoints": await face.alist_checkpoints(config),
        "messages": await face.alist_messages(config),
        "thread": await face.aget_thread(config),
    }


async def changes_nothing(
    face: Face,
    config: dict[str, Any],
    call: Callable[[], Awaitable[Any]],
    error: type[Exception] | tuple[type[Exception], ...],
) -> Any:
    """Await the call, which must raise `error` and leave the thread as it was; returns the error."""
    before = await picture(face, config)
    with pytest.raises(error) as caught:
        await call()
    assert await picture(face, config) == before
    return caught.value


@contextmanager
def another_process() -> Iterator[None]:
    """Read as a process does that has put no state yet, and so remembers the class of none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_reads, "kinds", Kinds())
        yield


def same(left: Any, right: Any) -> bool:
    """Whether two plain values are equal with all their types: 1 is neither 1.0 nor True, NaN is NaN."""
    if type(left) is not type(right) and not (isinstance(left, dict) and isinstance(right, dict)):
        return False
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    if isinstance(left, dict):
        pairs = zip(left.items(), right.items(), strict=False)
        return len(left) == len(right) and all(same(a, b) for a, b in pairs)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, set | frozenset):
        return bool(left == right) and {type(item) for item in left} == {type(i) for i in right}
    return bool(left == right)
