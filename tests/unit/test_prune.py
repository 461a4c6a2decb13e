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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from threadline import AgentState, InMemoryCheckpointer, Message, SqliteCheckpointer, clock
from threadline.backend import Batch, CheckpointQuery, Commit, Reason, Refused, SlotQuery
from threadline.backends.memory import MemoryBackend
from threadline.checkpointer.base import BaseCheckpointer
from threadline.checkpointer.prune import PAGE, PruneReport
from threadline.checkpointer.verify import GAP, gap_key
from threadline.config import read_config
from threadline.history.freeing import joined
from threadline.history.logs import read_marks
from threadline.history.retention import RetentionPolicy
from threadline.history.row import RowSize
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


@pytest.fixture
def short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rows from few items."""
    monkeypatch.setattr("threadline.backend.Backend.row_size", RowSize(600))


class Writer:
    """Puts random states to a thread and remembers what each version was."""

    def __init__(self, checkpointer: BaseCheckpointer, seed: int, **config: Any) -> None:
        self.checkpointer, self.rng = checkpointer, random.Random(seed)
        self.config = {**CONFIG, **config}
        self.state = AgentState()
        self.was: dict[int, str | None] = {}
        self.digests: dict[int, bytes] = {}

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
                    self.state.context_summary = rng.choice("stuvwxyz") * rng.choice([4, 900, 6000])
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
        self.check_gaps()
        return sorted(found)

    def check_gaps(self) -> None:
        """The digest of every parent that is gone is kept, and no other."""
        rows = self.checkpointer.store.read(self.config, CheckpointQuery())
        self.digests |= {row.version: row.digest for row in rows}
        there = {row.version for row in rows}
        slots = self.checkpointer.store.read(self.config, SlotQuery(GAP))
        kept = {slot.key: slot.payload for slot in slots}
        cut = [row for row in rows if row.parent_version and row.parent_version not in there]
        assert kept.keys() == {gap_key(row.version) for row in cut}
        for row in cut:
            digest = kept[gap_key(row.version)]
            assert digest == self.digests.get(row.parent_version or 0, digest)


def measure(checkpointer: BaseCheckpointer) -> dict[str, int]:
    key = run_inline(checkpointer._engine.key(read_config(CONFIG)))
    (sizes,) = run_inline(checkpointer._engine.backend.measure([key]))
    return sizes


def figures(report: PruneReport) -> dict[str, Any]:
    return {name: value for name, value in report.to_dict().items() if name != "dry_run"}


def unneeded(checkpointer: BaseCheckpointer) -> int:
    """How many closed rows, and blobs, no checkpoint needs."""
    backend, address = checkpointer._engine.backend, read_config(CONFIG)
    key, ns = run_inline(checkpointer._engine.key(address)), address.ns_key
    head = run_inline(backend.read_head(key, ns, None))
    stock = run_inline(backend.read_stock(key, ns, None))  # type: ignore[attr-defined]
    rows = checkpointer.store.read(CONFIG, CheckpointQuery(before=head.last_version + 1))
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


@pytest.mark.usefixtures("short_rows")
@pytest.mark.parametrize("seed", range(6))
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


# Beside other writers -----------------------------------------------------------------------------------


def before_commit(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]
) -> list[str]:
    """Do something once, after a prune was computed and before its first commit; returns what prunes were told."""
    backend, told = checkpointer._engine.backend, []
    commit = backend.commit

    async def slow(batches: list[Batch]) -> list[Commit]:
        if batches[0].kind != "prune":
            return await commit(batches)
        if not told:
            told.append("meanwhile")
            meanwhile()
        try:
            done = await commit(batches)
        except Refused as refused:
            told.append(refused.reason)
            raise
        told.append("done")
        return done

    monkeypatch.setattr(backend, "commit", slow)
    return told


def test_puts_meanwhile_are_kept_and_do_not_stop_a_prune(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = make()
    writer = Writer(checkpointer, 2)
    for _ in range(30):
        writer.put()

    def forty() -> None:
        for _ in range(40):
            writer.put()

    told = before_commit(checkpointer, monkeypatch, forty)
    report = checkpointer.prune(CONFIG, LAST_3, batch_size=10)
    assert told == ["meanwhile", "done", "done", "done"]
    assert report.checkpoints == 27
    assert writer.check() == list(range(28, 71))


def test_a_field_that_gets_an_old_value_again_meanwhile(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blob goes with version 1, but version 12 has it again by then: it stays."""
    checkpointer = make()
    writer = Writer(checkpointer, 3)

    def put(summary: str) -> None:
        writer.state.context_summary = summary
        version = checkpointer.put_state(CONFIG, writer.state).version
        writer.was[version] = writer.state.model_dump_json()

    for number in range(10):
        put(f"{number}" * 6000)
    put("small")
    before_commit(checkpointer, monkeypatch, lambda: put("0" * 6000))
    checkpointer.prune(CONFIG, RetentionPolicy(keep_last=1))
    assert writer.check() == [11, 12]
    put("1" * 6000)  # And this one is gone, and comes back with the put.
    checkpointer.prune(CONFIG, RetentionPolicy(keep_last=1))
    assert writer.check() == [13]


def test_a_rollback_meanwhile_is_seen(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointer = make()
    writer = Writer(checkpointer, 4)
    for _ in range(30):
        writer.put()

    def roll_back() -> None:
        version = checkpointer.rollback(CONFIG, 2).version
        writer.was[version] = writer.was[2]

    told = before_commit(checkpointer, monkeypatch, roll_back)
    checkpointer.prune(CONFIG, LAST_3)
    assert told == ["meanwhile", Reason.STALE, "done"]
    assert set(writer.check()) >= {29, 30, 31}
    state = checkpointer.get_state(CONFIG)
    assert state.model_dump_json() == writer.was[2]


def test_a_thread_deleted_meanwhile(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointer = make()
    writer = Writer(checkpointer, 5)
    for _ in range(9):
        writer.put()

    def anew() -> None:
        checkpointer.delete_thread(CONFIG)
        for number in range(9):
            checkpointer.put_state(CONFIG, {"number": number})

    told = before_commit(checkpointer, monkeypatch, anew)
    assert checkpointer.prune(CONFIG, LAST_3).checkpoints == 0
    assert told == ["meanwhile", Reason.MISSING]
    assert len(checkpointer.list_checkpoints(CONFIG)) == 9


@pytest.mark.usefixtures("short_rows")
def test_a_prune_that_ends_at_any_commit_leaves_a_readable_thread(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = make()
    backend = checkpointer._engine.backend
    commit, left = backend.commit, 10**6
    writer, rng = Writer(checkpointer, 6), random.Random(6)

    async def dies(batches: list[Batch]) -> list[Commit]:
        nonlocal left
        if batches[0].kind == "prune":
            left -= 1
            if left < 0:
                raise OSError("the process is killed here")
        return await commit(batches)

    monkeypatch.setattr(backend, "commit", dies)
    monkeypatch.setattr("threadline.history.freeing.STEP_ITEMS", 2)
    for _ in range(8):
        writer.play(30)
        writer.check_gaps()
        left = rng.randint(0, 12)
        try:
            checkpointer.prune(CONFIG, LAST_3, batch_size=4)
        except OSError:
            writer.check()
        left = 10**6
        if rng.random() < 0.5:
            checkpointer.prune(CONFIG, LAST_3, batch_size=rng.choice([1, 100]))
            writer.check()
            if not isinstance(backend, Plain):
                assert unneeded(checkpointer) == 0


@pytest.mark.parametrize("sync", [True, False])
def test_writers_while_pruning_lose_nothing(make: Make, sync: bool) -> None:
    checkpointer = make()
    writers = [Writer(checkpointer, seed, namespace=f"n{seed}") for seed in range(3)]
    policy = RetentionPolicy(keep_last=4)
    ended = threading.Event()
    pruned: list[int] = []
    failed: list[Exception] = []

    def play(writer: Writer) -> None:
        try:
            for _ in range(120):
                writer.put()
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    def prune() -> None:
        try:
            while not ended.is_set():
                if sync:
                    report = checkpointer.prune(CONFIG, policy, batch_size=5)
                else:
                    report = asyncio.run(checkpointer.aprune(CONFIG, policy, batch_size=5))
                pruned.append(report.checkpoints)
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=play, args=(writer,)) for writer in writers]
    pruner = threading.Thread(target=prune)
    for each in [*threads, pruner]:
        each.start()
    for each in threads:
        each.join()
    ended.set()
    pruner.join()
    assert failed == []
    pruned.append(checkpointer.prune(CONFIG, policy).checkpoints)
    assert sum(pruned) == 3 * 116
    for writer in writers:
        checkpointer.list_checkpoints(writer.config)
        assert writer.check() == [117, 118, 119, 120]
        assert checkpointer.get_state(writer.config).model_dump_json() == writer.was[120]


async def test_tasks_that_write_while_pruning(make: Make) -> None:
    checkpointer = make()
    put: dict[int, int] = {}

    async def write(number: int) -> None:
        for each in range(40):
            state = {"number": number, "each": each, "text": "t" * 60 + str(each)}
            put[(await checkpointer.aput_state(CONFIG, state)).version] = number * 1000 + each
            await asyncio.sleep(0)

    async def prune() -> None:
        for _ in range(20):
            await checkpointer.aprune(CONFIG, RetentionPolicy(keep_last=6), batch_size=3)
            await asyncio.sleep(0.001)

    await asyncio.gather(write(1), write(2), prune(), prune())
    await checkpointer.aprune(CONFIG, RetentionPolicy(keep_last=6))
    checkpoints = await checkpointer.alist_checkpoints(CONFIG)
    assert [each.version for each in checkpoints] == [80, 79, 78, 77, 76, 75]
    for each in checkpoints:
        state = await checkpointer.aget_state({**CONFIG, "version": each.version})
        assert state["number"] * 1000 + state["each"] == put[each.version]


# Files and processes ------------------------------------------------------------------------------------

KILLED = """
import sys
from threadline import SqliteCheckpointer
from threadline.history.retention import RetentionPolicy

with SqliteCheckpointer(sys.argv[1]) as checkpointer:
    commit = checkpointer._engine.commit

    async def told(batch):
        done = await commit(batch)
        print("step", flush=True)
        return done

    checkpointer._engine.commit = told
    policy = RetentionPolicy(keep_last=int(sys.argv[2]))
    checkpointer.prune({"thread_id": "t"}, policy, batch_size=2)
"""


def test_killed_at_any_moment_a_prune_leaves_a_readable_store(tmp_path: Path) -> None:
    path, rng = tmp_path / "killed.db", random.Random(9)
    with SqliteCheckpointer(path, durability="relaxed") as checkpointer:
        writer = Writer(checkpointer, 9)
        for _ in range(300):
            writer.put()
    left, cut_short = 300, 0
    for keep in range(270, 0, -30):
        command = [sys.executable, "-c", KILLED, str(path), str(keep)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(rng.randrange(1, 8)):  # Of 15 steps.
            assert child.stdout.readline() == "step\n"
        time.sleep(rng.uniform(0.0, 0.002))
        child.kill()
        child.wait()
        child.stdout.close()
        with SqliteCheckpointer(path, durability="relaxed") as writer.checkpointer:
            there = writer.check()
            assert there == list(range(301 - len(there), 301))
            assert keep <= len(there) <= left
            cut_short += keep < len(there) < left
            left = len(there)
    assert cut_short, "no child was killed in the middle"
    with SqliteCheckpointer(path, durability="relaxed") as writer.checkpointer:
        writer.checkpointer.prune(CONFIG, RetentionPolicy(keep_last=1))
        assert writer.check() == [300]
        assert unneeded(writer.checkpointer) == 0


def test_a_file_gets_smaller(tmp_path: Path) -> None:
    path = tmp_path / "shrinks.db"
    rng = random.Random(1)
    with SqliteCheckpointer(path, durability="relaxed") as checkpointer:
        for number in range(400):
            noise = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9000))
            checkpointer.put_state(CONFIG, {"number": number, "noise": noise})
        last = checkpointer.get_state(CONFIG)
    before = path.stat().st_size
    with SqliteCheckpointer(path, durability="relaxed") as checkpointer:
        report = checkpointer.prune(CONFIG, RetentionPolicy(keep_last=2))
        assert report.blobs == 398
        deadline = time.monotonic() + 10
        while path.stat().st_size > before / 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_size < before / 4  # While it is open, without a further call.
        assert checkpointer.get_state(CONFIG) == last
        assert checkpointer.verify(CONFIG).problems == []
    assert path.stat().st_size < before / 4


def test_a_process_that_only_prunes_leaves_a_smaller_file(tmp_path: Path) -> None:
    path = tmp_path / "shrinks.db"
    with SqliteCheckpointer(path, durability="relaxed") as checkpointer:
        for _ in range(200):
            checkpointer.put_state(CONFIG, {"noise": os.urandom(6000).hex()})
    before = path.stat().st_size
    with SqliteCheckpointer(path) as checkpointer:
        checkpointer.prune(CONFIG, RetentionPolicy(keep_last=1))
    assert path.stat().st_size < before / 4


# Applied at put -----------------------------------------------------------------------------------------


def test_a_checkpointer_keeps_to_its_policy_by_itself(make: Make) -> None:
    checkpointer = make(retention=RetentionPolicy(max_per_thread=16))
    writer = Writer(checkpointer, 10)
    for _ in range(200):
        writer.put()
        time.sleep(0.001)
    deadline = time.monotonic() + 10
    while len(checkpointer.list_checkpoints(CONFIG)) > 16 + 8 and time.monotonic() < deadline:
        time.sleep(0.02)
        writer.put()
    keeper = checkpointer._keeper
    assert keeper is not None
    wait(list(keeper._waiting.values()), 10)  # What is listed must still be there when it is read.
    assert len(writer.check()) <= 16 + 8
    # And without being given one, `prune` takes that policy.
    checkpointer.prune(CONFIG)
    assert len(writer.check()) == 16


async def test_in_a_loop_and_by_append_too(make: Make) -> None:
    checkpointer = make(retention=RetentionPolicy(keep_last=8))
    for number in range(64):
        await checkpointer.aappend(CONFIG, [Message.text_message(str(number))])
    for _ in range(200):
        if len(await checkpointer.alist_checkpoints(CONFIG)) <= 16:
            break
        await asyncio.sleep(0.01)
        await checkpointer.aappend(CONFIG, [Message.text_message("more")])
    assert len(await checkpointer.alist_checkpoints(CONFIG)) <= 16
    await checkpointer.arelease()


def test_a_release_looks_once_more(tmp_path: Path) -> None:
    path = tmp_path / "released.db"
    retention = RetentionPolicy(keep_last=8)
    with SqliteCheckpointer(path, durability="relaxed", retention=retention) as checkpointer:
        for number in range(80):
            checkpointer.put_state(CONFIG, {"number": number})
    with SqliteCheckpointer(path) as checkpointer:
        assert len(checkpointer.list_checkpoints(CONFIG)) == 8


def test_what_fails_is_logged_and_no_put_hears_of_it(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpointer = make(retention=RetentionPolicy(keep_last=4))
    backend = checkpointer._engine.backend

    async def fails(*_: Any) -> Any:
        raise OSError("secret content")

    monkeypatch.setattr(backend, "read_checkpoints", fails)
    with caplog.at_level(logging.WARNING, "threadline.retention"):
        for number in range(16):
            checkpointer.put_state(CONFIG, {"number": number})
        checkpointer.release()
    assert "retention of thread 't' failed: OSError" in caplog.text
    assert "secret" not in caplog.text


def test_a_policy_that_is_none_is_refused(make: Make) -> None:
    with pytest.raises(TypeError):
        make(retention={"keep_last": 3})


# Which threads ------------------------------------------------------------------------------------------


def fill(checkpointer: BaseCheckpointer, count: int = 6, **config: Any) -> dict[str, Any]:
    for number in range(count):
        checkpointer.put_state({**CONFIG, **config}, {"number": number})
    return {**CONFIG, **config}


def versions(checkpointer: BaseCheckpointer, config: dict[str, Any]) -> int:
    return len(checkpointer.list_checkpoints(config))


def test_every_namespace_of_a_thread_or_one(make: Make) -> None:
    checkpointer = make()
    plain, other = fill(checkpointer), fill(checkpointer, namespace="other")
    assert checkpointer.prune(other, LAST_3).checkpoints == 3
    assert (versions(checkpointer, plain), versions(checkpointer, other)) == (6, 3)
    report = checkpointer.prune(CONFIG, RetentionPolicy(keep_last=1))
    assert (report.checkpoints, report.kept) == (7, 2)
    assert [each.thread_id for each in report.threads] == ["t"]


def test_all_threads_of_the_config_and_nobody_elses(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threadline.checkpointer.walk.PAGE", 2)
    checkpointer = make()
    mine = [fill(checkpointer, thread_id=f"mine {n}", user_id="me") for n in range(5)]
    others = [
        fill(checkpointer, thread_id="hers", user_id="her"),
        fill(checkpointer, thread_id="nobody's"),
        fill(checkpointer, thread_id="app", user_id="me", app="other"),
        fill(checkpointer, thread_id="tenant", user_id="me", tenant="other"),
    ]
    dry = checkpointer.prune({"user_id": "me"}, LAST_3, dry_run=True)
    report = checkpointer.prune({"user_id": "me"}, LAST_3)
    assert figures(dry) == figures(report)
    assert (report.checkpoints, report.kept, len(report.threads)) == (15, 15, 5)
    assert [versions(checkpointer, each) for each in mine] == [3] * 5
    assert [versions(checkpointer, each) for each in others] == [6] * 4
    assert checkpointer.prune({"thread_id": "hers", "user_id": "me"}, LAST_3).to_dict() == (
        PruneReport(dry_run=False).to_dict() | {"threads": []}
    )
    assert (
        checkpointer.prune({}, LAST_3).checkpoints == 6
    )  # Without a user: of every user, this app.


def test_idle_threads_are_deleted_and_a_prune_is_no_activity(make: Make) -> None:
    checkpointer = make()
    day = 86_400 * 10**6
    start = clock.now_us()
    with clock.use(wall_us=lambda: start - 10 * day):
        old = fill(checkpointer, thread_id="old")
        checkpointer.put_messages(old, [Message.text_message("words")])
        fill(checkpointer, thread_id="new")
    new = fill(checkpointer, 1, thread_id="new")
    assert checkpointer.prune({}, LAST_3).checkpoints == 7
    policy = RetentionPolicy(idle_after=timedelta(days=9))
    assert checkpointer.prune(old, policy).threads_deleted == 0  # Only through many threads.
    dry = checkpointer.prune({}, policy, dry_run=True)
    assert checkpointer.get_thread(old) is not None
    report = checkpointer.prune({}, policy)
    assert figures(dry) == figures(report)
    assert (report.threads_deleted, report.checkpoints, report.threads[0].thread_id) == (
        1,
        3,
        "old",
    )
    assert report.bytes > 0
    assert checkpointer.get_thread(old) is None
    assert versions(checkpointer, new) == 3


def test_a_thread_that_wakes_up_in_the_last_moment_is_kept(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that is put after a thread was found idle, and before it would be erased, is activity."""
    checkpointer = make()
    backend, start = checkpointer._engine.backend, clock.now_us()
    with clock.use(wall_us=lambda: start - 10 * 86_400 * 10**6):
        old = fill(checkpointer, thread_id="old")
    measure = backend.measure

    async def late(keys: Sequence[bytes] | None) -> list[dict[str, int]]:
        checkpointer.put_messages(old, [Message.text_message("in time")])
        return await measure(keys)

    monkeypatch.setattr(backend, "measure", late)
    report = checkpointer.prune({}, RetentionPolicy(idle_after=timedelta(days=9)))
    assert report.threads_deleted == 0
    assert [each.text() for each in checkpointer.list_messages(old)] == ["in time"]


def test_arguments(make: Make) -> None:
    checkpointer = make()
    for words, error in (
        ({}, ValueError),
        ({"policy": 3}, TypeError),
        ({"policy": LAST_3, "batch_size": 0}, ValueError),
        ({"policy": LAST_3, "batch_size": None}, TypeError),
        ({"policy": LAST_3, "batch_size": 2.0}, TypeError),
    ):
        with pytest.raises(error):
            checkpointer.prune(CONFIG, **words)
    with pytest.raises(ValueError, match="past"):
        checkpointer.prune({**CONFIG, "version": 3}, LAST_3)
    assert checkpointer.prune(CONFIG, LAST_3) == PruneReport(dry_run=False)
    with pytest.raises(ValueError, match="user_id"):
        make(require_user=True).prune({}, LAST_3)
