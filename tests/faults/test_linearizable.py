"""P3 under cache faults: processes that share threads, each with a cache that fails in its own way all the time.

Every writer reads, puts what it read one further with compare-and-set, and tries again when another was first. What all
of them saw is checked as one history. A reader that trusts its cache must not pass: the last test sees to that.

Each process is this file run as a script; it prints its history.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest

from threadline import ConflictError, PgCheckpointer
from threadline.testing.faults import BLACK_HOLE, PASS, REFUSE, FaultProxy, delay, drop_reply
from threadline.testing.history import History, NotMade, Operation, check

SOAK = bool(os.environ.get("THREADLINE_SOAK"))
PROCESSES, THREADS = 4, 8
#: Writers of a process, and puts of each that must be acknowledged.
WRITERS, PUTS = (16, 200) if SOAK else (8, 8)
FAULTS = [PASS, BLACK_HOLE, REFUSE, drop_reply(), delay(0.02, 0.02)]
#: Seconds that `aget_state_cache` may lag behind; what it answers is checked as if it had been asked so much earlier.
MAX_STALE = 2.0


async def play(dsn: str, redis_url: str, number: int, trusting: bool) -> History:
    """What one process does: its writers, its restless cache, and a FLUSHALL now and then."""
    history, dice = History(), random.Random(number)
    with FaultProxy.before(redis_url) as proxy:
        async with PgCheckpointer(
            dsn, redis_url=proxy.address(redis_url), pool_config={"max_size": 8}
        ) as checkpointer:
            if trusting:
                checkpointer.aget_state = checkpointer.aget_state_cache
            with proxy.restless(FAULTS, every=0.25, seed=number):
                flushing = asyncio.create_task(flush(redis_url, dice))
                await asyncio.gather(
                    *(
                        write(checkpointer, history, f"{number}.{writer}", random.Random(writer))
                        for writer in range(WRITERS)
                    )
                )
                flushing.cancel()
    return history


async def flush(redis_url: str, dice: random.Random) -> None:
    import redis.asyncio

    async with redis.asyncio.Redis.from_url(redis_url) as client:
        while True:
            await asyncio.sleep(dice.uniform(0.1, 2.0))
            await client.flushall()


async def write(
    checkpointer: PgCheckpointer, history: History, name: str, dice: random.Random
) -> None:
    acknowledged = tried = 0
    while acknowledged < PUTS:
        key = f"t{dice.randrange(THREADS)}"
        if dice.random() < 0.2:
            await read_cache(checkpointer, history, key)
        state, seen = await read(checkpointer, history, key)
        tried += 1
        value = f"{name}.{tried}"
        state |= {"version": seen + 1, "value": value, "ballast": f"{name} " * 40}
        with history.put(key, value, seen) as put:
            try:
                made = await checkpointer.aput_state(
                    {"thread_id": key}, state, expected_version=seen, metadata={"value": value}
                )
            except ConflictError:
                raise NotMade from None
            put.version = made.version
            acknowledged += 1


async def read(checkpointer: PgCheckpointer, history: History, key: str) -> tuple[Any, int]:
    with history.get(key) as get:
        state = await checkpointer.aget_state({"thread_id": key})
        if state is not None:
            get.version, get.value = state["version"], state["value"]
    return state or {}, get.version


async def read_cache(checkpointer: PgCheckpointer, history: History, key: str) -> None:
    with history.get(key) as get:
        state = await checkpointer.aget_state_cache({"thread_id": key})
        if state is not None:
            get.version, get.value = state["version"], state["value"]
        get.called -= MAX_STALE


def run_processes(dsn: str, redis_url: str, *, trusting: bool = False) -> list[Operation]:
    """Every operation of the processes."""
    players = [
        subprocess.Popen(
            [sys.executable, __file__, dsn, redis_url, str(number), "trusting" * trusting],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for number in range(PROCESSES)
    ]
    operations = []
    for player in players:
        out, _ = player.communicate()
        assert player.returncode == 0
        operations += [Operation(**json.loads(line)) for line in out.splitlines()]
    return operations


async def what_is_stored(dsn: str) -> dict[str, dict[int, Any]]:
    stored = {}
    async with PgCheckpointer(dsn) as checkpointer:
        for number in range(THREADS):
            config = {"thread_id": f"t{number}"}
            checkpoints = await checkpointer.alist_checkpoints(config)
            stored[f"t{number}"] = {each.version: each.metadata["value"] for each in checkpoints}
    return stored


@pytest.fixture
def store(pg_dsn: str) -> str:
    with PgCheckpointer(pg_dsn):
        return pg_dsn


@pytest.mark.soak
@pytest.mark.timeout(1800 if SOAK else 120)
@pytest.mark.parametrize("cache", ["valkey_url", "redis8_url"])
def test_reads_and_puts_are_linearizable_whatever_the_cache_does(
    store: str, cache: str, request: pytest.FixtureRequest
) -> None:
    operations = run_processes(store, request.getfixturevalue(cache))
    stored = asyncio.run(what_is_stored(store))
    assert check(operations, stored) == []
    acknowledged = [each for each in operations if each.kind == "put" and each.returned is not None]
    assert len(acknowledged) == PROCESSES * WRITERS * PUTS
    assert sum(map(len, stored.values())) == len(acknowledged)


@pytest.mark.soak
@pytest.mark.timeout(1800 if SOAK else 120)
def test_a_reader_that_trusts_its_cache_is_caught(store: str, valkey_url: str) -> None:
    found = check(run_processes(store, valkey_url, trusting=True))
    assert "stale" in {violation.kind for violation in found}


def main() -> None:
    dsn, redis_url, number, trusting = sys.argv[1:]
    history = asyncio.run(play(dsn, redis_url, int(number), bool(trusting)))
    for operation in history.operations:
        sys.stdout.write(json.dumps(asdict(operation)) + "\n")


if __name__ == "__main__":
    main()
