"""The checker of histories: what a correct store may do passes, and each violation is found, alone."""

from __future__ import annotations

import random
import threading
from collections.abc import Hashable
from itertools import permutations

import pytest

from threadline.testing.history import History, NotMade, Operation, check


def put(
    value: str, version: int, called: float, returned: float | None, expected: int | None = None
) -> Operation:
    return Operation("put", "k", value, version, expected, called, returned)


def get(value: Hashable, version: int, called: float, returned: float) -> Operation:
    return Operation("get", "k", value, version, None, called, returned)


UNKNOWN = put("u", 0, 3, None)  # Nobody knows whether it was made.

FINE = {
    "nothing": [],
    "a read beside a put sees the old or the new": [
        put("a", 1, 0, 1),
        put("b", 2, 2, 6),
        get("a", 1, 3, 4),
        get("b", 2, 3, 5),
        get("a", 1, 2.5, 6),
    ],
    "nothing is there before the first put returned": [get(None, 0, 0, 3), put("a", 1, 1, 2)],
    "puts that run beside each other, in either order": [
        put("a", 2, 0, 5),
        put("b", 1, 0, 5),
        get("a", 2, 6, 7),
    ],
    "an unknown put that was not made": [put("a", 1, 0, 1), UNKNOWN, get("a", 1, 9, 10)],
    "an unknown put that was made late": [
        put("a", 1, 0, 1),
        UNKNOWN,
        get("a", 1, 8, 9),
        get("u", 2, 10, 11),
        put("b", 3, 12, 13, expected=2),
    ],
    "an unknown put that was made, and written over unseen": [
        put("a", 1, 0, 1),
        UNKNOWN,
        put("b", 3, 12, 13),
    ],
    "versions with gaps": [put("a", 1, 0, 1), put("b", 5, 2, 3, expected=1), get("b", 5, 4, 5)],
}

BROKEN = {
    "a read older than a put that had returned": (
        "stale",
        [put("a", 1, 0, 1), put("b", 2, 2, 3), get("a", 1, 4, 5)],
    ),
    "a read that finds nothing after a put had returned": (
        "stale",
        [put("a", 1, 0, 1), get(None, 0, 2, 3)],
    ),
    "reads that go back": (
        "stale",
        [put("a", 1, 0, 1), put("b", 2, 2, 9), get("b", 2, 3, 4), get("a", 1, 5, 6)],
    ),
    "reads of an unknown put that go back": (
        "stale",
        [put("a", 1, 0, 1), UNKNOWN, get("u", 2, 4, 5), get("a", 1, 6, 7)],
    ),
    "a put behind one that had returned": ("stale", [put("a", 2, 0, 1), put("b", 1, 2, 3)]),
    "a put whose version had been read before": (
        "stale",
        [put("a", 1, 0, 1), put("b", 2, 2, 9), get("b", 2, 3, 4), put("c", 2, 5, 6)],
    ),
    "an unknown put that had no time to be made": (
        "stale",
        [put("a", 1, 0, 1), put("b", 3, 1, 2), UNKNOWN, get("u", 2, 1.5, 4)],
    ),
    "a read of what nobody put": ("uncommitted", [put("a", 1, 0, 1), get("x", 1, 2, 3)]),
    "a read of another version than was given": (
        "uncommitted",
        [put("a", 1, 0, 1), get("a", 2, 2, 3)],
    ),
    "a read before it was put": ("uncommitted", [get("a", 1, 0, 1), put("a", 1, 2, 3)]),
    "a value without a version": ("uncommitted", [get("a", 0, 0, 1)]),
    "two puts with one version": ("duplicate", [put("a", 1, 0, 5), put("b", 1, 0, 5)]),
    "an unknown put with the version of another": (
        "duplicate",
        [put("a", 1, 0, 9), put("u", 0, 0, None), get("u", 1, 3, 9)],
    ),
    "a put over one that it had not seen": (
        "lost",
        [put("a", 1, 0, 1), put("b", 2, 2, 9, expected=1), put("c", 3, 2, 9, expected=1)],
    ),
    "a put over an unknown one that was there": (
        "lost",
        [put("a", 1, 0, 1), UNKNOWN, get("u", 2, 4, 9), put("c", 3, 4, 9, expected=1)],
    ),
    "a version that is not behind the expected one": ("order", [put("a", 1, 0, 1, expected=1)]),
}


@pytest.mark.parametrize("operations", FINE.values(), ids=FINE)
def test_what_a_correct_store_may_do_passes(operations: list[Operation]) -> None:
    for order in list(permutations(operations))[:50]:
        assert check(order) == []


@pytest.mark.parametrize(("kind", "operations"), BROKEN.values(), ids=BROKEN)
def test_a_violation_is_found(kind: str, operations: list[Operation]) -> None:
    for order in list(permutations(operations))[:50]:
        found = check(order)
        assert kind in {violation.kind for violation in found}
        assert {violation.key for violation in found} == {"k"}


def test_what_is_stored_in_the_end() -> None:
    operations = [put("a", 1, 0, 1), UNKNOWN, put("b", 3, 5, 6)]
    assert check(operations, {"k": {1: "a", 3: "b"}}) == []
    assert check(operations, {"k": {1: "a", 2: "u", 3: "b"}}) == []
    wrong: dict[str, dict[int, Hashable]] = {
        "lost": {1: "a"},
        "duplicate": {1: "a", 2: "u", 3: "b", 4: "u"},
        "uncommitted": {1: "a", 2: "x", 3: "b"},
    }
    for kind, stored in wrong.items():
        assert [violation.kind for violation in check(operations, {"k": stored})] == [kind]
    assert [violation.kind for violation in check(operations, {})] == ["lost", "lost"]
    seen = [*operations, get("u", 2, 4, 9)]
    assert [violation.kind for violation in check(seen, {"k": {1: "a", 3: "b"}})] == ["lost"]
    over = [put("a", 1, 0, 1), UNKNOWN, put("b", 3, 5, 6, expected=1)]
    assert check(over, {"k": {1: "a", 3: "b"}}) == []
    found = check(over, {"k": {1: "a", 2: "u", 3: "b"}})
    assert [violation.kind for violation in found] == ["lost"]


def test_keys_are_apart() -> None:
    other = Operation("get", "other", None, 0, None, 4, 5)
    assert check([put("a", 1, 0, 1), other]) == []


def test_puts_that_cannot_be_told_apart_are_no_history() -> None:
    with pytest.raises(ValueError, match="same value"):
        check([put("a", 1, 0, 1), put("a", 2, 2, 3)])


def test_the_recorder_knows_what_was_made_what_not_and_what_perhaps() -> None:
    history = History()
    with history.put("k", "a") as operation:
        operation.version = 1
    with history.put("k", "refused", expected=0):
        raise NotMade
    with pytest.raises(TimeoutError), history.put("k", "perhaps"):
        raise TimeoutError
    with history.get("k") as operation:
        operation.version, operation.value = 1, "a"
    with pytest.raises(TimeoutError), history.get("k"):
        raise TimeoutError
    made, perhaps, read = history.operations
    assert (made.value, made.version, perhaps.value, perhaps.returned) == ("a", 1, "perhaps", None)
    assert made.called <= (made.returned or 0) <= perhaps.called <= read.called
    assert check(history.operations) == []


class Store:
    """A register that is right, or serves from a cache that it does not ask the truth about."""

    def __init__(self, *, trusting: bool) -> None:
        self.lock, self.versions, self.trusting = threading.Lock(), [("", 0)], trusting

    def put(self, value: str, expected: int) -> int:
        with self.lock:
            if self.versions[-1][1] != expected:
                raise NotMade
            self.versions.append((value, expected + 1))
            return expected + 1

    def get(self, dice: random.Random) -> tuple[str, int]:
        with self.lock:
            late = dice.random() < 0.1 and self.trusting
            return self.versions[-2 if late and len(self.versions) > 1 else -1]


@pytest.mark.parametrize("trusting", [False, True])
def test_a_store_under_threads(trusting: bool) -> None:
    store, history = Store(trusting=trusting), History()

    def work(number: int) -> None:
        dice = random.Random(number)
        for turn in range(300):
            with history.get("k") as operation:
                value, operation.version = store.get(dice)
                operation.value = value or None
            expected = operation.version
            with history.put("k", f"{number}.{turn}", expected) as operation:
                operation.version = store.put(f"{number}.{turn}", expected)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = {"k": {version: value for value, version in store.versions[1:]}}
    found = check(history.operations, stored)
    assert len(history.operations) > 1200
    assert {violation.kind for violation in found} == ({"stale"} if trusting else set())


def test_a_long_history_is_checked_soon() -> None:
    operations = [put(f"{n}", n, n, n + 0.5, expected=n - 1) for n in range(1, 100_001)]
    operations += [get(f"{n}", n, n + 0.6, n + 0.7) for n in range(1, 100_001)]
    random.Random(1).shuffle(operations)
    # Comparing each with each would take hours; the limit is pytest's.
    assert check(operations) == []
