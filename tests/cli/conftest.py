"""What the tests of the command line share: running it in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from threadline.cli import main


class Result(NamedTuple):
    code: Any
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process, on `memory.db` in a directory of its own."""
    monkeypatch.setenv("THREADLINE_URL", str(tmp_path / "memory.db"))
    for name in (
        "COLUMNS",
        "FORCE_COLOR",
        "NO_COLOR",
        "PY_COLORS",
        "GITHUB_ACTIONS",
        "TTY_COMPATIBLE",
    ):
        monkeypatch.delenv(name, raising=False)

    def call(*args: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return Result(end.value.code or 0, out, err)

    return call
