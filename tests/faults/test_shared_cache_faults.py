"""A cache that is dead, dies, hangs, is full, refuses, forgets or remembers wrongly: no error, no wrong answer (P11).

Each trouble begins with a filled cache, and while it lasts every kind of call is made by a process that is there
already and by one that is new; what they read is compared with the store's own answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis as sync_redis
from redis.asyncio import ConnectionPool, Redis

from threadline import AgentState, Message
from threadline.backends.memory import MemoryBackend
from threadline.caches.local import LocalCache
from threadline.caches.redis import RedisCache
from threadline.checkpointer import BaseCheckpointer
from threadline.testing.faults import BLACK_HOLE, PASS, REFUSE, RESET, FaultProxy, delay, drop_reply
from threadline.testing.servers import Valkey, valkey
from threadline.testing.servers.process import wait_until

SECRET = "canary-4711"


class Store(MemoryBackend):
    """A store that outlives each of the checkpointers on it."""

    async def close(self) -> None:
        """It goes with the test."""


class Rig:
    """A store, a cache server of the test's own, and a proxy before it."""

    def __init__(self, server: Valkey, proxy: FaultProxy) -> None:
        self.backend, self.server, self.proxy = Store(), server, proxy
        self.made: list[BaseCheckpointer] = []
        self.serial = 0

    def process(self, *, timeout: float = 0.05, local: bool = True, **how: Any) -> BaseCheckpointer:
        """A checkpointer as another process has it."""
        how = how or {"url": self.proxy.address(self.server.url)}
        cache = RedisCache(**how, timeout=timeout)
        made = BaseCheckpointer(
            self.backend, LocalCache() if local else None, shared=cache, max_stale=2.0
        )
        self.made.append(made)
        return made

    async def use(self, checkpointer: BaseCheckpointer) -> None:
        """Every kind of call that meets the cache; each answer is the store's."""
        self.serial += 1
        config = {"thread_id": f"thread {self.serial % 3}"}
        truth = BaseCheckpointer(self.backend)
        state = await checkpointer.aget_state(config) or AgentState()
        state.context.append(
            Message.text_message(f"{SECRET} {self.serial}", message_id=str(self.serial))
        )
        await checkpointer.aput_state(config, state)
        cold = self.process()
        for each in (checkpointer, cold):
            assert await each.aget_state(config) == state == await truth.aget_state(config)
            assert await each.aget_state_cache(config) == state
        if self.serial % 4 == 0:
            await checkpointer.aredact(config, str(self.serial))
            assert SECRET + f" {self.serial}" not in repr(await cold.aget_state(config))
        if self.serial % 5 == 0:
            await checkpointer.adelete_thread(config)
            assert await cold.aget_state(config) is None
            assert await checkpointer.aget_state_cache(config) is None
        await checkpointer.ahealth()
        await cold.arelease()

    async def release(self) -> None:
        for each in self.made:
            await each.arelease()


@pytest.fixture
def server() -> Iterator[Valkey]:
    with valkey() as made:
        yield made


@pytest.fixture
async def rig(server: Valkey) -> AsyncIterator[Rig]:
    with FaultProxy.before(server.url) as proxy:
        made = Rig(server, proxy)
        yield made
        await made.release()


def counts(checkpointer: BaseCheckpointer) -> dict[str, Any]:
    shared = checkpointer._engine.shared
    assert shared is not None
    return dict(shared.facts())


async def used(rig: Rig) -> BaseCheckpointer:
    """A process that has used the cache, which works."""
    checkpointer = rig.process()
    for _ in range(3):
        await rig.use(checkpointer)
    assert counts(checkpointer)["breaker"] == "closed"
    return checkpointer


# Not answering ----------------------------------------------------------------------------------------------

Trouble = Callable[[Rig], Awaitable[None]]


async def dead(rig: Rig) -> None:
    rig.server.kill()


async def hanging(rig: Rig) -> None:
    rig.server.pause()


async def black_hole(rig: Rig) -> None:
    rig.proxy.set(BLACK_HOLE)


async def refused(rig: Rig) -> None:
    rig.proxy.set(REFUSE)


async def reset(rig: Rig) -> None:
    rig.proxy.set(RESET)


async def slow(rig: Rig) -> None:
    rig.proxy.set(delay(down=0.5))


async def lost_replies(rig: Rig) -> None:
    rig.proxy.set(drop_reply())


async def a_password(rig: Rig) -> None:
    rig.server.ask("CONFIG", "SET", "requirepass", SECRET)
    rig.proxy.set(RESET)
    rig.proxy.set(PASS)


@pytest.mark.parametrize(
    "trouble", [dead, hanging, black_hole, refused, reset, slow, lost_replies, a_password]
)
async def test_p11_a_cache_that_does_not_answer_is_left_alone(
    rig: Rig, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors are counted, said once, without content; after some there is no input or output any more."""
    caplog.set_level(logging.INFO, "threadline.cache")
    checkpointer = await used(rig)
    await trouble(rig)
    for _ in range(6):
        await rig.use(checkpointer)
    facts = counts(checkpointer)
    assert facts["breaker"] == "open"
    assert facts["errors"] >= 5
    said = [
        record.getMessage() for record in caplog.records if "does not answer" in record.getMessage()
    ]
    assert said
    assert len(said) < len(rig.made)
    assert SECRET not in caplog.text
    before, skipped = rig.proxy.counts, facts["skipped"]
    checkpointer._engine.shared._breaker._until = float("inf")  # type: ignore[union-attr]
    config = {"thread_id": "thread 0"}
    for _ in range(10):
        state = await checkpointer.aget_state_cache(config)
        await checkpointer.aput_state(config, state or AgentState())
    assert (rig.proxy.counts.connections, rig.proxy.counts.up_bytes) == (
        before.connections,
        before.up_bytes,
    )
    assert counts(checkpointer)["skipped"] >= skipped + 10
    assert counts(checkpointer)["errors"] == facts["errors"]
    rig.server.resume()


async def test_p11_a_cache_that_is_dead_from_the_start_and_comes_later(rig: Rig) -> None:
    """Used as soon as it answers."""
    rig.server.stop()
    checkpointer = rig.process(timeout=1.0)
    async with checkpointer:
        for _ in range(6):
            await rig.use(checkpointer)
        assert counts(checkpointer)["breaker"] == "open"
        rig.server.start()
        checkpointer._engine.shared._breaker._until = 0.0  # type: ignore[union-attr]
        await rig.use(checkpointer)
        assert counts(checkpointer)["breaker"] == "closed"
        reader = rig.process(local=False, timeout=1.0)
        await rig.use(reader)
        assert counts(reader)["hits"] > 0


async def test_p11_a_cache_that_dies_again_and_again(rig: Rig) -> None:
    """Killed and started under use; each time it has forgotten everything."""
    checkpointer = rig.process(timeout=1.0)
    for number in range(10):
        await rig.use(checkpointer)
        if number % 2:
            rig.server.kill()
            await rig.use(checkpointer)
            rig.server.start()
    assert counts(checkpointer)["poison"] == 0


# Refusing, forgetting, remembering wrongly ------------------------------------------------------------------


async def test_p11_a_full_cache_refuses_and_is_still_read(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """`noeviction`: said once, counted, and it goes on when there is room."""
    caplog.set_level(logging.INFO, "threadline.cache")
    checkpointer = await used(rig)
    rig.server.ask("CONFIG", "SET", "maxmemory", "1")
    rig.server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    for _ in range(6):
        await rig.use(checkpointer)
    facts = counts(checkpointer)
    assert facts["errors"] > 0
    assert facts["breaker"] == "closed"  # It answers.
    assert [r.getMessage() for r in caplog.records if "OutOfMemoryError" in r.getMessage()]
    assert SECRET not in caplog.text
    rig.server.ask("CONFIG", "SET", "maxmemory", "0")
    await rig.use(checkpointer)
    assert counts(checkpointer)["errors"] == facts["errors"]
    assert any("accepts again" in record.getMessage() for record in caplog.records)


async def test_p11_a_read_only_replica_refuses(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """As after a failover that the address does not follow: what it has is old."""
    checkpointer = await used(rig)
    rig.server.ask("REPLICAOF", "127.0.0.1", "1")
    for _ in range(6):
        await rig.use(checkpointer)
    assert counts(checkpointer)["errors"] > 0
    assert any("ReadOnlyError" in record.getMessage() for record in caplog.records)
    rig.server.ask("REPLICAOF", "NO", "ONE")
    errors = counts(checkpointer)["errors"]
    await rig.use(checkpointer)
    assert counts(checkpointer)["errors"] == errors


async def test_p3_a_cache_that_is_flushed_all_the_time(rig: Rig) -> None:
    checkpointer = rig.process(timeout=1.0)
    for _ in range(12):
        rig.server.flush()
        await rig.use(checkpointer)
        rig.server.ask("SCRIPT", "FLUSH")
    assert (counts(checkpointer)["errors"], counts(checkpointer)["poison"]) == (0, 0)


async def test_p3_p7_a_cache_that_was_restored_to_an_old_dump(rig: Rig) -> None:
    """With versions that are no more, of threads that were deleted and redacted since, and without the erased ones'
    marks: strict reads give what the store has."""
    writer = rig.process(timeout=1.0)
    told = Message.text_message(f"{SECRET} told", message_id="told")
    for name in ("grows", "deleted", "again", "redacted"):
        await writer.aput_state({"thread_id": name}, AgentState(context=[told]))
    rig.server.ask("SAVE")
    state = await writer.aget_state({"thread_id": "grows"})
    state.context.append(Message.text_message("more"))
    await writer.aput_state({"thread_id": "grows"}, state)
    for name in ("deleted", "again"):
        await writer.adelete_thread({"thread_id": name})
    await writer.aput_state({"thread_id": "again"}, AgentState(context_summary="new"))
    await writer.aredact({"thread_id": "redacted"}, "told")
    rig.server.kill()
    rig.server.start()
    assert rig.server.ask("DBSIZE") != 0
    reader = rig.process(timeout=1.0, local=False)
    for _ in range(2):
        assert await reader.aget_state({"thread_id": "grows"}) == state
        assert await reader.aget_state({"thread_id": "deleted"}) is None
        again = await reader.aget_state({"thread_id": "again"})
        assert (again.context, again.context_summary) == ([], "new")
        assert SECRET not in repr(await reader.aget_state({"thread_id": "redacted"}))
    assert counts(reader)["stale"] == 4
    assert counts(reader)["poison"] == 0


# Connections ------------------------------------------------------------------------------------------------


async def test_p10_a_cancelled_call_never_gives_its_reply_to_another(rig: Rig) -> None:
    """2,000 calls on 20 threads, each cancelled at a random moment or not."""
    checkpointer = rig.process(timeout=1.0, local=False)
    for number in range(20):
        await checkpointer.aput_state({"thread_id": str(number)}, {"n": number, "text": "x" * 3000})
    random.seed(11)
    done = 0

    async def one(number: int) -> None:
        nonlocal done
        state = await checkpointer.aget_state({"thread_id": str(number)})
        assert state["n"] == number
        done += 1

    for _ in range(100):
        tasks = [asyncio.create_task(one(random.randrange(20))) for _ in range(20)]
        for task in tasks:
            if random.random() < 0.7:
                asyncio.get_running_loop().call_later(random.random() * 0.01, task.cancel)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError)
    assert 0 < done < 2000
    assert counts(checkpointer)["poison"] == 0
    await checkpointer.arelease()
    left = sync_redis.Redis.from_url(rig.server.url)
    wait_until(lambda: len(left.client_list()) == 1, "every connection to be closed")
    left.close()


async def test_a_callers_client_or_pool_is_used_as_it_is_and_never_closed(rig: Rig) -> None:
    """Also one that decodes replies."""
    url = rig.server.url
    client = Redis.from_url(url, decode_responses=True)
    pool = ConnectionPool.from_url(url, socket_timeout=7)
    settings = dict(pool.connection_kwargs)
    for how in ({"client": client}, {"pool": pool}):
        checkpointer = rig.process(timeout=1.0, local=False, **how)
        await rig.use(checkpointer)
        assert counts(checkpointer)["hits"] > 0
        assert (counts(checkpointer)["errors"], counts(checkpointer)["poison"]) == (0, 0)
        await checkpointer.arelease()
    assert await client.ping()
    assert await Redis(connection_pool=pool).ping()
    assert pool.connection_kwargs == settings
    await client.aclose()
    await pool.aclose()


def test_each_event_loop_has_connections_of_its_own(server: Valkey) -> None:
    """And a caller's client belongs to the loop that uses it: another one goes without the cache."""
    with FaultProxy.before(server.url) as proxy:
        rig = Rig(server, proxy)
        checkpointer = rig.process(timeout=1.0, local=False)
        client = Redis.from_url(server.url)
        given = rig.process(timeout=1.0, local=False, client=client)

        async def put_and_get(n: int) -> None:
            for each in (checkpointer, given):
                await each.aput_state({"thread_id": f"{n}"}, {"n": n})
                assert await each.aget_state({"thread_id": f"{n}"}) == {"n": n}

        with asyncio.Runner() as first, asyncio.Runner() as second:
            for n in range(3):
                first.run(put_and_get(n))
                assert counts(given)["skipped"] == 2 * n
                second.run(put_and_get(10 + n))
                assert counts(given)["skipped"] == 2 * n + 2
            assert counts(checkpointer)["hits"] == 6
            assert counts(given)["hits"] == 3
            assert counts(checkpointer)["errors"] == 0
            second.run(checkpointer._engine.shared._clients._ours[second.get_loop()].aclose())  # type: ignore[union-attr]
            first.run(rig.release())
            first.run(client.aclose())


def test_a_forked_child_makes_its_own_connections(server: Valkey) -> None:
    """And never uses those of its parent, nor a client that its parent was given."""
    with FaultProxy.before(server.url) as proxy, asyncio.Runner() as runner:
        rig = Rig(server, proxy)
        ours = rig.process(timeout=1.0, local=False)
        client = Redis.from_url(server.url)
        given = rig.process(timeout=1.0, local=False, client=client)
        for each in (ours, given):
            runner.run(each.aput_state({"thread_id": "t"}, {"n": 1}))
            runner.run(each.aget_state({"thread_id": "t"}))
        early = rig.process(
            timeout=1.0, local=False, client=(another := Redis.from_url(server.url))
        )

        async def before() -> None:  # On a loop that is no more when the child comes into being.
            await early.aput_state({"thread_id": "t"}, {"n": 1})
            await another.aclose()

        asyncio.run(before())
        skipped, connections = counts(given)["skipped"], proxy.counts.connections
        child = os.fork()
        if child == 0:
            fine = False
            try:

                async def both() -> bool:
                    for each in (ours, given, early):
                        assert await each.aget_state({"thread_id": "t"}) == {"n": 1}
                    left_alone = counts(early)["skipped"] == 1
                    left_alone = left_alone and counts(given)["skipped"] == skipped + 1
                    return left_alone and counts(ours)["hits"] == 2

                loop = asyncio.new_event_loop()
                fine = loop.run_until_complete(both())
            finally:
                os._exit(0 if fine else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, signal.strsignal(status)
        assert proxy.counts.connections == connections + 1
        assert runner.run(ours.aget_state({"thread_id": "t"})) == {"n": 1}
        assert counts(ours)["errors"] == 0
        runner.run(rig.release())
        runner.run(client.aclose())


def test_wrong_arguments_are_refused_at_once() -> None:
    url = "redis://127.0.0.1:1"
    for wrong in (
        {},
        {"url": url, "client": Redis.from_url(url)},
        {"url": "http://127.0.0.1"},
        {"url": url, "ttl": 0},
        {"url": url, "timeout": -1},
        {"url": url, "max_threads": 0},
    ):
        with pytest.raises(ValueError):
            RedisCache(**wrong)  # type: ignore[arg-type]
    for wrong in (
        {"client": sync_redis.Redis.from_url(url)},
        {"pool": sync_redis.ConnectionPool()},
    ):
        with pytest.raises(TypeError):
            RedisCache(**wrong)  # type: ignore[arg-type]
    for wrong in (
        {"url": url, "pool_config": {"max_conections": 5}},
        {"url": f"{url}?max_conections=5"},
    ):
        with pytest.raises(TypeError, match="'max_conections'"):
            RedisCache(**wrong)  # type: ignore[arg-type]
    RedisCache(url, pool_config={"max_connections": 5, "client_name": "mine"})
    for value, error in (("2", TypeError), (True, TypeError), (-1, ValueError), (61, ValueError)):
        with pytest.raises(error):
            BaseCheckpointer(MemoryBackend(), max_stale=value)  # type: ignore[arg-type]


async def test_no_secret_is_shown(rig: Rig) -> None:
    """The address with its password is in no text that can be logged."""
    cache = RedisCache(f"redis://user:{SECRET}@127.0.0.1:1/0")
    cache.open(b"salt of a store.")
    assert await cache.get(b"k" * 16, bytes(8)) is None
    shown = repr(cache) + str(cache.facts()) + repr(vars(cache))
    assert SECRET not in shown
    await cache.close()
