"""Only clock.py asks the machine for the time or for an identity, so that a test can fake both."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "threadline"

ALLOWED = {"clock.py"}
# What reads a clock or makes an identity. Called or handed on (`default_factory=...`) is the same.
FORBIDDEN = {
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter",
    "time.perf_counter_ns",
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today",
    "datetime.date.today",
    "uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7",
}  # fmt: skip
# A running time that is shown to a person decides nothing.
SHOWN = {"time.perf_counter", "time.perf_counter_ns"}
SHOWN_IN = {"cli", "demo", "testing", "inspector"}


def faults(source: str, allowed: frozenset[str] = frozenset()) -> list[str]:
    """Each use of a forbidden name, whatever it was imported as."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            # `import a.b` binds a; `import a.b as c` binds a.b to c.
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name | ast.Attribute) or not isinstance(node.ctx, ast.Load):
            continue
        first, dot, rest = ast.unparse(node).partition(".")
        full = names.get(first, "") + dot + rest
        if full in FORBIDDEN - allowed:
            found.append(f"{node.lineno}: {full}; take it from threadline.clock")
    return found


def test_only_the_clock_reads_a_clock() -> None:
    found = []
    paths = sorted(SRC.rglob("*.py"))
    assert SRC / "clock.py" in paths
    for path in paths:
        name = path.relative_to(SRC)
        if name.as_posix() not in ALLOWED:
            shown = frozenset(SHOWN) if name.parts[0] in SHOWN_IN else frozenset()
            found += [f"{name}:{fault}" for fault in faults(path.read_text("utf-8"), shown)]
    assert not found, "\n".join(found)


# The checker itself.


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.time()",
        "import time as t\nt.time_ns()",
        "from time import time\ntime()",
        "from time import monotonic as now\nnow()",
        "from datetime import datetime\ndatetime.now()",
        "import datetime as dt\ndt.datetime.now(dt.UTC)",
        "from datetime import datetime as d\nd.utcnow()",
        "from datetime import date\ndate.today()",
        "import uuid\nuuid.uuid4()",
        "from uuid import uuid4\nx = Field(default_factory=uuid4)",
        "def f():\n    import time\n    return time.time()",
        "import time\nlater = time.perf_counter",
    ],
)
def test_another_clock_is_found(source: str) -> None:
    assert len(faults(source)) == 1


def test_what_reads_no_clock_passes() -> None:
    source = (
        "import time, uuid\nfrom datetime import datetime, time as clock_time\n"
        "time.sleep(0)\nuuid.UUID(int=1)\ndatetime.fromtimestamp(0)\nrow.time()\ntime.perf_counter()\n"
    )
    assert faults(source, frozenset(SHOWN)) == []
