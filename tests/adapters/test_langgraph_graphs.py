"""Real graphs, played by random moves on LangGraph's own saver and on ours: everything that can be seen must be equal.

Ids are counted, so that both plays have the same; channel versions are compared by their number, since LangGraph's
own saver adds a random part to them.
"""

from __future__ import annotations

import operator
import os
import random
import uuid
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Annotated, Any, TypedDict

import langgraph.checkpoint.base
import langgraph.pregel._checkpoint
import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt

from threadline import BaseCheckpointer
from threadline.adapters.langgraph import StrictSerializer, ThreadlineSaver

#: Moves in a play, and how many plays.
MOVES, PLAYS = 10, 40 if os.environ.get("THREADLINE_SOAK") == "1" else 2


def joined(state: list[str], writes: list[list[str]]) -> list[str]:
    return [*state, *(each for write in writes for each in write)]


class Inner(TypedDict):
    messages: Annotated[list[Any], add_messages]
    inner: int


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]
    parts: Annotated[list[int], operator.add]
    deltas: Annotated[
        list[str],
        DeltaChannel(joined, snapshot_frequency=3),
    ]
    notes: dict[str, Any]
    inner: int


def text(state: Any) -> str:
    return str(state["messages"][-1].content) if state["messages"] else ""


def think(state: State) -> Any:
    number = len(state["messages"])
    update: dict[str, Any] = {
        "messages": [AIMessage(f"thought {number} " * 20, id=f"think-{number}-{len(text(state))}")],
        "notes": {"count": number, "text": "same " * 30},
        "deltas": [f"d{number}"],
    }
    if "forget" in text(state):
        update["messages"] = [RemoveMessage(id=m.id) for m in state["messages"][:1]]
    return update


def route(state: State) -> Any:
    last = next((m for m in reversed(state["messages"]) if isinstance(m, HumanMessage)), None)
    said = str(last.content) if last else ""
    if "many" in said:
        return [Send("part", {"n": n}) for n in range(3)]
    if "ask" in said:
        return "ask"
    return "sub" if "sub" in said else END


def part(state: Any) -> Any:
    return {"parts": [state["n"]], "deltas": [f"p{state['n']}"]}


def ask(state: State) -> Any:
    answer = interrupt({"question": text(state)[:10]})
    return {"messages": [AIMessage(f"answer {answer}", id=f"ask-{len(state['messages'])}")]}


def step(state: Inner) -> Any:
    return {"inner": state.get("inner", 0) + 1}


def wonder(state: Inner) -> Any:
    said = interrupt("inside") if state.get("inner", 0) % 2 == 0 else "no"
    return {"messages": [AIMessage(f"inside {said}", id=f"in-{len(state['messages'])}")]}


def graph(saver: BaseCheckpointSaver[Any]) -> Any:
    inner = StateGraph(Inner)
    inner.add_node("step", step)
    inner.add_node("wonder", wonder)
    inner.add_edge(START, "step")
    inner.add_edge("step", "wonder")
    inner.add_edge("wonder", END)
    outer = StateGraph(State)
    outer.add_node("think", think)
    outer.add_node("part", part)
    outer.add_node("ask", ask)
    outer.add_node("sub", inner.compile())
    outer.add_edge(START, "think")
    outer.add_conditional_edges("think", route, ["part", "ask", "sub", END])
    for node in ("part", "ask", "sub"):
        outer.add_edge(node, END)
    return outer.compile(checkpointer=saver)


# What is seen ---------------------------------------------------------------------------------------------


def versions(found: Any) -> Any:
    """Channel versions by their number."""
    if isinstance(found, dict):
        return {key: versions(value) for key, value in found.items()}
    return int(str(found).split(".", maxsplit=1)[0])


def seen(listed: list[CheckpointTuple]) -> list[Any]:
    """The checkpoints of a thread, all that LangGraph may ask of them."""
    tuples = sorted(
        listed,
        key=lambda t: (t.config["configurable"]["checkpoint_ns"], t.checkpoint["id"]),
    )
    found = []
    for each in tuples:
        checkpoint: dict[str, Any] = {**each.checkpoint}
        checkpoint.pop("ts")
        for key in ("channel_versions", "versions_seen"):
            checkpoint[key] = versions(checkpoint[key])
        found.append(
            (each.config, checkpoint, each.metadata, each.parent_config, each.pending_writes)
        )
    return found


class Player:
    """A graph, played through its sync methods or its async ones."""

    def __init__(self, saver: BaseCheckpointSaver[Any], face: str) -> None:
        self._saver, self._play, self._async = saver, graph(saver), face == "async"

    async def do(self, name: str, *args: Any, **how: Any) -> Any:
        if self._async:
            return await getattr(self._play, f"a{name}")(*args, **how)
        return getattr(self._play, name)(*args, **how)

    async def checkpoints(self, config: Any) -> list[CheckpointTuple]:
        if self._async:
            return [each async for each in self._saver.alist(config)]
        return list(self._saver.list(config))

    async def history(self, config: Any) -> list[Any]:
        if self._async:
            return [each async for each in self._play.aget_state_history(config)]
        return list(self._play.get_state_history(config))

    async def snapshots(self, config: Any) -> list[Any]:
        """The history as users see it, with what delta channels are rebuilt to."""
        return [
            (s.config, s.values, s.next, s.metadata, s.parent_config, s.tasks, s.interrupts)
            for s in await self.history(config)
        ]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Starts the ids anew."""
    numbers = iter(count())

    def start() -> None:
        nonlocal numbers
        numbers = iter(count(1))

    def next_id(*_: Any, **__: Any) -> uuid.UUID:
        return uuid.UUID(f"1f000000-0000-6000-8000-{next(numbers):012x}")

    for module in (langgraph.checkpoint.base, langgraph.pregel._checkpoint):
        monkeypatch.setattr(module, "uuid6", next_id)
    return start


async def moves(player: Player, seed: int, durability: str) -> AsyncIterator[Any]:
    """Random moves, and after each what can be seen."""
    choose = random.Random(seed)
    config: Any = {"configurable": {"thread_id": "t", "user": "u"}}
    for number in range(MOVES):
        history = await player.history(config)
        past = choose.choice(history).config if history and choose.random() < 0.25 else config
        kind = choose.choice(["say", "say", "say", "resume", "update", "retry"])
        word = choose.choice(["plain", "many", "ask", "sub", "forget", "long " * 50])
        state = await player.do("get_state", past)
        if kind == "update" and history:
            message = AIMessage(f"edited {number}", id=choose.choice(["edit", f"u{number}"]))
            update = {"messages": [message], "parts": [number]}
            told = await player.do("update_state", past, update, as_node="think")
        else:
            given: Any = {"messages": [HumanMessage(f"{word} {number}", id=f"m{number}")]}
            if kind == "resume" and state.interrupts:
                given = Command(resume=f"r{number}")
            elif kind == "retry" and state.next and not state.interrupts:
                given = None
            told = await player.do("invoke", given, past, durability=durability)
        yield (
            number,
            kind,
            word,
            told,
            seen(await player.checkpoints(config)),
            await player.snapshots(config),
        )


@pytest.mark.parametrize("seed", range(PLAYS))
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("face", ["sync", "async"])
async def test_random_moves_look_the_same(
    seed: int,
    durability: str,
    face: str,
    checkpointer: BaseCheckpointer,
    counted: Callable[[], None],
) -> None:
    def played(saver: BaseCheckpointSaver[Any]) -> AsyncIterator[Any]:
        counted()
        return moves(Player(saver, face), seed, durability)

    expected = [each async for each in played(InMemorySaver(serde=StrictSerializer()))]
    number = 0
    async for ours in played(ThreadlineSaver(checkpointer)):
        assert ours == expected[number]
        number += 1
    assert number == MOVES
