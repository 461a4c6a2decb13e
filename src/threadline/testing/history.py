"""What several clients of a store saw, and whether a store that keeps its promises can have told them that.

    history = History()
    with history.put("thread", "a1", expected=3) as put:
        put.version = store.put(...)
    with history.get("thread") as get:
        get.version, get.value = store.get(...)
    assert check(history.operations) == []

In general it is hard to decide whether a history is linearizable (Herlihy and Wing, 1990). It is a matter of sorting
when each write returns a version and each read says which one it saw: there is only one order to check, that of the
versions, with a write before the reads of it. It fits real time exactly when no operation that had returned before
another was called stands behind it.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

from threadline import clock


@dataclass(slots=True)
class Operation:
    """One call. Times are seconds of the monotonic clock, which all processes of a machine share.

    `kind`: "put" or "get". `value`: what was put, another one in each put, or what was read (None: nothing).
    `version`: the version that the store gave (0: a get found nothing). `expected`: the version that a put was
    computed from; None for one that takes what is there. `returned`: None for a put of which nobody knows whether it
    was made, and when.
    """

    kind: Literal["put", "get"]
    key: str
    value: Hashable = None
    version: int = 0
    expected: int | None = None
    called: float = 0.0
    returned: float | None = None


class Violation(NamedTuple):
    """A promise that was broken, for which key, and how."""

    kind: Literal["stale", "uncommitted", "duplicate", "lost", "order"]
    key: str
    text: str


class NotMade(Exception):
    """Raised inside `History.put`: the store said that it did not make this put."""


class History:
    """Records operations, from any thread. `operations` has those that count: reads that returned, and puts that
    were made or may have been."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._lock = threading.Lock()

    @contextmanager
    def put(self, key: str, value: Hashable, expected: int | None = None) -> Iterator[Operation]:
        """Record a put; the block sets `version`. Raise NotMade in it when the store refused the put. With any other
        exception nobody knows whether it was made, and the exception goes on."""
        operation = Operation("put", key, value, expected=expected, called=clock.monotonic())
        try:
            yield operation
        except NotMade:
            return
        except BaseException:
            self._add(operation)
            raise
        operation.returned = clock.monotonic()
        self._add(operation)

    @contextmanager
    def get(self, key: str) -> Iterator[Operation]:
        """Record a read; the block sets `version` and `value`. One that raises tells nothing."""
        operation = Operation("get", key, called=clock.monotonic())
        yield operation
        operation.returned = clock.monotonic()
        self._add(operation)

    def _add(self, operation: Operation) -> None:
        with self._lock:
            self.operations.append(operation)


def check(
    operations: Iterable[Operation],
    stored: Mapping[str, Mapping[int, Hashable]] | None = None,
) -> list[Violation]:
    """What the store broke, nothing when all is well; O(n log n).

    - "stale": an operation that was called after another had returned stands before it: a read older than a put, or
      than another read, that was over when it began;
    - "uncommitted": a read of what nobody put, or before anybody did;
    - "duplicate": two puts with one version, or one put with two;
    - "lost": an acknowledged put that is not in `stored`, or one that a later put passed over unseen;
    - "order": a put got a version that is not behind the one that it expected.

    `stored`: for each key what the store lists in the end, by version. Deletions are not known here; a key that is
    made again is another key.
    """
    by_key: dict[str, list[Operation]] = {}
    for operation in operations:
        by_key.setdefault(operation.key, []).append(operation)
    found: list[Violation] = []
    for key in sorted(by_key):
        found += _Register(
            key, by_key[key], None if stored is None else stored.get(key, {})
        ).check()
    return found


class _Register:
    """The operations of one key."""

    def __init__(
        self, key: str, operations: list[Operation], stored: Mapping[int, Hashable] | None
    ) -> None:
        self.key, self.stored = key, stored
        self.puts = {each.value: each for each in operations if each.kind == "put"}
        self.reads = [each for each in operations if each.kind == "get"]
        self.made = [
            each for each in operations if each.kind == "put" and each.returned is not None
        ]
        if len(self.puts) != sum(each.kind == "put" for each in operations):
            raise ValueError(
                f"two puts to {key!r} have the same value, so that nobody can tell them apart"
            )
        self.found: list[Violation] = []

    def say(
        self, kind: Literal["stale", "uncommitted", "duplicate", "lost", "order"], text: str
    ) -> None:
        self.found.append(Violation(kind, self.key, text))

    def check(self) -> list[Violation]:
        versions = self._versions()
        self._check_reads(versions)
        self._check_stored(versions)
        self._check_expectations(versions)
        self._check_real_time()
        return self.found

    def _versions(self) -> dict[int, Hashable]:
        """Version -> value, from the puts that were acknowledged."""
        versions: dict[int, Hashable] = {}
        for put in self.made:
            if put.version in versions:
                self.say(
                    "duplicate",
                    f"{put.value!r} and {versions[put.version]!r} both got version {put.version}",
                )
            versions[put.version] = put.value
        return versions

    def _check_expectations(self, versions: Mapping[int, Hashable]) -> None:
        ordered = sorted(versions)
        for put in self.made:
            if put.expected is None:
                continue
            if put.version <= put.expected:
                self.say("order", f"{put.value!r} expected {put.expected} and got {put.version}")
                continue
            position = bisect_right(ordered, put.expected)
            if (passed := ordered[position]) < put.version:
                self.say(
                    "lost",
                    f"{put.value!r} expected {put.expected} and got {put.version}, "
                    f"over {versions[passed]!r} with version {passed}",
                )

    def _check_reads(self, versions: dict[int, Hashable]) -> None:
        """Each read saw a put that had been called; also teaches `versions` those that were not acknowledged."""
        for read in sorted(self.reads, key=_returned):
            if read.version == 0:
                if read.value is not None:
                    self.say("uncommitted", f"a read saw {read.value!r} without a version")
                continue
            put = self.puts.get(read.value)
            if put is None or (put.returned is not None and put.version != read.version):
                self.say("uncommitted", f"a read saw {read.value!r} as version {read.version}")
            elif put.called > _returned(read):
                self.say("uncommitted", f"a read saw {read.value!r} before it was put")
            elif versions.setdefault(read.version, read.value) != read.value:
                self.say(
                    "duplicate",
                    f"{read.value!r} and {versions[read.version]!r} both have version {read.version}",
                )

    def _check_stored(self, versions: dict[int, Hashable]) -> None:
        if self.stored is None:
            return
        for version, value in versions.items():
            if self.stored.get(version) != value:
                there = self.stored.get(version)
                self.say("lost", f"{value!r} with version {version} is not there, but {there!r}")
        seen: dict[Hashable, int] = {}
        for version, value in self.stored.items():
            if value not in self.puts:
                self.say("uncommitted", f"version {version} is {value!r}, which nobody put")
            if value in seen:
                self.say("duplicate", f"{value!r} is there as version {seen[value]} and {version}")
            seen[value] = version
            versions.setdefault(version, value)

    def _check_real_time(self) -> None:
        """In the order of their calls, each operation against the highest version that had returned by then."""
        done = sorted(
            [*self.made, *self.reads, *self._seen_unknown()], key=lambda each: each.called
        )
        returned = sorted((each for each in done if each.returned is not None), key=_returned)
        highest: Operation | None = None
        position = 0
        for each in done:
            while position < len(returned) and _returned(returned[position]) < each.called:
                if highest is None or returned[position].version > highest.version:
                    highest = returned[position]
                position += 1
            if highest is None:
                continue
            # A put makes a version that nobody can have had before; a read may see it again.
            behind = each.version - highest.version - (each.kind == "put")
            if behind < 0:
                self.say(
                    "stale",
                    f"a {each.kind} called at {each.called:.6f} has version {each.version}, after a "
                    f"{highest.kind} of version {highest.version} had returned at {highest.returned:.6f}",
                )

    def _seen_unknown(self) -> list[Operation]:
        """Puts that nobody acknowledged, but that a read saw: made between their call and the end of that read."""
        seen = {read.value: read.version for read in self.reads}
        return [
            Operation("put", self.key, put.value, seen[value], put.expected, put.called)
            for value, put in self.puts.items()
            if put.returned is None and value in seen
        ]


def _returned(operation: Operation) -> float:
    assert operation.returned is not None
    return operation.returned
