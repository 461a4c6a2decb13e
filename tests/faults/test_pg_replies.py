"""P1 on PostgreSQL: replies that are lost, and servers that are killed. Nothing is lost and nothing done twice."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections import Counter
from typing import Any

import pytest

from threadline import AgentState, ConflictError, Message, PgCheckpointer, clock
from threadline.testing.faults import PASS, FaultProxy, drop_reply
from threadline.testing.history import History, NotMade, check
from threadline.testing.servers import postgres

SOAK = bool(os.environ.get("THREADLINE_SOAK"))
LOST_REPLIES, KILLS = (200, 20) if SOAK else (50, 5)
WRITERS, THREADS = 16, 8


@pytest.mark.soak
@pytest.mark.parametrize("given", [True, False], ids=["op_id", "no op_id"])
async def test_a_put_whose_reply_is_lost_is_made_once(
    pg_dsn: str, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    config, new_id_of = {"thread_id": "t"}, clock.new_id_of

    def lose(op_id: bytes) -> bytes:
        # Only the statement that carries the op_id is the commit.
        proxy.set(drop_reply(op_id, times=1))
        return op_id

    if not given:
        monkeypatch.setattr(clock, "new_id_of", lambda version: lose(new_id_of(version)))
    with FaultProxy.before(pg_dsn) as proxy:
        async with PgCheckpointer(proxy.address(pg_dsn)) as checkpointer:
            state = AgentState()
            for number in range(LOST_REPLIES):
                op_id = lose(clock.new_id_bytes()).hex() if given else None
                message = Message.text_message(f"message {number}")
                if number % 2:
                    state.context.append(message)
                    put = await checkpointer.aput_state(
                        config, state, messages=[message], op_id=op_id
                    )
                else:
                    put = await checkpointer.aappend(config, [message], op_id=op_id)
                    state = await checkpointer.aget_state(config)
                assert put.version == number + 1
            # One that is refused since the head has moved is another operation, and its reply is lost too.
            lost = proxy.counts.dropped
            assert lost == LOST_REPLIES if given else lost > LOST_REPLIES
            proxy.set(PASS)
            versions = [each.version for each in await checkpointer.alist_checkpoints(config)]
            assert versions == list(range(LOST_REPLIES, 0, -1))
            said = [message.text() for message in (await checkpointer.aget_state(config)).context]
            assert said == [f"message {number}" for number in range(LOST_REPLIES)]
            logged = await checkpointer.alist_messages(config)
            assert [message.text() for message in logged] == said[1::2]


async def test_what_takes_away_is_done_once_when_its_reply_is_lost(pg_dsn: str) -> None:
    config = {"thread_id": "t"}
    with FaultProxy.before(pg_dsn) as proxy:
        async with PgCheckpointer(proxy.address(pg_dsn)) as checkpointer:
            messages = [Message.text_message(f"message {number}") for number in range(40)]
            await checkpointer.aput_messages(config, messages)
            for number in range(39, 19, -1):
                op_id = clock.new_id()
                proxy.set(drop_reply(bytes.fromhex(op_id), times=1))
                (popped,) = await checkpointer.apop_messages(config, op_id=op_id)
                assert popped.text() == f"message {number}"
            assert proxy.counts.dropped == 20
            assert len(await checkpointer.alist_messages(config)) == 20


class Crowd:
    """Writers that append to shared threads, each put repeated with its `op_id` until its outcome is known."""

    def __init__(self, dsn: str) -> None:
        self.checkpointer = PgCheckpointer(dsn, timeout=2.0)
        self.history = History()
        self.puts: Counter[int] = Counter()
        self.answers: Counter[int] = Counter()
        self.unknown = 0
        self.stop, self.progress = False, asyncio.Event()

    async def write(self, number: int) -> None:
        dice = random.Random(number)
        while not self.stop:
            key = f"t{dice.randrange(THREADS)}"
            await self.put(number, key, f"{number}.{self.puts[number]}")

    async def put(self, number: int, key: str, value: str) -> None:
        """Put the value on top of what is there; again from the start when another writer was first."""
        while True:
            state, seen = await self.read(key)
            self.answers[number] += 1
            self.progress.set()
            state.context.append(Message.text_message(value, message_id=f"{value}@{seen}"))
            op_id, tried = clock.new_id(), f"{value}@{seen}"
            with self.history.put(key, tried, seen) as operation:
                operation.version = await self.repeat(key, state, seen, op_id)
                self.puts[number] += 1
                return

    async def read(self, key: str) -> tuple[Any, int]:
        while True:
            try:
                with self.history.get(key) as operation:
                    found = await self.checkpointer.aget_checkpoint({"thread_id": key})
                    if found is not None:
                        operation.version = found.version
                        operation.value = found.state.context[-1].message_id
                return (found.state, found.version) if found else (AgentState(), 0)
            except ConnectionError:
                await asyncio.sleep(0.01)

    async def repeat(self, key: str, state: Any, seen: int, op_id: str) -> int:
        while True:
            try:
                put = await self.checkpointer.aput_state(
                    {"thread_id": key}, state, expected_version=seen, op_id=op_id
                )
                return put.version
            except ConflictError:
                raise NotMade from None
            except ConnectionError:
                self.unknown += 1
                await asyncio.sleep(0.01)


async def wait_for_each(crowd: Crowd) -> float:
    """Until each writer was answered, other than by an error, after a call that it began later: the seconds of that."""
    begun, before = time.monotonic(), crowd.answers.copy()
    while any(crowd.answers[number] <= before[number] + 1 for number in range(WRITERS)):
        crowd.progress.clear()
        await crowd.progress.wait()
    return time.monotonic() - begun


@pytest.mark.soak
@pytest.mark.timeout(1200 if SOAK else 120)
async def test_writers_outlive_a_server_that_is_killed_again_and_again() -> None:
    dice = random.Random(4)
    with postgres() as server:
        crowd = Crowd(server.dsn)
        await crowd.checkpointer.asetup()
        writers = [asyncio.create_task(crowd.write(number)) for number in range(WRITERS)]
        waits = []
        for kills in itertools.count():
            if (
                kills >= KILLS and crowd.unknown >= KILLS / 2
            ):  # Enough of them under a writer's call.
                break
            await asyncio.sleep(dice.uniform(0.05, 0.3))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            waits.append(await wait_for_each(crowd))
        assert sum(crowd.puts.values()) > KILLS
        crowd.stop = True
        await asyncio.gather(*writers)
        stored = await what_is_stored(crowd.checkpointer)
        await crowd.checkpointer.arelease()
    assert check(crowd.history.operations, stored) == []
    assert sum(crowd.puts.values()) == sum(
        each.kind == "put" for each in crowd.history.operations
    ), "a put was neither made nor refused"
    assert max(waits) <= 5, f"after a restart a writer waited for {max(waits):.1f} s"


async def what_is_stored(checkpointer: PgCheckpointer) -> dict[str, dict[int, Any]]:
    """By thread and version: the last message of each state."""
    stored: dict[str, dict[int, Any]] = {}
    for number in range(THREADS):
        config = {"thread_id": f"t{number}"}
        state = await checkpointer.aget_state(config)
        said = [message.message_id for message in state.context] if state else []
        versions = [each.version for each in await checkpointer.alist_checkpoints(config)]
        assert versions == list(range(len(said), 0, -1))
        stored[config["thread_id"]] = dict(enumerate(said, 1))
    return stored


async def test_a_killed_server_is_found_again() -> None:
    with postgres() as server:
        async with PgCheckpointer(server.dsn, timeout=2.0) as checkpointer:
            state = AgentState(context_summary="before")
            await checkpointer.aput_state({"thread_id": "t"}, state)
            server.kill()
            for call in (
                checkpointer.aget_state({"thread_id": "t"}),
                checkpointer.aput_state({"thread_id": "t"}, state),
            ):
                with pytest.raises(ConnectionError):
                    await call
            server.start()
            found = await checkpointer.aget_state({"thread_id": "t"})
            assert found.context_summary == "before"
            await checkpointer.aput_state({"thread_id": "t"}, found)
