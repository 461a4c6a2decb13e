"""What the commands share: which store, whose threads, and how they refuse.

`Call` is what a command works with, `Place` the one way to a store: a file, or a PostgreSQL database. `--db` and
`--json` may stand before or after the command's name; the later wins. A password is never printed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import urlsplit

import platformdirs
import typer

from threadline import Checkpoint, SqliteCheckpointer, ThreadInfo
from threadline.checkpointer import BaseCheckpointer

if TYPE_CHECKING:
    from threadline import PgCheckpointer

#: The environment variable that names the store.
URL = "THREADLINE_URL"
_SQLITE_MAGIC = b"SQLite format 3\0"
_POSTGRES = ("postgresql", "postgres")
#: The app of the threads of LangGraph's adapter.
LANGGRAPH = "langgraph"
#: Seconds for one call of PostgreSQL: `stats` and `verify` read more than a program does.
_PATIENCE = 60.0


class UserIds(StrEnum):
    """The type of the column of user ids in PostgreSQL."""

    STRING = "string"
    INT = "int"
    BIGINT = "bigint"


Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="STORE",
        help=f"The store: a file, or postgresql://USER@HOST/DATABASE. Default: ${URL}, else memory.db in your user "
        "data directory.",
        show_default=False,
    ),
]
Schema = Annotated[
    str | None,
    typer.Option(
        "--schema",
        metavar="NAME",
        envvar="THREADLINE_SCHEMA",
        help="PostgreSQL: where the tables lie. Default: public.",
        show_default=False,
    ),
]
UserIdType = Annotated[
    UserIds | None,
    typer.Option(
        "--user-id-type",
        envvar="THREADLINE_USER_ID_TYPE",
        help="PostgreSQL: of what type user ids are. Default: string.",
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
class FilePlace:
    """An SQLite file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def missing(self) -> str | None:
        """Why there is nothing to open, where that can be seen from here."""
        if self.path.exists():
            return None
        return (
            f"there is no store at {self.path}; `threadline import FILE.jsonl` makes one, "
            f"`--db FILE` or ${URL} names another"
        )

    def open(self, *, create: bool, relaxed: bool = False) -> BaseCheckpointer:
        """The store, yet to be set up, and made when missing. Raises Refusal for a file that is none."""
        try:
            with self.path.open("rb") as file:
                begin = file.read(len(_SQLITE_MAGIC))
        except FileNotFoundError:
            begin = b""
        except OSError as error:
            raise Refusal(f"{self.path} cannot be read: {error.strerror}") from None
        if begin and begin != _SQLITE_MAGIC:
            raise Refusal(f"{self.path} is not a Threadline store; name another file with --db")
        return SqliteCheckpointer(self.path, durability="relaxed" if relaxed else "strict")


@dataclass(frozen=True)
class PgPlace:
    """A schema of a PostgreSQL database."""

    dsn: str = field(repr=False)
    schema: str = "public"
    user_ids: UserIds = UserIds.STRING

    def __str__(self) -> str:
        """Without the password, and without settings, which may hold one."""
        parts = urlsplit(self.dsn)
        address = parts.netloc.rpartition("@")[2]
        user = f"{parts.username}@" if parts.username else ""
        where = "" if self.schema == "public" else f" (schema {self.schema})"
        return f"postgresql://{user}{address}{parts.path}{where}"

    def missing(self) -> None:
        """Only the database knows."""

    def open(
        self, *, create: bool, relaxed: bool = False, partitions: int | None = None
    ) -> BaseCheckpointer:
        """The store, yet to be set up. create: False refuses one that is not there. Raises Refusal."""
        with refusals():
            return pg_class()(
                self.dsn,
                schema=self.schema,
                user_id_type=self.user_ids.value,
                partitions=partitions,
                create=create,
                durability="relaxed" if relaxed else "strict",
                timeout=_PATIENCE,
            )


Place = FilePlace | PgPlace


def pg_class() -> type[PgCheckpointer]:
    """`PgCheckpointer`, whose driver not everybody has. Raises Refusal."""
    try:
        import threadline

        return threadline.PgCheckpointer
    except ModuleNotFoundError as error:
        raise Refusal(
            f"PostgreSQL needs the package {error.name}: pip install 'threadline[postgres]'"
        ) from None


@dataclass(frozen=True)
class Common:
    """What stood before the command's name."""

    db: str | None = None
    as_json: bool = False
    schema: str = "public"
    user_ids: UserIds = UserIds.STRING

    @classmethod
    def of(cls, context: typer.Context) -> Common:
        """That of a call."""
        return context.obj if isinstance(context.obj, cls) else cls()


@dataclass(frozen=True)
class Call:
    """One call of a command: the store, the form of the answer, and the config that every read begins with."""

    place: Place
    as_json: bool
    config: dict[str, Any]

    def thread(self, thread_id: str, **more: Any) -> dict[str, Any]:
        """The config of a thread. Raises Refusal for an id that cannot be one."""
        return {**self.config, "thread_id": thread_id, **more}

    @contextmanager
    def store(self) -> Iterator[BaseCheckpointer]:
        """The store, opened for reading; it must be there. Raises Refusal."""
        if (reason := self.place.missing()) is not None:
            raise Refusal(reason)
        with opened(self.place.open(create=False)) as memory:
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
    common = Common.of(context)
    config: dict[str, Any] = {"tenant": tenant, "app": app}
    if user is not None:
        config["user_id"] = read_user(user)
    return Call(find_place(common, db), as_json or common.as_json, config)


def asked_place(context: typer.Context, db: str | None) -> Place | None:
    """The store that the caller named on the command line, if any."""
    common = Common.of(context)
    named = common.db if db is None else db
    return None if named is None else place_of(named, "--db", common)


def find_place(common: Common, named: str | None) -> Place:
    """The store: the one that was named, else the environment's, else a file where the platform has user data."""
    if (named := common.db if named is None else named) is not None:
        return place_of(named, "--db", common)
    if url := os.environ.get(URL):
        return place_of(url, f"${URL}", common)
    return FilePlace(platformdirs.user_data_path("threadline", appauthor=False) / "memory.db")


def place_of(url: str, source: str, common: Common) -> Place:
    """What a path, an `sqlite:///path` (relative; `sqlite:////path` is absolute) or a DSN means. Raises Refusal."""
    scheme, mark, rest = url.partition("://")
    if mark and scheme.partition("+")[0].lower() in _POSTGRES:
        try:
            str(PgPlace(url))
        except ValueError:
            _no_store(source)
        return PgPlace(url, common.schema, common.user_ids)
    if mark and scheme.lower() == "sqlite" and rest.startswith("/") and len(rest) > 1:
        url = rest[1:]
    elif (
        mark
        or not url  # A variable of a shell that was not set: not the default store.
        or url == ":memory:"
        or "\0" in url
        or (url.lower().startswith(_POSTGRES) and ":" in url)
    ):
        _no_store(source)
    return FilePlace(Path(url).expanduser())


def _no_store(source: str) -> NoReturn:
    # Not what was given: it may have a password in it.
    raise Refusal(
        f"{source} is neither a file nor the address of a store: give FILE, sqlite:///FILE or "
        "postgresql://USER@HOST:5432/DATABASE"
    )


@contextmanager
def opened(memory: BaseCheckpointer) -> Iterator[BaseCheckpointer]:
    """A store, set up, released at the end; what its address or its kind does not fit is a Refusal."""
    try:
        with refusals():
            memory.setup()
        yield memory
    finally:
        memory.release()


@contextmanager
def refusals() -> Iterator[None]:
    """What the store refuses for what it was given, as Refusal."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise Refusal(str(error)) from None


def known_thread(memory: BaseCheckpointer, call: Call, thread_id: str) -> ThreadInfo:
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
        elsewhere = call.thread(thread_id, app=LANGGRAPH)
        if not call.config["app"] and memory.get_thread(elsewhere) is not None:
            raise Refusal(
                f"thread {thread_id!r}{whose} is one of LangGraph's: give --app {LANGGRAPH}"
            )
        raise Refusal(
            f"there is no thread {thread_id!r}{whose}{app} in {call.place}; `threadline threads` lists those there are"
        )
    return info


def known_checkpoint(memory: BaseCheckpointer, config: dict[str, Any], at: str) -> Checkpoint:
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
        raise Refusal(f"user {text!r}: what follows int: is no whole number") from None
