"""The figures of the embedded core, measured in one run. `python benchmarks/core.py --help`.

Each figure is a size, or a ratio of times measured beside each other in this process; absolute times are printed
for orientation only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _harness import LIMIT, noise, words, zstd_size
from pydantic import Field, TypeAdapter

from threadline import AgentState, Message, SqliteCheckpointer, ThreadInfo
from threadline.history.watch import Watch


def file_bytes(path: Path) -> int:
    """The file and its write-ahead log."""
    return sum(
        each.stat().st_size
        for each in path.parent.glob(path.name + "*")
        if not each.name.endswith(("-shm", "-lock"))
    )


class TurnsState(AgentState):
    """1.5 KB of other fields, of which some change each turn."""

    plan: str = ""
    notes: dict[str, str] = Field(default_factory=dict)
    tally: int = 0
    profile: dict[str, str] = Field(default_factory=dict)
    last_tool: str = ""


def turns(
    directory: Path, make: Callable[[int, random.Random], str], count: int = 1000
) -> dict[str, Any]:
    """A growing conversation: 2 messages of 300 bytes a turn, 1.5 KB of other fields of which some change."""
    rng, said = random.Random(7), list[str]()
    path = directory / f"turns-{make.__name__}.db"
    times: list[float] = []

    def new(size: int) -> str:
        said.append(make(size, rng))
        return said[-1]

    with SqliteCheckpointer(path) as checkpointer:
        config = {"thread_id": "long"}
        state = TurnsState(
            plan=new(300),
            notes={str(i): new(100) for i in range(4)},
            profile={str(i): new(100) for i in range(6)},
            last_tool=new(100),
        )
        versions = []
        for turn in range(count):
            for role in ("user", "assistant"):
                state.context.append(Message.text_message(new(300), role=role))
            state.tally += 1
            state.execution_meta.step = turn
            state.last_tool = new(100)
            if turn % 10 == 0:
                state.plan = new(300)
            started = time.perf_counter()
            checkpointer.put_state(config, state)
            times.append(time.perf_counter() - started)
            versions.append(state.model_dump_json())
        reads = {}
        cold = SqliteCheckpointer(path)
        for label, version in (("middle", count // 2), ("newest", count)):
            samples = []
            for _ in range(15):
                started = time.perf_counter()
                cold.get_state({**config, "version": version, "state_class": TurnsState})
                samples.append(time.perf_counter() - started)
            reads[label] = statistics.median(samples)
        wrong = sum(
            checkpointer.get_state({**config, "version": n + 1}).model_dump_json() != wanted
            for n, wanted in enumerate(versions)
        )
        cold.release()
    first, last = statistics.median(times[5:25]), statistics.median(times[-100:])
    return {
        "file_mb": file_bytes(path) / 1e6,
        "text_in_zstd_mb": zstd_size(said) / 1e6,
        "put_first_ms": first * 1e3,
        "put_last_ms": last * 1e3,
        "put_ratio": last / first,
        "middle_to_newest_read": reads["middle"] / reads["newest"],
        "newest_read_ms": reads["newest"] * 1e3,
        "versions_wrong": wrong,
    }


def interleaved(directory: Path, count: int = 1000) -> dict[str, Any]:
    """Puts of a short and of a long thread in turn, whole states and appends, so that noise hits both alike."""
    rng = random.Random(8)
    out: dict[str, Any] = {}
    with SqliteCheckpointer(directory / "interleaved.db") as checkpointer:
        for way in ("whole", "append"):
            long, short = AgentState(), AgentState()
            long.context = [Message.text_message(words(300, rng)) for _ in range(2 * count)]
            checkpointer.put_state({"thread_id": f"long-{way}"}, long)
            checkpointer.put_state({"thread_id": f"long-{way}"}, long)
            samples: dict[str, list[float]] = {"long": [], "short": []}
            for turn in range(200):
                if turn % 20 == 0:
                    short = AgentState()
                    short.context = [Message.text_message(words(300, rng)) for _ in range(20)]
                    short_config = {"thread_id": f"short-{way}-{turn}"}
                    checkpointer.put_state(short_config, short)
                for label, state, config in (
                    ("long", long, {"thread_id": f"long-{way}"}),
                    ("short", short, short_config),
                ):
                    new = [Message.text_message(words(300, rng)) for _ in range(2)]
                    started = time.perf_counter()
                    if way == "append":
                        checkpointer.append(config, new)
                    else:
                        state.context += new
                        checkpointer.put_state(config, state)
                    samples[label].append(time.perf_counter() - started)
            for label, values in samples.items():
                out[f"{way}_{label}_ms"] = statistics.median(values) * 1e3
            out[f"{way}_ratio"] = out[f"{way}_long_ms"] / out[f"{way}_short_ms"]
    return out


def detection(count: int = 2000) -> dict[str, Any]:
    """Finding that nothing changed in 2,000 messages, against one dump_json of the list."""
    rng = random.Random(9)
    messages = [Message.text_message(words(300, rng)) for _ in range(count)]
    watch, adapter = Watch.of(messages), TypeAdapter(list[Message])
    adapter.dump_json(messages)
    found, dumped = [], []
    for _ in range(40):
        started = time.perf_counter()
        changed = watch.suspects(messages)
        found.append(time.perf_counter() - started)
        assert not changed
        started = time.perf_counter()
        adapter.dump_json(messages)
        dumped.append(time.perf_counter() - started)
    return {
        "detect_ms": statistics.median(found) * 1e3,
        "dump_json_ms": statistics.median(dumped) * 1e3,
        "ratio": statistics.median(found) / statistics.median(dumped),
    }


def conversations(directory: Path, source: Path) -> dict[str, Any]:
    """Real conversations: the message log, then a state a message, then both, against the JSON text."""
    threads = [
        json.loads(line) for line in source.read_text(encoding="utf-8").splitlines() if line.strip()
    ]
    parsed = [[Message.from_openai(each) for each in thread["messages"]] for thread in threads]
    total = sum(map(len, parsed))
    size, text = source.stat().st_size, source.read_text("utf-8")
    out: dict[str, Any] = {"threads": len(threads), "messages": total, "source_bytes": size}
    out["text_in_zstd"] = zstd_size([text]) / size
    log = directory / "log.db"
    with SqliteCheckpointer(log) as checkpointer:
        started = time.perf_counter()
        for thread, messages in zip(threads, parsed, strict=True):
            config = {"thread_id": thread["thread_id"], "user_id": thread["user_id"]}
            checkpointer.put_messages(config, messages)
        out["import_messages_per_second"] = total / (time.perf_counter() - started)
        wrong = 0
        for thread in threads:
            config = {"thread_id": thread["thread_id"], "user_id": thread["user_id"]}
            wrong += [m.to_openai() for m in checkpointer.list_messages(config)] != thread[
                "messages"
            ]
        out["threads_read_back_wrong"] = wrong
    out["log_with_search"] = file_bytes(log) / size
    for label, beside in (("states", False), ("both", True)):
        path = directory / f"{label}.db"
        with SqliteCheckpointer(path, durability="relaxed") as checkpointer:
            started = time.perf_counter()
            for thread, messages in zip(threads, parsed, strict=True):
                config = {"thread_id": thread["thread_id"], "user_id": thread["user_id"]}
                state = AgentState()
                for message in messages:
                    state.context.append(message)
                    state.execution_meta.step += 1
                    checkpointer.put_state(config, state, messages=[message] if beside else ())
            out[f"{label}_puts_per_second"] = total / (time.perf_counter() - started)
        out[label] = file_bytes(path) / size
    return out


def writers(directory: Path, tasks: int = 16, each: int = 150) -> dict[str, Any]:
    """Durable puts per second: concurrent writers in one process, against one connection with a commit a put."""

    async def threadline_run() -> float:
        async with SqliteCheckpointer(directory / "writers.db") as checkpointer:
            states = [AgentState() for _ in range(tasks)]

            async def work(number: int) -> None:
                for turn in range(each):
                    states[number].execution_meta.step = turn
                    states[number].context_summary = f"turn {turn} " * 8
                    await checkpointer.aput_state({"thread_id": f"t{number}"}, states[number])

            started = time.perf_counter()
            await asyncio.gather(*(work(number) for number in range(tasks)))
            return tasks * each / (time.perf_counter() - started)

    connection = sqlite3.connect(directory / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE states (id INTEGER PRIMARY KEY, thread TEXT, version INTEGER, payload BLOB)"
    )
    bare = []
    ours = []
    for _ in range(3):
        started = time.perf_counter()
        for turn in range(tasks * each // 2):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO states (thread, version, payload) VALUES (?, ?, ?)",
                (f"t{turn % tasks}", turn, b"x" * 200),
            )
            connection.execute("COMMIT")
        bare.append(tasks * each // 2 / (time.perf_counter() - started))
        ours.append(asyncio.run(threadline_run()))
    connection.close()
    return {
        "puts_per_second": statistics.median(ours),
        "bare_commits_per_second": statistics.median(bare),
        "ratio": statistics.median(ours) / statistics.median(bare),
    }


def _process(path: str, number: int, puts: int, waits: Any) -> None:
    worst = []
    with SqliteCheckpointer(path) as checkpointer:
        state = AgentState()
        for turn in range(puts):
            state.execution_meta.step = turn
            started = time.perf_counter()
            checkpointer.put_state({"thread_id": f"p{number}"}, state)
            worst.append(time.perf_counter() - started)
    waits.put(worst)


def processes(directory: Path, count: int = 16, puts: int = 500) -> dict[str, Any]:
    """Processes that put to one file at once: errors, losses, and how long a put waits."""
    context = multiprocessing.get_context("spawn")
    path, waits = directory / "processes.db", context.Queue()
    workers = [
        context.Process(target=_process, args=(str(path), n, puts, waits)) for n in range(count)
    ]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    samples = sorted(wait for _ in workers for wait in waits.get())
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - started
    with SqliteCheckpointer(path) as checkpointer:
        kept = sum(info.checkpoint_count or 0 for info in checkpointer.list_threads({}))
    check = sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone()[0]
    return {
        "puts": len(samples),
        "lost": count * puts - kept,
        "failed_processes": sum(worker.exitcode != 0 for worker in workers),
        "integrity": check,
        "p50_ms": samples[len(samples) // 2] * 1e3,
        "p99_ms": samples[int(len(samples) * 0.99)] * 1e3,
        "worst_ms": samples[-1] * 1e3,
        "puts_per_second": count * puts / elapsed,
    }


def imports(runs: int = 15) -> dict[str, Any]:
    """`import threadline` (and using its names) against importing its own dependencies, each in a new process."""
    programs = {
        "dependencies": "import pydantic, orjson, zstandard",
        "threadline": "import threadline",
        "first_use": "from threadline import AgentState, Message, SqliteCheckpointer",
    }
    samples: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(runs):
        for name, program in programs.items():
            code = (
                f"import time; t = time.perf_counter(); {program}; print(time.perf_counter() - t)"
            )
            run = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
            samples[name].append(float(run.stdout))
    medians = {name: statistics.median(values) for name, values in samples.items()}
    heavy = "('asyncpg', 'redis', 'typer', 'rich')"
    code = f"import threadline, sys; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = run.stdout.strip()
    return {
        **{f"{name}_ms": value * 1e3 for name, value in medians.items()},
        "ratio": medians["threadline"] / medians["dependencies"],
        "first_use_ratio": medians["first_use"] / medians["dependencies"],
        "loaded": loaded,
    }


def threads_listed(directory: Path, count: int = 2000) -> dict[str, Any]:
    """The first page of a list of threads."""
    with SqliteCheckpointer(directory / "threads.db", durability="relaxed") as checkpointer:
        for number in range(count):
            info = ThreadInfo(thread_id=f"t{number}", thread_name=f"thread {number}")
            checkpointer.put_thread({"thread_id": info.thread_id}, info)
        started = time.perf_counter()
        page = checkpointer.list_threads({}, limit=20)
        assert len(page) == 20
        return {"threads": count, "first_page_ms": (time.perf_counter() - started) * 1e3}


def main() -> None:
    """Run the chosen measurements and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what",
        nargs="*",
        help="turns interleaved detection conversations writers processes imports threads",
    )
    parser.add_argument(
        "--conversations", type=Path, help="a JSONL file of OpenAI-format conversations"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="into this file too")
    parser.add_argument("--minutes", type=float, help="for all of it; what has to be cut is said")
    options = parser.parse_args()
    wanted = set(options.what) or {
        "turns",
        "interleaved",
        "detection",
        "writers",
        "processes",
        "imports",
        "threads",
    }
    if options.conversations:
        wanted.add("conversations")
    results: dict[str, Any] = {"python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version}
    LIMIT.minutes(options.minutes)
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        works: dict[str, Callable[[], Any]] = {
            "turns, words": lambda: turns(directory, words),
            "turns, random letters": lambda: turns(directory, noise),
            "interleaved": lambda: interleaved(directory),
            "detection": detection,
            "conversations": lambda: conversations(directory, options.conversations),
            "writers": lambda: writers(directory),
            "processes": lambda: processes(directory),
            "imports": imports,
            "threads": lambda: threads_listed(directory),
        }
        for name, work in works.items():
            if name.partition(",")[0] not in wanted:
                continue
            if LIMIT.over:
                LIMIT.cut(f"core.py: {name}")
                continue
            try:
                results[name] = work()
            except Exception as error:  # noqa: BLE001 - named; the other parts go on
                traceback.print_exc()
                failed[name] = f"{type(error).__name__}: {error}"[:300]
            if options.json:
                told = results | {"failed": failed, "cuts": LIMIT.cuts}
                options.json.write_text(json.dumps(told, indent=2), "utf-8")
    print(json.dumps(results, indent=2))
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
