"""Pruning a file of 100,000 checkpoints while another process writes to it. `python benchmarks/prune.py --help`.

One thread is built put by put: a context of which a window of 50 messages stays, a plan that changes every 10 turns, a
report of 8 KB every 200. Then a second process puts to that very thread and to one of its own, as fast as its pauses
let it, first alone and then while this one prunes down to the last 100; it tells how long each of its puts took.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from threadline import AgentState, Message, SqliteCheckpointer
from threadline.history.retention import RetentionPolicy

TALK = (
    "flight booking reservation passenger baggage policy refund certificate payment card cabin upgrade cancel Oslo "
    "Bergen departure arrival confirm user profile insurance travel membership the of to and in is for on with that"
)
WORDS = TALK.split()
WINDOW = 50
CONFIG = {"thread_id": "long"}


class TurnState(AgentState):
    plan: str = ""
    report: str = ""
    turn: int = 0


def text(size: int, rng: random.Random) -> str:
    out = " ".join(rng.choices(WORDS, k=size // 6 + 1))
    return out[:size]


def build(path: Path, count: int) -> float:
    """Put `count` states, one by one; seconds."""
    rng, state = random.Random(1), TurnState()
    began = time.perf_counter()
    with SqliteCheckpointer(path, durability="relaxed") as checkpointer:
        for turn in range(count):
            state.turn = turn
            state.context.append(Message.text_message(text(200, rng)))
            if len(state.context) > WINDOW:
                del state.context[0]
            if turn % 10 == 0:
                state.plan = text(400, rng)
            if turn % 200 == 0:
                state.report = text(8000, rng)
            name = "milestone" if turn % 10_000 == 5_000 else None
            checkpointer.put_state(CONFIG, state, name=name)
    return time.perf_counter() - began


def write(path: str, pause: float) -> None:
    """The other process: put until told to stop; a line for each put: when it began, and its seconds."""
    rng = random.Random(2)
    with SqliteCheckpointer(path) as checkpointer:
        own = TurnState()
        number = 0
        while not Path(path + ".stop").exists():
            message = Message.text_message(text(200, rng))
            own.context = [*own.context[-WINDOW:], message]
            began = time.monotonic()
            if number % 2:
                checkpointer.put_state({"thread_id": "own"}, own)
            else:
                checkpointer.append(CONFIG, [message])
            sys.stdout.write(f"{began} {time.monotonic() - began} {number % 2}\n")
            sys.stdout.flush()
            number += 1
            time.sleep(pause)


def waits(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    at = lambda share: ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1e3  # noqa: E731
    return {"puts": len(ordered), "p50_ms": at(0.5), "p99_ms": at(0.99), "worst_ms": at(1.0)}


def size_mb(path: Path) -> float:
    names = (path, path.with_name(path.name + "-wal"))
    return sum(each.stat().st_size for each in names if each.exists()) / 1e6


def run(directory: Path, count: int, keep: int, batch_size: int, pause: float) -> dict[str, Any]:
    path = directory / "prune.db"
    out: dict[str, Any] = {"checkpoints": count, "build_s": build(path, count)}
    out["file_before_mb"] = size_mb(path)
    log = directory / "waits.txt"
    with log.open("w") as lines:
        command = [sys.executable, __file__, "--write", str(path), "--pause", str(pause)]
        writer = subprocess.Popen(command, stdout=lines)
        time.sleep(5.0)
        with SqliteCheckpointer(path) as checkpointer:
            policy = RetentionPolicy(keep_last=keep)
            began = time.monotonic()
            dry = checkpointer.prune(CONFIG, policy, dry_run=True)
            dried = time.monotonic()
            report = checkpointer.prune(CONFIG, policy, batch_size=batch_size)
            ended = time.monotonic()
            time.sleep(2.0)
            out["file_after_open_mb"] = size_mb(path)
        Path(str(path) + ".stop").touch()
        writer.wait()
    out |= {"dry_run_s": dried - began, "prune_s": ended - dried}
    out["pruned"] = {n: value for n, value in report.to_dict().items() if n != "threads"}
    out["dry_run_checkpoints"] = dry.checkpoints
    puts = [tuple(map(float, line.split())) for line in log.read_text().splitlines()]
    out["waits_alone"] = waits([took for at, took, _ in puts if at + took < began])
    out["waits_while_pruning"] = waits(
        [took for at, took, _ in puts if at + took > dried and at < ended]
    )
    for label, which in (("same_thread", 0.0), ("other_thread", 1.0)):
        out[f"waits_{label}"] = waits(
            [took for at, took, own in puts if at + took > dried and at < ended and own == which]
        )
    with SqliteCheckpointer(path, state_class=TurnState) as checkpointer:
        left = checkpointer.list_checkpoints(CONFIG)
        out["left"] = len(left)
        out["problems"] = checkpointer.verify(CONFIG).problems
        for each in left[-keep:]:
            state = checkpointer.get_state({**CONFIG, "version": each.version})
            assert each.version > count or state.turn == each.version - 1
    out["file_after_mb"] = size_mb(path)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="checkpoints (default 100,000)")
    parser.add_argument("--keep", type=int, default=100, help="how many are kept (default 100)")
    parser.add_argument("--batch-size", type=int, default=500, help="checkpoints a commit")
    parser.add_argument("--pause", type=float, default=0.002, help="seconds between two puts")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(options.write, options.pause)
        return
    with tempfile.TemporaryDirectory() as directory:
        out = run(Path(directory), options.count, options.keep, options.batch_size, options.pause)
    print(json.dumps(out, indent=1, default=str))


if __name__ == "__main__":
    main()
