"""Calls that are cancelled at any moment: no reply reaches another caller, no connection is lost, no put is half there.

A reply that a cancelled call left on its connection is the danger: the next call on it would take it for its own.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import asyncpg
import pytest

from threadline import AgentState, ConflictError, Message, PgCheckpointer, clock
from threadline.testing.faults import FaultProxy

SOAK = bool(os.environ.get("THREADLINE_SOAK"))
CANCELLATIONS = 10_000 if SOAK else 500
THREADS, POOL, CALLERS = 12, 6, 12


def assert_own(thread: str, messages: list[Message]) -> None:
    """Each message says which thread it belongs to."""
    assert {message.metadata["thread"] for message in messages} <= {thread}


async def call(checkpointer: PgCheckpointer, thread: str, dice: random.Random) -> None:
    """One call of a kind that the dice choose; what it reads must be its own thread's."""
    config = {"thread_id": thread}
    kind = dice.randrange(5)
    if kind == 0:
        assert_own(thread, await checkpointer.alist_messages(config, last=5))
        return
    if kind == 1:
        state = await checkpointer.aget_state_cache(config) or AgentState()
    else:
        state = await checkpointer.aget_state(config) or AgentState()
    assert_own(thread, state.context)
    if kind <= 2:
        return
    message = Message.text_message("x" * dice.randrange(3000), metadata={"thread": thread})
    state.context = [*state.context[-10:], message]
    options: dict[str, Any] = {"messages": [message], "metadata": {"message": message.message_id}}
    await checkpointer.aput_state(config, state, op_id=clock.new_id(), **options)


async def caller(checkpointer: PgCheckpointer, dice: random.Random, count: int) -> int:
    """Call, and cancel every other call, until `count` were cancelled; the number of those that came to their end."""
    cancelled = ended = 0
    while cancelled < count:
        task = asyncio.create_task(call(checkpointer, f"t{dice.randrange(THREADS)}", dice))
        # A cancelled call costs its connection: were all cancelled, none would live to see its second statement.
        if dice.random() < 0.5:
            await asyncio.sleep(dice.uniform(0, 0.03))
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            cancelled += 1
            continue
        except ConflictError:
            pass
        ended += 1
    return ended


async def assert_no_connection_is_lost(checkpointer: PgCheckpointer, dsn: str) -> None:
    # More calls than connections: one that nobody gave back would keep some of them waiting to their deadline.
    config = {"thread_id": "t0"}
    await asyncio.gather(*(checkpointer.aget_state(config) for _ in range(POOL * 4)))
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(30):
            while True:
                states = await connection.fetch(
                    "SELECT state FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                if {row["state"] for row in states} == {"idle"} and len(states) <= POOL:
                    return
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


@pytest.mark.soak
@pytest.mark.timeout(1800 if SOAK else 120)
async def test_cancelled_calls_mix_up_and_lose_nothing(pg_dsn: str) -> None:
    with FaultProxy.before(pg_dsn) as proxy:
        async with PgCheckpointer(
            proxy.address(pg_dsn), pool_config={"max_size": POOL}
        ) as checkpointer:
            ended = await asyncio.gather(
                *(
                    caller(checkpointer, random.Random(number), -(-CANCELLATIONS // CALLERS))
                    for number in range(CALLERS)
                )
            )
            assert sum(ended) > CANCELLATIONS / 2, "hardly a call came to its end"
            await assert_no_connection_is_lost(checkpointer, pg_dsn)
            assert proxy.counts.open <= POOL
            for number in range(THREADS):
                config = {"thread_id": f"t{number}"}
                checkpoints = await checkpointer.alist_checkpoints(config)
                versions = [checkpoint.version for checkpoint in checkpoints]
                assert versions == list(range(len(versions), 0, -1))
                put = [checkpoint.metadata["message"] for checkpoint in reversed(checkpoints)]
                logged = await checkpointer.alist_messages(config)
                assert [message.message_id for message in logged] == put
                assert (await checkpointer.averify(config)).ok
