"""Nothing grows beyond what one can hold in the head: a file, a class, a function."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "threadline"

FILE_LINES = 400
CLASS_METHODS = 20
FUNCTION_LINES = 60

# What may be larger, up to which size and why. Names as the faults print them: a file from
# threadline/ on, a class or function by its dotted name. A line that nothing needs any more fails.
EXCEPTIONS: Mapping[str, tuple[int, str]] = {
    "threadline.backends.memory.MemoryBackend": (21, "one method for each primitive of the port"),
    "threadline.backends.sqlite.SqliteBackend": (21, "one method for each primitive of the port"),
}

Size = tuple[str, int, int, str]


def is_overload(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(ast.unparse(each).rpartition(".")[2] == "overload" for each in decorators)


def sizes(name: str, source: str) -> Iterator[Size]:
    """(name, size, ceiling, unit) of a file and of each class and function in it, also nested."""
    yield f"{name}.py", len(source.splitlines()), FILE_LINES, "lines"
    yield from sizes_inside(ast.parse(source), name.replace("/", ".").removesuffix(".__init__"))


def sizes_inside(tree: ast.AST, prefix: str) -> Iterator[Size]:
    for node in ast.iter_child_nodes(tree):
        name = prefix
        if isinstance(node, ast.ClassDef):
            name = f"{prefix}.{node.name}"
            functions = [
                each
                for each in node.body
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            # A property and its setter are one method; the signatures of an overload are none.
            methods = {each.name for each in functions if not is_overload(each)}
            yield name, len(methods), CLASS_METHODS, "methods"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{prefix}.{node.name}"
            yield name, (node.end_lineno or node.lineno) - node.lineno + 1, FUNCTION_LINES, "lines"
        yield from sizes_inside(node, name)


def faults(measured: list[Size], exceptions: Mapping[str, tuple[int, str]]) -> list[str]:
    """What is over its ceiling, and the exceptions that nothing needs."""
    found = []
    needed = set()
    for name, size, ceiling, unit in measured:
        limit = exceptions.get(name, (ceiling, ""))[0]
        if size > ceiling:
            needed.add(name)
        if size > limit:
            found.append(f"{name}: {size} {unit}, ceiling {limit}")
    found += [f"{name}: the exception is not needed" for name in exceptions.keys() - needed]
    found += [
        f"{name}: an exception needs a reason"
        for name, (_, reason) in exceptions.items()
        if not reason
    ]
    return found


def test_nothing_is_over_its_ceiling() -> None:
    paths = sorted(SRC.rglob("*.py"))
    names = [path.relative_to(SRC.parent).with_suffix("").as_posix() for path in paths]
    measured = [
        size
        for name, path in zip(names, paths, strict=True)
        for size in sizes(name, path.read_text("utf-8"))
    ]
    assert measured
    found = faults(measured, EXCEPTIONS)
    assert not found, "\n".join(found)


# The checker itself.

LONG_FUNCTION = "def f():\n" + "    x = 1\n" * FUNCTION_LINES
MANY_METHODS = "class C:\n" + "".join(
    f"    def m{n}(self): ...\n" for n in range(CLASS_METHODS + 1)
)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("x = 1\n" * (FILE_LINES + 1), "threadline/a.py"),
        (LONG_FUNCTION, "threadline.a.f"),
        (LONG_FUNCTION.replace("def", "async def"), "threadline.a.f"),
        ("class C:\n    " + LONG_FUNCTION.replace("\n", "\n    "), "threadline.a.C.f"),
        (MANY_METHODS, "threadline.a.C"),
        ("if True:\n    " + MANY_METHODS.replace("\n", "\n    "), "threadline.a.C"),
    ],
)
def test_what_is_over_is_found(source: str, name: str) -> None:
    measured = list(sizes("threadline/a", source))
    (fault,) = faults(measured, {})
    assert fault.startswith(f"{name}: ")
    assert faults(measured, {name: (1000, "shown to be excusable")}) == []
    assert len(faults(measured, {name: (1, "too low")})) == 1
    assert len(faults(measured, {name: (1000, "")})) == 1


def test_what_is_at_the_ceiling_passes() -> None:
    pair = "    @property\n    def p(self): ...\n    @p.setter\n    def p(self, value): ...\n"
    stubs = "    @typing.overload\n    def o(self): ...\n" * 30
    source = MANY_METHODS.replace("    def m0(self): ...\n    def m1(self): ...\n", pair) + stubs
    source += "\n".join(LONG_FUNCTION.splitlines()[:-1])
    assert faults(list(sizes("threadline/a", source)), {}) == []


def test_an_exception_that_nothing_needs_is_found() -> None:
    measured = list(sizes("threadline/a", "x = 1\n"))
    assert len(faults(measured, {"threadline/a.py": (500, "was once long")})) == 1
    assert len(faults(measured, {"threadline/gone.py": (500, "was removed")})) == 1
