"""What the commands share: which file, whose threads, and how they refuse.

`Call` is what a command works with. `--db` and `--json` may stand before or after the command's name; the later wins.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import platformdirs
import typer

from threadline import Checkpoint, SqliteCheckpointer, ThreadInfo

#: The environment variable that names the store.
URL = "THREADLINE_URL"
_SQLITE_MAGIC = b"SQLite format 3\0"

Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="FILE",
        help=f"The store: a file, or sqlite:///FILE. Default: ${URL}, else memory.db in your user data directory.",
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", metavar="", help="Print JSON and nothing else.", show_default=False),
]
User = Annotated[
    str | None,
    typer.Option(
        "--user",
        metavar="ID",
        help="Only this user's threads; int:42 is the number 42, 42 the text.",
        show_default=False,
    ),
]
Tenant = Annotated[
    str, typer.Option("--tenant", metavar="NAME", help="The tenant.", show_default=False)
]
App = Annotated[
    str,
    typer.Option(
        "--app", metavar="NAME", help="The app, e.g. a framework's adapter.", show_default=False
    ),
]
Namespace = Annotated[
    str,
    typer.Option(
        "--namespace",
        metavar="NAME",
        help="A namespace of the thread other than the default one.",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many.", show_default=False),
]
ThreadArgument = Annotated[
    str, typer.Argument(metavar="THREAD", help="The thread's id.", show_default=False)
]


At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="VERSION|NAME",
        help="The state as it was: a version, or the newest checkpoint of that name. Default: the newest of all.",
        show_default=False,
    ),
]


class Refusal(Exception):
    """What was asked cannot be done; the message says why, and what to do. The program ends with 2."""


@dataclass(frozen=True)
class Common:
    """What stood before the command's name."""

    db: str | None = None
    as_json: bool = False


@dataclass(frozen=True)
class Call:
    """One call of a command: the store's file, the form of the answer, and the config that every read begins with."""

    path: Path
    as_json: bool
    config: dict[str, Any]

    def thread(self, thread_id: str, **more: Any) -> dict[str, Any]:
        """The config of a thread. Raises Refusal for an id that cannot be one."""
        return {**self.config, "thread_id": thread_id, **more}

    @contextmanager
    def store(self) -> Iterator[SqliteCheckpointer]:
        """The store, opened for reading; it must be there. Raises Refusal."""
        if not self.path.exists():
            raise Refusal(
                f"there is no store at {self.path}; `threadline import FILE.jsonl` makes one, "
                f"`--db FILE` or ${URL} names another"
            )
        with open_store(self.path) as memory:
            yield memory


def settle(
    context: typer.Context,
    db: str | None,
    as_json: bool,
    user: str | None = None,
    tenant: str = "",
    app: str = "",
) -> Call:
    """The options of a call, those before the command's name included. Raises Refusal."""
    common = context.obj if isinstance(context.obj, Common) else Common()
    config: dict[str, Any] = {"tenant": tenant, "app": app}
    if user is not None:
        config["user_id"] = read_user(user)
    return Call(find_store(db or common.db), as_json or common.as_json, config)


def asked_file(context: typer.Context, db: str | None) -> Path | None:
    """The file that the caller named on the command line, if any."""
    common = context.obj if isinstance(context.obj, Common) else Common()
    named = db or common.db
    return path_of(named, "--db") if named else None


def find_store(named: str | None) -> Path:
    """The store's file: the one that was named, else the environment's, else the platform's place for user data."""
    if named:
        return path_of(named, "--db")
    if url := os.environ.get(URL):
        return path_of(url, f"${URL}")
    return platformdirs.user_data_path("threadline", appauthor=False) / "memory.db"


def path_of(url: str, source: str) -> Path:
    """The file in a path or an `sqlite:///path` (relative; `sqlite:////path` is absolute). Raises Refusal."""
    scheme, mark, rest = url.partition("://")
    if mark and scheme.lower() == "sqlite" and rest.startswith("/") and len(rest) > 1:
        url = rest[1:]
    elif mark:
        raise Refusal(
            f"{source} is {url!r}; give a file, or sqlite:///FILE (this version stores on SQLite)"
        )
    if url == ":memory:" or "\0" in url:
        raise Refusal(f"{source} is {url!r}, which is no file")
    return Path(url).expanduser()


@contextmanager
def open_store(path: Path, *, relaxed: bool = False) -> Iterator[SqliteCheckpointer]:
    """A store in a file, made when missing. Raises Refusal for a file that is none."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(_SQLITE_MAGIC))
    except FileNotFoundError:
        begin = b""
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {error.strerror}") from None
    if begin and begin != _SQLITE_MAGIC:
        raise Refusal(f"{path} is not a Threadline store; name another file with --db")
    memory = SqliteCheckpointer(path, durability="relaxed" if relaxed else "strict")
    with memory:
        yield memory


@contextmanager
def refusals() -> Iterator[None]:
    """What the store refuses for what it was given, as Refusal."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise Refusal(str(error)) from None


def known_thread(memory: SqliteCheckpointer, call: Call, thread_id: str) -> ThreadInfo:
    """What is known of a thread. Raises Refusal when there is none."""
    try:
        info = memory.get_thread(call.thread(thread_id))
    except (TypeError, ValueError) as error:
        raise Refusal(str(error)) from None
    if info is None:
        whose = f" of user {call.config['user_id']!r}" if "user_id" in call.config else ""
        app = "".join(
            f" in {key} {call.config[key]!r}" for key in ("tenant", "app") if call.config[key]
        )
        raise Refusal(
            f"there is no thread {thread_id!r}{whose}{app} in {call.path}; `threadline threads` lists those there are"
        )
    return info


def known_checkpoint(memory: SqliteCheckpointer, config: dict[str, Any], at: str) -> Checkpoint:
    """The checkpoint of a config's thread that is meant by a version or a name (of which the newest), with its state as
    a plain dict. Raises Refusal when there is none."""
    config = {**config, "state_class": dict}
    found = None
    if at.isascii() and at.isdigit() and 1 <= int(at) < 2**63:
        found = memory.get_checkpoint({**config, "version": int(at)})
    try:
        found = found or memory.get_checkpoint({**config, "name": at})
    except ValueError as error:
        raise Refusal(str(error)) from None
    if found is None:
        raise Refusal(
            f"thread {config['thread_id']!r} has no checkpoint {at!r}; `threadline history` lists those it has"
        )
    return found


def read_user(text: str) -> str | int:
    """A `--user`: a text, or the number in `int:42`. Raises Refusal."""
    kind, mark, number = text.partition(":")
    if not mark or kind != "int":
        return text
    try:
        return int(number)
    except ValueError:
        raise Refusal(f"--user {text!r}: what follows int: is no whole number") from None
