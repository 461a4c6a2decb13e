"""A PgBouncer in transaction mode between us and PostgreSQL: each transaction may meet another session.

So nothing may rest on a session: no prepared statement that is used again, no setting, no lock. With
`statement_cache_size=0` the driver names no statement; the contract is taken so, with and without the pooler.
"""

from __future__ import annotations

import asyncio
import os

import pytest

from threadline import AgentState, Message, PgCheckpointer, clock
from threadline.testing import CheckpointerContract
from threadline.testing.contract_messages import MessagesContract
from threadline.testing.contract_past import PastContract
from threadline.testing.contract_retry import RetryContract
from threadline.testing.contract_threads import DeletionContract
from threadline.testing.servers import PgBouncer

UNNAMED = {"statement_cache_size": 0}


def without_cache(dsn: str) -> PgCheckpointer:
    checkpointer = PgCheckpointer(dsn, pool_config=UNNAMED)
    checkpointer._engine.backend.now_us = lambda: clock.now_us()  # The contract moves time.
    return checkpointer


class Short(PastContract, MessagesContract, DeletionContract, RetryContract):
    """The parts of the contract that between them use every kind of statement and transaction."""


#: All of it passes too, and takes minutes.
Form = CheckpointerContract if os.environ.get("THREADLINE_SOAK") else Short


@pytest.mark.soak
class TestThroughPgBouncer(Form):
    @pytest.fixture
    def checkpointer(self, empty_pooled_store: str) -> PgCheckpointer:
        return without_cache(empty_pooled_store)


@pytest.mark.soak
class TestWithoutAStatementCache(Form):
    @pytest.fixture
    def checkpointer(self, empty_store: str) -> PgCheckpointer:
        return without_cache(empty_store)


async def test_a_store_is_made_through_the_pooler(pooler: PgBouncer) -> None:
    """Also by several at once: the lock of migrations is one of a transaction."""
    checkpointers = [PgCheckpointer(pooler.dsn, pool_config=UNNAMED) for _ in range(4)]
    await asyncio.gather(*(each.asetup() for each in checkpointers))
    for number, each in enumerate(checkpointers):
        await each.aput_state({"thread_id": "t", "namespace": str(number)}, {"n": number})
    for each in checkpointers:
        assert await each.aget_state({"thread_id": "t", "namespace": "3"}) == {"n": 3}
        await each.arelease()


async def test_many_tasks_share_few_sessions(pooler: PgBouncer) -> None:
    """16 tasks on 4 sessions of the server, statements and transactions mixed: none meets what another left."""
    async with PgCheckpointer(pooler.dsn, pool_config=UNNAMED) as memory:

        async def work(name: str) -> None:
            config = {"thread_id": name, "user_id": name}
            for number in range(12):
                state = await memory.aget_state(config) or AgentState()
                said = Message.text_message(f"{name} says {number}", message_id=f"{name}{number}")
                state.context.append(said)
                await memory.aput_state(config, state, messages=[said])
                if number % 4 == 3:
                    await memory.apop_messages(config)  # A transaction of several statements.
                    await memory.afork(config, f"{name}-{number}")
            assert [m.text() for m in (await memory.aget_state(config)).context] == [
                f"{name} says {number}" for number in range(12)
            ]
            assert len(await memory.alist_messages(config)) == 9

        await asyncio.gather(*(work(f"task{number}") for number in range(16)))
        assert len(await memory.alist_threads({"user_id": "task3"})) == 4
