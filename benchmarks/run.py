"""Every comparison in one run, and docs/benchmarks.md of it: what `make bench` calls, in the peers' environment.

`--minutes` bounds the whole run: each program has its share of what is left, plays as much as fits, and the page says
what was cut. `--quick` plays a little of everything in three minutes (on a machine that is not busy), into
benchmarks/results/ alone: it shows that all of it works, and its times mean little. A program or a part that fails does
not lose the others; the run then ends with 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
RESULTS = HERE / "results"
#: Seconds of a bounded run that are kept for the page, and that a program may take beyond its share to end well.
FOR_PAGE, GRACE = 20.0, 180.0


class Step(NamedTuple):
    """A program with its arguments; `share`: of the time of a bounded run, against the others."""

    program: str
    arguments: list[str]
    share: float = 1.0


def full(conversations: Path | None) -> list[Step]:
    """The programs of a whole run."""
    real = ["--conversations", str(conversations)] if conversations else []
    return [
        Step("compare.py", ["length", "--share", "60"], 14),
        Step("compare.py", ["writers", "conversations", "--seconds", "1", *real], 6),
        Step("compare.py", ["threads", "search", "--messages", "1000000"], 9),
        Step("postgres.py", ["--messages", "1000000", *real], 10),
        Step("core.py", ["turns", "interleaved", "detection", "writers", "imports", *real], 3),
        Step("langgraph_savers.py", [], 8),
    ]


def quick(conversations: Path | None) -> list[Step]:
    """A taste of each program, also of those that make no page."""
    small = ["--turns", "10", "20", "--share", "3", "--writers", "1", "16", "--seconds", "0.2"]
    small += ["--rounds", "1", "--threads", "300", "--messages", "6000"]
    real = ["--conversations", str(conversations), "--first", "2"] if conversations else []
    few = ["--rounds", "10", "--seconds", "0.3", "--messages", "6000"]
    works = ["puts", "reads", "cached", "many", "per_second", "search"]
    injected = [Step("injection.py", [])] if importlib.util.find_spec("injectq") else []
    return [
        Step("compare.py", ["length", "writers", "threads", "search", *small, *real]),
        Step("postgres.py", [*works, *few]),
        Step("core.py", ["detection", "writers", "threads"]),
        Step("langgraph_savers.py", ["--turns", "5", "--puts", "64"]),
        Step("prune.py", ["--count", "500"]),
        Step("diff.py", ["--messages", "200", "--checkpoints", "20", "--rounds", "3"]),
        Step("fork.py", ["--messages", "200"]),
        Step("bench_watch.py", []),
        Step("pg_size.py", ["tables"]),
        *injected,
    ]


#: Where each program's figures go; the others print theirs.
OUTPUTS = {
    "compare.py": "compare.json",
    "postgres.py": "postgres.json",
    "core.py": "core.json",
    "langgraph_savers.py": "langgraph.json",
}


class Processors:
    """How much of the processors other programs took, while ours ran. Linux only."""

    def __init__(self) -> None:
        self._busy, self._ours = _busy(), _ours()
        self._begun = time.perf_counter()

    def others(self) -> float | None:
        """The share (0 to 1) since this was made; None where it cannot be told."""
        busy = _busy()
        if busy is None or self._busy is None:
            return None
        room = (time.perf_counter() - self._begun) * (os.cpu_count() or 1)
        return round(max(0.0, busy - self._busy - (_ours() - self._ours)) / room, 3)


def _busy() -> float | None:
    """Seconds that the processors have worked, for anybody: user, nice, system, interrupts, and what a host took."""
    try:
        fields = Path("/proc/stat").read_text("utf-8").split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, fields[:8])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def _ours() -> float:
    """Seconds of this process and of those that it waited for, with theirs."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def play(step: Step, seconds: float | None, limit: float) -> str | None:
    """Run one program, for `seconds` if the run is bounded, and never longer than `limit`; what went wrong, if
    anything did."""
    command = [sys.executable, str(HERE / step.program), *step.arguments]
    if (name := OUTPUTS.get(step.program)) is not None:
        command += ["--json", str(RESULTS / name)]
        if seconds is not None:
            command += ["--minutes", f"{seconds / 60:.2f}"]
    print(f"== {step.program} {' '.join(step.arguments)}", flush=True)
    begun = time.perf_counter()
    try:
        run = subprocess.run(command, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return f"{step.program} was stopped after {limit:.0f} s"
    print(f"== {time.perf_counter() - begun:.0f} s", flush=True)
    return f"{step.program} ended with {run.returncode}" if run.returncode else None


def play_all(steps: list[Step], minutes: float | None, limit: float) -> dict[str, Any]:
    """Run them one after the other, and tell what happened."""
    told: dict[str, Any] = {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "minutes": minutes,
        "commands": [" ".join(["python", f"benchmarks/{s.program}", *s.arguments]) for s in steps],
        "others": [],
        "failures": [],
    }
    ends = None if minutes is None else time.perf_counter() + 60 * minutes - FOR_PAGE
    for number, step in enumerate(steps):
        seconds = None
        if ends is not None:
            left = ends - time.perf_counter()
            seconds = max(1.0, left * step.share / sum(each.share for each in steps[number:]))
            limit = max(1.0, min(left, seconds + GRACE))
        processors = Processors()
        if failure := play(step, seconds, limit):
            told["failures"].append(failure)
        told["others"].append(processors.others())
        (RESULTS / "run.json").write_text(json.dumps(told), "utf-8")
    return told


def main() -> None:
    """Run, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--conversations", type=Path, help="a JSONL file in OpenAI format")
    parser.add_argument(
        "--minutes", type=float, help="for the whole run; what has to be cut is said"
    )
    parser.add_argument("--to", type=Path, help="the folder of the page")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    for name in [*OUTPUTS.values(), "run.json"]:
        (RESULTS / name).unlink(missing_ok=True)
    missing = Path(sys.prefix) / "not-installed.json"
    if missing.exists():
        for name, reason in json.loads(missing.read_text("utf-8")).items():
            print(f"not installed: {name}: {reason}", flush=True)
    steps = quick(options.conversations) if options.quick else full(options.conversations)
    failures = play_all(steps, options.minutes, 900 if options.quick else 3600)["failures"]
    command = "`make bench-quick`" if options.quick else "`make bench`"
    arguments = [str(HERE / "report.py"), "--command", command]
    if to := options.to or (RESULTS / "report" if options.quick else None):
        arguments += ["--to", str(to)]
    if subprocess.run([sys.executable, *arguments], check=False).returncode:
        failures.append("report.py failed")
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
