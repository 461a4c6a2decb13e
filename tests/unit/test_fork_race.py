"""A fork beside a writer of its source: what is copied ends where the fork says."""

from __future__ import annotations

from typing import Any

import pytest

from threadline import InMemoryCheckpointer, Message

SOURCE, FORK = {"thread_id": "source"}, {"thread_id": "fork"}


def messages(*numbers: int) -> list[Message]:
    return [Message.text_message(f"message {n}", message_id=f"m{n}") for n in numbers]


@pytest.mark.parametrize("past", [{}, {"version": 1}])
async def test_a_put_while_a_fork_is_made(
    monkeypatch: pytest.MonkeyPatch, past: dict[str, int]
) -> None:
    async with InMemoryCheckpointer() as checkpointer:
        await checkpointer.aappend(SOURCE, messages(1, 2))
        backend = checkpointer._engine.backend
        commit, waiting = backend.commit, [messages(3, 4)]

        async def late(batches: Any) -> Any:
            if batches[0].kind == "fork" and waiting:
                await checkpointer.aappend(SOURCE, waiting.pop())
            return await commit(batches)

        monkeypatch.setattr(backend, "commit", late)
        await checkpointer.afork({**SOURCE, **past}, "fork")
        await checkpointer.aappend(FORK, messages(5))
        await checkpointer.aappend(FORK, messages(6))
        assert (await checkpointer.averify(FORK)).problems == []
        said = [each.message_id for each in (await checkpointer.aget_state(FORK)).context]
        assert said == ["m1", "m2", *(() if past else ("m3", "m4")), "m5", "m6"]
