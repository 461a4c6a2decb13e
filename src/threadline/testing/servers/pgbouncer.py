"""PgBouncer for tests: a connection pooler in front of a PostgreSQL server. It comes from the system's packages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from threadline.testing.servers.process import Server, ServerError, find_program


class PgBouncer(Server):
    """A PgBouncer in front of the server of a DSN, for every database of it.

    Attributes: `dsn` (the same database, through the pooler), `port`, `folder`.
    """

    kind = "PgBouncer"

    def __init__(self, program: Path, dsn: str, settings: dict[str, str | int]) -> None:
        super().__init__()
        self.program, self.settings = program, settings
        self._target = urlsplit(dsn)

    @property
    def dsn(self) -> str:
        """The address of the database, through the pooler."""
        user = self._target.username or "postgres"
        return f"postgresql://{user}@{self.host}:{self.port}{self._target.path or '/postgres'}"

    def command(self) -> Sequence[str | Path]:
        """`pgbouncer` with a file of settings that is written now."""
        target = {
            "host": self._target.hostname or "127.0.0.1",
            "port": self._target.port or 5432,
            "user": unquote(self._target.username or "postgres"),
            "password": unquote(self._target.password or ""),
        }
        settings = {
            "listen_addr": self.host,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",  # Whoever gets here is let through, as the user above.
            **self.settings,
        }
        lines = [
            "[databases]",
            "* = " + " ".join(f"{key}={value}" for key, value in target.items() if value),
            "[pgbouncer]",
            *(f"{key} = {value}" for key, value in settings.items()),
        ]
        path = self.folder / "pgbouncer.ini"
        path.touch(0o600)
        path.write_text("\n".join(lines) + "\n", "utf-8")
        self.account.own(path)
        return [self.program, path]

    def is_ready(self) -> bool:
        """Whether it says so in its log."""
        return f"[{self.pid}] LOG process up" in self.log()


def pgbouncer(dsn: str, *, pool_mode: str = "transaction", **settings: str | int) -> PgBouncer:
    """A PgBouncer in front of the server of `dsn`, as a context manager. `pool_mode` and the other settings are those
    of its configuration. Raises ServerError when `pgbouncer` is not on the PATH."""
    program = find_program("pgbouncer", [Path("/usr/sbin"), Path("/usr/local/sbin")])
    if program is None:
        raise ServerError(
            "no pgbouncer found for the tests; on Debian and Ubuntu: apt-get install pgbouncer"
        )
    return PgBouncer(program, dsn, {"pool_mode": pool_mode, "default_pool_size": 4, **settings})
