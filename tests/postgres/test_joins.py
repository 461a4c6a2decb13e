"""Puts that are ready together go together: in one transaction, and each with an outcome of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from threadline import ConflictError, Message, PgCheckpointer, clock
from threadline.errors import ThreadlineError
from threadline.testing.faults import FaultProxy, drop_reply

NAMES = [f"t{number}" for number in range(4)]


async def begun(checkpointer: PgCheckpointer) -> None:
    """Threads that are there: a put that creates one goes alone."""
    for name in NAMES:
        await checkpointer.aput_state({"thread_id": name}, {"step": 0})


async def put_all(checkpointer: PgCheckpointer, step: int = 1, **given: Any) -> list[Any]:
    """A put for every thread, all ready in the same turn; errors as results."""
    puts = [checkpointer.aput_state({"thread_id": each}, {"step": step}, **given) for each in NAMES]
    return await asyncio.gather(*puts, return_exceptions=True)


async def transactions(dsn: str) -> int:
    """By how many transactions the puts of step 1 were made."""
    connection = await asyncpg.connect(dsn)
    ids = await connection.fetch(
        "SELECT DISTINCT xmin::text FROM threadline_checkpoints WHERE version = 2"
    )
    await connection.close()
    return len(ids)


async def test_what_is_ready_in_the_same_turn_is_one_transaction(empty_store: str) -> None:
    async with PgCheckpointer(empty_store) as checkpointer:
        await begun(checkpointer)
        assert [each.version for each in await put_all(checkpointer)] == [2] * 4
        assert await transactions(empty_store) == 1
        states = [await checkpointer.aget_state({"thread_id": each}) for each in NAMES]
        assert states == [{"step": 1}] * 4


async def test_a_thread_that_is_locked_holds_up_no_other(empty_store: str) -> None:
    async with PgCheckpointer(empty_store) as checkpointer:
        await begun(checkpointer)
        connection = await asyncpg.connect(empty_store)
        async with connection.transaction():
            await connection.execute(
                "SELECT FROM threadline_threads WHERE thread_id = 't0' FOR UPDATE"
            )
            puts = [
                asyncio.create_task(checkpointer.aput_state({"thread_id": each}, {"step": 1}))
                for each in NAMES
            ]
            assert [(await put).version for put in puts[1:]] == [2] * 3
            assert not puts[0].done()
        assert (await puts[0]).version == 2
        await connection.close()


async def test_a_put_that_is_refused_is_refused_alone(empty_store: str) -> None:
    async with PgCheckpointer(empty_store) as checkpointer, PgCheckpointer(empty_store) as other:
        await begun(checkpointer)
        stale = await checkpointer.aget_state({"thread_id": "t0"})
        await other.aput_state({"thread_id": "t0"}, {"step": 7})
        puts = [checkpointer.aput_state({"thread_id": "t0"}, stale)]
        puts += [checkpointer.aput_state({"thread_id": each}, {"step": 1}) for each in NAMES[1:]]
        refused, *made = await asyncio.gather(*puts, return_exceptions=True)
        assert isinstance(refused, ConflictError)
        assert [each.version for each in made] == [2] * 3
        assert await checkpointer.aget_state({"thread_id": "t0"}) == {"step": 7}


async def test_what_the_database_refuses_of_one_is_rolled_back_for_it_alone(
    empty_store: str,
) -> None:
    async with PgCheckpointer(empty_store) as checkpointer:
        await begun(checkpointer)
        connection = await asyncpg.connect(empty_store)
        await connection.execute(
            "ALTER TABLE threadline_heads ADD CONSTRAINT one CHECK (namespace <> 'bad' OR head_version < 2)"
        )
        try:
            bad = {"thread_id": "t0", "namespace": "bad"}
            await checkpointer.aput_state(bad, {"step": 0})
            puts = [checkpointer.aput_state(bad, {"step": 1})]
            puts += [
                checkpointer.aput_state({"thread_id": each}, {"step": 1}) for each in NAMES[1:]
            ]
            failed, *made = await asyncio.gather(*puts, return_exceptions=True)
            assert isinstance(failed, ThreadlineError)
            assert [each.version for each in made] == [2] * 3
            assert await checkpointer.aget_state(bad) == {"step": 0}
        finally:
            await connection.execute("ALTER TABLE threadline_heads DROP CONSTRAINT one")
            await connection.close()


async def test_one_op_id_for_several_puts_of_a_turn(empty_store: str) -> None:
    async with PgCheckpointer(empty_store) as checkpointer:
        await begun(checkpointer)
        op_id = clock.new_id()
        lives = [await checkpointer.aget_checkpoint({"thread_id": each}) for each in NAMES]
        puts = await put_all(checkpointer, op_id=op_id)
        assert [(each.version, each.incarnation) for each in puts] == [
            (2, each.incarnation) for each in lives if each
        ]
        again = [
            checkpointer.aappend(
                {"thread_id": "t0", "namespace": "n"}, [Message.text_message("once")], op_id=op_id
            )
            for op_id in [clock.new_id()] * 3
        ]
        assert [each.version for each in await asyncio.gather(*again)] == [1] * 3
        state = await checkpointer.aget_state({"thread_id": "t0", "namespace": "n"})
        assert [each.text() for each in state.context] == ["once"]


async def test_a_put_that_names_another_version_is_looked_up_before_it_goes_with_others(
    empty_store: str,
) -> None:
    op_ids = [clock.new_id_of(1).hex() for _ in NAMES]
    async with PgCheckpointer(empty_store) as checkpointer:
        for step, made in ((1, 1), (2, 2), (3, 1)):
            puts = [
                checkpointer.aput_state(
                    {"thread_id": each}, {"step": step}, op_id=None if made == 2 else op_id
                )
                for each, op_id in zip(NAMES, op_ids, strict=True)
            ]
            assert [each.version for each in await asyncio.gather(*puts)] == [made] * 4
        states = [await checkpointer.aget_state({"thread_id": each}) for each in NAMES]
        assert states == [{"step": 2}] * 4


async def test_who_is_cancelled_takes_no_other_with_him(empty_store: str) -> None:
    async with PgCheckpointer(empty_store) as checkpointer:
        await begun(checkpointer)
        tasks = [
            asyncio.create_task(checkpointer.aput_state({"thread_id": each}, {"step": 1}))
            for each in NAMES
        ]
        for turns in range(3):
            tasks[turns].cancel()
            await asyncio.sleep(0)
        assert (await tasks[3]).version == 2
        for task in tasks[:3]:
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_a_reply_for_several_that_is_lost_is_found_out_by_each(empty_store: str) -> None:
    with FaultProxy.before(empty_store) as proxy:
        async with PgCheckpointer(proxy.address(empty_store)) as checkpointer:
            await begun(checkpointer)
            op_ids = [clock.new_id() for _ in NAMES]
            proxy.set(drop_reply(bytes.fromhex(op_ids[-1]), times=1))
            puts = [
                checkpointer.aappend({"thread_id": each}, [{"n": 1}], field="done", op_id=op_id)
                for each, op_id in zip(NAMES, op_ids, strict=True)
            ]
            assert [each.version for each in await asyncio.gather(*puts)] == [2] * 4
            assert proxy.counts.dropped == 1
            assert await transactions(empty_store) == 1
            for each in NAMES:
                assert (await checkpointer.aget_state({"thread_id": each}))["done"] == [{"n": 1}]
