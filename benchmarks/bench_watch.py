"""What a watch costs: 2,000 messages of 300 bytes, against one `dump_json` of the list.

Run: python benchmarks/bench_watch.py
Prints medians in milliseconds, in a tight loop and with other work between the calls that
evicts the caches, as happens between the puts of an agent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, Field, TypeAdapter

from threadline.history.watch import Watch

try:
    from threadline.model.message import Message  # type: ignore[import-not-found,unused-ignore]
except ImportError:

    class Block(BaseModel):
        type: str = "text"
        text: str = ""
        cached: bool = False
        extra: dict[str, Any] | None = None

    class Message(BaseModel):  # type: ignore[no-redef]
        id: str = Field(default_factory=lambda: str(uuid4()))
        role: str = "user"
        content: list[Block] = Field(default_factory=list)
        created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
        name: str | None = None
        metadata: dict[str, Any] = Field(default_factory=dict)
        tokens: int = 0
        cost: float = 0.0
        parent_id: str | None = None
        model: str | None = None
        finish_reason: str | None = None

        @classmethod
        def text_message(cls, text: str) -> Any:
            return cls(content=[Block(text=text)])


JUNK = [{"number": number, "text": str(number)} for number in range(300_000)]


def evict() -> None:
    """Other work: walk through much more memory than the caches hold."""
    sum(map(len, map(dict.values, JUNK)))


def median(call: Callable[[], object], before: Callable[[], None], rounds: int) -> float:
    """The median duration of `call`, in milliseconds; `before` runs untimed before each."""
    times = []
    for _ in range(rounds):
        before()
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[rounds // 2] * 1e3


def main() -> None:
    messages = [Message.text_message((f"word {n} " * 60)[:300]) for n in range(2_000)]
    adapter = TypeAdapter(list[Message])
    watch = Watch.of(messages)
    longer = [*messages, *(Message.text_message("x" * 300) for _ in range(2))]
    assert watch.suspects(messages) == []
    for title, before, rounds in (
        ("tight loop", lambda: None, 101),
        ("other work between", evict, 31),
    ):
        dump = median(lambda: adapter.dump_json(messages), before, rounds)
        scan = median(lambda: watch.suspects(messages), before, rounds)
        print(f"{title}: dump_json {dump:.2f}, suspects {scan:.2f}, ratio {scan / dump:.2f}")
    print(f"Watch.of {median(lambda: Watch.of(messages), lambda: None, 11):.2f}")
    print(f"updated, 2 appended {median(lambda: watch.updated(longer, []), lambda: None, 101):.3f}")


if __name__ == "__main__":
    main()
