"""The diff of two neighbours among 1,000 checkpoints of a thread of 10,000 messages, on SQLite, and others beside it.

`python benchmarks/diff.py`. Nothing is cached: a diff reads the file each time.
Beside it the plain way: reading both states and comparing what they hold.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from threadline import AgentState, Message, SqliteCheckpointer, TextBlock

WORDS = [
    "flight",
    "booking",
    "passenger",
    "baggage",
    "policy",
    "refund",
    "payment",
    "gift card",
    "cabin",
    "Oslo",
    "Bergen",
]
CONFIG = {"thread_id": "long"}


def text(rng: random.Random, size: int = 300) -> str:
    """Plausible words, about `size` characters."""
    out = ""
    while len(out) < size:
        out += rng.choice(WORDS) + " "
    return out[:size]


def fill(path: Path, messages: int, checkpoints: int) -> None:
    """A conversation that grows by `messages / checkpoints` a checkpoint; at the end four special versions."""
    rng = random.Random(3)
    step = messages // checkpoints
    with SqliteCheckpointer(path, durability="relaxed") as checkpointer:
        state = AgentState()
        for number in range(checkpoints - 4):
            state.context += [
                Message.text_message(text(rng), message_id=f"m{number}-{n}") for n in range(step)
            ]
            state.execution_meta.step = number
            checkpointer.put_state(CONFIG, state)
        while len(state.context) < messages:
            state.context.append(Message.text_message(text(rng)))
        checkpointer.put_state(CONFIG, state, name="before")
        state.context[messages // 2].content = [TextBlock(text="changed in the middle")]
        checkpointer.put_state(CONFIG, state, name="edited")
        del state.context[:100]
        checkpointer.put_state(CONFIG, state, name="trimmed")
        state.context_summary = text(rng, 20_000)
        checkpointer.put_state(CONFIG, state, name="summarized")


def median_ms(call: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """The median and the worst duration of a call, in milliseconds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times), max(times)


def count_rows(checkpointer: SqliteCheckpointer, call: Callable[[], Any]) -> int:
    """How many rows of logs a call reads."""
    backend: Any = checkpointer._engine.backend
    plain, count = backend.read_rows, 0

    async def read_rows(*args: Any) -> Any:
        nonlocal count
        rows = await plain(*args)
        count += len(rows)
        return rows

    backend.read_rows = read_rows
    try:
        call()
    finally:
        backend.read_rows = plain
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--checkpoints", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "diff.db"
        fill(path, given.messages, given.checkpoints)
        last = given.checkpoints - 4
        cases: dict[str, tuple[int | str, int | str]] = {
            "neighbours, early": (10, 11),
            "neighbours, middle": (last // 2, last // 2 + 1),
            "neighbours, late": (last - 1, last),
            "one message edited in the middle": ("before", "edited"),
            "100 messages trimmed at the front": ("edited", "trimmed"),
            "a large field (blob) set": ("trimmed", "summarized"),
            "half of the conversation": (last // 2, last),
            "everything": (1, last),
        }
        with SqliteCheckpointer(path) as checkpointer:

            def whole() -> bool:
                old, new = (
                    checkpointer.get_state({**CONFIG, "version": at}) for at in (last - 1, last)
                )
                return bool(old.model_dump() != new.model_dump())

            for title, (a, b) in cases.items():
                call = partial(checkpointer.diff, CONFIG, a, b)
                rows, changes = count_rows(checkpointer, call), len(call())
                middle, worst = median_ms(call, given.rounds)
                print(
                    f"{title:36} {middle:8.2f} ms (worst {worst:.2f}), {changes} changes, {rows} rows read"
                )
            middle, worst = median_ms(whole, 5)
            print(f"{'reading both states and comparing':36} {middle:8.2f} ms (worst {worst:.2f})")


if __name__ == "__main__":
    main()
