"""`CheckpointManager` against a plain list, under Hypothesis: two sessions of one store, two managers of each.

Between any two calls the managers, or the whole checkpointer, may be made anew on what is there. The clock goes
where it likes. After every step, every manager shows what the list holds.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as play

from threadline import CheckpointManager, InMemoryCheckpointer, SqliteCheckpointer, clock

SESSIONS = st.sampled_from(["one", "two"])
WHICH = st.integers(0, 1)
NAMES = st.sampled_from(["plan", "step", "done"]) | st.text("xyz", min_size=1, max_size=3)
SCALARS = (
    st.none()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.binary(max_size=3)
)
DATA = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.sampled_from(["a", "$tuple", "$"]), inner, max_size=3)
    ),
    max_leaves=6,
)
METADATA = st.none() | st.dictionaries(st.sampled_from("ab"), DATA, max_size=2)


@dataclass(frozen=True)
class Item:
    """A checkpoint; `born` is the session and number that it was created under, which copies keep."""

    number: int
    born: tuple[str, int]
    name: str
    at: int
    data: Any
    metadata: dict[str, Any]
    origin: str | None = None


@dataclass
class Session:
    """What a session holds, as a list."""

    name: str
    most: int
    compress_after: int
    items: list[Item] = field(default_factory=list)
    last: int = 0
    cleared: int = 0
    imported: set[tuple[str, int]] = field(default_factory=set)

    def survivors(self, items: list[Item]) -> list[Item]:
        if len(items) > self.compress_after:
            latest = {item.name: item for item in items}
            newest = items[-20:]
            items = [
                item
                for place, item in enumerate(items)
                if place == 0 or item in newest or latest[item.name] is item
            ]
        while len(items) > self.most:
            del items[1 if self.most > 1 else 0]
        return items

    def add(self, new: list[Item]) -> int:
        """The new ones that stay are numbered; returns how many."""
        stay = self.survivors([*self.items, *new])
        added = [item for item in stay if any(item is each for each in new)]
        self.items = [item for item in stay if not any(item is each for each in new)]
        for item in added:
            self.last += 1
            self.items.append(replace(item, number=self.last))
        return len(added)

    def bring(self, source: str, items: list[Item]) -> int:
        here = {item.born for item in self.items} | self.imported
        new = [
            replace(item, number=-1 - place, origin=f"{source}:{item.number}")
            for place, item in enumerate(items)
            if item.born not in here
            and not (source == self.name and self.cleared < item.number <= self.last)
        ]
        self.imported |= {item.born for item in new}
        return self.add(new)

    def clear(self) -> int:
        count, self.items, self.imported = len(self.items), [], set()
        self.cleared = self.last
        return count


class ManagerMachine(RuleBasedStateMachine):
    """In memory; the subclass below is durable."""

    durable = False

    def __init__(self) -> None:
        super().__init__()
        self.time = 1_700_000_000_000_000
        self.clock = clock.use(wall_us=lambda: self.time)
        self.clock.__enter__()
        self.folder = tempfile.TemporaryDirectory()
        self.exports: list[tuple[str, str, list[Item]]] = []
        self.told: list[str] = []
        self.open()

    def open(self) -> None:
        path = Path(self.folder.name) / "m.db"
        self.checkpointer: Any = (
            SqliteCheckpointer(path, durability="relaxed")
            if self.durable
            else InMemoryCheckpointer()
        )

    def manager(self, session: Session) -> CheckpointManager:
        return CheckpointManager(
            session.name, session.most, session.compress_after, self.checkpointer
        )

    @initialize(limits=st.tuples(st.integers(1, 40), st.integers(0, 40)))
    def begin(self, limits: tuple[int, int]) -> None:
        self.sessions = {"one": Session("one", *limits), "two": Session("two", 100, 22)}
        self.renew()

    def renew(self) -> None:
        self.managers = {
            name: [self.manager(session), self.manager(session)]
            for name, session in self.sessions.items()
        }

    @rule(name=SESSIONS, which=WHICH)
    def new_manager(self, name: str, which: int) -> None:
        self.managers[name][which] = self.manager(self.sessions[name])

    @rule()
    def restart(self) -> None:
        if self.durable:
            self.checkpointer.release()
            self.open()
        self.renew()

    @rule(step=st.integers(-10, 10) | st.integers(-(10**12), 10**12))
    def move_clock(self, step: int) -> None:
        self.time += step

    @rule(session=SESSIONS, which=WHICH, name=NAMES, data=DATA, metadata=METADATA)
    def create(
        self, session: str, which: int, name: str, data: Any, metadata: dict[str, Any] | None
    ) -> None:
        model = self.sessions[session]
        number = model.last + 1
        made = self.managers[session][which].create(name, data, metadata)
        model.add([Item(0, (session, number), name, self.time, data, metadata or {})])
        assert (made.id, made.data, made.metadata) == (f"{session}:{number}", data, metadata or {})
        assert clock.to_us(made.timestamp) == self.time

    @rule(session=SESSIONS, which=WHICH, names=st.lists(NAMES, min_size=5, max_size=25))
    def create_many(self, session: str, which: int, names: list[str]) -> None:
        for number, name in enumerate(names):
            self.create(session, (which + number) % 2, name, number, None)

    @rule(session=SESSIONS, which=WHICH)
    def clear(self, session: str, which: int) -> None:
        assert self.managers[session][which].clear() == self.sessions[session].clear()

    @rule(session=SESSIONS, which=WHICH)
    def export(self, session: str, which: int) -> None:
        text = self.managers[session][which].export()
        assert text == self.managers[session][1 - which].export()
        self.exports.append((text, session, list(self.sessions[session].items)))

    @rule(session=SESSIONS, which=WHICH, choice=st.integers(0, 20))
    def bring(self, session: str, which: int, choice: int) -> None:
        if not self.exports:
            return
        text, source, items = self.exports[choice % len(self.exports)]
        manager = self.managers[session][which]
        assert manager.import_checkpoints(text) == self.sessions[session].bring(source, items)
        assert manager.import_checkpoints(text) == 0

    @rule(session=SESSIONS, which=WHICH, choice=st.integers(0, 20), place=st.integers(0, 50))
    def bring_damaged(self, session: str, which: int, choice: int, place: int) -> None:
        if not self.exports:
            return
        whole = json.loads(self.exports[choice % len(self.exports)][0])
        if not whole["checkpoints"]:
            return
        place %= len(whole["checkpoints"])
        del whole["checkpoints"][place]["name"]
        with pytest.raises(ValueError, match=rf"checkpoints\[{place}\]"):
            self.managers[session][which].import_checkpoints(json.dumps(whole))

    @rule(session=SESSIONS, which=WHICH, number=st.integers(0, 60), edge=st.integers(-10, 10))
    def ask(self, session: str, which: int, number: int, edge: int) -> None:
        manager, items = self.managers[session][which], self.sessions[session].items
        found = manager.get(f"{session}:{number}")
        expected = [item.data for item in items if item.number == number]
        assert ([found.data] if found else []) == expected
        assert manager.rollback_to(f"{session}:{number}") == (expected[0] if expected else None)
        moment, later = clock.from_us(self.time + edge), clock.from_us(self.time + 20)
        since = [item.number for item in items if item.at > self.time + edge]
        between = [item.number for item in items if edge <= item.at - self.time <= 20]
        assert [c.version for c in manager.get_since(moment)] == since
        assert [c.version for c in manager.get_between(moment, later)] == between
        for name in {item.name for item in items}:
            newest = [item.number for item in reversed(items) if item.name == name]
            assert [c.version for c in manager.get_by_name(name)] == newest
            latest = manager.get_latest(name)
            assert latest is not None
            assert latest.version == newest[0]
        for origin in {item.origin for item in items if item.origin}:
            if not origin.startswith(session):
                newest = [item.number for item in items if item.origin == origin]
                assert manager.get(origin).version == newest[-1]  # type: ignore[union-attr]

    @invariant()
    def every_manager_shows_the_list(self) -> None:
        for name, model in getattr(self, "sessions", {}).items():
            expected = [
                (f"{name}:{each.number}", each.name, each.at, each.data, each.metadata)
                for each in model.items
            ]
            assert len(expected) <= model.most
            for manager in self.managers[name]:
                shown = [
                    (c.id, c.name, clock.to_us(c.timestamp), c.data, c.metadata) for c in manager
                ]
                assert shown == expected
                assert len(manager) == len(expected)
                assert manager.get_summary()["total_count"] == len(expected)
                latest = manager.get_latest()
                assert (latest.id if latest else None) == (expected[-1][0] if expected else None)

    def teardown(self) -> None:
        self.checkpointer.release()
        self.clock.__exit__(None, None, None)
        self.folder.cleanup()


class DurableMachine(ManagerMachine):
    """On an SQLite file."""

    durable = True


@pytest.mark.soak
@pytest.mark.parametrize("machine", [ManagerMachine, DurableMachine], ids=["memory", "sqlite"])
def test_the_manager_is_a_list(machine: type[ManagerMachine]) -> None:
    long = bool(os.environ.get("THREADLINE_SOAK"))
    play(
        machine,
        settings=settings(
            max_examples=200 if long else 30,
            stateful_step_count=50,
            deadline=None,
            derandomize=not long,
            suppress_health_check=list(HealthCheck),
        ),
    )
