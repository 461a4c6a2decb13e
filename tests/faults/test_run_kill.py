"""A run of nodes with tools under SIGKILL at every point: it is always taken up, no tool that is known to have finished
is called again, and no result is lost."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.run_program import config_of, open_store
from threadline import AgentState
from threadline.model import ExecutionStatus

SOAK = bool(os.environ.get("THREADLINE_SOAK"))
WHOLE = [f"{node}: [{10 * node + 1}, {10 * node + 2}]" for node in range(1, 6)]


@dataclass(frozen=True)
class Case:
    """A thread of a store, and the file of the effects."""

    store: str
    thread_id: str
    effects: Path

    def finished(self) -> set[int]:
        """The results of the calls that the ledger says are finished."""
        config = config_of(self.thread_id)
        with open_store(self.store) as checkpointer, checkpointer.session(config) as session:
            return {call.result for call in session.calls() if call.status == "finished"}

    def done(self) -> Counter[int]:
        """How often each effect happened."""
        lines = self.effects.read_text().splitlines() if self.effects.exists() else []
        return Counter(int(line.replace(".", "")) for line in lines)


class Program:
    """The program, started once; each run of it is a fork."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("run_program.py"))]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, case: Case, last: int = 0, lease: str = "-") -> int:
        """Run it; the exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(
            case.store,
            case.thread_id,
            case.effects,
            lease,
            last,
            file=self.process.stdin,
            flush=True,
        )
        return int(self.process.stdout.readline())

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait() == 0


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    made = Program()
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgres"])
def cases(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Case]:
    """Gives a thread without a state at each call."""
    postgres = request.param == "postgres"
    store = request.getfixturevalue("empty_store") if postgres else str(tmp_path / "run.db")
    numbers = itertools.count()

    def case() -> Case:
        name = f"t{next(numbers)}"
        return Case(store, name, tmp_path / f"{name}.effects")

    return case


def check(case: Case, known: Counter[int], kills: int) -> None:
    """The run is whole; what was known to be finished when the process died was not done again."""
    config = config_of(case.thread_id)
    with open_store(case.store) as checkpointer:
        state: AgentState = checkpointer.get_state(config)
        logged = checkpointer.list_messages(config)
    assert [message.text() for message in state.context] == WHOLE
    assert [message.text() for message in logged] == WHOLE
    assert state.execution_meta.status is ExecutionStatus.COMPLETED
    counts = case.done()
    assert set(counts) == {10 * node + tool for node in range(1, 6) for tool in (1, 2)}
    assert {result: counts[result] for result in known} == dict(known)
    assert sum(counts.values()) <= len(counts) + kills


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_run_is_taken_up_from_every_point(
    program: Program, cases: Callable[[], Case], request: pytest.FixtureRequest
) -> None:
    """Every point on SQLite; on PostgreSQL, where each process connects anew, every fifth, and all with `make soak`."""
    again = Counter[int]()
    postgres = "postgres" in request.node.name
    for point in range(1, 10_000, 5 if postgres and not SOAK else 1):
        case = cases()
        code = program.run(case, point)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        before, recorded = case.done(), case.finished()
        assert program.run(case) == 0
        check(case, Counter({each: before[each] for each in recorded}), kills=1)
        again[sum(case.done().values()) - 10] += 1
    assert point > 100
    assert again[1] > 0, "no point lies between what a tool does and its record"
    check(case, Counter(), kills=0)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_run_is_taken_up_however_often_it_dies(
    program: Program, cases: Callable[[], Case]
) -> None:
    dice = random.Random(11)
    for _ in range(200 if SOAK else 8):
        case = cases()
        known: Counter[int] = Counter()
        kills = 0
        while program.run(case, dice.randrange(1, 90)) != 0:
            kills += 1
            assert kills < 100
            counts = case.done()
            assert {result: counts[result] for result in known} == dict(known)
            known.update({each: counts[each] for each in case.finished() if each not in known})
        check(case, known, kills)


def test_a_lease_of_a_dead_process_is_waited_for(
    program: Program, cases: Callable[[], Case]
) -> None:
    for point in (30, 60, 90):
        case = cases()
        assert program.run(case, point, "reject") == -signal.SIGKILL
        assert program.run(case, 0, "wait") == 0
        check(case, Counter(), kills=1)
