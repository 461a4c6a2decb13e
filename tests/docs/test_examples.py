"""Every example is a program that runs in an empty folder and prints what its `output.txt` says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(path.parent for path in EXAMPLES.glob("*/main.py"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_example_prints_what_it_says(folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-W",
        "error::DeprecationWarning:threadline",
        str(folder / "main.py"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (folder / "output.txt").read_text()


def test_every_folder_is_an_example_and_listed() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders == {folder.name for folder in FOLDERS}
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"({name}/" in listed for name in folders)
