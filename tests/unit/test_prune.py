"""Pruning on memory and SQLite: what is kept reads back as before, whatever happens meanwhile; what goes is gone."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from threadline import AgentState, InMemoryCheckpointer, Message, SqliteCheckpointer, clock
from threadline.backend import Batch, Commit, Reason, Refused
from threadline.backends.memory import MemoryBackend
from threadline.checkpointer.base import BaseCheckpointer
from threadline.checkpointer.prune import PAGE, PruneReport
from threadline.config import read_config
from threadline.history.freeing import joined
from threadline.history.logs import read_marks
from threadline.history.retention import RetentionPolicy
from threadline.inline import run_inline

CONFIG = {"thread_id": "t"}
LAST_3 = RetentionPolicy(keep_last=3)


class Plain(MemoryBackend):
    """A backend that cannot tell its stock."""

    read_stock = None  # type: ignore[assignment]


Make = Callable[..., BaseCheckpointer]


@pytest.fixture(params=["memory", "plain", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    made: list[BaseCheckpointer] = []

    def build(**options: Any) -> BaseCheckpointer:
        checkpointer: BaseCheckpointer
        if request.param == "sqlite":
            checkpointer = SqliteCheckpointer(
                tmp_path / "prune.db", durability="relaxed", **options
            )
        elif request.param == "plain":
            checkpointer = BaseCheckpointer(Plain(), **options)
        else:
            checkpointer = InMemoryCheckpointer(**options)
        made.append(checkpointer)
        return checkpointer

    yield build
    for each in made:
        each.release()


class Writer:
    """Puts random states to a thread and remembers what each version was."""

    def __init__(self, checkpointer: BaseCheckpointer, seed: int, **config: Any) -> None:
        self.checkpointer, self.rng = checkpointer, random.Random(seed)
        self.config = {**CONFIG, **config}
        self.state = AgentState()
        self.was: dict[int, str | None] = {}

    def text(self, size: int) -> str:
        return "".join(self.rng.choices("abcdefghijklmnop ", k=size))

    def edit(self) -> None:
        rng, context = self.rng, self.state.context
        for _ in range(rng.randint(1, 4)):
            match rng.randint(0, 9):
                case 0 if context:
                    del context[: rng.randint(1, 3)]
                case 1 if context:
                    context[rng.randrange(len(context))] = Message.text_message(self.text(50))
                case 2 if context:
                    context.insert(rng.randrange(len(context)), Message.text_message(self.text(9)))
                case 3:
                    # A large field (a blob) that often has an old value again; or a middling one.
                    self.state.context_summary = rng.choice("xyz") * rng.choice([4, 900, 6000])
                case 4:
                    self.state.execution_meta.step = rng.randrange(4)
                case _:
                    size = rng.choice([20, 200, 2000])
                    context.append(Message.text_message(self.text(size)))

    def put(self, name: str | None = None) -> int:
        self.edit()
        checkpoint = self.checkpointer.put_state(
            self.config, self.state, name=name, metadata={"n": self.rng.randrange(3)}
        )
        self.was[checkpoint.version] = self.state.model_dump_json()
        return checkpoint.version

    def play(self, count: int) -> None:
        for _ in range(count):
            there = [each.version for each in self.checkpointer.list_checkpoints(self.config)]
            match self.rng.randint(0, 11):
                case 0 if there:
                    target = self.rng.choice(there)
                    back = self.checkpointer.rollback(self.config, target)
                    self.was[back.version] = self.was[target]
                    self.state = self.checkpointer.get_state(self.config) or AgentState()
                case 1:
                    message = Message.text_message(self.text(30))
                    grown = self.checkpointer.append(self.config, [message])
                    self.state = self.checkpointer.get_state(self.config)
                    self.was[grown.version] = self.state.model_dump_json()
                case 2:
                    cleared = self.checkpointer.clear_state(self.config)
                    if cleared is not None:
                        self.was[cleared.version] = None
                    self.state = AgentState()
                case 3:
                    self.put(name=self.rng.choice("abc"))
                case _:
                    self.put()

    def check(self) -> list[int]:
        """Everything that is there reads back as it was, and nothing is damaged; the versions."""
        found = []
        for each in self.checkpointer.list_checkpoints(self.config):
            state = self.checkpointer.get_state({**self.config, "version": each.version})
            dumped = None if state is None else state.model_dump_json()
            assert dumped == self.was[each.version], each
            found.append(each.version)
        report = self.checkpointer.verify(self.config)
        assert report.problems == []
        return sorted(found)


def measure(checkpointer: BaseCheckpointer) -> dict[str, int]:
    key = run_inline(checkpointer._engine.key(read_config(CONFIG)))
    return run_inline(checkpointer._engine.backend.measure(key))


def figures(report: PruneReport) -> dict[str, Any]:
    return {name: value for name, value in report.to_dict().items() if name != "dry_run"}


def unneeded(checkpointer: BaseCheckpointer) -> int:
    """How many closed rows, and blobs, no checkpoint needs."""
    backend, address = checkpointer._engine.backend, read_config(CONFIG)
    key, ns = run_inline(checkpointer._engine.key(address)), address.ns_key
    head = run_inline(backend.read_head(key, ns, None))
    stock = run_inline(backend.read_stock(key, ns, None))  # type: ignore[attr-defined]
    rows = checkpointer.store.read(CONFIG, _all(head.last_version))
    needed = joined(span for row in rows for span in row.refs)
    blobs = {blob for row in rows for blob in row.blob_refs}
    ends = [mark.end for mark in read_marks(head.marks)]
    loose = [
        span
        for span in stock.rows
        if span.end != ends[span.log]
        and not any(n.log == span.log and n.start < span.end and span.start < n.end for n in needed)
    ]
    return len(loose) + len(stock.blobs.keys() - blobs)


def _all(last: int) -> Any:
    from threadline.backend import CheckpointQuery

    return CheckpointQuery(before=last + 1)


def a_policy(rng: random.Random) -> RetentionPolicy:
    last = rng.choice([None, 1, 2, 5, 12])
    return RetentionPolicy(
        keep_last=last,
        keep_newer_than=rng.choice([None, None, 1e-6, 100.0]),
        keep_first=rng.random() < 0.3,
        keep_latest_of_each_name=rng.random() < 0.3,
        keep_named=rng.random() < 0.5,
        keep_branch_points=rng.random() < 0.5,
        max_per_thread=rng.choice([None, 15, 20]),
    )


@pytest.mark.parametrize("seed", range(8))
def test_what_is_kept_reads_back_equal_through_edits_rollbacks_and_more_prunes(
    make: Make, seed: int
) -> None:
    checkpointer = make()
    writer, rng = Writer(checkpointer, seed), random.Random(-seed)
    for _ in range(7):
        writer.play(rng.randint(1, 25))
        policy, size = a_policy(rng), rng.choice([1, 2, 7, 500])
        before, versions = measure(checkpointer), writer.check()
        now = clock.now_us()
        with clock.use(wall_us=lambda: now):  # noqa: B023 - used at once
            dry = checkpointer.prune(CONFIG, policy, dry_run=True, batch_size=size)
            assert measure(checkpointer) == before
            report = checkpointer.prune(CONFIG, policy, batch_size=size)
            again = checkpointer.prune(CONFIG, policy)
        assert figures(report) == figures(dry)
        assert (again.checkpoints, again.rows, again.blobs) == (0, 0, 0)
        after, left = measure(checkpointer), writer.check()
        assert report.checkpoints == before["checkpoints"] - after["checkpoints"]
        assert report.rows == before["rows"] - after["rows"]
        for key in ("checkpoint_bytes", "row_bytes"):
            before["sum"] = before.get("sum", 0) + before[key] - after[key]
        assert report.bytes == before["sum"]
        assert (report.kept, versions[-1]) == (len(left), left[-1])
        if not isinstance(checkpointer._engine.backend, Plain):
            assert unneeded(checkpointer) == 0


def test_an_open_row_stays_and_is_added_to(make: Make) -> None:
    checkpointer = make()
    writer = Writer(checkpointer, 1)
    for number in range(40):
        writer.state.context = [Message.text_message(f"only {number}")]
        writer.state.context_summary = "y" * (100 + number)  # An item of the log of fields.
        version = checkpointer.put_state(CONFIG, writer.state).version
        writer.was[version] = writer.state.model_dump_json()
        checkpointer.prune(CONFIG, RetentionPolicy(keep_last=1))
        assert writer.check() == [version]
    # What nothing needs, but was open, goes when the log has gone on to other rows.
    writer.state.context = [Message.text_message("z" * 20_000), Message.text_message("end")]
    writer.was[checkpointer.put_state(CONFIG, writer.state).version] = (
        writer.state.model_dump_json()
    )
    assert checkpointer.prune(CONFIG, RetentionPolicy(keep_last=1)).rows > 0
    writer.check()


def test_metadata_of_what_is_kept_is_still_found(make: Make) -> None:
    checkpointer = make()
    for number in range(20):
        checkpointer.put_state(CONFIG, AgentState(), metadata={"n": number % 4, "all": True})
    checkpointer.prune(CONFIG, RetentionPolicy(keep_last=8))
    found = checkpointer.list_checkpoints(CONFIG, metadata={"n": 3})
    assert [each.version for each in found] == [20, 16]
    assert len(checkpointer.list_checkpoints(CONFIG, metadata={"all": True})) == 8
    info = checkpointer.get_thread(CONFIG)
    assert info is not None
    assert info.checkpoint_count == 8


def test_more_than_a_page(make: Make) -> None:
    checkpointer = make()
    for number in range(PAGE + 50):
        checkpointer.put_state(CONFIG, {"n": number, "text": "x" * 60 + str(number)})
    report = checkpointer.prune(CONFIG, RetentionPolicy(keep_last=7, keep_first=True))
    assert (report.checkpoints, report.kept) == (PAGE + 42, 8)
    assert checkpointer.get_state({**CONFIG, "version": 1})["n"] == 0
    assert checkpointer.get_state({**CONFIG, "version": PAGE + 44})["n"] == PAGE + 43
    assert checkpointer.verify(CONFIG).problems == []
