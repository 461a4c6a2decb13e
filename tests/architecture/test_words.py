"""Words that stand in no file: package-index addresses, paths of one machine, silenced SQL rules.

Checked is every file that is tracked, or could be: untracked and not ignored.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]

# Put together from pieces, so that this file passes its own test.
HOSTS = [
    "py" + "pi.org",
    "py" + "thonhosted.org",
    "py" + "pi.python.org",
    "registry.npm" + "js.org",
    "deb.deb" + "ian.org",
]
FORBIDDEN = {
    "a package-index address": re.compile(
        "|".join(map(re.escape, HOSTS))
        + r"|(?:index-url|find-links|registry)[\"']?\s*[=: ]\s*[\"']?\w+://",
        re.IGNORECASE,
    ),
    "a path of one machine": re.compile(r"(?<![\w.-])/(?:wo" + r"rk|ro" + r"ot)/"),
    "a silenced rule on SQL built from strings": re.compile(
        r"#\s*no" + r"qa:[^#\n]*S608|#\s*no" + r"sec"
    ),
    "a silenced linter without the rule's name": re.compile(
        r"#\s*no" + r"qa(?!\s*:)|#\s*ruff:\s*no" + r"qa(?!\s*:)|#\s*type:\s*ig" + r"nore(?!\[)"
    ),
}
PIN = re.compile(r"[a-z0-9][a-z0-9._-]*==[\w.!+]+(?: ; [^\\]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
SKIPPED_DIRECTORIES = {"node_modules", "dist", "build", "__pycache__"}


def repository_files() -> list[Path]:
    """What git tracks or would add; without git (a source archive) all but dot directories."""
    command = [
        "git",
        "-C",
        str(REPO),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        return [
            path
            for path in REPO.rglob("*")
            if path.is_file() and not skipped(path.relative_to(REPO))
        ]
    paths = [REPO / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file()]


def skipped(path: Path) -> bool:
    return any(
        part in SKIPPED_DIRECTORIES or (part.startswith(".") and part != ".ci")
        for part in path.parts[:-1]
    )


def faults(content: bytes) -> list[str]:
    """Forbidden words in a file's bytes, with their line numbers; binary files are read as well."""
    lines = content.decode("utf-8", "replace").splitlines()
    return [
        f"{number}: {what}: {match[0]}"
        for number, line in enumerate(lines, 1)
        for what, pattern in FORBIDDEN.items()
        if (match := pattern.search(line))
    ]


def requirement_faults(text: str) -> list[str]:
    """Lines of a requirements file that are not a version pinned with hashes."""
    found = []
    hashes = 1
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if HASH.fullmatch(line):
            hashes += 1
        elif PIN.fullmatch(line) and hashes:
            hashes = 0
        else:
            found.append(f"{number}: {line}")
    return found + (["the last line has no hash"] if not hashes else [])


def test_no_file_holds_a_forbidden_word() -> None:
    files = repository_files()
    assert Path(__file__) in files
    found = [
        f"{path.relative_to(REPO)}:{fault}" for path in files for fault in faults(path.read_bytes())
    ]
    assert not found, "\n".join(found)


def test_every_requirement_is_pinned_with_hashes() -> None:
    text = (REPO / "requirements" / "dev.txt").read_text("utf-8")
    assert "pydantic==" in text
    assert requirement_faults(text) == []


def test_no_lock_file_and_no_ignored_sql_rule() -> None:
    assert not [
        path for path in repository_files() if path.name in {"uv.lock", "poetry.lock", "pdm.lock"}
    ]
    assert not re.search(r"[\"']S608[\"']", (REPO / "pyproject.toml").read_text("utf-8"))


# The checker itself.


@pytest.mark.parametrize(
    "line",
    [
        *(f"see https://{host}/simple" for host in HOSTS),
        "--index-url https" + "://mirror.example/simple",
        'registry = "https' + '://mirror.example"',
        "cd /wo" + "rk/main",
        "file:///ro" + "ot/x",
        'open("/wo' + 'rk/x")',
        "x = f'{y}'  # no" + "qa: E501, S608",
        "x = 1  # no" + "qa",
        "# ruff: no" + "qa",
        "x = 1  # type: ig" + "nore",
    ],
)
def test_a_forbidden_word_is_found(line: str) -> None:
    assert len(faults(f"first\n{line}\n".encode())) >= 1


@pytest.mark.parametrize(
    "line",
    [
        "pip compile --no-emit-index-url",
        "src/wo" + "rk/x and ../wo" + "rk/ and user.ro" + "ot/",
        "x = 1  # no" + "qa: E501 - a reason",
        "x = 1  # type: ig" + "nore[arg-type]",
    ],
)
def test_other_words_pass(line: str) -> None:
    assert faults(line.encode()) == []


GOOD_PIN = "a==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n    # via b\n"


@pytest.mark.parametrize(
    "text",
    [
        "a>=1.0\n",
        "a==1.0\n",
        "a==1.0 \\\n",
        "a @ https" + "://example.org/a.whl\n",
        "-e .\n",
        "--find-links wheels\n",
        "a==1.0 \\\n" + GOOD_PIN,
    ],
)
def test_an_unpinned_requirement_is_found(text: str) -> None:
    assert requirement_faults(GOOD_PIN) == []
    assert len(requirement_faults(GOOD_PIN + text)) >= 1
