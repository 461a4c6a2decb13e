"""Commits of several threads on PostgreSQL, beside others that create the same ones."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import pytest

from threadline import Message, PgCheckpointer, clock
from threadline.backend import Batch, Head, Reason, Refused, Slot, SlotIs, SlotPut, SlotQuery
from threadline.backends import pg_commit, pg_steps
from threadline.backends.pg_values import number_of
from threadline.backends.postgres import PostgresBackend
from threadline.errors import LeaseLostError
from threadline.history.retention import RetentionPolicy


async def batches(checkpointer: PgCheckpointer, names: Sequence[str]) -> list[Batch]:
    put = SlotPut(Slot(kind="k", key="k", payload=b"x"))
    return [
        await checkpointer.store.abatch({"thread_id": name}, "test", create=True, slots=(put,))
        for name in names
    ]


async def test_commits_that_create_the_same_threads_never_wait_for_each_other(pg_dsn: str) -> None:
    dice, tasks = random.Random(7), 8
    async with PgCheckpointer(pg_dsn) as checkpointer:
        for turn in range(5):
            names = [f"{turn}.{number}" for number in range(8)]
            commits = [
                await batches(checkpointer, dice.sample(names, len(names))) for _ in range(tasks)
            ]
            told = await asyncio.gather(*map(checkpointer.store.acommit, commits))
            for wanted, given in zip(commits, told, strict=True):  # In the order that was asked.
                lives = [
                    (await checkpointer.store.aread({"thread_id": each.names[2]})).thread
                    for each in wanted
                ]
                assert [each.incarnation for each in lives] == [each.incarnation for each in given]
    connection = await asyncpg.connect(pg_dsn)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await connection.fetchval(deadlocks) == 0
    await connection.close()


async def test_a_thread_that_was_created_after_the_locking_is_locked_before_it_is_changed(
    empty_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"thread_id": "t"}
    lock, locked = pg_steps._lock, list[set[bytes]]()
    async with PgCheckpointer(empty_store) as checkpointer, PgCheckpointer(empty_store) as other:
        (batch,) = await batches(other, ["t"])

        async def create_after(*arguments: Any) -> set[bytes]:
            locked.append(await lock(*arguments))
            if len(locked) == 1:
                await other.store.acommit(batch)
            return locked[-1]

        monkeypatch.setattr(pg_steps, "_lock", create_after)
        assert await checkpointer.store.aerase(config)
        assert locked == [set(), {batch.key}]
        assert (await checkpointer.store.aread(config)).thread is None


async def test_a_lease_that_ends_while_a_commit_waits_for_the_thread_is_lost(
    empty_store: str,
) -> None:
    config, ttl = {"thread_id": "t"}, 500_000
    lease, held = Slot(kind="lease", key="l", payload=b"token"), SlotIs("lease", "l", b"token")
    async with PgCheckpointer(empty_store) as checkpointer:
        store, (put,) = checkpointer.store, await batches(checkpointer, ["t"])
        slots = (SlotPut(lease, ttl=ttl),)
        await store.acommit(await store.abatch(config, "lease", create=True, slots=slots))
        fenced = await store.abatch(config, "put", slots=put.slots, requires_slots=(held,))
        connection = await asyncpg.connect(empty_store)
        async with connection.transaction():
            await connection.execute("SELECT FROM threadline_threads FOR UPDATE")
            waiting = asyncio.create_task(store.acommit(fenced))
            await connection.execute("SELECT pg_sleep($1)", 2 * ttl / 1e6)
        await connection.close()
        with pytest.raises(LeaseLostError):
            await waiting


async def test_every_word_of_a_text_that_is_searched_is_found(empty_store: str) -> None:
    config = {"thread_id": "t"}
    words = [f"w{number}" for number in range(38_000)]
    async with PgCheckpointer(empty_store) as checkpointer:
        await checkpointer.aput_messages(config, [Message.text_message(" ".join(words))])
        for word in (words[0], words[20_000], words[-1]):
            assert len(await checkpointer.alist_messages(config, search=word)) == 1


async def test_commits_close_in_time_leave_the_indexes_of_threads_as_they_are(pg_dsn: str) -> None:
    pool = await asyncpg.create_pool(pg_dsn, min_size=1, max_size=1)
    async with PgCheckpointer(pg_pool=pool) as checkpointer, pool:
        # By the clock of the machine another 8 seconds could begin meanwhile, and a list goes by these.
        checkpointer._engine.backend.now_us = lambda: 1_700_000_000_000_000  # type: ignore[attr-defined]
        for number in range(20):
            await checkpointer.aput_state({"thread_id": "t", "user_id": "u"}, {"n": number})
        await pool.execute("SELECT pg_stat_force_next_flush()")
        moved, in_place = await pool.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'threadline_threads'"
        )
    assert moved == in_place == 19


async def test_a_thread_whose_key_begins_as_another_s_is_refused_and_sees_nothing(
    empty_store: str,
) -> None:
    async with PgCheckpointer(empty_store) as checkpointer:
        one, other = await batches(checkpointer, ["one", "other"])
    alike = dataclasses.replace(other, key=one.key[:8] + bytes(8))
    backend = PostgresBackend(empty_store)
    try:
        await backend.commit([one])
        for several in ([alike], [alike, dataclasses.replace(other, op_id=bytes(16))]):
            with pytest.raises(Refused) as refused:
                await backend.commit(several)
            assert refused.value.reason is Reason.NAMES
        assert await backend.read_head(alike.key, alike.ns, None) == Head()
        assert await backend.read_slots(alike.key, alike.ns, None, SlotQuery("k")) == []
        assert await backend.read_namespaces(alike.key, None) == []
        assert [each["threads"] for each in await backend.measure([alike.key])] == [0]
        assert len(await backend.read_slots(one.key, one.ns, None, SlotQuery("k"))) == 1
    finally:
        await backend.close()


async def test_old_results_go_also_those_of_deleted_threads(empty_store: str) -> None:
    day, at = pg_commit.JOURNAL_US, 1_800_000_000_000_000
    connection = await asyncpg.connect(empty_store)
    async with PgCheckpointer(empty_store) as checkpointer:
        backend = checkpointer.store._engine.backend
        backend.now_us = lambda: at
        for number in range(12):
            await checkpointer.store.acommit(await batches(checkpointer, [f"t{number}"]))
        await checkpointer.adelete_thread({"thread_id": "t3"})
        (late,) = await batches(checkpointer, ["late"])
        at += day
        await checkpointer.store.acommit(late)

        op_ids = (number.to_bytes(16, "big") for number in range(10_000_000))

        async def kept_by(wanted: Callable[[int | None], bool]) -> int:
            """How many results are kept by a commit that trims from there."""
            (batch,) = await batches(checkpointer, ["late"])
            tried = (dataclasses.replace(batch, op_id=each) for each in op_ids)
            await checkpointer.store.acommit(
                next(each for each in tried if wanted(pg_commit.trimmed_from(each)))
            )
            return int(await connection.fetchval("SELECT count(*) FROM threadline_journal"))

        assert await kept_by(lambda first: first is None) == 15
        at += 1
        assert await kept_by(lambda first: first is None) == 16
        lowest = await connection.fetchval("SELECT min(thread) FROM threadline_journal")
        assert await kept_by(lambda first: first is not None and first <= lowest) == 4
        at += day
        assert await kept_by(lambda first: first == number_of(late.key)) == 3
    await connection.close()


async def test_a_put_is_remembered_in_its_checkpoint(empty_store: str) -> None:
    """The journal has what a checkpoint's row does not tell: a caller's own op_id, an entry put in place."""
    config, message = {"thread_id": "t"}, Message.text_message("one", message_id="m")
    connection = await asyncpg.connect(empty_store)

    async def journaled() -> list[int | None]:
        rows = await connection.fetch("SELECT version FROM threadline_journal ORDER BY rev")
        return [row["version"] for row in rows]

    async with PgCheckpointer(empty_store) as checkpointer:
        await checkpointer.aput_state(config, {"log": [1]}, messages=[message])
        await checkpointer.aput_state(config, {"log": [2]}, name="named", metadata={"k": 1})
        await checkpointer.aappend(config, [3], field="log")
        await checkpointer.arollback(config, 1)
        await checkpointer.aclear_state(config)
        assert await journaled() == []
        await checkpointer.aput_state(config, {}, op_id=clock.new_id())
        await checkpointer.aput_state(config, {}, messages=[message])
        await checkpointer.aput_state(config, {}, op_id=clock.new_id_of(9).hex())
        assert await journaled() == [6, 7, 8]
        await checkpointer.afork(config, "other")
        assert await journaled() == [1, 6, 7, 8]
    await connection.close()


@pytest.mark.parametrize("gone", ["pruned", "deleted"])
async def test_a_put_is_remembered_for_a_day_when_its_checkpoint_goes(
    empty_store: str, gone: str
) -> None:
    config, at = {"thread_id": "t"}, 1_800_000_000_000_000
    connection = await asyncpg.connect(empty_store)
    async with PgCheckpointer(empty_store) as checkpointer:
        backend = checkpointer.store._engine.backend
        backend.now_us = lambda: at
        op_ids = [clock.new_id_of(number).hex() for number in range(1, 6)]
        for op_id in op_ids[:2]:
            await checkpointer.aput_state(config, {"n": 1}, op_id=op_id)
        at += 1
        for op_id in op_ids[2:]:
            await checkpointer.aput_state(config, {"n": 2}, op_id=op_id)
        at += pg_commit.JOURNAL_US
        if gone == "deleted":
            await checkpointer.adelete_thread(config)
        else:
            await checkpointer.aprune(config, RetentionPolicy(keep_last=1, keep_first=False))
        young = [3, 4, 5] if gone == "deleted" else [3, 4]
        rows = await connection.fetch(
            "SELECT * FROM threadline_journal WHERE version IS NOT NULL ORDER BY version"
        )
        assert [(row["version"], row["op_id"].hex) for row in rows] == [
            (version, op_ids[version - 1]) for version in young
        ]
        assert [(row["rev"], row["at"]) for row in rows] == [
            (version, at - pg_commit.JOURNAL_US) for version in young
        ]
        for version in young:
            put = await checkpointer.aput_state(config, {}, op_id=op_ids[version - 1])
            assert put.version == version
    await connection.close()
