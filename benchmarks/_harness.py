"""What the benchmarks share: calls timed in turn, samples and their medians, tables, and what machine this is.

Every figure is a ratio of times measured beside each other: `in_turn` plays one call of each contender, then the next
of each, so that a noisy machine is noisy for all of them. Absolute times are for orientation.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import random
import sqlite3
import statistics
import string
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from threadline.testing.faults import FaultProxy, delay

Samples = dict[str, list[float]]
Call = Callable[[int], Awaitable[Any]]

_LETTERS = string.ascii_letters + string.digits
_TEXT = (
    "flight booking reservation passenger baggage policy refund certificate payment gift card economy business cabin "
    "upgrade cancel Oslo Bergen departure arrival confirm user profile insurance travel membership the a of to and in "
    "is for on with that this please could would thank you need change date time number"
)
_WORDS = _TEXT.split()


def words(size: int, dice: random.Random) -> str:
    """Plausible text of `size` characters."""
    found = ""
    while len(found) < size:
        found += dice.choice(_WORDS) + " "
    return found[:size]


def noise(size: int, dice: random.Random) -> str:
    """Random letters and digits, which hardly compress."""
    return "".join(dice.choices(_LETTERS, k=size))


def zstd_size(texts: Iterable[str]) -> int:
    """The bytes of these texts in one frame of zstd, at level 19: what a store could hardly do with less than."""
    return len(zstandard.ZstdCompressor(level=19).compress("\n".join(texts).encode()))


class Limit:
    """How long a program may take, the part of that which is played now, and what had to be left out, in words."""

    def __init__(self) -> None:
        self.cuts: list[str] = []
        self._ends = self._part_ends = math.inf

    def minutes(self, minutes: float | None) -> None:
        """The program may take so long; None: as long as it takes."""
        self._ends = math.inf if minutes is None else time.perf_counter() + 60 * minutes
        self._part_ends = self._ends

    def part(self, share: float) -> None:
        """A part begins that may take this share (0 to 1) of what is left."""
        now = time.perf_counter()
        self._part_ends = now + max(0.0, self._ends - now) * share

    @property
    def left(self) -> float:
        """Seconds that this part has; 0 when there are none."""
        return max(0.0, self._part_ends - time.perf_counter())

    @property
    def over(self) -> bool:
        """Whether this part has no time any more."""
        return self.left == 0.0

    def cut(self, words: str) -> None:
        """Something was left out for want of time."""
        if words not in self.cuts:
            self.cuts.append(words)
            print(f"  cut: {words}", flush=True)


#: That of this program.
LIMIT = Limit()
#: So many rounds are played whatever the time.
LEAST_ROUNDS = 10


class Processor:
    """Time on the processor, here and in the processes named: what a busy machine does not stretch. Linux only; 0
    elsewhere. `spent` has (here, there) in seconds for each call that `in_turn` was given."""

    def __init__(self, *pids: int) -> None:
        self.pids = pids
        self.spent: dict[str, list[tuple[float, float]]] = {}

    def now(self) -> tuple[float, float]:
        """Seconds so far, of this process and of the others."""
        there = sum(
            int(line.split()[0]) for pid in self.pids for line in _lines(f"/proc/{pid}/schedstat")
        )
        return time.process_time(), there / 1e9

    def note(self, name: str) -> str:
        """The medians of a call, in words."""
        here, there = (p50([pair[side] for pair in self.spent[name]]) * 1e3 for side in (0, 1))
        return f"CPU {here:.2f} + {there:.2f} ms"


async def in_turn(
    rounds: int, calls: Mapping[str, Call], *, warm: int = 5, processor: Processor | None = None
) -> Samples:
    """The seconds of each call, one of each after the other; the first `warm` rounds are not counted. Each call is
    given the number of its round. When the time of the part is over it ends, after at least 10 rounds."""
    samples: Samples = {name: [] for name in calls}
    order = list(calls.items())
    for number in range(warm + rounds):
        if number >= warm + LEAST_ROUNDS and LIMIT.over:
            LIMIT.cut(f"{number - warm} rounds instead of {rounds}: {', '.join(calls)}")
            break
        for name, call in order:
            before = processor.now() if processor else None
            begun = time.perf_counter()
            await call(number)
            spent = time.perf_counter() - begun
            if number >= warm:
                samples[name].append(spent)
            if processor and before and number >= warm:
                here, there = processor.now()
                pair = (here - before[0], there - before[1])
                processor.spent.setdefault(name, []).append(pair)
        order.append(order.pop(0))  # Nobody always follows the same one.
    return samples


@contextmanager
def slow_network(dsn: str, seconds: float) -> Iterator[str]:
    """The address of the server with so many seconds on the way to it; the proxy is a process of its own, so that it
    takes nothing of this one's interpreter."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_proxy, args=(dsn, there, seconds))
    process.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        process.join(10)


def _proxy(dsn: str, told: Any, seconds: float) -> None:
    with FaultProxy.before(dsn) as proxy:
        proxy.set(delay(up=seconds))
        told.send(proxy.address(dsn))
        told.recv()


def p50(samples: Sequence[float]) -> float:
    """The median."""
    return statistics.median(samples)


def p95(samples: Sequence[float]) -> float:
    """The sample that 95 % do not exceed."""
    return sorted(samples)[max(0, int(len(samples) * 0.95) - 1)]


@dataclass
class Figure:
    """One line of a table: ours, beside something, with what is to hold. `unit`: ms, x, MB, /s. `limit`: what no store
    could do better than, in words, where that is not what stands beside."""

    what: str
    ours: float
    beside: str
    other: float
    unit: str = "ms"
    hold: float | None = None
    samples: Samples = field(default_factory=dict)
    note: str = ""
    limit: str = ""

    @property
    def ratio(self) -> float:
        """Ours by the other's."""
        return self.ours / self.other if self.other else float("nan")

    @property
    def holds(self) -> bool | None:
        """Whether the ratio is what it has to be, see `kept`; None where nothing was promised."""
        return kept(self.ratio, self.quiet, self.hold)

    @property
    def quiet(self) -> float | None:
        """The ratio at the fastest tenth of the samples, where a busy machine disturbs least."""
        if len(self.samples) != 2:
            return None
        mine, other = (sorted(each)[len(each) // 10] for each in self.samples.values())
        return mine / other

    def line(self) -> str:
        """It, for a terminal."""
        said = (
            "" if self.hold is None else f"to hold {self.hold:g}x: {'yes' if self.holds else 'NO'}"
        )
        quiet = "" if self.quiet is None else f"({self.quiet:.2f}x)"
        return (
            f"  {self.what:58} {shown(self.ours, self.unit):>10}  {self.beside:34} "
            f"{shown(self.other, self.unit):>10}  {self.ratio:6.2f}x {quiet:>10}  {said} {self.note}"
        ).rstrip()

    def told(self) -> dict[str, Any]:
        """It, as JSON."""
        facts = asdict(self)
        facts["samples"] = {name: short(values) for name, values in self.samples.items()}
        return facts | {"ratio": round(self.ratio, 4), "quiet": self.quiet, "holds": self.holds}


def kept(ratio: float, quiet: float | None, hold: float | None) -> bool | None:
    """Whether a bound is held: by the medians and at the fastest tenth. On a busy machine both sides wait for the
    processor most of the time, which brings the ratio of medians nearer to 1 than it is."""
    return None if hold is None else max(ratio, quiet or 0.0) <= hold


def timed(
    what: str,
    samples: Samples,
    ours: str,
    beside: str,
    *,
    hold: float | None = None,
    note: str = "",
    limit: str = "",
) -> Figure:
    """A figure of two medians, in milliseconds; `limit`: the name of a call that is its limit."""
    kept = {name: samples[name] for name in (ours, beside)}
    mine, other = p50(samples[ours]) * 1e3, p50(samples[beside]) * 1e3
    told = f"{limit}: {shown(p50(samples[limit]) * 1e3, 'ms')}" if limit else ""
    return Figure(what, mine, beside, other, "ms", hold, kept, note, told)


def short(values: Sequence[float]) -> list[float]:
    """Samples with four digits."""
    return [float(f"{value:.4g}") for value in values]


def shown(value: float, unit: str) -> str:
    """A number for people."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f} {unit}".rstrip()


def surroundings(*packages: str) -> dict[str, Any]:
    """The machine, the versions, and how busy it was when asked."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": [round(each, 2) for each in os.getloadavg()],
        "sqlite": sqlite3.sqlite_version,
    }
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            facts["processor"] = line.partition(":")[2].strip()
            break
    facts["packages"] = {name: _version(name) for name in packages}
    return facts


def write_json(path: Path, facts: Any) -> None:
    """Samples and figures, one figure a line, so that differences can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(facts, dict):
        inner = ",\n".join(f"{json.dumps(key)}: {_rows(value)}" for key, value in facts.items())
        path.write_text("{\n" + inner + "\n}\n", "utf-8")
    else:
        path.write_text(_rows(facts) + "\n", "utf-8")


def command() -> str:
    """How this was called."""
    return " ".join(["python", *sys.argv])


def _rows(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n  " + ",\n  ".join(json.dumps(each) for each in value) + "\n]"
    return json.dumps(value)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
