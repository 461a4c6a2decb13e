"""Installs the peers into the environment that this Python belongs to, each from its own pinned list.

`python benchmarks/peers/install.py`. What cannot be installed costs only itself: it is named in `not-installed.json` in
that environment, and so in the report. A list that has been installed is not looked at again until it changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MARK = Path(sys.prefix) / "not-installed.json"
DONE = Path(sys.prefix) / "installed.json"
#: Everything else stands on it.
FIRST = "threadline"


def install(name: str) -> str | None:
    """Install one list; the reason when it cannot be."""
    if uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    else:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not os.access(Path.home(), os.W_OK):
        command.append("--no-cache" if uv else "--no-cache-dir")
    command += ["--require-hashes", "--only-binary", ":all:", "-r", str(HERE / f"{name}.txt")]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired:
        return "installing took more than ten minutes"
    said = [line for line in run.stderr.splitlines() if line.lower().startswith("error")]
    return None if run.returncode == 0 else (said or ["the installer failed"])[0]


def main() -> None:
    """Install what is missing, tell what failed."""
    done = json.loads(DONE.read_text("utf-8")) if DONE.exists() else {}
    failed = {}
    names = sorted((path.stem for path in HERE.glob("*.txt")), key=lambda name: name != FIRST)
    for name in names:
        digest = hashlib.sha256((HERE / f"{name}.txt").read_bytes()).hexdigest()
        if done.get(name) == digest:
            continue
        if reason := install(name):
            failed[name] = reason
            print(f"not installed: {name}: {reason}", file=sys.stderr)
            if name == FIRST:
                raise SystemExit(1)
        else:
            done[name] = digest
    DONE.write_text(json.dumps(done), "utf-8")
    MARK.write_text(json.dumps(failed), "utf-8")


if __name__ == "__main__":
    main()
