"""Whatever somebody writes into the cache, what is served is what the store has: P3, P4, P8, P11.

The attacker may read and write everything in the cache server, and does not know the store's salt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from threadline.backends.memory import MemoryBackend
from threadline.caches.packing import MAX_BYTES, MAX_FIELDS
from threadline.caches.redis import Names, RedisCache
from threadline.checkpointer import BaseCheckpointer
from threadline.config import read_config
from threadline.testing.contract_cache import known

Fields = dict[bytes, bytes]
LARGE = "long text " * 3000  # A large field, kept apart.


class Rig:
    """A store and a cache; one that writes, one that reads without copies of its own, and the attacker's client."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.backend, self.server = MemoryBackend(), redis.Redis.from_url(url)
        self.writer = self.checkpointer(url)
        self.reader = self.checkpointer(url)
        self.shared: RedisCache = self.reader._engine.shared  # type: ignore[assignment]

    def checkpointer(self, url: str) -> BaseCheckpointer:
        shared = RedisCache(url, timeout=5.0)
        return BaseCheckpointer(self.backend, None, shared=shared, max_stale=60.0)

    async def place(self, thread: str, namespace: str = "") -> tuple[bytes, bytes, bytes]:
        """The key and namespace of a thread, and the name of its entry."""
        address = read_config({"thread_id": thread, "namespace": namespace})
        key = await self.writer._engine.key(address)
        salt = (await self.writer._engine.ready()).salt
        return key, address.ns_key, Names(salt).entry(key, address.ns_key)

    async def fields(self, thread: str, namespace: str = "") -> Fields:
        return self.server.hgetall((await self.place(thread, namespace))[2])

    async def forge(self, thread: str, fields: Fields) -> None:
        """Somebody writes an entry."""
        name = (await self.place(thread))[2]
        self.server.delete(name)
        if fields:
            self.server.hset(name, mapping=fields)

    async def read(self, thread: str = "t", **config: Any) -> list[Any]:
        """What both ways of reading give; the cache is as it was before for each."""
        name = (await self.place(thread))[2]
        before = self.server.hgetall(name)
        trusting = await self.reader.aget_state_cache({"thread_id": thread, **config})
        await self.forge(thread, before)
        return [trusting, await self.reader.aget_state({"thread_id": thread, **config})]

    async def release(self) -> None:
        await self.writer.arelease()
        await self.reader.arelease()
        self.server.close()


def state(n: int) -> dict[str, Any]:
    """A state with a list in a log, a field and a large field."""
    return {"context": [f"item {m} " * 20 for m in range(n)], "n": n, "large": LARGE + str(n % 2)}


@pytest.fixture
async def rig(valkey_url: str) -> Any:
    made = Rig(valkey_url)
    await fill(made)
    yield made
    await made.release()


async def fill(rig: Rig) -> None:
    """Two threads, each confirmed in the cache."""
    for thread, versions in (("t", 3), ("u", 3)):
        loaded: Any = None
        for n in range(1, versions + 1):
            loaded = loaded if loaded is not None else {}
            loaded.update(
                state(n)
                if thread == "t"
                else {"context": ["another"] * n, "n": n, "large": "x" * 9000}
            )
            await rig.writer.aput_state({"thread_id": thread}, loaded)
        assert (await rig.reader.aget_state({"thread_id": thread}))["n"] == versions
        assert b"t" in await rig.fields(thread)
    assert rig.shared.counts.hits == 2


async def test_the_entries_are_used_when_nobody_forged_them(rig: Rig) -> None:
    assert await rig.read() == [state(3), state(3)]
    assert (rig.shared.counts.hits, rig.shared.counts.poison) == (4, 0)


def damages() -> Iterator[tuple[str, Callable[[bytes], bytes | None]]]:
    yield "gone", lambda value: None
    yield "empty", lambda value: b""
    yield "cut", lambda value: value[:-1]
    yield "longer", lambda value: value + b"\0"
    yield "first bit", lambda value: bytes([value[0] ^ 1]) + value[1:]
    yield "last bit", lambda value: value[:-1] + bytes([value[-1] ^ 1])
    yield (
        "middle bit",
        lambda value: (
            value[: len(value) // 2]
            + bytes([value[len(value) // 2] ^ 64])
            + value[len(value) // 2 + 1 :]
        ),
    )
    yield "noise", lambda value: b"\xff\x00\x80" * 100


@pytest.mark.parametrize(
    "damage", [each for _, each in damages()], ids=[name for name, _ in damages()]
)
async def test_p11_a_damaged_field_is_never_used(
    rig: Rig, damage: Callable[[bytes], bytes | None]
) -> None:
    """Each field of the entry in turn."""
    good = await rig.fields("t")
    assert {name[:1] for name in good} == {b"s", b"h", b"t", b"r", b"b"}
    for name, value in good.items():
        bad = damage(value)
        await rig.forge("t", {k: v for k, v in (good | {name: bad}).items() if v is not None})
        counted = rig.shared.counts.poison + rig.shared.counts.misses
        assert await rig.read() == [state(3), state(3)]
        lacks_only_its_confirmation = name == b"t" and bad is None
        assert (
            rig.shared.counts.poison + rig.shared.counts.misses > counted
            or lacks_only_its_confirmation
        )


async def test_p8_an_entry_of_another_thread_is_never_used(rig: Rig) -> None:
    """As a whole, and field by field."""
    mine, theirs = await rig.fields("t"), await rig.fields("u")
    await rig.forge("t", theirs)
    assert await rig.read() == [state(3), state(3)]
    assert rig.shared.counts.poison == 2
    for name in theirs:
        await rig.forge("t", mine | {name: theirs[name]})
        assert await rig.read() == [state(3), state(3)]


async def test_p8_an_entry_of_another_namespace_is_never_used(rig: Rig) -> None:
    await rig.writer.aput_state({"thread_id": "t", "namespace": "side"}, {"n": "side"})
    await rig.forge("t", await rig.fields("t", "side"))
    assert await rig.read() == [state(3), state(3)]
    assert rig.shared.counts.poison == 2


async def test_p3_old_parts_are_never_used_with_new_ones(rig: Rig) -> None:
    """Each field of every earlier version of the entry, put back alone and with others."""
    versions = [await rig.fields("t")]
    loaded = await rig.writer.aget_state({"thread_id": "t"})
    for n in range(4, 8):
        loaded.update(state(n))
        await rig.writer.aput_state({"thread_id": "t"}, loaded)
        assert (await rig.reader.aget_state({"thread_id": "t"}))["n"] == n
        versions.append(await rig.fields("t"))
    newest = versions[-1]
    for old in versions[:-1]:
        for name, value in old.items():
            await rig.forge("t", newest | {name: value})
            assert await rig.read() == [state(7), state(7)]
        for name in (b"s", b"h", b"t"):
            await rig.forge("t", old | {name: newest[name]})
            assert await rig.read() == [state(7), state(7)]


async def test_p3_p4_an_old_entry_is_refuted_and_trusted_no_longer_than_it_was_confirmed(
    rig: Rig,
) -> None:
    """Put back as a whole, it is genuine: the store contradicts it, and its confirmation says how old it is."""
    key, ns, _ = await rig.place("t")
    old = await rig.fields("t")
    head = await rig.backend.read_head(key, ns, None)
    packer = rig.shared._packer
    assert head.checkpoint is not None
    assert head.thread is not None
    seconds, microseconds = rig.server.time()
    long_ago = (seconds - 61) * 1_000_000 + microseconds
    confirmed = packer.confirmed(key, ns, known(head), long_ago)
    loaded = await rig.writer.aget_state({"thread_id": "t"})
    loaded["n"] = 4
    await rig.writer.aput_state({"thread_id": "t"}, loaded)
    await rig.forge("t", old | {b"t": confirmed})
    assert [each["n"] for each in await rig.read()] == [4, 4]
    assert (rig.shared.counts.stale, rig.shared.counts.poison) == (2, 0)


@pytest.mark.parametrize("later", [0, 1, 10**6, 10**9, 10**14])
async def test_p4_a_confirmation_cannot_be_made_younger(rig: Rig, later: int) -> None:
    """Nor given to another version, nor lie in the future."""
    old = await rig.fields("t")
    at, mark = old[b"t"].split(b":")
    await rig.forge("t", old | {b"t": b"%d:%s" % (int(at) + later, mark)})
    assert await rig.read() == [state(3), state(3)]
    assert (rig.shared.counts.poison > 0) == (later > 0)


async def test_p4_a_clock_that_went_back_tells_nothing(rig: Rig) -> None:
    """A confirmation from the future is ours, when the server's clock was set back: it is not trusted."""
    key, ns, _ = await rig.place("t")
    seconds, _ = rig.server.time()
    await rig.shared.stamp(
        key, ns, known(await rig.backend.read_head(key, ns, None)), (seconds + 30) * 1_000_000
    )
    found = await rig.shared.get(key, ns)
    assert found is not None
    assert found.age is not None
    assert found.age < 0
    old = await rig.fields("t")
    state_now = await rig.writer.aget_state({"thread_id": "t"})
    state_now["n"] = 4
    await rig.writer.aput_state({"thread_id": "t"}, state_now)
    await rig.forge("t", old)
    assert [each["n"] for each in await rig.read()] == [4, 4]


async def test_p11_another_stores_key_makes_no_entry(rig: Rig) -> None:
    """An attacker who knows the format, the names and everything but the salt."""
    key, ns, name = await rig.place("t")
    head = await rig.backend.read_head(key, ns, None)
    attacker = RedisCache(rig.url, timeout=5.0)
    attacker.open(b"a guess at a salt")
    attacker._names = rig.shared._names
    now = (await rig.shared.get(key, ns)).now
    rig.server.delete(name)
    await attacker.publish(key, ns, head, confirmed=now)
    assert rig.server.hget(name, "s") is not None
    assert (await attacker.get(key, ns)).head is not None
    assert await rig.read() == [state(3), state(3)]
    assert rig.shared.counts.poison == 2
    await attacker.close()


@pytest.mark.parametrize("huge", ["fields", "bytes", "one field"])
async def test_p12_what_is_too_large_is_not_even_fetched(rig: Rig, huge: str) -> None:
    good = await rig.fields("t")
    extra: Fields = {
        "fields": {b"r:0:%d" % n: b"" for n in range(10**6, 10**6 + MAX_FIELDS)},
        "bytes": {b"r:0:%d" % n: bytes(10**6) for n in range(10**6, 10**6 + 9)},
        "one field": {b"x": bytes(MAX_BYTES)},
    }[huge]
    await rig.forge("t", good | extra)
    sent = int(rig.server.info("stats")["total_net_output_bytes"])
    key, ns, name = await rig.place("t")
    found = await rig.shared.get(key, ns)
    assert found is not None
    assert found.head is None
    assert int(rig.server.info("stats")["total_net_output_bytes"]) - sent < 100_000
    assert rig.shared.counts.poison == 1
    assert not rig.server.exists(name)
    assert await rig.reader.aget_state({"thread_id": "t"}) == state(3)


async def test_p11_fields_that_nobody_needs_do_no_harm(rig: Rig) -> None:
    """They are not looked at."""
    good = await rig.fields("t")
    extra = {
        b"r:": b"x",
        b"r:x:y": b"x",
        b"r:-1:0": b"x",
        b"r:0:99999": b"x",
        b"b:zz": b"x",
        b"\xff": b"x",
        b"": b"x",
    }
    await rig.forge("t", good | extra)
    assert await rig.read() == [state(3), state(3)]
    assert rig.shared.counts.poison == 0


@pytest.mark.parametrize("kind", ["string", "list", "set", "zset", "stream"])
async def test_p11_a_key_of_another_type_goes(rig: Rig, kind: str) -> None:
    """Whatever of the thread's keys it is."""
    key, _, name = await rig.place("t")
    for victim in (name, rig.shared._names.entries(key)):
        rig.server.delete(victim)
        match kind:
            case "string":
                rig.server.set(victim, b"x" * 1000)
            case "list":
                rig.server.rpush(victim, b"x")
            case "set":
                rig.server.sadd(victim, b"x")
            case "zset":
                rig.server.zadd(victim, {b"x": 1})
            case "stream":
                rig.server.xadd(victim, {b"x": b"y"})
        for _ in range(2):
            assert await rig.reader.aget_state({"thread_id": "t"}) == state(3)
        loaded = await rig.writer.aget_state({"thread_id": "t"})
        await rig.writer.aput_state({"thread_id": "t"}, loaded)
        await rig.reader.aget_state({"thread_id": "t"})
        assert await rig.reader.aget_state({"thread_id": "t"}) == state(3)
        assert rig.server.type(name) == b"hash"
    assert rig.shared.counts.errors == 0


def edits() -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Some changes of an entry: a field set to bytes, to another field's value, of another thread's, or taken away."""
    index = st.integers(0, 40)
    return st.lists(
        st.one_of(
            st.tuples(st.just("bytes"), index, st.binary(max_size=200)),
            st.tuples(st.just("flip"), index, st.integers(0, 10**6)),
            st.tuples(st.just("swap"), index, index),
            st.tuples(st.just("theirs"), index, index),
            st.tuples(st.just("gone"), index),
            st.tuples(st.just("name"), index, st.binary(max_size=12)),
        ),
        min_size=1,
        max_size=6,
    )


def edited(fields: Fields, theirs: Fields, changes: list[tuple[Any, ...]]) -> Fields:
    """The entry after the changes."""
    now = dict(fields)
    for kind, index, *rest in changes:
        names = sorted(now)
        if not names:
            break
        name = names[index % len(names)]
        match kind, *rest:
            case "bytes", data:
                now[name] = data
            case "flip", bit:
                value = bytearray(now[name] or b"x")
                value[bit // 8 % len(value)] ^= 1 << bit % 8
                now[name] = bytes(value)
            case "swap", other:
                also = names[other % len(names)]
                now[name], now[also] = now[also], now[name]
            case "theirs", other:
                now[name] = theirs[sorted(theirs)[other % len(theirs)]]
            case ("gone",):
                del now[name]
            case "name", new:
                now[new] = now.pop(name)
    return now


def test_p3_p11_no_edit_of_an_entry_changes_what_is_served(valkey_url: str) -> None:
    """Any sequence of them that Hypothesis finds."""
    with asyncio.Runner() as runner:
        rig = Rig(valkey_url)
        runner.run(fill(rig))
        good, theirs = runner.run(rig.fields("t")), runner.run(rig.fields("u"))

        async def one(changes: list[tuple[Any, ...]]) -> None:
            await rig.forge("t", edited(good, theirs, changes))
            assert await rig.read() == [state(3), state(3)]

        @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(edits())
        def every(changes: list[tuple[Any, ...]]) -> None:
            runner.run(one(changes))

        every()
        assert rig.shared.counts.poison > 100
        runner.run(rig.release())
