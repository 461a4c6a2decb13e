"""What holds the benchmarks together: a run that is bounded and loses nothing, and a page that says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The benchmarks can be imported, and write elsewhere."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import report
    import run

    for module in (run, report):
        monkeypatch.setattr(module, "RESULTS", tmp_path)


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(
        f"import json, sys, time\nfrom pathlib import Path\n{text}\n", "utf-8"
    )


def test_a_run_that_is_bounded_ends_in_time_and_loses_no_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import run

    told = "Path(sys.argv[2]).write_text(json.dumps({'minutes': float(sys.argv[4])}))"
    program(tmp_path, "compare.py", told)
    program(tmp_path, "postgres.py", f"{told}\ntime.sleep(600)")
    program(tmp_path, "core.py", "raise SystemExit(3)")
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "OUTPUTS", {"compare.py": "a.json", "postgres.py": "b.json"})
    monkeypatch.setattr(run, "FOR_PAGE", 0.0)
    monkeypatch.setattr(run, "GRACE", 0.5)
    steps = [
        run.Step("compare.py", [], 1),
        run.Step("postgres.py", [], 1),
        run.Step("core.py", [], 18),
    ]
    facts = run.play_all(steps, 1.0, 3600)
    assert [each.split()[0] for each in facts["failures"]] == ["postgres.py", "core.py"]
    assert json.loads((tmp_path / "a.json").read_text())["minutes"] == pytest.approx(0.05, abs=0.01)
    assert json.loads((tmp_path / "b.json").read_text())["minutes"] == pytest.approx(0.05, abs=0.01)
    assert len(json.loads((tmp_path / "run.json").read_text())["others"]) == 3


async def test_rounds_end_with_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import _harness

    limit = _harness.Limit()
    monkeypatch.setattr(_harness, "LIMIT", limit)
    calls = []

    async def call(number: int) -> None:
        calls.append(number)

    assert len((await _harness.in_turn(40, {"it": call}))["it"]) == 40
    assert limit.cuts == []
    limit.minutes(0.0)
    assert limit.over
    assert len((await _harness.in_turn(40, {"it": call}))["it"]) == 10
    assert limit.cuts == ["10 rounds instead of 40: it"]


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([0.01, 0.04], "was quiet"),
        ([0.01, 0.6], "Load flatters"),
        ([None], "was not measured"),
        ([], "was not measured"),
    ],
)
def test_the_page_says_what_was_measured_of_the_machine_and_what_was_cut(
    tmp_path: Path, others: list[Any], said: str
) -> None:
    import report

    assert "Nothing: every part was played" in report.page(tmp_path, "x")
    facts = {"cores": 2, "others": others, "minutes": 50, "failures": ["core.py ended with 1"]}
    (tmp_path / "run.json").write_text(json.dumps(facts), "utf-8")
    compared = {"length": {"failed": "Broken: it", "load": [1, 2]}, "cuts": ["threads: 5"]}
    (tmp_path / "compare.json").write_text(json.dumps(compared), "utf-8")
    postgres = {"figures": [], "failed": {"puts": "Lost: it"}}
    (tmp_path / "postgres.json").write_text(json.dumps(postgres), "utf-8")
    page = report.page(tmp_path, "x")
    notes = page.partition("## What figures do not say")[2].partition("## What was cut")[0]
    assert said in notes
    every = ("was quiet", "Load flatters", "was not measured")
    assert [each for each in every if each in notes] == [said]
    for line in (
        "threads: 5.",
        "length failed: Broken: it",
        "puts failed: Lost: it",
        "core.py ended",
    ):
        assert line in page
    assert "in at most 50 minutes" in page


def test_other_programs_are_told_from_ours() -> None:
    import run

    processors = run.Processors()
    sum(range(3_000_000))
    told = processors.others()
    assert told is None or (0.0 <= told <= 1.0 and sys.platform == "linux")
