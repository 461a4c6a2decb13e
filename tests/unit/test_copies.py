"""Reading and writing through both caches: who is asked when, what is trusted, and what a put sends.

The store here counts what it is asked; the cache is a real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis as sync_redis

from threadline import AgentState, Message, ThreadInfo, clock
from threadline.backend import Head
from threadline.backends.memory import MemoryBackend
from threadline.caches.local import LocalCache
from threadline.caches.redis import Names, RedisCache
from threadline.checkpointer import BaseCheckpointer
from threadline.config import read_config
from threadline.testing.servers import Valkey


class Store(MemoryBackend):
    """Counts its answers, each after a turn of the loop, and outlives the checkpointers on it."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = self.unchanged = 0

    async def read_head(self, *where: Any, **how: Any) -> Head:
        await asyncio.sleep(0.001)
        head = await super().read_head(*where, **how)
        self.unchanged += head.unchanged
        self.whole += bool(head.checkpoint and how.get("content", True))
        return head

    async def close(self) -> None:
        """It goes with the test."""

    def answers(self) -> tuple[int, int]:
        """How often it sent a whole head, and how often it only confirmed one, since it was asked this last."""
        said = self.whole, self.unchanged
        self.whole = self.unchanged = 0
        return said


class Clock:
    """The monotonic clock of the processes, in the hands of a test."""

    seconds = 1000.0


class Rig:
    """Processes that share a store and a cache."""

    def __init__(self, url: str) -> None:
        self.url, self.store = url, Store()
        self.made: list[BaseCheckpointer] = []

    def process(self, *, local: bool = True, shared: bool = True, **how: Any) -> BaseCheckpointer:
        cache = RedisCache(self.url, timeout=5.0, max_threads=how.pop("max_threads", None))
        checkpointer = BaseCheckpointer(
            self.store,
            LocalCache() if local else None,
            shared=cache if shared else None,
            **{"max_stale": 2.0, **how},
        )
        self.made.append(checkpointer)
        return checkpointer


@pytest.fixture
async def rig(valkey_url: str) -> AsyncIterator[Rig]:
    made = Rig(valkey_url)
    yield made
    for each in made.made:
        await each.arelease()


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(clock, "monotonic", lambda: made.seconds)
    return made


T = {"thread_id": "t"}


async def test_p3_the_store_sends_bytes_only_when_no_cache_has_them(rig: Rig) -> None:
    """A put fills the cache; other processes take the bytes from there, and ask the store whether they hold."""
    writer, reader, cold = rig.process(), rig.process(), rig.process(shared=False)
    await writer.aput_state(T, {"n": 1})
    rig.store.answers()
    for _ in range(3):
        assert await reader.aget_state(T) == {"n": 1}
    assert rig.store.answers() == (0, 3)
    assert await cold.aget_state(T) == {"n": 1}
    assert rig.store.answers() == (1, 0)


async def test_p3_what_another_process_put_is_seen_at_once(rig: Rig) -> None:
    """By its copy at hand, by the shared one, and by both."""
    writer, others = (
        rig.process(),
        [rig.process(), rig.process(local=False), rig.process(shared=False)],
    )
    state: Any = {"n": 0}
    for n in range(1, 6):
        state["n"] = n
        await writer.aput_state(T, state)
        for each in others:
            assert await each.aget_state(T) == {"n": n}


async def test_p4_a_copy_at_hand_is_trusted_for_max_stale_seconds(rig: Rig, moved: Clock) -> None:
    """Counted from before the store was asked; then the store is asked, and it begins anew."""
    writer, reader = rig.process(), rig.process(max_stale=2.0, shared=False)
    await writer.aput_state(T, {"n": 1})
    assert await reader.aget_state_cache(T) == {"n": 1}
    await writer.aput_state(T, {"n": 2})
    rig.store.answers()
    moved.seconds += 2.0
    assert await reader.aget_state_cache(T) == {"n": 1}
    assert rig.store.answers() == (0, 0)
    moved.seconds += 0.01
    assert await reader.aget_state_cache(T) == {"n": 2}
    moved.seconds += 1.9
    assert await reader.aget_state(T) == {"n": 2}  # Confirms it.
    moved.seconds += 1.9
    rig.store.answers()
    assert await reader.aget_state_cache(T) == {"n": 2}
    assert rig.store.answers() == (0, 0)


async def test_p4_a_shared_copy_is_trusted_when_any_process_had_it_confirmed(rig: Rig) -> None:
    """A put's copy only after the store was asked about it."""
    writer = rig.process()
    await writer.aput_state(T, {"n": 1})
    rig.store.answers()
    first = rig.process()
    assert await first.aget_state_cache(T) == {"n": 1}
    assert rig.store.answers() == (0, 1)
    for _ in range(2):
        assert await rig.process().aget_state_cache(T) == {"n": 1}
    assert rig.store.answers() == (0, 0)


async def test_p4_without_max_stale_the_store_is_always_asked(rig: Rig) -> None:
    writer, reader = rig.process(), rig.process(max_stale=0)
    await writer.aput_state(T, {"n": 1})
    for n in range(2, 5):
        assert await reader.aget_state_cache(T) == {"n": n - 1}
        await writer.aput_state(T, {"n": n})


async def test_p4_it_is_filled_on_a_miss(rig: Rig) -> None:
    """Warming: what one process asked for, another has."""
    await rig.process(shared=False).aput_state(T, {"n": 1})
    rig.store.answers()
    assert await rig.process().aget_state_cache(T) == {"n": 1}
    assert rig.store.answers() == (1, 0)
    assert await rig.process().aget_state_cache(T) == {"n": 1}
    assert rig.store.answers() == (0, 0)


@pytest.mark.parametrize("local", [True, False])
async def test_p8_a_trusted_copy_is_its_owners(rig: Rig, local: bool) -> None:
    """To others the thread does not exist, and without a user every thread does."""
    reader = rig.process(local=local)
    mine = {**T, "user_id": "alice"}
    await reader.aput_state(mine, {"secret": "alice's"})
    for _ in range(3):
        assert await reader.aget_state_cache(mine) == {"secret": "alice's"}
        assert await reader.aget_state_cache({**T, "user_id": "mallory"}) is None
        assert await reader.aget_state({**T, "user_id": "mallory"}) is None
        assert await reader.aget_state_cache(T) == {"secret": "alice's"}


async def test_p8_a_thread_that_is_given_an_owner_later_is_his(rig: Rig) -> None:
    reader = rig.process()
    await reader.aput_state(T, {"n": 1})
    assert await reader.aget_state_cache({**T, "user_id": "alice"}) is None
    await reader.aput_thread({**T, "user_id": None}, ThreadInfo(thread_id="t", user_id="alice"))
    assert await reader.aget_state_cache({**T, "user_id": "alice"}) == {"n": 1}
    assert await reader.aget_state_cache({**T, "user_id": "mallory"}) is None


@pytest.mark.parametrize("local", [True, False])
async def test_p7_what_this_process_deleted_or_redacted_it_serves_no_more(
    rig: Rig, local: bool, valkey_server: Valkey
) -> None:
    """Not even for a moment, also when the cache could not be told."""
    for name in ("deleted", "redacted"):
        writer = rig.process(local=local)
        config = {"thread_id": name}
        state = AgentState(context=[Message.text_message("canary", message_id="m")])
        await writer.aput_state(config, state)
        await writer.aget_state(config)
        assert "canary" in repr(await writer.aget_state_cache(config))
        valkey_server.ask("REPLICAOF", "127.0.0.1", "1")  # It refuses to forget.
        try:
            if name == "deleted":
                await writer.adelete_thread(config)
                assert await writer.aget_state_cache(config) is None
            else:
                await writer.aredact(config, "m")
                assert "canary" not in repr(await writer.aget_state_cache(config))
        finally:
            valkey_server.ask("REPLICAOF", "NO", "ONE")


async def test_every_change_of_a_past_leaves_the_caches_right(rig: Rig) -> None:
    """Clear, name, rollback, fork, prune, erase, import of batches: what a process without caches reads, all read."""
    writer, readers = rig.process(), [rig.process(), rig.process(local=False)]
    truth = rig.process(local=False, shared=False)
    new = {"thread_id": "new"}

    async def agree() -> None:
        for config in (T, new):
            for each in (writer, *readers):
                assert await each.aget_state(config) == await truth.aget_state(config)

    loaded: Any = {"list": ["a" * 100]}
    for n in range(5):
        loaded["list"].append(f"{n}" * 100)
        await writer.aput_state(T, loaded)
        await agree()
    await writer.aname_checkpoint(T, "named")
    await agree()
    await writer.arollback(T, 2)
    await agree()
    await writer.afork(T, "new")
    await agree()
    await writer.aclear_state(T)
    await agree()
    await writer.aput_state(T, {"list": ["again"]})
    await agree()
    batch = await writer.store.abatch(new, "erase", erase=True)
    await writer.store.acommit(batch)
    await agree()
    await writer.aput_state(new, {"n": "once more"})
    await agree()
    await writer.adelete_thread(T)
    await agree()
    for each in rig.made:
        if each._engine.shared is not None:
            counts = each._engine.shared.counts
            assert (counts.poison, counts.errors) == (0, 0)


async def test_many_readers_of_a_cold_thread_fetch_it_once(rig: Rig) -> None:
    """And yet each asks the store for itself, since the first one's answer may be older than their question."""
    await rig.process(shared=False).aput_state(T, {"n": 1})
    reader = rig.process()
    rig.store.answers()
    states = await asyncio.gather(*(reader.aget_state(T) for _ in range(20)))
    assert states == [{"n": 1}] * 20
    assert rig.store.answers() == (1, 19)
    assert reader._engine.shared.counts.misses == 1  # type: ignore[union-attr]


async def test_a_cancelled_reader_leaves_nobody_waiting(rig: Rig) -> None:
    await rig.process(shared=False).aput_state(T, {"n": 1})
    reader = rig.process()
    await reader.asetup()
    first = asyncio.create_task(reader.aget_state(T))
    await asyncio.sleep(0)
    others = [asyncio.create_task(reader.aget_state(T)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.gather(*others) == [{"n": 1}] * 3
    assert reader._engine.copies._looking == {}


async def test_a_put_sends_what_is_new_however_long_the_thread_is(
    rig: Rig, valkey_server: Valkey
) -> None:
    """Bytes to the cache for each put, of turn 50 to 150 and of turn 450 to 550, of messages of one size."""

    def received() -> int:
        facts = valkey_server.ask("INFO", "stats")
        assert isinstance(facts, bytes)
        return int(facts.split(b"total_net_input_bytes:")[1].split(b"\r\n")[0])

    writer, sent = rig.process(), []
    await writer.aput_state(T, {"context": []})
    for n in range(1, 551):
        if n in (50, 150, 450, 550):
            sent.append(received())
        await writer.aappend(T, [f"{n} " + f"{n * 7919 % 1000003} word " * 25])
    early, late = (sent[1] - sent[0]) / 100, (sent[3] - sent[2]) / 100
    assert late < 1.2 * early
    reader = rig.process()
    rig.store.answers()
    assert len((await reader.aget_state(T))["context"]) == 550
    assert rig.store.answers() == (0, 1)
    whole = (sent[3] - sent[0]) / 500 * 550
    assert late < whole / 20


async def test_rows_and_large_fields_that_are_out_of_use_leave_the_entry(rig: Rig) -> None:
    """The front of a list that is cut off, again and again, does not stay behind; nor do old large fields."""
    writer, client = rig.process(), sync_redis.Redis.from_url(rig.url)
    address = read_config(T)
    key = await writer._engine.key(address)
    name = Names((await writer._engine.ready()).salt).entry(key, address.ns_key)
    state = AgentState()
    fields = []
    for n in range(60):
        said = [Message.text_message(f"{n}.{m} " + "x" * 9000) for m in range(3)]
        state.context = [*state.context[-4:], *said]
        state.context_summary = f"{n}" * 6000
        await writer.aput_state(T, state)
        fields.append(client.hlen(name))
    assert max(fields[30:]) <= max(fields[:30]) + 2
    head = await rig.store.read_head(key, address.ns_key, None)
    assert head.checkpoint is not None
    blobs = {each for each in client.hkeys(name) if each.startswith(b"b:")}
    assert blobs == {b"b:" + id.hex().encode() for id in head.checkpoint.blob_refs}
    assert await rig.process(local=False).aget_state(T) == state
    client.close()


async def test_max_cached_threads_keeps_those_used_last(rig: Rig, moved: Clock) -> None:
    """Across processes: each says which threads it uses."""
    one, two = (rig.process(max_threads=4, local=False) for _ in range(2))
    client = sync_redis.Redis.from_url(rig.url)

    def kept() -> int:
        return len([each for each in client.scan_iter() if each.endswith(b":" + b"0" * 16)])

    for n in range(10):
        await (one, two)[n % 2].aput_state({"thread_id": f"{n}"}, {"n": n})
        await asyncio.sleep(0.002)
    assert kept() == 4
    rig.store.answers()
    for n in (6, 7, 8, 9):
        assert await one.aget_state({"thread_id": f"{n}"}) == {"n": n}
    assert rig.store.answers() == (0, 4)
    for n in range(6):
        assert await two.aget_state({"thread_id": f"{n}"}) == {"n": n}
    assert rig.store.answers() == (6, 0)
    assert kept() == 4
    client.close()


async def test_health_says_how_the_cache_is(rig: Rig) -> None:
    checkpointer = rig.process()
    await checkpointer.aput_state(T, {"n": 1})
    health = await checkpointer.ahealth()
    assert health["cache"]["breaker"] == "closed"
    assert health["cache"]["errors"] == 0
    assert "cache" not in await rig.process(shared=False).ahealth()


def test_sync_calls_of_an_embedded_store_do_not_use_a_shared_cache(valkey_url: str) -> None:
    """They run in the calling thread, where nothing can wait on a network."""
    checkpointer = BaseCheckpointer(MemoryBackend(), LocalCache(), shared=RedisCache(valkey_url))
    checkpointer.put_state(T, {"n": 1})
    assert checkpointer.get_state(T) == {"n": 1}
    assert checkpointer.get_state_cache(T) == {"n": 1}
    checkpointer.delete_thread(T)
    assert checkpointer.get_state(T) is None
    checkpointer.release()
