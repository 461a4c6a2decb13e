"""The examples of README.md and docs/ are programs: each is run, and prints what the page says that it prints.

A page's ```python blocks run in order in one namespace, in an empty folder, with `await` allowed at top level. A
```text block right behind one is what it must have printed. Tracebacks name the page and the line.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

from threadline import ConflictError, InMemoryCheckpointer, SqliteCheckpointer, ThreadNotFoundError

REPO = Path(__file__).parents[2]
PAGES = sorted([REPO / "README.md", *(REPO / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)\s]*\)")


@dataclass(frozen=True)
class Example:
    """One block of Python on a page; `line`: where its code begins; `printed`: None when the page does not say."""

    page: Path
    line: int
    code: str
    printed: str | None


def examples(page: Path) -> list[Example]:
    """The examples of a page, in order."""
    text = page.read_text(encoding="utf-8")
    blocks = list(FENCE.finditer(text))
    found = []
    for number, block in enumerate(blocks):
        if block[1] != "python":
            continue
        behind = blocks[number + 1] if number + 1 < len(blocks) else None
        is_output = (
            behind and behind[1] == "text" and not text[block.end() : behind.start()].strip()
        )
        line = text.count("\n", 0, block.start(2))
        found.append(Example(page, line, block[2], behind[2] if behind and is_output else None))
    return found


async def run(example: Example, namespace: dict[str, Any]) -> str:
    """Run a block; returns what it printed."""
    source = "\n" * example.line + example.code
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(source, str(example.page), "exec", flags=flags, dont_inherit=True)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = FunctionType(code, namespace)()
        if inspect.iscoroutine(result):
            await result
    return printed.getvalue()


def test_there_are_examples() -> None:
    counts = {page.name: len(examples(page)) for page in PAGES}
    assert all(counts[name] for name in ("README.md", "guide.md", "store.md", "backends.md"))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if examples(page)], ids=lambda page: page.name
)
def test_the_examples_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    if page.name == "postgres.md":
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("pg_dsn"))
        monkeypatch.setenv("CACHE_URL", request.getfixturevalue("valkey_url"))
    module = ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)  # Where dataclasses look for annotations.

    async def run_all() -> None:
        for example in examples(page):
            printed = await run(example, vars(module))
            if example.printed is not None:
                assert printed == example.printed, f"{page.name}:{example.line + 1}"

    asyncio.run(run_all())


def test_the_example_of_the_readme_is_a_whole_program(tmp_path: Path) -> None:
    example = examples(REPO / "README.md")[0]
    (tmp_path / "example.py").write_text(example.code, encoding="utf-8")
    command = [sys.executable, "-W", "error", "example.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == example.printed


def test_a_third_party_takes_the_exam_as_the_page_says(tmp_path: Path) -> None:
    (exam,) = [
        example
        for example in examples(REPO / "docs" / "backends.md")
        if "CheckpointerContract" in example.code
    ]
    assert len(exam.code.strip().splitlines()) <= 10
    (tmp_path / "test_mine.py").write_text(exam.code, encoding="utf-8")
    ini = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    (tmp_path / "pytest.ini").write_text(ini, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d{2,} passed", done.stdout), done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    missing = [
        link
        for link in links
        if not link.startswith(("http:", "https:", "mailto:")) and not (page.parent / link).exists()
    ]
    assert not missing


# The adapter of store.md ----------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
async def talk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """The conversation store of store.md, on each checkpointer."""
    module = ModuleType("store_example")
    await run(examples(REPO / "docs" / "store.md")[0], vars(module))
    memory = request.param == "memory"
    async with InMemoryCheckpointer() if memory else SqliteCheckpointer(tmp_path / "c.db") as c:
        yield module.Conversations(c)  # type: ignore[attr-defined]


async def test_the_adapter_loses_no_turn_of_racing_writers(talk: Any) -> None:
    async def writer(name: str, branch: str) -> None:
        for number in range(10):
            while True:
                newest = await talk.newest("t", branch)
                with contextlib.suppress(ConflictError):
                    await talk.append("t", f"{name}{number}", b"x", after=newest, branch=branch)
                    break

    await talk.append("t", "root", b"x", after=None)
    await talk.fork("t", "side", at="root")
    await asyncio.gather(*(writer(name, "main" if name < "c" else "side") for name in "abcd"))
    for branch, names in [("main", "ab"), ("side", "cd")]:
        turns = [turn for turn, _ in await talk.turns("t", branch)]
        assert turns[0] == "root"
        assert sorted(turns[1:]) == sorted(f"{name}{n}" for name in names for n in range(10))
        for name in names:
            own = [turn for turn in turns if turn.startswith(name)]
            assert own == [f"{name}{number}" for number in range(10)]


async def test_the_adapter_repeats_nothing_and_creates_nothing_late(talk: Any) -> None:
    once = {"after": None, "op_id": "ab" * 16}
    await asyncio.gather(*(talk.append("t", "one", b"1", **once) for _ in range(5)))
    await talk.append("t", "two", b"2", after="one")
    await talk.append("t", "one", b"1", **once)
    assert await talk.turns("t") == [("one", b"1"), ("two", b"2")]
    with pytest.raises(ConflictError):
        await talk.append("t", "three", b"3", after="one")
    await talk._store.aerase({"thread_id": "t", "app": "conversations"})
    with pytest.raises(ThreadNotFoundError):
        await talk.append("t", "three", b"3", after="two")
    assert await talk.turns("t") == []


async def test_the_adapter_refuses_an_id_that_is_taken(talk: Any) -> None:
    await talk.append("t", "one", b"1", after=None)
    with pytest.raises(ConflictError):
        await talk.append("t", "one", b"again", after="one")
    assert await talk.turns("t") == [("one", b"1")]
