"""Counting in the in-memory backend: what the SQL of the other backends says, in Python."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from threadline.backends.memory_thread import Thread
from threadline.summary import Dated, Summary, Tokens, ToolCounts

DAY_US = 86_400_000_000


def summarize(threads: Iterable[Thread]) -> Summary:
    """See `Backend.summarize`."""
    lives = [each for each in threads if each.row is not None]
    spans = [t.row.activity_at - t.row.created_at for t in lives if t.row is not None]
    messages: Counter[tuple[int, str]] = Counter()
    checkpoints: Counter[tuple[int, str]] = Counter()
    tools: dict[str, list[int]] = {}
    tokens = [0] * len(Tokens._fields)
    for thread in lives:
        entries = [
            entry
            for space in thread.spaces.values()
            for entry in space.entries.values()
            if entry.kind == "message"
        ]
        messages.update((entry.created_at // DAY_US, entry.role or "") for entry in entries)
        checkpoints.update(
            (row.created_at // DAY_US, row.name or "")
            for space in thread.spaces.values()
            for row in space.checkpoints.values()
        )
        facts = [(e.seq, json.loads(e.facts)) for e in entries if e.facts is not None]
        _count_tools(sorted(facts, key=lambda fact: fact[0]), tools)
        for _, each in facts:
            tokens = [a + b for a, b in zip(tokens, each.get("t", [0] * 5), strict=True)]
    return Summary(
        threads=len(lives),
        seconds=sum(spans) / 1e6,
        longest=max(spans, default=0) / 1e6,
        messages=_dated(messages),
        checkpoints=_dated(checkpoints),
        tools=tuple(ToolCounts(name, *counts) for name, counts in sorted(tools.items())),
        tokens=Tokens(*tokens),
    )


def measure(threads: Iterable[Thread]) -> dict[str, int]:
    """See `Backend.measure`: these threads together."""
    lives = [each for each in threads if each.row is not None]
    spaces = [space for each in lives for space in each.spaces.values() if space.live]
    stored = {
        "checkpoint_bytes": [c.payload for space in spaces for c in space.checkpoints.values()],
        "row_bytes": [row.payload for space in spaces for row in space.rows.values()]
        + [blob.payload for space in spaces for blob in space.blobs.values()],
        "message_bytes": [e.payload for space in spaces for e in space.entries.values()],
    }
    sizes = {name: sum(map(len, payloads)) for name, payloads in stored.items()}
    return {
        "threads": len(lives),
        "namespaces": len(spaces),
        "checkpoints": len(stored["checkpoint_bytes"]),
        "messages": len(stored["message_bytes"]),
        "rows": sum(len(space.rows) for space in spaces),
        **sizes,
        "store_bytes": sum(sizes.values()),
    }


def _count_tools(facts: list[tuple[int, dict[str, Any]]], tools: dict[str, list[int]]) -> None:
    """The calls and results of a thread: a result belongs to the call of its id that stands right before it."""
    last: dict[str, tuple[str, int | None] | None] = {}
    for _, each in facts:
        at = each.get("at")
        for call_id, name in each.get("c", ()):
            tools.setdefault(name, [0, 0, 0, 0, 0])[0] += 1
            last[call_id] = (name, at)
        for call_id, error in each.get("r", ()):
            call = last.get(call_id)
            last[call_id] = None
            if call is None:
                continue
            counts = tools[call[0]]
            counts[1] += 1
            counts[2] += error
            if at is not None and call[1] is not None and at >= call[1]:
                counts[3] += 1
                counts[4] += at - call[1]


def _dated(counts: Counter[tuple[int, str]]) -> tuple[Dated, ...]:
    return tuple(Dated(day, name or None, count) for (day, name), count in sorted(counts.items()))
