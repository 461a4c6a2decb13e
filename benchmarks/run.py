"""Every comparison in one run, and docs/benchmarks.md of it: what `make bench` calls, in the peers' environment.

`--quick` plays a little of everything in three minutes (on a machine that is not busy), into benchmarks/results/ alone:
it shows that all of it works, and its times mean little.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"

Step = tuple[str, list[str]]


def full(conversations: Path | None) -> list[Step]:
    """The programs of a whole run, each with its arguments."""
    real = ["--conversations", str(conversations)] if conversations else []
    return [
        ("compare.py", ["length", "--share", "60"]),
        ("compare.py", ["writers", "conversations", "--seconds", "1", *real]),
        ("compare.py", ["threads", "search", "--messages", "1000000"]),
        ("postgres.py", real),
        ("core.py", ["turns", "interleaved", "detection", "writers", "imports"]),
        ("langgraph_savers.py", []),
    ]


def quick(conversations: Path | None) -> list[Step]:
    """A taste."""
    small = ["--turns", "10", "20", "--share", "3", "--writers", "1", "16", "--seconds", "0.2"]
    small += ["--rounds", "1", "--threads", "300", "--messages", "6000"]
    real = ["--conversations", str(conversations), "--first", "2"] if conversations else []
    few = ["--rounds", "20", "--seconds", "0.3", "--messages", "6000"]
    works = ["puts", "reads", "cached", "many", "per_second", "search"]
    return [
        ("compare.py", ["length", "writers", "threads", "search", *small, *real]),
        ("postgres.py", [*works, *few]),
        ("core.py", ["detection"]),
    ]


#: Where each program's figures go, and whether it writes them itself or prints them.
OUTPUTS = {
    "compare.py": ("compare.json", True),
    "postgres.py": ("postgres.json", True),
    "core.py": ("core.json", False),
    "langgraph_savers.py": ("langgraph.json", False),
}


def play(program: str, arguments: list[str], limit: float) -> str | None:
    """Run one program; what went wrong, if anything did."""
    name, writes = OUTPUTS[program]
    target = RESULTS / name
    command = [sys.executable, str(HERE / program), *arguments]
    if writes:
        command += ["--json", str(target)]
    elif program == "langgraph_savers.py":
        command += ["--json"]
    print(f"== {program} {' '.join(arguments)}", flush=True)
    begun = time.perf_counter()
    try:
        run = subprocess.run(
            command, timeout=limit, stdout=None if writes else subprocess.PIPE, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{program} took more than {limit:.0f} s"
    print(f"== {time.perf_counter() - begun:.0f} s", flush=True)
    if run.returncode:
        return f"{program} ended with {run.returncode}"
    if not writes:
        target.write_bytes(run.stdout)
    return None


def main() -> None:
    """Run, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--conversations", type=Path, help="a JSONL file in OpenAI format")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    for name, _ in OUTPUTS.values():
        (RESULTS / name).unlink(missing_ok=True)
    missing = Path(sys.prefix) / "not-installed.json"
    if missing.exists():
        for name, reason in json.loads(missing.read_text("utf-8")).items():
            print(f"not installed: {name}: {reason}", flush=True)
    failures, commands = [], []
    steps = quick(options.conversations) if options.quick else full(options.conversations)
    for program, arguments in steps:
        commands.append(" ".join(["python", f"benchmarks/{program}", *arguments]))
        if failure := play(program, arguments, 900 if options.quick else 3600):
            failures.append(failure)
    (RESULTS / "commands.json").write_text(json.dumps(commands), "utf-8")
    command = "`make bench-quick`" if options.quick else "`make bench`"
    arguments = [str(HERE / "report.py"), "--command", command]
    if options.quick:
        arguments += ["--to", str(RESULTS / "report")]
    told = subprocess.run([sys.executable, *arguments], check=False, env=dict(os.environ))
    if told.returncode:
        failures.append("report.py failed")
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
