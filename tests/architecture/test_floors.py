"""The house keeps its floors: who may import whom (docs/architecture.md), read with ast.

Read the tables first; they are the rules. Below them: how imports are read, how rules are applied,
the tests of the tree, and the tests of the checker itself, on small trees that break each rule.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "threadline"
ROOT = "threadline"

F0 = {"model", "errors", "summary"}
F1 = {"clock", "config", "codec", "history", "inline", "loops", "telemetry", "texts"}
F2 = {"batch", "judging", "backend", "cache", "cache_protocol"}
F3 = {"checkpointer"}
F4 = {"backends", "caches"}
F5 = {
    "checkpointer.in_memory",
    "checkpointer.sqlite",
    "checkpointer.pg",
    "checkpointer.manager",
}
F6 = {"adapters", "cli", "inspector", "testing", "demo"}
# The public API: modules that only re-export; "" is threadline itself.
PUBLIC = {"", "checkpointer.__init__", "store", "injection"}

# Unit -> what it may import beside itself. A unit is a module or package named from threadline on;
# the longest name that fits a module is its unit; a module that fits none fails: give it a floor.
MAY_IMPORT: Mapping[str, set[str]] = {
    # F0 records and errors, F1 pure parts: down, or sideways without circles.
    "errors": set(),
    "model": {"errors", "clock"},
    "clock": set(),
    "summary": set(),
    "telemetry": {"errors", "clock"},
    "config": F0 | F1,
    "codec": F0 | F1,
    "history": F0 | F1,
    # F2 ports. A backend knows neither codec nor cache; a cache carries the backend's rows.
    "inline": {"errors", "clock"},
    "loops": {"errors", "clock"},
    "texts": {"errors"},
    "batch": F0 | F1 - {"codec"},
    "judging": F0 | F1 - {"codec"} | {"batch"},
    "backend": F0 | F1 - {"codec"} | {"batch", "judging"},
    "cache": F0 | F1 - {"codec"} | {"batch", "backend"},
    "cache_protocol": F0 | F1 - {"codec"} | {"batch", "backend"},
    # F3 pipelines and F4 implementations meet only in the ports.
    "checkpointer": F0 | F1 | F2,
    "backends": F0 | F1 - {"codec"} | {"batch", "backend"},
    "caches": F0 | F1 - {"codec"} | F2,
    # F5 joins a backend and a cache.
    "checkpointer.in_memory": F0 | F1 | F2 | F3 | F4,
    "checkpointer.sqlite": F0 | F1 | F2 | F3 | F4,
    "checkpointer.pg": F0 | F1 | F2 | F3 | F4,
    # The manager makes an in-memory checkpointer when it is given none.
    "checkpointer.manager": F0 | F1 | F2 | F3 | {"checkpointer.in_memory"},
    # Re-exports.
    "": F0 | F1 | F2 | F3 | F5 | {"store", "checkpointer.__init__"},
    "checkpointer.__init__": F0 | F1 | F2 | F3 | F5,
    "store": F0 | F1 | F2 | F3,
    "injection": F3,
    # F6 stands on the public API, as users do.
    "adapters": PUBLIC,
    "inspector": PUBLIC,
    "demo": PUBLIC | {"testing"},  # It starts servers.
    "cli": PUBLIC | {"demo", "inspector", "adapters"},
    "__main__": {"cli"},
    "testing": PUBLIC | F0 | F1 | F2 | F3,
}
# Units whose functions may import what the unit must not load: constructors and lazy names.
LAZY = F5 | PUBLIC

# Third-party packages, each with the only units that may import it (anywhere in the file).
THIRD_PARTY: Mapping[str, set[str]] = {
    "pydantic": F6 | {"model", "config", "codec", "history", "checkpointer"},
    "pydantic_core": {"model", "codec", "history", "checkpointer"},
    "orjson": F6 | {"model", "codec", "history", "caches", "checkpointer"},
    "zstandard": {"codec"},
    "sqlite3": {"backends", "testing", "adapters"},
    "asyncpg": {"backends", "checkpointer.pg", "testing", "adapters"},
    "redis": {"caches", "checkpointer.pg", "testing"},
    "langgraph": {"adapters"},
    "langchain_core": {"adapters"},
    "ormsgpack": {"adapters"},
    "opentelemetry": {"telemetry"},
    "typer": {"cli"},
    "click": {"cli"},
    "rich": {"cli", "demo"},
    "platformdirs": {"cli"},
    "pytest": {"testing"},
    "pytest_asyncio": {"testing"},
    "hypothesis": {"testing"},
}
# Pure units do no input or output: these do not appear in them.
PURE = F0 | {"config", "codec", "history"}
INPUT_OUTPUT = {
    "aiofiles", "asyncio", "http", "io", "pathlib", "shutil", "socket", "sqlite3", "ssl",
    "subprocess", "tempfile", "urllib",
}  # fmt: skip

# No bytes ever choose code (promise P12).
FORBIDDEN_IMPORTS = {
    "pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "jsonpickle", "yaml", "ruamel",
    "marshal.load", "marshal.loads",
}  # fmt: skip
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
BY_NAME = {
    "import_module",
    "spec_from_file_location",
    "run_path",
    "run_module",
}  # only in LAZY units


@dataclass(frozen=True)
class Import:
    """One imported name: the module it stands in, what it names, and where."""

    module: str
    target: str
    line: int
    in_function: bool


def read_tree(root: Path) -> dict[str, ast.Module]:
    """Every module under root by name: "" is threadline, then "codec.__init__", "codec.rows"."""
    tree = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = "" if parts == ("__init__",) else ".".join(parts)
        tree[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return tree


def unit_of(module: str) -> str | None:
    """The unit that a module belongs to: the longest name in MAY_IMPORT that fits."""
    if module in PUBLIC:
        return module
    parts = module.split(".")
    names = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((name for name in names if name in MAY_IMPORT), None)


def nodes(tree: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node with whether it stands inside a function."""
    for child in ast.iter_child_nodes(tree):
        inside = in_function or isinstance(
            child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        )
        yield child, inside
        yield from nodes(child, inside)


def absolute(module: str, node: ast.ImportFrom) -> str:
    """What follows `from`, written out: relative imports are resolved against the module."""
    if not node.level:
        return node.module or ""
    here = [ROOT, *module.split(".")] if module else [ROOT, "__init__"]
    return ".".join(here[: -node.level] + ([node.module] if node.module else []))


def imports(module: str, tree: ast.Module) -> list[Import]:
    """The dotted names that a module imports; `from a import b` is `a.b`."""
    found = []
    for node, inside in nodes(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = absolute(module, node)
            names = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        found += [Import(module, name, node.lineno, inside) for name in names]
    return found


def resolve(target: str, modules: Mapping[str, ast.Module]) -> str | None:
    """The module of this package that a dotted name leads to; None for any other package."""
    first, *rest = target.split(".")
    if first != ROOT:
        return None
    for count in range(len(rest), 0, -1):
        name = ".".join(rest[:count])
        if name in modules:
            return name
        if f"{name}.__init__" in modules:
            return f"{name}.__init__"
    # Not written yet, or a name of threadline itself: a known unit counts as the module.
    return rest[0] if rest and rest[0] in MAY_IMPORT and rest[0] not in modules else ""


def floor_faults(modules: Mapping[str, ast.Module]) -> list[str]:
    """Every import that goes where its unit may not go."""
    faults = []
    for module, tree in modules.items():
        unit = unit_of(module)
        if unit is None:
            faults.append(f"{module}: stands on no floor; add it to MAY_IMPORT")
            continue
        for found in imports(module, tree):
            where = f"{module or ROOT}:{found.line}"
            target = resolve(found.target, modules)
            if target is None:
                faults += foreign_faults(where, unit, found.target)
                continue
            goal = unit_of(target)
            lazy = found.in_function and unit in LAZY
            if goal != unit and goal not in MAY_IMPORT[unit] and not lazy:
                faults.append(f"{where}: {unit or ROOT} may not import {found.target}")
    return faults


def foreign_faults(where: str, unit: str, target: str) -> list[str]:
    """What is wrong with importing another package's name in this unit."""
    package = target.split(".")[0]
    faults = []
    if unit not in THIRD_PARTY.get(package, {unit}):
        faults.append(f"{where}: {unit or ROOT} may not import {package}")
    if unit in PURE and package in INPUT_OUTPUT:
        faults.append(f"{where}: {unit} is pure and may not import {package}")
    return faults


def find_circle(edges: Mapping[str, set[str]]) -> list[str]:
    """One circle of a graph, first and last the same; empty without one."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def circle_faults(modules: Mapping[str, ast.Module]) -> list[str]:
    """A circle between modules or units. Imports for type checkers count, lazy ones do not."""
    between_modules: dict[str, set[str]] = {module: set() for module in modules}
    between_units: dict[str, set[str]] = {}
    for module, tree in modules.items():
        unit = unit_of(module)
        for found in imports(module, tree):
            target = resolve(found.target, modules)
            if target is None or target == module or (found.in_function and unit in LAZY):
                continue
            between_modules[module].add(target)
            goal = unit_of(target)
            if unit is not None and goal not in {unit, None}:
                between_units.setdefault(unit, set()).add(str(goal))
    circles = [find_circle(between_modules), find_circle(between_units)]
    return [
        f"circle: {' -> '.join(name or ROOT for name in circle)}" for circle in circles if circle
    ]


def danger_faults(modules: Mapping[str, ast.Module]) -> list[str]:
    """Whatever would let bytes choose code."""
    faults = []
    for module, tree in modules.items():
        where = module or ROOT
        for found in imports(module, tree):
            if found.target.split(".")[0] in FORBIDDEN_IMPORTS or found.target in FORBIDDEN_IMPORTS:
                faults.append(f"{where}:{found.line}: imports {found.target}")
        for node, _ in nodes(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in FORBIDDEN_IMPORTS:
                faults.append(f"{where}:{node.lineno}: uses {ast.unparse(node)}")
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).removeprefix("builtins.")
            by_name = name.rpartition(".")[2] in BY_NAME and unit_of(module) not in LAZY
            if name in FORBIDDEN_CALLS or by_name:
                faults.append(f"{where}:{node.lineno}: calls {name}")
    return faults


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    return read_tree(SRC)


def test_the_tree_was_read(modules: dict[str, ast.Module]) -> None:
    assert {"errors", "clock"} <= modules.keys()


def test_every_import_stays_on_its_floor(modules: dict[str, ast.Module]) -> None:
    found = floor_faults(modules)
    assert not found, "\n".join(found)


def test_no_circles(modules: dict[str, ast.Module]) -> None:
    found = circle_faults(modules)
    assert not found, "\n".join(found)


def test_no_bytes_choose_code(modules: dict[str, ast.Module]) -> None:
    found = danger_faults(modules)
    assert not found, "\n".join(found)


# The checker itself: every rule can fail, and what is allowed passes.


def tree_of(tmp_path: Path, files: Mapping[str, str]) -> dict[str, ast.Module]:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return read_tree(tmp_path)


CHECKING = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "

BAD_FLOORS = {
    "upward": {"model/a.py": "from threadline.codec import rows", "codec/rows.py": ""},
    "upward, relative": {"model/a.py": "from ..codec import rows", "codec/rows.py": ""},
    "upward for type checkers": {
        "errors.py": CHECKING + "import threadline.model.state",
        "model/state.py": "",
    },
    "upward in a function": {
        "history/a.py": "def f():\n    import threadline.backend",
        "backend.py": "",
    },
    "pipeline sees a backend": {
        "checkpointer/base.py": "from threadline.backends.memory import M",
        "backends/memory.py": "",
    },
    "backend sees a pipeline": {
        "backends/memory.py": "from threadline.checkpointer import base",
        "checkpointer/base.py": "",
    },
    "backend sees the codec": {
        "backends/m.py": "import threadline.codec.rows",
        "codec/rows.py": "",
    },
    "backend sees a cache": {
        "backends/m.py": "import threadline.caches.local",
        "caches/local.py": "",
    },
    "inside sees the facade": {
        "codec/a.py": "from threadline import AgentState",
        "__init__.py": "",
    },
    "adapter sees inside": {
        "adapters/a.py": "from threadline.codec import rows",
        "codec/rows.py": "",
    },
    "adapter sees inside by the root": {
        "adapters/a.py": "from threadline import backend",
        "backend.py": "",
    },
    "cli sees a constructor's module": {
        "cli/__init__.py": "from threadline.checkpointer.sqlite import SqliteCheckpointer",
        "checkpointer/sqlite.py": "",
    },
    "facade loads a backend": {
        "__init__.py": "import threadline.backends.sqlite",
        "backends/sqlite.py": "",
    },
    "facade loads the command line": {
        "__init__.py": "from threadline.cli import main",
        "cli/__init__.py": "",
    },
    "no floor": {"helpers.py": ""},
    "foreign package": {"checkpointer/base.py": "import asyncpg"},
    "foreign package in a function": {
        "checkpointer/base.py": "def f():\n    from rich import print"
    },
    "pure parts do no input or output": {"history/a.py": "import sqlite3"},
}


@pytest.mark.parametrize("files", BAD_FLOORS.values(), ids=BAD_FLOORS)
def test_a_breach_is_found(tmp_path: Path, files: dict[str, str]) -> None:
    assert len(floor_faults(tree_of(tmp_path, files))) >= 1


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    files = {
        "__init__.py": "def __getattr__(name):\n    from threadline.backends import sqlite",
        "store.py": "from threadline.backend import Batch",
        "errors.py": "",
        "backend.py": "from threadline.errors import Error",
        "codec/__init__.py": "from threadline.codec.rows import Row",
        "codec/rows.py": "import orjson\nfrom threadline import errors",
        "checkpointer/__init__.py": "from threadline.checkpointer.base import BaseCheckpointer",
        "checkpointer/base.py": "from threadline.codec import Row\nfrom ..backend import Batch",
        "checkpointer/sqlite.py": "from . import base\nimport threadline.backends.sqlite",
        "backends/sqlite.py": "import sqlite3\nfrom threadline.backend import Batch",
        "adapters/a.py": "from threadline import AgentState\nfrom threadline.store import Batch",
        "cli/__init__.py": "import typer\nfrom threadline.demo import run",
        "demo/__init__.py": "from threadline.checkpointer import SqliteCheckpointer",
        "testing/contract.py": "import pytest\nfrom threadline.checkpointer import base",
    }
    modules = tree_of(tmp_path, files)
    assert floor_faults(modules) + circle_faults(modules) + danger_faults(modules) == []


BAD_CIRCLES = {
    "modules": {
        "codec/a.py": "import threadline.codec.b",
        "codec/b.py": "import threadline.codec.a",
    },
    "type checkers": {
        "codec/a.py": "import threadline.codec.b",
        "codec/b.py": CHECKING + "from threadline.codec import a",
    },
    "in a function": {
        "codec/a.py": "import threadline.codec.b",
        "codec/b.py": "def f():\n    from threadline.codec import a",
    },
    "through the package": {
        "codec/__init__.py": "from threadline.codec.a import f",
        "codec/a.py": "from threadline.codec import g",
    },
    "units": {
        "codec/a.py": "import threadline.history.a",
        "codec/b.py": "",
        "history/a.py": "",
        "history/b.py": "import threadline.codec.b",
    },
}


@pytest.mark.parametrize("files", BAD_CIRCLES.values(), ids=BAD_CIRCLES)
def test_a_circle_is_found(tmp_path: Path, files: dict[str, str]) -> None:
    assert len(circle_faults(tree_of(tmp_path, files))) >= 1


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import yaml",
        "from marshal import loads",
        "import marshal\nmarshal.loads(b'')",
        "eval('1')",
        "exec('1')",
        "import builtins\nbuiltins.eval('1')",
        "compile('1', '', 'eval')",
        "__import__('os')",
        "import importlib\nimportlib.import_module('os')",
        "from importlib import import_module\nimport_module('os')",
    ],
)
def test_code_chosen_by_bytes_is_found(tmp_path: Path, source: str) -> None:
    assert len(danger_faults(tree_of(tmp_path, {"codec/a.py": source}))) == 1
