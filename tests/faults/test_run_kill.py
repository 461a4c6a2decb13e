"""A run of nodes with tools under SIGKILL at every point: it is always taken up, no tool that is known to have finished
is called again, and no result is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.run_program import CONFIG, open_store
from threadline import AgentState
from threadline.model import ExecutionStatus

SOAK = bool(os.environ.get("THREADLINE_SOAK"))
WHOLE = [f"{node}: [{10 * node + 1}, {10 * node + 2}]" for node in range(1, 6)]
Stores = Callable[[], str]


class Program:
    """The program, started once; each run of it is a fork."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("run_program.py"))]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, store: str, effects: Path, last: int = 0, lease: str = "-") -> int:
        """Run it; the exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(store, effects, lease, last, file=self.process.stdin, flush=True)
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


@pytest.fixture(params=["sqlite"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """Gives the address of an empty store at each call."""
    numbers = iter(range(10_000))
    return lambda: str(tmp_path / f"{next(numbers)}.db")


def finished(store: str) -> set[int]:
    """The results of the calls that the ledger says are finished."""
    with open_store(store) as checkpointer, checkpointer.session(CONFIG) as session:
        return {call.result for call in session.calls() if call.status == "finished"}


def done(effects: Path) -> Counter[int]:
    """How often each effect happened."""
    lines = effects.read_text().splitlines() if effects.exists() else []
    return Counter(int(line.replace(".", "")) for line in lines)


def check(store: str, effects: Path, known: Counter[int], kills: int) -> None:
    """The run is whole; what was known to be finished when the process died was not done again."""
    with open_store(store) as checkpointer:
        state: AgentState = checkpointer.get_state(CONFIG)
        logged = checkpointer.list_messages(CONFIG)
    assert [message.text() for message in state.context] == WHOLE
    assert [message.text() for message in logged] == WHOLE
    assert state.execution_meta.status is ExecutionStatus.COMPLETED
    counts = done(effects)
    assert set(counts) == {10 * node + tool for node in range(1, 6) for tool in (1, 2)}
    assert {result: counts[result] for result in known} == dict(known)
    assert sum(counts.values()) <= len(counts) + kills


@pytest.mark.timeout(600)
def test_a_run_is_taken_up_from_every_point(
    program: Program, stores: Stores, tmp_path: Path
) -> None:
    again = Counter[int]()
    for point in range(1, 10_000):
        store, effects = stores(), tmp_path / f"effects-{point}"
        code = program.run(store, effects, point)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        before, recorded = done(effects), finished(store)
        assert program.run(store, effects) == 0
        check(store, effects, Counter({each: before[each] for each in recorded}), kills=1)
        again[sum(done(effects).values()) - 10] += 1
    assert point > 100
    assert again[1] > 0, "no point lies between what a tool does and its record"
    check(store, effects, Counter(), kills=0)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_run_is_taken_up_however_often_it_dies(
    program: Program, stores: Stores, tmp_path: Path
) -> None:
    dice = random.Random(11)
    for number in range(200 if SOAK else 12):
        store, effects = stores(), tmp_path / f"effects-{number}"
        known: Counter[int] = Counter()
        kills = 0
        while program.run(store, effects, dice.randrange(1, 90)) != 0:
            kills += 1
            assert kills < 100
            counts = done(effects)
            assert {result: counts[result] for result in known} == dict(known)
            known.update({each: counts[each] for each in finished(store) if each not in known})
        check(store, effects, known, kills)


def test_a_lease_of_a_dead_process_is_waited_for(
    program: Program, stores: Stores, tmp_path: Path
) -> None:
    for point in (30, 60, 90):
        store, effects = stores(), tmp_path / f"effects-{point}"
        assert program.run(store, effects, point, "reject") == -signal.SIGKILL
        assert program.run(store, effects, 0, "wait") == 0
        check(store, effects, Counter(), kills=1)
