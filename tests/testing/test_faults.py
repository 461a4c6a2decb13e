"""The fault proxy does to a connection what it says, to open ones too, and nothing else."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import asyncpg
import pytest

from threadline.testing.faults import (
    BLACK_HOLE,
    PASS,
    REFUSE,
    RESET,
    FaultProxy,
    cut,
    delay,
    drop_reply,
)
from threadline.testing.servers import Postgres, Valkey
from threadline.testing.servers.process import wait_until


class Echo:
    """A server that answers each line with `<number of the line>:<line>`, and remembers every line."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.open.append(connection)
                self.threads.append(threading.Thread(target=self.answer, args=(connection,)))
                self.threads[-1].start()

    def answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            for line in stream:
                self.lines.append(line)
                connection.sendall(b"%d:%s" % (len(self.lines), line))

    def close(self) -> None:
        # shutdown() first: close() alone does not wake a thread that waits on the socket.
        for each in [self.listener, *self.open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", echo.port) as proxy:
        yield proxy


class Client:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def say(self, text: bytes) -> None:
        self.socket.sendall(text + b"\n")

    def hear(self, timeout: float = 10) -> bytes:
        self.socket.settimeout(timeout)
        heard = b""
        while not heard.endswith(b"\n"):
            piece = self.socket.recv(1000)
            if not piece:
                return heard + b"<end>"
            heard += piece
        return heard[:-1]

    def ask(self, text: bytes) -> bytes:
        self.say(text)
        return self.hear()


def test_it_passes_what_it_gets_and_counts(proxy: FaultProxy) -> None:
    with Client(proxy.port) as one, Client(proxy.port) as two:
        assert one.ask(b"a") == b"1:a"
        assert two.ask(b"bb") == b"2:bb"
        assert proxy.counts.connections == proxy.counts.open == 2
        assert proxy.counts.up_bytes == 5
        assert proxy.counts.down_bytes == 9
    wait_until(lambda: proxy.counts.open == 0, "the connections to end")
    assert proxy.counts.connections == 2
    assert proxy.counts.dropped == 0


def test_an_end_is_passed_on_and_what_was_before_it_too(proxy: FaultProxy) -> None:
    with Client(proxy.port) as client:
        client.socket.sendall(b"x\n" * 50_000)
        client.socket.shutdown(socket.SHUT_WR)
        heard = b""
        while piece := client.socket.recv(65_536):
            heard += piece
    assert heard.count(b"\n") == 50_000


def test_a_delay_costs_time_and_not_throughput(proxy: FaultProxy, echo: Echo) -> None:
    with Client(proxy.port) as client:
        proxy.set(delay(up=0.15, down=0.05))
        begun = time.monotonic()
        assert client.ask(b"a") == b"1:a"
        assert time.monotonic() - begun >= 0.2
        begun = time.monotonic()
        for number in range(8):
            client.say(b"%d" % number)
            time.sleep(0.01)
        while len(echo.lines) < 9:
            client.hear()
        # One after the other they would have waited for 8 * 0.2 seconds.
        assert 0.15 <= time.monotonic() - begun < 1.2


def test_a_black_hole_accepts_and_never_answers_until_it_heals(
    proxy: FaultProxy, echo: Echo
) -> None:
    with Client(proxy.port) as old:
        assert old.ask(b"a") == b"1:a"
        proxy.set(BLACK_HOLE)
        with Client(proxy.port) as new:
            for client in (old, new):
                client.say(b"late")
                with pytest.raises(TimeoutError):
                    client.hear(0.1)
            assert echo.lines == [b"a\n"]
            proxy.set(PASS)
            assert sorted([old.hear(), new.hear()]) == [b"2:late", b"3:late"]


def test_reset_ends_open_connections_and_new_ones(proxy: FaultProxy) -> None:
    with Client(proxy.port) as client:
        assert client.ask(b"a") == b"1:a"
        proxy.set(RESET)
        with pytest.raises(ConnectionResetError):
            client.hear()
    with pytest.raises(ConnectionError), Client(proxy.port) as client:  # Perhaps while it connects.
        client.ask(b"b")
    proxy.set(PASS)
    with Client(proxy.port) as client:
        assert client.ask(b"c") == b"2:c"


def test_refuse_is_refused_and_heals_on_the_same_port(proxy: FaultProxy) -> None:
    with Client(proxy.port) as client:
        assert client.ask(b"a") == b"1:a"
        with proxy.during(REFUSE):
            with pytest.raises(ConnectionResetError):
                client.hear()
            for _ in range(3):
                with pytest.raises(ConnectionRefusedError):
                    Client(proxy.port)
    with Client(proxy.port) as client:
        assert client.ask(b"b") == b"2:b"


def test_a_dropped_reply_is_of_a_request_that_was_carried_out(
    proxy: FaultProxy, echo: Echo
) -> None:
    with Client(proxy.port) as client:
        assert client.ask(b"a") == b"1:a"
        proxy.set(drop_reply())
        with contextlib.suppress(ConnectionResetError):
            assert client.ask(b"b") == b"<end>"
    assert echo.lines == [b"a\n", b"b\n"]
    assert proxy.counts.dropped == 1


def test_only_the_answer_with_the_markers_is_dropped_so_often(
    proxy: FaultProxy, echo: Echo
) -> None:
    proxy.set(drop_reply(b"commit", b":", times=2))
    lost = 0
    for number in range(4):
        with Client(proxy.port) as client:
            assert client.ask(b"begin").endswith(b":begin")
            # The marker comes in two pieces.
            client.socket.sendall(b"com")
            time.sleep(0.02)
            try:
                heard = client.ask(b"mit %d" % number)
            except ConnectionResetError:
                heard = b"<end>"
            lost += heard == b"<end>"
    assert lost == proxy.counts.dropped == 2
    assert [line for line in echo.lines if b"commit" in line] == [
        b"commit %d\n" % n for n in range(4)
    ]


def test_a_cut_comes_after_so_many_bytes(proxy: FaultProxy) -> None:
    with Client(proxy.port) as client:
        assert client.ask(b"before") == b"1:before"
        proxy.set(cut(after=4))
        assert client.ask(b"abcdef") == b"2:ab<end>"


def test_restless_faults_are_the_same_for_the_same_seed(proxy: FaultProxy) -> None:
    faults = [PASS, BLACK_HOLE, RESET, REFUSE, drop_reply(), delay(0.01)]
    runs = []
    for seed in (7, 7, 8):
        with proxy.restless(faults, every=0.002, seed=seed) as names:
            wait_until(lambda names=names: len(names) >= 12, "twelve switches")
        runs.append(names[:12])
    assert runs[0] == runs[1] != runs[2]
    assert proxy.fault == PASS
    with Client(proxy.port) as client:
        assert client.ask(b"a").endswith(b":a")


def test_a_proxy_that_is_closed_leaves_no_connection(echo: Echo) -> None:
    with FaultProxy("127.0.0.1", echo.port) as proxy:
        clients = [Client(proxy.port) for _ in range(5)]
        assert clients[0].ask(b"a") == b"1:a"
        proxy.set(BLACK_HOLE)
        clients.append(Client(proxy.port))
    for client in clients:
        with client, contextlib.suppress(ConnectionResetError):
            assert client.hear() == b"<end>"
    with pytest.raises(ConnectionRefusedError):
        Client(proxy.port)


async def test_a_commit_whose_reply_is_lost_was_made(pg_dsn: str) -> None:
    with FaultProxy.before(pg_dsn) as proxy:
        connection = await asyncpg.connect(proxy.address(pg_dsn))
        await connection.execute("CREATE TABLE t (n bigint)")
        proxy.set(drop_reply(b"INSERT", b"INSERT 0 1"))
        with pytest.raises((asyncpg.PostgresConnectionError, OSError, asyncpg.InterfaceError)):
            await connection.execute("INSERT INTO t VALUES (1)")
        connection.terminate()
        assert proxy.counts.dropped == 1
        proxy.set(PASS)
        connection = await asyncpg.connect(proxy.address(pg_dsn))
        assert await connection.fetchval("SELECT n FROM t") == 1
        await connection.close()


def test_addresses_keep_all_but_host_and_port(
    postgres_server: Postgres, valkey_server: Valkey
) -> None:
    for server, url in ((postgres_server, postgres_server.dsn), (valkey_server, valkey_server.url)):
        proxy = FaultProxy.before(url)
        assert proxy.address(url) == url.replace(str(server.port), str(proxy.port))
        with pytest.raises(RuntimeError, match="not running"):
            proxy.set(PASS)
    with pytest.raises(ValueError, match="host and port"):
        FaultProxy.before("unix:///tmp/redis.sock")
