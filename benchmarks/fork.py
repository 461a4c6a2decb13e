"""A fork at the middle of a thread of 10,000 messages, in the store, against copying through the client.

`python benchmarks/fork.py`. Two threads are forked: one whose messages stand in its states alone, and one that has them
in the message log too, where the words of each are indexed again. Through the client means: the old state is read and
put to a new thread, and the messages are listed and put. Bytes are what the store holds more of afterwards.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from threadline import AgentState, Message, SqliteCheckpointer

WORDS = [
    "flight",
    "booking",
    "passenger",
    "baggage",
    "policy",
    "refund",
    "payment",
    "cabin",
    "Oslo",
    "Bergen",
    "departure",
]


def fill(checkpointer: SqliteCheckpointer, thread_id: str, messages: int, log: bool) -> None:
    """1,000 checkpoints of a conversation that grows."""
    rng, state, config = random.Random(3), AgentState(), {"thread_id": thread_id}
    step = messages // 1000
    for number in range(1000):
        said = [
            Message.text_message(" ".join(rng.choices(WORDS, k=45)), message_id=f"m{number}-{n}")
            for n in range(step)
        ]
        state.context += said
        checkpointer.put_state(config, state, messages=said if log else ())


def through_the_client(
    checkpointer: SqliteCheckpointer, thread_id: str, new: str, version: int, log: bool
) -> None:
    """As a program without `fork` does it, in a process that has nothing in its hands yet."""
    past = {"thread_id": thread_id, "version": version, "state_class": AgentState}
    state = checkpointer.get_state(past)
    ids = {message.message_id for message in state.context}
    checkpointer.put_state({"thread_id": new}, state)
    if log:
        listed = checkpointer.list_messages({"thread_id": thread_id})
        said = [message for message in listed if message.message_id in ids]
        checkpointer.put_messages({"thread_id": new}, said)


def measured(checkpointer: SqliteCheckpointer, call: Callable[[str], object], name: str) -> str:
    """The median time of five, and the bytes of one."""
    times = []
    for number in range(5):
        before = checkpointer.health()
        began = time.perf_counter()
        call(f"{name} {number}")
        times.append(time.perf_counter() - began)
        after = checkpointer.health()
    kinds = ("checkpoint_bytes", "row_bytes", "message_bytes")
    grown = sum(int(after[kind]) - int(before[kind]) for kind in kinds)
    return f"{statistics.median(times) * 1000:8.1f} ms  {grown:10,} bytes"


def main() -> None:
    """Fill, fork, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    count = parser.parse_args().messages
    with tempfile.TemporaryDirectory() as folder:
        for log in (False, True):
            path = Path(folder) / f"{log}.db"
            with SqliteCheckpointer(path) as checkpointer:
                fill(checkpointer, "long", count, log)
            print(
                f"{count // 2:,} of {count:,} messages, {'with' if log else 'without'} a message log"
            )
            for name in ("in the store", "through the client"):
                with SqliteCheckpointer(path) as checkpointer:

                    def fork(new: str, cp: SqliteCheckpointer = checkpointer) -> object:
                        return cp.fork({"thread_id": "long", "version": 500}, new)

                    def copy(new: str, cp: SqliteCheckpointer = checkpointer) -> None:
                        through_the_client(cp, "long", new, 500, log)  # noqa: B023 - called at once

                    call = fork if name == "in the store" else copy
                    print(f"  {name:<20} {measured(checkpointer, call, name)}")


if __name__ == "__main__":
    main()
