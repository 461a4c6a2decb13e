"""A TCP proxy that behaves badly on command: the network between a client and a server, in the hands of a test.

    with FaultProxy("127.0.0.1", server.port) as proxy:
        client = connect(proxy.port)
        proxy.set(BLACK_HOLE)  # or delay(...), RESET, REFUSE, drop_reply(...), cut(...)
        ...
        proxy.set(PASS)

A `Fault` says what happens to bytes; `FaultProxy` is the face for tests, of any thread; `_Network` and its links run
on a loop in a thread of their own. A switch holds for connections that are open already, and `set` returns when it is
in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from threadline.testing.servers.process import free_port


@dataclass(frozen=True, slots=True)
class Fault:
    """What the proxy does.

    `up`, `down`: seconds that each piece takes to the server, and back. `hold`: nothing arrives, in either direction,
    until another fault is set; then it does, late, as on a network that heals. `reset`: connections are reset, the
    open ones and new ones. `refuse`: nobody listens. `swallow`: once a request with the first marker has gone by, the
    answer with the second is thrown away and the connection closed; `times`: so often, then no more (None: always).
    `cut_after`: a connection is closed when so many bytes came back through it from now on.
    """

    name: str = "pass"
    up: float = 0.0
    down: float = 0.0
    hold: bool = False
    reset: bool = False
    refuse: bool = False
    swallow: tuple[bytes, bytes] | None = None
    times: int | None = None
    cut_after: int | None = None


#: Everything arrives as it was sent.
PASS = Fault()
#: Connections are accepted, and nothing is ever answered, also on those that are open.
BLACK_HOLE = Fault("black hole", hold=True)
#: Connections are reset (RST), the open ones and new ones.
RESET = Fault("reset", reset=True)
#: Nobody listens, and open connections are reset.
REFUSE = Fault("refuse", reset=True, refuse=True)


def delay(up: float = 0.0, down: float = 0.0) -> Fault:
    """Each piece takes `up` seconds to the server and `down` seconds back; pieces do not wait for each other."""
    return Fault("delay", up=up, down=down)


def drop_reply(request: bytes = b"", reply: bytes = b"", *, times: int | None = None) -> Fault:
    """The request arrives and is carried out; its answer is lost and the connection closed.

    `request`: bytes that the request contains, e.g. an id that is sent with the one statement that is meant; empty:
    any. `reply`: bytes that its answer contains; empty: the first bytes that come back. `times`: so many answers,
    then no more (None: all).
    """
    return Fault("drop reply", swallow=(request, reply), times=times)


def cut(after: int) -> Fault:
    """Each connection is closed when `after` more bytes came back from the server; what is before them arrives."""
    return Fault("cut", cut_after=after)


@dataclass(slots=True)
class Counts:
    """What went through a proxy: connections accepted, and those open now; bytes that reached the server, and that
    came back to clients; answers that were thrown away."""

    connections: int = 0
    open: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    dropped: int = 0


class FaultProxy:
    """A proxy in front of `host`:`port`, listening on `port` of 127.0.0.1. Use it as a context manager; its methods
    may be called from any thread, also from one in which a loop runs."""

    def __init__(self, host: str, port: int) -> None:
        self.port = free_port()
        self._network = _Network((host, port), self.port)
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def before(cls, url: str) -> FaultProxy:
        """A proxy in front of the server of a DSN or URL; `address(url)` is the same server through it."""
        parts = urlsplit(url)
        if not parts.hostname or not parts.port:
            raise ValueError("a proxy needs an address with host and port to stand before")
        return cls(parts.hostname, parts.port)

    def address(self, url: str) -> str:
        """The DSN or URL with the host and port of the proxy."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}"))

    @property
    def fault(self) -> Fault:
        """The fault in force."""
        return self._network.fault

    @property
    def counts(self) -> Counts:
        """What went through so far."""
        return dataclasses.replace(self._network.counts, open=len(self._network.links))

    def set(self, fault: Fault) -> None:
        """Behave so from now on; returns when it is in force, for connections that are open as well."""
        self._run(self._network.set(fault))

    @contextlib.contextmanager
    def during(self, fault: Fault) -> Iterator[None]:
        """Behave so while the block runs, and pass everything after it."""
        self.set(fault)
        try:
            yield
        finally:
            self.set(PASS)

    @contextlib.contextmanager
    def restless(
        self, faults: Sequence[Fault], *, every: float = 0.25, seed: int = 0
    ) -> Iterator[list[str]]:
        """Switch to one of the faults every `every` seconds while the block runs, and pass everything after it. The
        same seed gives the same order; the list has the names of those so far."""
        names: list[str] = []
        stop = asyncio.Event()
        switching = self._submit(
            self._network.switch(faults, every, random.Random(seed), names, stop)
        )

        async def end() -> None:
            stop.set()

        try:
            yield names
        finally:
            self._run(end())
            switching.result()
            self.set(PASS)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fault-proxy", daemon=True
        )
        self._thread.start()
        try:
            self._run(self._network.set(PASS))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection and stop listening."""
        if self._loop is None:
            return
        self._run(self._network.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._submit(work).result()

    def _submit(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        if self._loop is None:
            work.close()
            raise RuntimeError("the proxy is not running; use it as a context manager")
        return asyncio.run_coroutine_threadsafe(work, self._loop)


# In the proxy's own thread ---------------------------------------------------------------------------------------


class _Network:
    """Listens, and knows the open connections and the fault in force."""

    def __init__(self, target: tuple[str, int], port: int) -> None:
        self.target, self.port = target, port
        self.fault, self.counts = PASS, Counts()
        self.links: set[_Link] = set()
        self.passing = asyncio.Event()
        self._swallowed = 0
        self._listener: socket.socket | None = None

    async def set(self, fault: Fault) -> None:
        self.fault, self._swallowed = fault, 0
        if fault.refuse:
            self._stop_listening()
        elif self._listener is None:
            self._listen()
        for link in list(self.links):
            link.begin(fault)
        if fault.hold:
            self.passing.clear()
        else:
            self.passing.set()

    async def switch(
        self,
        faults: Sequence[Fault],
        every: float,
        dice: random.Random,
        names: list[str],
        stop: asyncio.Event,
    ) -> None:
        while not stop.is_set():
            fault = dice.choice(faults)
            await self.set(fault)
            names.append(fault.name)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), every)

    async def close(self) -> None:
        await self.set(REFUSE)
        await asyncio.gather(*(link.task for link in self.links), return_exceptions=True)
        await asyncio.sleep(0)  # The last transports say goodbye.

    def may_swallow(self) -> bool:
        """Whether one more answer may be thrown away; counts it."""
        if self.fault.times is not None and self._swallowed >= self.fault.times:
            return False
        self._swallowed += 1
        self.counts.dropped += 1
        return True

    def _listen(self) -> None:
        # Not asyncio's server: between its accepting and its telling a connection could not be closed.
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            self.counts.connections += 1
            link = _Link(self, connection)
            self.links.add(link)
            link.task.add_done_callback(lambda _: self._end(link))
            link.begin(self.fault)

    def _end(self, link: _Link) -> None:
        self.links.discard(link)
        link.abort()


class _Link:
    """One connection: the client's half, the server's half, and what flows between them."""

    def __init__(self, network: _Network, connection: socket.socket) -> None:
        self.network = network
        self.connection = connection
        self.writers: list[asyncio.StreamWriter] = []
        self.task = asyncio.create_task(self._run())

    def begin(self, fault: Fault) -> None:
        """A fault begins for this connection."""
        self.swallow, self.left = fault.swallow, fault.cut_after
        self.armed = fault.swallow is not None and not fault.swallow[0]
        self.asked = self.answered = b""
        if fault.reset:
            for each in [self.connection, *(w.get_extra_info("socket") for w in self.writers[1:])]:
                with contextlib.suppress(OSError):  # One that is closed already.
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self.task.cancel()

    def abort(self) -> None:
        """Close what is still open of both halves."""
        for each in self.writers:
            each.transport.abort()
        if not self.writers:
            self.connection.close()

    async def _run(self) -> None:
        try:
            self.connection.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=self.connection)
            self.writers.append(writer)
            await self.network.passing.wait()
            await self._connect_and_carry(reader, writer)
        except* OSError:
            pass  # A connection that ends is what this is for.

    async def _connect_and_carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        server_reader, server = await asyncio.open_connection(*self.network.target)
        self.writers.append(server)
        async with asyncio.TaskGroup() as group:
            # Read ahead of what is written, so that a delay costs time and not throughput.
            up: _Pieces = asyncio.Queue(64)
            down: _Pieces = asyncio.Queue(64)
            group.create_task(self._read(reader, up, lambda fault: fault.up))
            group.create_task(self._read(server_reader, down, lambda fault: fault.down))
            group.create_task(self._write_up(up, server))
            group.create_task(self._write_down(down, writer))
        # Both sides have ended; what is still on its way arrives.
        for each in self.writers:
            each.close()
            await each.wait_closed()

    async def _read(
        self, reader: asyncio.StreamReader, pieces: _Pieces, delay: Callable[[Fault], float]
    ) -> None:
        loop = asyncio.get_running_loop()
        piece = b"-"
        while piece:
            piece = await reader.read(65_536)
            await pieces.put((loop.time() + delay(self.network.fault), piece))

    async def _next(self, pieces: _Pieces) -> bytes:
        """The next piece, when it is due and may pass; empty at the end."""
        due, piece = await pieces.get()
        if (wait := due - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(wait)
        await self.network.passing.wait()
        return piece

    async def _write_up(self, pieces: _Pieces, server: asyncio.StreamWriter) -> None:
        while piece := await self._next(pieces):
            if self.swallow is not None and not self.armed:
                self.armed, self.asked = _find(self.swallow[0], self.asked + piece)
            self.network.counts.up_bytes += len(piece)
            server.write(piece)
            await server.drain()
        server.write_eof()

    async def _write_down(self, pieces: _Pieces, client: asyncio.StreamWriter) -> None:
        while piece := await self._next(pieces):
            if self.swallow is not None and self.armed:
                found, self.answered = _find(self.swallow[1], self.answered + piece)
                if found and self.network.may_swallow():
                    raise ConnectionAbortedError("the answer is lost")
            if self.left is not None:
                piece, self.left = piece[: self.left], self.left - len(piece)
            self.network.counts.down_bytes += len(piece)
            client.write(piece)
            await client.drain()
            if self.left is not None and self.left <= 0:
                client.close()
                await client.wait_closed()
                raise ConnectionAbortedError("the connection is cut")
        client.write_eof()


_Pieces = asyncio.Queue[tuple[float, bytes]]
#: Closed with a timeout of zero, a connection is reset instead of ended (socket(7)).
_AT_ONCE = struct.pack("ii", 1, 0)


def _find(marker: bytes, text: bytes) -> tuple[bool, bytes]:
    """Whether the marker is in the text, and the end of the text that may be the marker's beginning."""
    return marker in text, text[len(text) - len(marker) + 1 :] if marker else b""
