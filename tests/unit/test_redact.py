"""Redactions beside other writers: what was put meanwhile stays whole, and nothing that was redacted comes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from threadline import AgentState, InMemoryCheckpointer, Message

CONFIG = {"thread_id": "t"}


def message(number: int) -> Message:
    return Message.text_message(f"message {number}", message_id=f"m{number}")


def before_the_commit(
    checkpointer: InMemoryCheckpointer,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[], Awaitable[Any]],
) -> None:
    """Have something happen once, when a redaction has read what it needs and is about to commit."""
    backend = checkpointer._engine.backend
    commit, waiting = backend.commit, [meanwhile]

    async def late(batches: Any) -> Any:
        if batches[0].kind == "redact" and waiting:
            await waiting.pop()()
        return await commit(batches)

    monkeypatch.setattr(backend, "commit", late)


async def texts(checkpointer: InMemoryCheckpointer) -> list[str]:
    state = await checkpointer.aget_state(CONFIG)
    assert (await checkpointer.averify(CONFIG)).problems == []
    return [each.text() for each in state.context]


async def test_a_redaction_that_finds_nothing_leaves_what_was_put_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with InMemoryCheckpointer() as checkpointer:
        await checkpointer.aput_state(CONFIG, AgentState(context=[message(1)]))

        async def meanwhile() -> None:
            await checkpointer.aappend(CONFIG, [message(2)])

        before_the_commit(checkpointer, monkeypatch, meanwhile)
        await checkpointer.aredact(CONFIG, "none")
        # Of another process, which has the marks of the log from the store.
        other = InMemoryCheckpointer()
        other._engine.backend = checkpointer._engine.backend
        await other.aappend(CONFIG, [message(3)])
        await other.aappend(CONFIG, [message(4)])
        assert await texts(checkpointer) == [f"message {number}" for number in range(1, 5)]


async def test_two_redactions_at_once_take_both_contents(monkeypatch: pytest.MonkeyPatch) -> None:
    async with InMemoryCheckpointer() as checkpointer:
        await checkpointer.aput_state(CONFIG, AgentState(context=[message(1), message(2)]))

        async def meanwhile() -> None:
            await checkpointer.aredact(CONFIG, "m2")

        before_the_commit(checkpointer, monkeypatch, meanwhile)
        await checkpointer.aredact(CONFIG, "m1")
        assert await texts(checkpointer) == ["", ""]


@pytest.mark.parametrize("trimmed", [0, 1])
async def test_a_tombstone_that_is_put_again_is_what_it_was(trimmed: int) -> None:
    async with InMemoryCheckpointer() as checkpointer:
        await checkpointer.aput_state(
            CONFIG, AgentState(context=[message(number) for number in range(4)])
        )
        await checkpointer.aredact(CONFIG, "m2")
        state = await checkpointer.aget_state(CONFIG)
        state.context = [*state.context[trimmed:], message(4)]
        put = await checkpointer.aput_state(CONFIG, state)
        assert [each.text() for each in state.context] == await texts(checkpointer)
        assert put.bytes < 200, "what was there was written again"
        await checkpointer.aput_state({"thread_id": "other"}, state)
        assert (await checkpointer.averify({"thread_id": "other"})).problems == []
