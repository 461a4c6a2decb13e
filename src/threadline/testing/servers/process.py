"""One server process: run as a user that may run it, waited for, paused, stopped, killed, and never left behind.

`Server` is the base of every kind of server here. Below it: under which account a process runs, where its files lie,
which port it gets, and where programs are found.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self

from threadline import clock

#: Seconds that a server may take to become ready, and to stop before it is killed.
PATIENCE = 60.0
#: Ports are taken from below the range that the system gives to outgoing connections (Linux: from 32768): a client
#: that tries a dead server again and again could else be given the server's own port, and connect to itself.
PORTS = range(15_000, 32_000)


class ServerError(RuntimeError):
    """A server for tests did not start, or cannot do what was asked of it."""


class Server(ABC):
    """A server that is started, stopped, killed and paused as often as a test likes, always on the same port.

    Attributes: `host`, `port`, `folder` (its files; removed at the end). It runs inside its `with` block.
    """

    #: What it is called in messages.
    kind: str
    #: The signal that asks it to stop soon.
    stop_signal = signal.SIGTERM
    #: The signal that ends it when the tests were killed. SIGKILL reaches one that is paused, too.
    orphan_signal = signal.SIGKILL

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.account = Account.for_servers()
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """The command line, for `self.port`."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers as it should. Called again and again after a start."""

    def prepare(self) -> None:
        """Make its folder, with what must lie in it."""
        self.folder = make_folder(self.account)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of its (first) process; 0 when it was never started."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it and wait until it is ready; nothing happens when it runs. Raises ServerError with its log."""
        if self.running:
            return
        # Another process may take a free port before the server does. Once it has had one, it keeps it.
        for _ in range(1 if self.port else 5):
            first = not self.port
            self.port = self.port or free_port()
            if self._launch():
                return
            if first:
                self.port = 0
        raise ServerError(f"{self.kind} did not start. {self.log()}")

    def _launch(self) -> bool:
        """Start the process and wait until it is ready; False when it ended."""
        with (self.folder / "log").open("ab") as log:
            self._process = self.account.popen(self.command(), self.folder, log, self.orphan_signal)
        deadline = clock.monotonic() + PATIENCE
        while self.running:
            if self.is_ready():
                return True
            if clock.monotonic() > deadline:
                self.kill()
                raise ServerError(f"{self.kind} was not ready after {PATIENCE:g} s. {self.log()}")
            time.sleep(0.01)
        return False

    def stop(self) -> None:
        """Stop it in order; what it keeps on disk stays. Killed when it takes too long."""
        if self._process is None:
            return
        if self.running:
            self.resume()
            self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, to the process and all that it started; returns when they are gone."""
        if self._process is None or not self.running:
            return
        # It starts nothing more while its children are looked up.
        self.pause()
        family = self.processes()
        for pid in family:
            _send(pid, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not any(map(is_alive, family)), f"{self.kind} to die")

    def restart(self) -> None:
        """Stop it in order and start it again, on the same port and files."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: it accepts connections, as the system does that for it, and answers nothing."""

        def stopped() -> bool:
            for pid in self.processes():
                _send(pid, signal.SIGSTOP)
            # What was started before its parent stopped is among these; then nobody starts anything any more.
            return all(map(is_stopped, self.processes())) and all(map(is_stopped, self.processes()))

        wait_until(stopped, f"{self.kind} to stop")

    def resume(self) -> None:
        """SIGCONT: it goes on where it was paused."""
        for pid in self.processes():
            _send(pid, signal.SIGCONT)

    def processes(self) -> list[int]:
        """The ids of its processes, the first one first; empty when it does not run."""
        if not self.running:
            return []
        return [self.pid, *descendants(self.pid)]

    def log(self, lines: int = 30) -> str:
        """The end of what the server wrote, for messages."""
        path = self.folder / "log"
        text = path.read_text("utf-8", "replace") if path.exists() else ""
        return "Its log ends:\n" + "\n".join(text.splitlines()[-lines:])

    def close(self) -> None:
        """Stop it and remove its files."""
        try:
            self.stop()
        finally:
            if self.folder != Path():
                shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


# Who runs it ---------------------------------------------------------------------------------------------------

# The kernel ends a server with the *thread* that started it, so that one thread starts them all and stays.
_launcher = ThreadPoolExecutor(1, thread_name_prefix="threadline-servers")


class Account:
    """Who runs the servers. PostgreSQL refuses to run as root, so root lets `nobody` do it; others run them
    themselves (`user` is None)."""

    def __init__(self, user: pwd.struct_passwd | None) -> None:
        self.user = user

    @classmethod
    def for_servers(cls) -> Account:
        """The account to use in this process. Raises ServerError when root finds no user `nobody`."""
        if os.geteuid() != 0:
            return cls(None)
        try:
            return cls(pwd.getpwnam("nobody"))
        except KeyError:
            raise ServerError(
                "servers for tests do not run as root, and there is no user `nobody` to run them; "
                "run the tests as another user"
            ) from None

    def own(self, path: Path) -> None:
        """Give a file or folder to it."""
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def can_read(self, path: Path) -> bool:
        """Whether it gets to a path and may read it; decided from the rights that everybody has."""
        if self.user is None:
            return os.access(path, os.R_OK)
        return bool(path.stat().st_mode & 0o004) and all(
            parent.stat().st_mode & 0o001 for parent in path.resolve().parents
        )

    def run(self, command: Sequence[str | Path], folder: Path) -> str:
        """Run a program to its end and return what it wrote. Raises ServerError with it on failure."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **self._switch(),
        )
        if done.returncode:
            raise ServerError(f"{command[0]} failed ({done.returncode}):\n{done.stdout}")
        return done.stdout

    def popen(
        self, command: Sequence[str | Path], folder: Path, output: Any, orphan_signal: int
    ) -> subprocess.Popen[bytes]:
        """Start a server that gets `orphan_signal` when this process ends, however that ends (Linux)."""
        launch: partial[subprocess.Popen[bytes]] = partial(
            subprocess.Popen,
            command,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Control-C in the terminal is for the tests, which then stop the server.
            start_new_session=True,
            preexec_fn=partial(_end_with_parent, orphan_signal),
            **self._switch(),
        )
        return _launcher.submit(launch).result()

    def _switch(self) -> dict[str, Any]:
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}


_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _end_with_parent(orphan_signal: int) -> None:
    # Runs in the child, after it changed its user (which would clear this).
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, orphan_signal)


def _environment(folder: Path) -> dict[str, str]:
    """No setting of the caller's (PGPORT, PGDATA, a locale) reaches a server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "LC_ALL": "C"}


# Files, ports and programs -------------------------------------------------------------------------------------


def make_folder(account: Account) -> Path:
    """A new private folder for the account, with a short path: a Unix socket's has at most 107 bytes."""
    for parent in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - mkdtemp makes it private
        if len(str(parent)) < 60 and account.can_read(parent):
            folder = Path(tempfile.mkdtemp(prefix="threadline-", dir=parent))
            account.own(folder)
            return folder
    raise ServerError(
        f"{tempfile.gettempdir()} is too long a path, or closed to the servers; set TMPDIR"
    )


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    dice = random.SystemRandom()
    for _ in range(1000):
        port = dice.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerError(f"no free port found in {PORTS.start} to {PORTS.stop}")


def package_folder(name: str) -> Path | None:
    """Where an installed package lies; it is not imported."""
    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def find_program(name: str, folders: Iterable[Path] = ()) -> Path | None:
    """A program on the PATH, or in one of the folders where a system puts servers."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, folders)])
    found = shutil.which(name, path=path)
    return Path(found) if found else None


# Processes -----------------------------------------------------------------------------------------------------


def _stat(pid: int) -> list[str] | None:
    """State, parent and more of a process (proc_pid_stat(5), from the third field on); None when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started. Empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        todo.extend(more := children.get(todo.pop(), []))
        found.extend(more)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody asked about yet does not."""
    fields = _stat(pid)
    return fields is not None and fields[0] not in "ZX"


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, or none any more."""
    fields = _stat(pid)
    return fields is None or fields[0] in "TZX"


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_until(done: Callable[[], bool], what: str) -> None:
    """Ask until it is so. Raises ServerError after `PATIENCE` seconds."""
    deadline = clock.monotonic() + PATIENCE
    while not done():
        if clock.monotonic() > deadline:
            raise ServerError(f"waited {PATIENCE:g} s for {what}")
        time.sleep(0.005)
