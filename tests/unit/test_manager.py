"""`CheckpointManager`, promise by promise: what each method gives, then where a naive one goes wrong.

Every test runs in memory and on an SQLite file; `reopen` is a new process as far as the manager can tell.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from threadline import (
    Checkpoint,
    CheckpointManager,
    CorruptionError,
    InMemoryCheckpointer,
    NotStorableError,
    OutcomeUnknownError,
    SqliteCheckpointer,
    ThreadNotFoundError,
    clock,
)
from threadline.checkpointer import BaseCheckpointer
from threadline.checkpointer.manager_rules import kept
from threadline.store import EntryQuery

START = 1_700_000_000_000_000


class Store:
    """One store, and managers of it: `open` on what there is, `reopen` on a new checkpointer where that lasts."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.checkpointer = self._make()

    def _make(self) -> BaseCheckpointer:
        return SqliteCheckpointer(self._path) if self._path else InMemoryCheckpointer()

    def open(self, session: str = "s", **limits: Any) -> CheckpointManager:
        return CheckpointManager(session, checkpointer=self.checkpointer, **limits)

    def reopen(self, session: str = "s", **limits: Any) -> CheckpointManager:
        if self._path:
            self.checkpointer.release()
            self.checkpointer = self._make()
        return self.open(session, **limits)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "m.db" if request.param == "sqlite" else None)
    yield made
    made.checkpointer.release()


@pytest.fixture
def wall() -> Iterator[list[int]]:
    """The time in microseconds, in a list so that a test can set it."""
    time = [START]
    with clock.use(wall_us=lambda: time[0]):
        yield time


def ids(checkpoints: Any) -> list[str]:
    return [checkpoint.id for checkpoint in checkpoints]


def plain(manager: CheckpointManager) -> list[tuple[Any, ...]]:
    return [(c.name, c.timestamp, c.data, c.metadata) for c in manager]


# What each method gives -----------------------------------------------------------------------------------


def test_a_checkpoint_says_what_it_is(store: Store, wall: list[int]) -> None:
    made = store.open("run:7").create("task_started", {"step": 1}, {"by": "planner"})
    assert isinstance(made, Checkpoint)
    assert (made.id, made.name, made.version, made.thread_id) == (
        "run:7:1",
        "task_started",
        1,
        "run:7",
    )
    assert (made.data, made.metadata) == ({"step": 1}, {"by": "planner"})
    assert made.timestamp == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    values = json.loads(json.dumps(made.to_dict()))
    assert values["timestamp"] == "2023-11-14T22:13:20+00:00"
    assert values["data"] == {"step": 1}
    again = Checkpoint.from_dict(values)
    assert again == made
    assert again.data == made.data
    values["data"]["step"] = 2
    assert again.data == {"step": 1}


def test_checkpoints_are_found_by_id_name_and_order(store: Store) -> None:
    manager = store.open()
    made = [manager.create(name, number) for number, name in enumerate("abcab")]
    assert manager.get_all() == made == list(manager)
    assert len(manager) == 5
    assert [manager.get(each.id) for each in made] == made
    assert [each.data for each in manager.get_all()] == [0, 1, 2, 3, 4]
    assert manager.get_by_name("a") == [made[3], made[0]]
    assert manager.get_by_name("nobody") == []
    assert manager.get_latest() == made[4]
    assert manager.get_latest("c") == made[2]
    assert manager.get_latest("nobody") is None
    assert store.reopen().get_all() == made


@pytest.mark.parametrize(
    "unknown",
    ["s:2", "s:0", "s:01", "s:-1", "s:+1", "s:1 ", "s:١", "s:", "s", "", "t:1", "s:" + "9" * 30],
)
def test_an_unknown_id_is_none(store: Store, unknown: str) -> None:
    manager = store.open()
    assert manager.get("s:1") is None
    manager.create("a", 1)
    assert manager.get(unknown) is None
    assert manager.rollback_to(unknown) is None


def test_times_select_strictly_after_and_inclusively_between(store: Store, wall: list[int]) -> None:
    manager = store.open()
    moments = []
    for step in range(4):
        wall[0] = START + step
        moments.append(manager.create("a", step).timestamp)
    assert [c.data for c in manager.get_since(moments[1])] == [2, 3]
    assert manager.get_since(moments[3]) == []
    assert [c.data for c in manager.get_between(moments[1], moments[2])] == [1, 2]
    assert [c.data for c in manager.get_between(moments[1], moments[1])] == [1]
    assert manager.get_between(moments[2], moments[1]) == []
    east = moments[1].astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert [c.data for c in manager.get_since(east)] == [2, 3]


def test_rollback_gives_the_data_and_takes_nothing_away(store: Store) -> None:
    manager = store.open()
    first = manager.create("a", {"step": 1})
    manager.create("b", {"step": 2})
    data = manager.rollback_to(first.id)
    assert data == {"step": 1}
    data["step"] = 99
    assert manager.rollback_to(first.id) == {"step": 1}
    assert len(manager) == 2


def test_the_summary_is_defined_when_empty_and_when_not(store: Store, wall: list[int]) -> None:
    manager = store.open()
    assert manager.get_summary() == {
        "total_count": 0,
        "unique_names": 0,
        "names": {},
        "first_checkpoint": None,
        "last_checkpoint": None,
        "duration_seconds": 0.0,
    }
    first = manager.create("a", 1)
    wall[0] += 2_500_000
    manager.create("b", 2)
    wall[0] -= 1_000_000  # The clock steps back: the duration is that of the whole.
    last = manager.create("a", 3)
    assert manager.get_summary() == {
        "total_count": 3,
        "unique_names": 2,
        "names": {"a": 2, "b": 1},
        "first_checkpoint": first,
        "last_checkpoint": last,
        "duration_seconds": 2.5,
    }


def test_clear_says_how_many_there_were(store: Store) -> None:
    manager = store.open()
    assert manager.clear() == 0
    for step in range(3):
        manager.create("a", step)
    assert manager.clear() == 3
    assert manager.clear() == 0
    assert (len(manager), manager.get_all(), manager.get_latest()) == (0, [], None)
    assert manager.get_summary()["total_count"] == 0


def test_a_new_process_continues_ids_and_all(tmp_path: Path) -> None:
    with SqliteCheckpointer(tmp_path / "m.db") as one:
        before = [CheckpointManager("s", checkpointer=one).create("a", step) for step in range(3)]
    with SqliteCheckpointer(tmp_path / "m.db") as two:
        manager = CheckpointManager("s", checkpointer=two)
        assert manager.get_all() == before
        assert manager.create("b", 3).id == "s:4"


def test_without_a_checkpointer_it_lives_in_memory() -> None:
    one, two = CheckpointManager("s"), CheckpointManager("s")
    one.create("a", 1)
    assert (len(one), len(two)) == (1, 0)


def test_sessions_tenants_and_conversations_do_not_meet(store: Store) -> None:
    store.open("one").create("a", 1)
    store.open("one", tenant="acme").create("b", 2)
    assert len(store.open("two")) == 0
    assert [c.data for c in store.open("one")] == [1]
    assert store.checkpointer.get_state({"thread_id": "one"}) is None
    assert store.checkpointer.list_messages({"thread_id": "one"}) == []


def test_another_users_session_does_not_exist(store: Store) -> None:
    store.open(user_id="alice").create("a", 1)
    bob = store.open(user_id="bob")
    assert (len(bob), bob.get_all(), bob.get("s:1"), bob.clear()) == (0, [], None, 0)
    with pytest.raises(ThreadNotFoundError):
        bob.create("b", 2)
    assert len(store.open(user_id="alice")) == len(store.open()) == 1


async def test_it_works_inside_a_running_loop(store: Store) -> None:
    manager = store.open()
    assert manager.create("a", 1).id == "s:1"
    assert manager.import_checkpoints(manager.export()) == 0
    assert len(manager) == 1


# Input that is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"session_id": ""}, ValueError),
        ({"session_id": 3}, TypeError),
        ({"session_id": "a\nb"}, ValueError),
        ({"max_checkpoints": 0}, ValueError),
        ({"max_checkpoints": "9"}, TypeError),
        ({"max_checkpoints": True}, TypeError),
        ({"compress_after": -1}, ValueError),
        ({"compress_after": 1.0}, TypeError),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        CheckpointManager(**{"session_id": "s", **arguments})


@pytest.mark.parametrize(
    ("name", "data", "metadata", "error"),
    [
        ("", 1, None, ValueError),
        (None, 1, None, TypeError),
        ("x" * 256, 1, None, ValueError),
        ("a", object(), None, NotStorableError),
        ("a", {"deep": [lambda: 0]}, None, NotStorableError),
        ("a", 1, {"k": object()}, NotStorableError),
        ("a", 1, [("k", 1)], TypeError),
    ],
    ids=["empty", "none", "long", "object", "function", "metadata", "pairs"],
)
def test_what_cannot_be_kept_is_refused_and_nothing_is_stored(
    store: Store, name: Any, data: Any, metadata: Any, error: type[Exception]
) -> None:
    manager = store.open()
    told: list[Checkpoint] = []
    manager.on_checkpoint(told.append)
    with pytest.raises(error):
        manager.create(name, data, metadata)
    assert (len(manager), told) == (0, [])
    assert manager.create("a", 1).id == "s:1"


def test_naive_datetimes_are_refused_clearly(store: Store) -> None:
    manager, naive, aware = store.open(), datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)  # noqa: DTZ001
    for call in (
        lambda: manager.get_since(naive),
        lambda: manager.get_between(naive, aware),
        lambda: manager.get_between(aware, naive),
    ):
        with pytest.raises(ValueError, match="no time zone; use an aware datetime"):
            call()
    for wrong in ("2024-01-01", 5, date(2024, 1, 1)):
        with pytest.raises(TypeError, match="must be a datetime"):
            manager.get_since(wrong)  # type: ignore[arg-type]


# Where a naive one goes wrong -----------------------------------------------------------------------------


def test_data_is_kept_by_value_with_its_types(store: Store) -> None:
    data = {
        "tuple": (1, (2,)),
        3: "int key",
        "bytes": b"\x00\xff",
        "when": datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))),
        "set": {1, 2},
        "decimal": Decimal("1.10"),
        "big": 2**200,
        "text": "\ud800",
        "$tuple": [1],
    }
    metadata = {"tags": ("a", "b"), 1: [b"x"], "list": [1]}
    manager = store.open()
    made = manager.create("a", data, metadata)
    expected_data, expected_metadata = dict(data), {**metadata, "list": [1]}
    data["tuple"] = "changed"
    metadata["list"].append(2)
    made.data["tuple"] = "changed too"
    made.metadata["list"].append(3)
    (found,) = store.reopen().get_all()
    assert (found.data, found.metadata) == (expected_data, expected_metadata)
    assert type(found.data["tuple"]) is tuple
    found.data["tuple"] = "and again"
    assert store.open().get("s:1").data == expected_data  # type: ignore[union-attr]
    other = store.open("other")
    other.import_checkpoints(store.open().export())
    assert plain(other) == plain(store.open())


def by_hand(names: list[str], compress_after: int) -> list[int]:
    """The sentence of the contract, word by word."""
    if len(names) <= compress_after:
        return list(range(len(names)))
    first = {0}
    latest = {len(names) - 1 - names[::-1].index(name) for name in names}
    newest = set(range(len(names))[-20:])
    return sorted(first | latest | newest)


def test_compression_keeps_the_first_the_latest_of_each_name_and_the_newest_20(
    store: Store,
) -> None:
    manager = store.open(compress_after=50)
    names = ["plan", "rare", "odd"] + ["step"] * 47
    for number, name in enumerate(names):
        manager.create(name, number)
    assert [c.data for c in manager] == list(range(50))
    manager.create("step", 50)
    assert [c.data for c in manager] == [0, 1, 2, *range(31, 51)]
    assert [c.data for c in store.open()] == [0, 1, 2, *range(31, 51)]
    assert manager.create("step", 51).id == "s:52"


@pytest.mark.parametrize("most", [1, 2, 3, 10, 25])
def test_the_maximum_holds_also_when_every_name_is_unique(store: Store, most: int) -> None:
    manager = store.open(max_checkpoints=most, compress_after=5)
    for number in range(40):
        manager.create(f"name {number}", number)
        assert len(manager) == min(number + 1, most)
        assert manager.get_latest().data == number  # type: ignore[union-attr]
    expected = [39] if most == 1 else [0, *range(41 - most, 40)]
    assert [c.data for c in manager] == expected


@pytest.mark.parametrize("compress_after", [0, 1, 5, 19, 20, 21])
def test_a_small_compress_after_duplicates_and_loses_nothing(
    store: Store, compress_after: int
) -> None:
    manager = store.open(compress_after=compress_after)
    for number in range(30):
        manager.create("ab"[number % 2], number)
    assert [c.data for c in manager] == [0, *range(10, 30)]
    assert len(set(ids(manager))) == len(manager) == 21


def test_the_rule_is_the_sentence_of_the_contract() -> None:
    for count in range(90):
        for kinds in (1, 2, 7, 90):
            names = [str(number % kinds) for number in range(count)]
            for after in (0, 1, 10, 50):
                assert kept(names, after, 1000) == by_hand(names, after)
                for most in (1, 2, 20, 60):
                    stay, whole = kept(names, after, most), by_hand(names, after)
                    assert len(stay) == min(most, len(whole))
                    assert set(stay) <= set(whole)
                    assert stay == sorted(set(stay))
                    assert stay[-1:] == whole[-1:]
                    assert most == 1 or stay[:1] == whole[:1]


def test_equal_times_and_clocks_that_step_back_keep_the_order_of_creation(
    store: Store, wall: list[int]
) -> None:
    manager = store.open()
    for number, step in enumerate([0, 0, 10, -5, -3600_000_000, 7, 7]):
        wall[0] = START + step
        manager.create("a", number)
    for each in (manager, store.open()):
        assert [c.data for c in each] == [0, 1, 2, 3, 4, 5, 6]
        assert each.get_latest().data == 6  # type: ignore[union-attr]
        assert [c.data for c in each.get_by_name("a")] == [6, 5, 4, 3, 2, 1, 0]
    assert [c.data for c in manager.get_since(clock.from_us(START))] == [2, 5, 6]
    assert clock.to_us(manager.get_all()[4].timestamp) == START - 3600_000_000


def test_ids_never_repeat(store: Store) -> None:
    manager = store.open(max_checkpoints=4, compress_after=2)
    given: list[str] = []
    manager.on_checkpoint(lambda c: given.append(c.id))

    def more(count: int) -> None:
        for _ in range(count):
            manager.create("a", 0)

    more(10)
    exported = manager.export()
    assert manager.clear() == 4
    more(3)
    manager.clear()
    assert manager.import_checkpoints(exported) == 4
    given.extend(ids(manager))
    more(2)
    assert manager.import_checkpoints(exported) == 0
    manager.clear()
    manager = store.reopen()
    given.append(manager.create("b", 1).id)
    assert len(given) == len(set(given)) == 20
    numbers = [int(each.removeprefix("s:")) for each in given]
    assert numbers == sorted(numbers) == list(range(1, 21))


def test_importing_keeps_everything_but_the_ids(store: Store, wall: list[int]) -> None:
    source, target = store.open("source"), store.open("target")
    for number in range(3):
        wall[0] += number
        source.create("ab"[number % 2], (number, b"x"), {"n": {number}})
    target.create("own", 0)
    wall[0] += 5
    assert target.import_checkpoints(source.export()) == 3
    assert ids(target) == ["target:1", "target:2", "target:3", "target:4"]
    assert plain(target)[1:] == plain(source)
    assert target.get("source:2").id == "target:3"  # type: ignore[union-attr]
    assert target.rollback_to("source:2") == (1, b"x")
    assert target.create("next", 1).id == "target:5"
    assert source.get("target:2") is None


def test_importing_twice_adds_nothing(store: Store) -> None:
    source, target = store.open("source"), store.open("target", compress_after=22)
    for number in range(10):
        source.create("a", number)
    exported = source.export()
    assert source.import_checkpoints(exported) == 0
    assert target.import_checkpoints(exported) == 10
    assert target.import_checkpoints(exported) == 0
    for number in range(
        30
    ):  # Compression takes what was imported away: it is remembered all the same.
        target.create("b", number)
    assert target.get("source:5") is None
    assert target.import_checkpoints(exported) == 0
    assert store.reopen("target").import_checkpoints(exported) == 0


def test_what_compression_took_from_here_does_not_come_back_as_new(store: Store) -> None:
    manager = store.open(compress_after=25)
    for number in range(25):
        manager.create("a", number)
    exported = manager.export()
    manager.create("a", 25)
    left = ids(manager)
    assert len(left) == 21
    assert manager.import_checkpoints(exported) == 0
    assert ids(manager) == left


def test_clear_and_import_restore(store: Store) -> None:
    manager = store.open()
    for number in range(3):
        manager.create("a", number)
    exported, before = manager.export(), plain(manager)
    manager.clear()
    assert manager.import_checkpoints(exported) == 3
    assert plain(manager) == before
    assert ids(manager) == ["s:4", "s:5", "s:6"]
    assert manager.import_checkpoints(manager.export()) == 0
    assert manager.import_checkpoints(exported) == 0


def test_checkpoints_that_went_to_and_fro_are_the_same(store: Store) -> None:
    one, two = store.open("one"), store.open("two")
    one.create("a", 1)
    two.create("b", 2)
    assert two.import_checkpoints(one.export()) == 1
    assert one.import_checkpoints(two.export()) == 1
    assert two.import_checkpoints(one.export()) == 0
    assert [c.data for c in one] == [1, 2]
    assert [c.data for c in two] == [2, 1]


def test_an_import_is_compressed_like_everything(store: Store) -> None:
    source, target = (
        store.open("source", compress_after=1000),
        store.open("target", max_checkpoints=10, compress_after=5),
    )
    for number in range(60):
        source.create(str(number), number)
    assert target.import_checkpoints(source.export()) == 10
    assert [c.data for c in target] == [0, *range(51, 60)]
    assert target.import_checkpoints(source.export()) == 0


GOOD = {
    "id": "x:1",
    "thread_id": "x",
    "version": 1,
    "name": "a",
    "timestamp": "2024-01-01T00:00:00+00:00",
    "metadata": {},
    "data": 1,
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"timestamp": "yesterday"}, "yesterday"),
        ({"timestamp": "2024-01-01T00:00:00"}, "no time zone"),
        ({"timestamp": 5}, "timestamp"),
        ({"metadata": []}, "metadata"),
        ({"data": {"$unknown": 1}}, "unknown tag"),
        ({"data": {"$bytes": "?"}}, "damaged"),
        ({"data": {"$set": [{}]}}, "damaged"),
        ({"uid": "xyz"}, "uid"),
        ({"uid": 5}, "uid"),
        ({"version": "1"}, "version"),
        ({"surprise": 1}, "surprise"),
        ({"id": 7}, "id"),
    ],
    ids=str,
)
def test_an_import_with_a_bad_entry_imports_nothing_and_says_which(
    store: Store, change: dict[str, Any], says: str
) -> None:
    manager = store.open()
    manager.create("own", 0)
    whole = json.loads(manager.export())
    bad = {**GOOD, **change}
    whole["checkpoints"] = [{**GOOD, "id": "x:0"}, {**GOOD, "name": "b"}, bad]
    with pytest.raises(ValueError, match=r"checkpoints\[2\] \(id .*nothing was imported") as raised:
        manager.import_checkpoints(json.dumps(whole))
    assert says in str(raised.value)
    assert len(manager) == 1
    whole["checkpoints"].pop()
    assert manager.import_checkpoints(json.dumps(whole, indent=2).encode()) == 2
    assert manager.import_checkpoints(json.dumps(whole)) == 0


@pytest.mark.parametrize("missing", ["id", "thread_id", "version", "name", "timestamp", "data"])
def test_an_entry_without_a_field_is_bad(store: Store, missing: str) -> None:
    manager = store.open()
    whole = json.loads(manager.export())
    whole["checkpoints"] = [{key: value for key, value in GOOD.items() if key != missing}]
    with pytest.raises(ValueError, match=rf"checkpoints\[0\].*needs {missing}"):
        manager.import_checkpoints(json.dumps(whole))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        "\ud800",
        '{"format": "threadline.checkpoints"}',
        '{"format": "threadline.checkpoints", "version": 2, "checkpoints": []}',
        '{"format": "threadline.checkpoints", "version": 1, "checkpoints": {}}',
        '{"format": "threadline.checkpoints", "version": 1, "checkpoints": [NaN]}',
        '{"format": "threadline.checkpoints", "version": 1, "checkpoints": [1]}',
        '{"format": "threadline.checkpoints", "version": 1, "incarnation": 1, "checkpoints": []}',
        "[" * 100_000,
        b"\xff",
    ],
    ids=lambda text: repr(text)[:60],
)
def test_what_is_no_export_is_refused(store: Store, text: str | bytes) -> None:
    manager = store.open()
    with pytest.raises(ValueError, match="nothing was imported"):
        manager.import_checkpoints(text)
    assert len(manager) == 0


def test_other_things_than_text_and_entries_that_repeat_are_refused(store: Store) -> None:
    manager = store.open()
    with pytest.raises(TypeError, match="JSON text"):
        manager.import_checkpoints({"checkpoints": []})  # type: ignore[arg-type]
    manager.create("a", 1)
    whole = json.loads(manager.export())
    whole["checkpoints"] *= 2
    with pytest.raises(ValueError, match=r"checkpoints\[1\].*repeats checkpoints\[0\]"):
        store.open("other").import_checkpoints(json.dumps(whole))


def test_exports_of_the_same_are_the_same(tmp_path: Path) -> None:
    def build(store: Store) -> list[str]:
        numbers = iter(range(10**9))
        with clock.use(lambda: START, lambda count: next(numbers).to_bytes(count, "big")):
            manager = store.open()
            for number in range(25):
                manager.create("ab"[number % 2], {"z": {3, 1, 2}, "a": (number,)}, {"b": 1, "a": 2})
            return [manager.export(), manager.export(), store.open().export()]

    texts = build(Store(None)) + build(Store(None))
    assert len(set(texts)) == 1
    store = Store(tmp_path / "m.db")
    texts = [*build(store), store.reopen().export()]
    assert len(set(texts)) == 1
    store.checkpointer.release()
    whole = json.loads(texts[0])
    assert (whole["format"], whole["version"], whole["session_id"]) == (
        "threadline.checkpoints",
        1,
        "s",
    )
    assert whole["checkpoints"][0]["timestamp"] == "2023-11-14T22:13:20+00:00"
    assert whole["checkpoints"][0]["data"] == {"z": {"$set": [1, 2, 3]}, "a": {"$tuple": [0]}}


def test_a_callback_that_raises_is_logged_and_loses_nothing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    manager = store.open()
    told: list[tuple[str, Any]] = []

    @manager.on_checkpoint
    def first(checkpoint: Checkpoint) -> None:
        told.append(("first", checkpoint.data))
        checkpoint.data["step"] = 99

    @manager.on_checkpoint
    def broken(checkpoint: Checkpoint) -> None:
        raise RuntimeError("no luck")

    manager.on_checkpoint(lambda checkpoint: told.append(("last", checkpoint.data)))
    with caplog.at_level(logging.ERROR):
        made = manager.create("a", {"step": 1})
    assert told == [("first", {"step": 99}), ("last", {"step": 1})]
    assert made.data == manager.get(made.id).data == {"step": 1}  # type: ignore[union-attr]
    (record,) = caplog.records
    assert "s:1 is kept" in record.getMessage()
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "no luck"
    assert callable(first)
    with pytest.raises(TypeError):
        manager.on_checkpoint("no")  # type: ignore[arg-type]


def test_a_callback_may_use_the_manager(store: Store) -> None:
    manager = store.open()

    def echo(checkpoint: Checkpoint) -> None:
        assert manager.get(checkpoint.id) == checkpoint
        if checkpoint.name == "a":
            manager.create("echo", checkpoint.data)

    manager.on_checkpoint(echo)
    manager.create("a", 1)
    assert [(c.name, c.data) for c in manager] == [("a", 1), ("echo", 1)]


# Threads, several managers, retries -------------------------------------------------------------------


def in_threads(count: int, work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == []


@pytest.mark.parametrize("shared", [True, False], ids=["one manager", "a manager each"])
def test_eight_threads_lose_and_repeat_nothing(store: Store, shared: bool) -> None:
    limits = {"max_checkpoints": 1000, "compress_after": 1000}
    one = store.open(**limits)
    told: list[str] = []

    def work(number: int) -> None:
        manager = one if shared else store.open(**limits)
        manager.on_checkpoint(lambda c: told.append(c.id)) if not shared or number == 0 else None
        for step in range(20):
            made = manager.create(f"t{number}", (number, step))
            assert manager.get(made.id) == made
            assert manager.get_latest(f"t{number}").data == (number, step)  # type: ignore[union-attr]

    in_threads(8, work)
    assert ids(one) == [f"s:{n}" for n in range(1, 161)]
    for number in range(8):
        assert [c.data for c in reversed(one.get_by_name(f"t{number}"))] == [
            (number, step) for step in range(20)
        ]
    if not shared:
        assert sorted(told) == sorted(ids(one))


def test_eight_threads_keep_the_maximum_while_others_import_and_clear(store: Store) -> None:
    other = store.open("other")
    for number in range(5):
        other.create("x", number)
    exported = other.export()
    made: list[str] = []

    def work(number: int) -> None:
        manager = store.open(max_checkpoints=7, compress_after=3)
        for step in range(15):
            if number == 0 and step % 5 == 0:
                manager.clear()
            elif number == 1 and step % 5 == 0:
                manager.import_checkpoints(exported)
            else:
                made.append(manager.create(f"t{number}", step).id)
            assert len(manager) <= 7

    in_threads(8, work)
    assert len(made) == len(set(made)) == 114
    assert len(set(ids(store.open()))) == len(store.open()) <= 7


def test_two_managers_see_what_the_other_did(store: Store) -> None:
    one, two = store.open(), store.open(max_checkpoints=3)
    one.create("a", 1)
    two.create("a", 2)
    assert one.get_latest().data == 2  # type: ignore[union-attr]
    for number in range(3, 6):
        one.create("a", number)
    assert len(two) == 5
    two.create("a", 6)  # Its limit holds for what it adds to.
    assert [c.data for c in one] == [1, 5, 6]
    one.create("a", 7)
    assert two.clear() == 4
    assert one.create("a", 8).id == "s:8"
    assert two.clear() == 1  # Neither "nothing to do" is said of what was once seen.
    assert two.clear() == 0
    text = store.open("other").export()
    assert two.import_checkpoints(text) == 0
    one.create("a", 9)
    assert two.clear() == 1
    store.checkpointer.store.erase({"thread_id": "s", "app": "threadline.manager"})
    assert one.get_all() == []
    assert one.create("a", 10).id == "s:10"
    assert [c.data for c in two] == [10]


def test_a_repeated_op_id_writes_once(store: Store, wall: list[int]) -> None:
    manager, op = store.open(compress_after=22), "ab" * 16
    first = manager.create("a", 1, op_id=op)
    wall[0] += 9
    assert store.reopen().create("a", "other", op_id=op) == first
    manager = store.reopen(compress_after=22)
    assert [c.data for c in manager] == [1]
    for number in range(40):
        manager.create("b", number)
    gone = manager.create("b", 40, op_id="cd" * 16)
    for number in range(41, 70):
        manager.create("b", number)
    again = manager.create("b", 40, op_id="cd" * 16)
    assert manager.get(gone.id) is None
    assert (again.id, again.data, again.timestamp) == (gone.id, gone.data, gone.timestamp)
    with pytest.raises(ValueError, match="op_id"):
        manager.create("a", 1, op_id="short")


def test_imports_and_clears_can_be_repeated_too(store: Store) -> None:
    source, target = store.open("source"), store.open("target")
    source.create("a", 1)
    text = source.export()
    assert target.import_checkpoints(text, op_id="01" * 16) == 1
    assert target.import_checkpoints(text, op_id="01" * 16) == 1
    assert target.import_checkpoints(text, op_id="02" * 16) == 0
    assert len(target) == 1
    assert target.clear(op_id="03" * 16) == 1
    assert target.clear(op_id="03" * 16) == 1
    assert target.clear(op_id="04" * 16) == 0
    assert target.create("b", 2).id == "target:2"
    assert target.clear(op_id="03" * 16) == 1
    assert len(target) == 1
    assert target.import_checkpoints(text) == 1
    with pytest.raises(ValueError, match="another call"):
        target.create("a", 1, op_id="03" * 16)


def test_after_an_unknown_outcome_the_same_op_id_tells(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, backend = store.open(), store.checkpointer._engine.backend
    manager.create("a", 0)
    commit = type(backend).commit

    async def lose_the_answer(self: Any, batches: Any) -> Any:
        await commit(self, batches)
        raise OutcomeUnknownError(op_id=batches[0].op_id.hex())

    with monkeypatch.context() as patch:
        patch.setattr(type(backend), "commit", lose_the_answer)
        with pytest.raises(OutcomeUnknownError) as unknown:
            manager.create("a", 1)
    assert manager.create("a", 1, op_id=unknown.value.op_id).id == "s:2"
    assert manager.create("a", 2).id == "s:3"
    assert [c.data for c in manager] == [0, 1, 2]


def test_bit_rot_is_refused(store: Store) -> None:
    manager = store.open()
    manager.create("a", "x" * 100)
    floor, config = store.checkpointer.store, {"thread_id": "s", "app": "threadline.manager"}
    (entry,) = floor.read(config, EntryQuery())
    rotten = dataclasses.replace(entry, payload=entry.payload[:-1] + b"?")
    floor.commit(floor.batch(config, "rot", rewrite_entries=(rotten,)))
    with pytest.raises(CorruptionError):
        manager.get("s:1")
