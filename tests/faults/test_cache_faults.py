"""P11: a cache that is dead, slow, full, read-only, flushed or set back. Never an error, never a wrong answer, and no
waiting for it once it is known not to answer."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from threadline import AgentState, Message, PgCheckpointer
from threadline.testing.faults import (
    BLACK_HOLE,
    PASS,
    REFUSE,
    RESET,
    Fault,
    FaultProxy,
    cut,
    delay,
    drop_reply,
)
from threadline.testing.servers import Valkey, redis, valkey

CONFIG = {"thread_id": "t"}
FAULTS = [BLACK_HOLE, RESET, REFUSE, drop_reply(), cut(0), cut(7), delay(0.2, 0.2)]


@pytest.fixture(params=[valkey, redis], ids=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Valkey]:
    """A cache of its own, which a test may stop and kill."""
    with request.param(save="3600 1") as server:
        yield server


class Pair:
    """Two processes' worth: checkpointers that share a store and a cache, and know nothing of each other."""

    def __init__(self, dsn: str, url: str) -> None:
        self.one = PgCheckpointer(dsn, redis_url=url)
        self.two = PgCheckpointer(dsn, redis_url=url)
        self.turn = 0

    async def works(self) -> None:
        """One puts and names the turn, two reads just that; then two puts and one reads."""
        for here, there in ((self.one, self.two), (self.two, self.one)):
            self.turn += 1
            state = await here.aget_state(CONFIG) or AgentState()
            state.context.append(Message.text_message(f"turn {self.turn}"))
            put = await here.aput_state(CONFIG, state)
            assert put.version == self.turn
            seen = await there.aget_state(CONFIG)
            assert [message.text() for message in seen.context] == [
                f"turn {number}" for number in range(1, self.turn + 1)
            ]
            # This one may lag, by as much as was promised, and answers as well.
            assert await there.aget_state_cache(CONFIG) is not None


@pytest.fixture
async def pair(pg_dsn: str, server: Valkey) -> AsyncIterator[Any]:
    pair = Pair(pg_dsn, server.url)
    yield pair
    await pair.one.arelease()
    await pair.two.arelease()


async def test_dead_from_the_start(pg_dsn: str) -> None:
    with valkey() as server:
        server.stop()
        pair = Pair(pg_dsn, server.url)
        await pair.works()
        await pair.one.arelease()
        await pair.two.arelease()


async def test_it_dies_hangs_and_comes_back_empty_or_full(pair: Pair, server: Valkey) -> None:
    await pair.works()
    assert server.ask("DBSIZE") != 0, "it is not used at all"
    for act in (
        server.kill,
        server.start,
        server.pause,
        server.resume,
        server.flush,
        server.restart,
        server.stop,
        server.start,
    ):
        act()
        await pair.works()


async def test_it_is_set_back_to_an_old_dump(pair: Pair, server: Valkey) -> None:
    await pair.works()
    server.ask("SAVE")
    dump = server.folder / "dump.rdb"
    shutil.copy(dump, server.folder / "old.rdb")
    await pair.works()
    server.kill()
    shutil.copy(server.folder / "old.rdb", dump)
    server.account.own(dump)
    server.start()
    for _ in range(3):
        await pair.works()


@pytest.mark.parametrize("start", [valkey, redis])
async def test_it_is_full(pg_dsn: str, start: Callable[..., Valkey]) -> None:
    with start(maxmemory="1mb", maxmemory_policy="noeviction") as server:
        pair = Pair(pg_dsn, server.url)
        for _ in range(3):
            await pair.works()
        await pair.one.arelease()
        await pair.two.arelease()


async def test_it_is_a_read_only_replica(pair: Pair, server: Valkey) -> None:
    await pair.works()
    with valkey() as primary:
        server.ask("REPLICAOF", primary.host, str(primary.port))
        await pair.works()
    server.ask("REPLICAOF", "NO", "ONE")
    await pair.works()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.name} {fault.cut_after or ''}")
async def test_the_network_to_it_fails(pg_dsn: str, valkey_url: str, fault: Fault) -> None:
    with FaultProxy.before(valkey_url) as proxy:
        pair = Pair(pg_dsn, proxy.address(valkey_url))
        await pair.works()
        for each in (fault, PASS, fault):
            proxy.set(each)
            await pair.works()
        proxy.set(PASS)
        await pair.one.arelease()
        await pair.two.arelease()


async def test_one_that_does_not_answer_is_left_alone(pg_dsn: str, valkey_url: str) -> None:
    with FaultProxy.before(valkey_url) as proxy:
        async with PgCheckpointer(pg_dsn, redis_url=proxy.address(valkey_url)) as checkpointer:
            state = AgentState()
            await checkpointer.aput_state(CONFIG, state)
            proxy.set(BLACK_HOLE)
            for _ in range(20):  # More failures than it takes.
                await checkpointer.aput_state(CONFIG, state)
            assert (await checkpointer.ahealth())["ok"]
            # No connection is made and none is kept, but for a probe now and then.
            quiet = 0
            for _ in range(40):
                before = proxy.counts.connections
                await checkpointer.aput_state(CONFIG, state)
                quiet += proxy.counts.connections == before
            assert quiet >= 30
            proxy.set(PASS)
            assert await checkpointer.aget_state(CONFIG) == state
