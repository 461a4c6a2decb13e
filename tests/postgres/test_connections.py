"""How a PgCheckpointer comes by its connections, and lets go of them: addresses, pools, loops, threads, forks."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest

from threadline import AgentState, Message, PgCheckpointer, SchemaError
from threadline.errors import (
    DeadlineError,
    NotStorableError,
    OutcomeUnknownError,
    ReleasedError,
    StorageFullError,
    ThreadlineError,
    UnavailableError,
)
from threadline.testing.servers import Postgres

CONFIG = {"thread_id": "t"}


async def connections(dsn: str) -> int:
    """How many others are connected to this database."""
    connection = await asyncpg.connect(dsn)
    try:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
        return found
    finally:
        await connection.close()


async def are_gone(dsn: str) -> bool:
    """Whether nobody else is connected any more; the server needs a moment to notice."""
    for _ in range(500):
        if await connections(dsn) == 0:
            return True
        await asyncio.sleep(0.01)
    return False


# Addresses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
async def test_every_way_to_write_an_address(pg_dsn: str, scheme: str) -> None:
    async with PgCheckpointer(scheme + pg_dsn.removeprefix("postgresql")) as checkpointer:
        assert (await checkpointer.ahealth())["ok"]


async def test_the_environment_is_read_when_it_connects(
    pg_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    checkpointer = PgCheckpointer(user_id_type="int")
    monkeypatch.setenv("DATABASE_URL", pg_dsn)
    await checkpointer.aput_state({**CONFIG, "user_id": 7}, {"n": 1})
    assert await checkpointer.aget_state({**CONFIG, "user_id": 7}) == {"n": 1}
    await checkpointer.arelease()


async def test_the_variables_of_libpq_too(
    pg_dsn: str, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    user, _, place = pg_dsn.removeprefix("postgresql://").partition("@")
    name, _, password = user.partition(":")
    for key, value in {
        "PGUSER": name,
        "PGPASSWORD": password,
        "PGHOST": postgres_server.host,
        "PGPORT": str(postgres_server.port),
        "PGDATABASE": place.partition("/")[2],
    }.items():
        monkeypatch.setenv(key, value)
    async with PgCheckpointer() as checkpointer:
        assert (await checkpointer.ahealth())["ok"]


NO_ADDRESS = "no address was given"


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No server on this machine's default address, and an environment that names none."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("PGPORT", "1")
    return monkeypatch


async def test_that_nobody_gave_an_address_is_said(nobody: pytest.MonkeyPatch) -> None:
    for told in ({}, {"pool_config": {"max_size": 1}}):
        checkpointer = PgCheckpointer(**told)
        with pytest.raises(UnavailableError, match=NO_ADDRESS) as caught:
            await checkpointer.aget_state(CONFIG)
        assert NO_ADDRESS in str((await checkpointer.ahealth())["error"])
        for place in ("postgres_dsn", "DATABASE_URL", "PGHOST"):
            assert place in str(caught.value)
        await checkpointer.arelease()


async def test_a_process_whose_user_has_no_name(nobody: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    nobody.setattr("pwd.getpwuid", unknown)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        nobody.delenv(name, raising=False)
    checkpointer = PgCheckpointer("postgresql://127.0.0.1:1/db")
    with pytest.raises((ValueError, UnavailableError), match=r"PostgreSQL.*(PGUSER|[Uu]ser)"):
        await checkpointer.aget_state(CONFIG)
    nobody.setenv("PGUSER", "me")
    with pytest.raises(UnavailableError, match="Connect call failed"):
        await checkpointer.aget_state(CONFIG)
    await checkpointer.arelease()


@pytest.mark.parametrize("way", ["dsn", "pool", "config", "DATABASE_URL", "PGHOST"])
async def test_an_address_that_was_given_is_not_denied(
    way: str, nobody: pytest.MonkeyPatch
) -> None:
    dsn = "postgresql://postgres@127.0.0.1:1/db"
    arguments: dict[str, Any] = {}
    if way == "dsn":
        arguments["postgres_dsn"] = dsn
    elif way == "pool":
        arguments["pg_pool"] = asyncpg.create_pool(dsn, min_size=0)
        await arguments["pg_pool"]
    elif way == "config":
        arguments["pool_config"] = {"host": "127.0.0.1"}
    else:
        nobody.setenv(way, dsn if way == "DATABASE_URL" else "127.0.0.1")
    checkpointer = PgCheckpointer(**arguments)
    with pytest.raises(UnavailableError, match="cannot be reached") as caught:
        await checkpointer.aget_state(CONFIG)
    assert NO_ADDRESS not in str(caught.value)
    await checkpointer.arelease()


@pytest.mark.parametrize("dsn", ["", "localhost", "mysql://secret@host/db", "postgresql//secret"])
async def test_an_address_that_is_none_is_refused(dsn: str) -> None:
    with pytest.raises(ValueError, match="postgresql://user@host") as caught:
        await PgCheckpointer(dsn).asetup()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [{"postgres_dsn": 7}, {"user_id_type": "uuid"}, {"durability": "none"}, {"unknown": 1}],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        PgCheckpointer(**arguments)


@pytest.mark.parametrize("key", ["max_sise", "dsn", "loop", 7])
def test_a_setting_that_a_pool_has_not_is_refused_at_once(key: Any) -> None:
    with pytest.raises(TypeError) as caught:
        PgCheckpointer(pool_config={"max_size": 3, key: 4})
    told = str(caught.value)
    assert f"no {key!r}" in told
    for name in ("max_size", "statement_cache_size", "server_settings"):
        assert name in told


def test_settings_that_a_pool_has() -> None:
    PgCheckpointer(pool_config={"max_queries": 5, "ssl": True, "reset": None})
    # What makes connections may have settings of its own.
    PgCheckpointer(pool_config={"connect": asyncpg.connect, "of_mine": 1})


async def test_a_password_is_nowhere(
    pg_dsn: str, postgres_server: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "canary-5e1f"
    place = pg_dsn.rpartition("@")[2]
    told: list[str] = []
    for dsn in (
        f"postgresql://postgres:{secret}@{place}",
        f"postgresql://postgres:{secret}@127.0.0.1:1/db",
        f"postgresql://nobody:{secret}@{place}/none",
        f"nonsense://{secret}",
        f"postgresql://postgres:{secret}@127.0.0.1:port/db",
    ):
        checkpointer = PgCheckpointer(dsn, timeout=2)
        told += [
            repr(checkpointer),
            repr(vars(checkpointer)),
            repr(vars(checkpointer._engine.backend)),
        ]
        told += [repr(vars(checkpointer._engine.backend._link))]
        with pytest.raises((ThreadlineError, ValueError)) as caught:
            await checkpointer.asetup()
        told.append("".join(traceback.format_exception(caught.value)))
        await checkpointer.arelease()
    assert secret not in "".join(told) + caplog.text


async def test_nobody_there_is_a_connection_error() -> None:
    checkpointer = PgCheckpointer("postgresql://postgres@127.0.0.1:1/db", timeout=2)
    with pytest.raises(ConnectionError):
        await checkpointer.aget_state(CONFIG)
    health = await checkpointer.ahealth()
    assert health["ok"] is False
    await checkpointer.arelease()


async def test_no_such_database_is_a_connection_error(pg_dsn: str) -> None:
    with pytest.raises(UnavailableError, match="no such database"):
        await PgCheckpointer(pg_dsn + "_none").asetup()


# User ids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("string", ["alice", "42", 42, -1], []),
        ("int", [0, -(2**31), 2**31 - 1], ["alice", "42", 2**31, -(2**31) - 1]),
        ("bigint", [2**31, 2**63 - 1, -(2**63)], ["42"]),
    ],
)
async def test_user_ids_have_their_columns_type(
    pg_dsn: str, kind: Any, good: list[Any], bad: list[Any]
) -> None:
    async with PgCheckpointer(pg_dsn, user_id_type=kind) as checkpointer:
        for number, user in enumerate(good):
            config = {"thread_id": str(number), "user_id": user}
            await checkpointer.aput_state(config, {"n": number})
            (thread,) = await checkpointer.alist_threads({"user_id": user})
            assert (thread.user_id, type(thread.user_id)) == (user, type(user))
        for user in bad:
            for call in (
                checkpointer.aput_state({**CONFIG, "user_id": user}, {}),
                checkpointer.aget_state({**CONFIG, "user_id": user}),
                checkpointer.alist_threads({"user_id": user}),
            ):
                with pytest.raises(ValueError, match="does not fit"):
                    await call
    connection = await asyncpg.connect(pg_dsn)
    column = await connection.fetchval(
        "SELECT data_type FROM information_schema.columns "
        "WHERE table_name = 'threadline_threads' AND column_name = 'owner'"
    )
    await connection.close()
    assert column == {"string": "text", "int": "integer", "bigint": "bigint"}[kind]
    if kind != "string":
        with pytest.raises(SchemaError, match="user_id_type"):
            await PgCheckpointer(pg_dsn).asetup()


async def test_what_text_columns_cannot_hold_is_refused(pg_dsn: str) -> None:
    """A payload holds anything; a role stands in a column beside it."""
    async with PgCheckpointer(pg_dsn) as checkpointer:
        odd = Message.text_message("NUL \x00 and \ud800 inside", message_id="m1")
        await checkpointer.aput_messages(CONFIG, [odd])
        assert [each.text() for each in await checkpointer.alist_messages(CONFIG)] == [odd.text()]
        with pytest.raises((NotStorableError, ValueError)):
            await checkpointer.aput_messages(
                CONFIG,
                [Message.text_message("x", role="a\x00", message_id="m2")],  # type: ignore[arg-type]
            )
        assert len(await checkpointer.alist_messages(CONFIG)) == 1


# Pools ------------------------------------------------------------------------------------------------------


async def test_giving_up_while_a_connection_is_made_leaves_no_complaint(
    pg_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At whichever turn of the loop: nobody is left with an exception, nor with a connection."""
    async with PgCheckpointer(pg_dsn):
        pass
    for turns in range(60):
        checkpointer = PgCheckpointer(pg_dsn)
        call = asyncio.create_task(checkpointer.aget_state(CONFIG))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await checkpointer.arelease()
        gc.collect()
    assert await are_gone(pg_dsn)
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_a_pool_of_the_caller_is_used_and_left_alone(pg_dsn: str) -> None:
    async with asyncpg.create_pool(pg_dsn, min_size=1, max_size=2) as pool:
        async with PgCheckpointer(pg_pool=pool) as checkpointer:
            await checkpointer.aput_state(CONFIG, {"n": 1})
            many = [checkpointer.aget_state(CONFIG) for _ in range(20)]
            assert await asyncio.gather(*many) == [{"n": 1}] * 20
            assert pool.get_size() <= 2
        assert not pool.is_closing()
        assert await pool.fetchval("SELECT 1") == 1


async def test_a_pool_is_closed_when_that_is_asked_for(pg_dsn: str) -> None:
    pool = await asyncpg.create_pool(pg_dsn, min_size=1, max_size=2)
    async with PgCheckpointer(pg_pool=pool, release_resources=True) as checkpointer:
        await checkpointer.aput_state(CONFIG, {"n": 1})
    assert pool.is_closing()
    assert await are_gone(pg_dsn)


async def test_a_pools_loop_is_used_from_other_threads(pg_dsn: str) -> None:
    async with asyncpg.create_pool(pg_dsn, min_size=1, max_size=2) as pool:
        checkpointer = PgCheckpointer(pg_pool=pool)
        await asyncio.to_thread(checkpointer.put_state, CONFIG, {"n": 1})
        assert await asyncio.to_thread(checkpointer.get_state, CONFIG) == {"n": 1}
        # In the loop itself a sync call would wait for itself.
        with pytest.raises(RuntimeError, match="await the async method"):
            checkpointer.get_state(CONFIG)
        assert await checkpointer.aget_state(CONFIG) == {"n": 1}


async def test_a_call_from_another_loop_ends_when_the_pools_loop_stands_still(pg_dsn: str) -> None:
    """By the deadline, with a DeadlineError; and what it would have written is never begun."""
    async with asyncpg.create_pool(pg_dsn, min_size=1, max_size=2) as pool:
        checkpointer = PgCheckpointer(pg_pool=pool, timeout=0.5)
        await checkpointer.aput_state(CONFIG, {"n": 1})

        def elsewhere() -> list[Any]:
            async def calls() -> list[Any]:
                put, get = (
                    checkpointer.aput_state(CONFIG, {"n": 2}),
                    checkpointer.aget_state(CONFIG),
                )
                return await asyncio.gather(put, get, return_exceptions=True)

            return asyncio.run(calls())

        with ThreadPoolExecutor(1) as threads:
            # This loop waits in place: it stands still.
            told = threads.submit(elsewhere).result(timeout=20)
        assert [type(each) for each in told] == [DeadlineError, DeadlineError]
        await asyncio.sleep(0.1)  # What was handed over is looked at now.
        assert await checkpointer.aget_state(CONFIG) == {"n": 1}
        assert pool.get_idle_size() == pool.get_size()


async def test_a_call_from_another_loop_ends_when_the_pools_loop_does(pg_dsn: str) -> None:
    """It is told, and not cancelled: nobody cancelled it."""
    waiting, ending = threading.Event(), threading.Event()
    found: list[PgCheckpointer] = []

    async def home() -> None:
        pool = await asyncpg.create_pool(pg_dsn, min_size=1, max_size=1)
        found.append(PgCheckpointer(pg_pool=pool, timeout=20))
        await found[0].aput_state(CONFIG, {"n": 1})
        await pool.acquire()  # The only connection.
        waiting.set()
        await asyncio.to_thread(ending.wait)
        pool.terminate()

    thread = threading.Thread(target=lambda: asyncio.run(home()))
    thread.start()
    await asyncio.to_thread(waiting.wait)
    call = asyncio.create_task(found[0].aget_state(CONFIG))
    await asyncio.sleep(0.05)  # It waits for the connection now.
    ending.set()
    with pytest.raises(UnavailableError):
        await call
    await asyncio.to_thread(thread.join)
    with pytest.raises(RuntimeError, match="not running"):
        await found[0].aget_state(CONFIG)


async def test_our_pool_takes_settings_and_is_closed(pg_dsn: str) -> None:
    config = {"max_size": 1, "server_settings": {"application_name": "mine"}}
    checkpointer = PgCheckpointer(pg_dsn, pool_config=config)
    await asyncio.gather(*(checkpointer.aget_state({"thread_id": str(n)}) for n in range(30)))
    assert await connections(pg_dsn) == 1
    await checkpointer.arelease()
    assert await are_gone(pg_dsn)
    with pytest.raises(ReleasedError):
        await checkpointer.aget_state(CONFIG)


async def test_two_checkpointers_do_not_disturb_each_other(pg_dsn: str) -> None:
    one, other = PgCheckpointer(pg_dsn), PgCheckpointer(pg_dsn, schema="other")
    await asyncio.gather(one.aput_state(CONFIG, {"n": 1}), other.aput_state(CONFIG, {"n": 2}))
    await one.arelease()
    assert await other.aget_state(CONFIG) == {"n": 2}
    await other.arelease()
    assert await are_gone(pg_dsn)


# Loops, threads, processes ----------------------------------------------------------------------------------


def test_sync_calls_work_before_inside_and_after_a_loop(pg_dsn: str) -> None:
    checkpointer = PgCheckpointer(pg_dsn)
    assert checkpointer.put_state(CONFIG, {"n": 1}).version == 1

    async def inside() -> None:
        assert checkpointer.get_state(CONFIG) == {"n": 1}  # The loop stands still, and goes on.
        assert checkpointer.put_state(CONFIG, {"n": 2}).version == 2
        assert await checkpointer.aget_state(CONFIG) == {"n": 2}
        assert await asyncio.to_thread(checkpointer.get_state, CONFIG) == {"n": 2}

    asyncio.run(inside())
    assert checkpointer.get_state(CONFIG) == {"n": 2}
    checkpointer.release()


def test_one_loop_after_the_other(pg_dsn: str) -> None:
    checkpointer = PgCheckpointer(pg_dsn)

    async def turn(number: int) -> int:
        version = (await checkpointer.aput_state(CONFIG, {"n": number})).version
        await checkpointer.aget_state(CONFIG)
        return version

    async def last() -> None:
        await turn(9)
        await checkpointer.arelease()

    assert [asyncio.run(turn(number)) for number in range(3)] == [1, 2, 3]
    asyncio.run(last())
    assert asyncio.run(are_gone(pg_dsn))


def test_loops_side_by_side(pg_dsn: str) -> None:
    checkpointer = PgCheckpointer(pg_dsn)
    checkpointer.setup()
    failed: list[BaseException] = []

    async def work(name: str) -> None:
        for number in range(20):
            await checkpointer.aput_state({"thread_id": name}, {"n": number})
            assert await checkpointer.aget_state({"thread_id": name}) == {"n": number}

    def thread(name: str) -> None:
        try:
            asyncio.run(work(name))
            for number in range(20):
                assert checkpointer.put_state({"thread_id": name}, {"n": number}).version
        except BaseException as error:  # noqa: BLE001 - a thread's, told below
            failed.append(error)

    threads = [threading.Thread(target=thread, args=(str(n),)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failed == []
    checkpointer.release()
    assert asyncio.run(are_gone(pg_dsn))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_uses_connections_of_its_own(pg_dsn: str) -> None:
    checkpointer = PgCheckpointer(pg_dsn)
    checkpointer.put_state(CONFIG, {"n": 0})
    pid = os.fork()
    if pid == 0:
        try:
            for number in range(20):
                checkpointer.put_state({"thread_id": "child"}, {"n": number})
            good = checkpointer.get_state(CONFIG) == {"n": 0}

            async def inside() -> Any:
                return await checkpointer.aget_state({"thread_id": "child"})

            good = good and asyncio.run(inside()) == {"n": 19}
            os._exit(0 if good else 1)
        except BaseException:  # noqa: BLE001 - the child's, told by its exit
            traceback.print_exc()
            os._exit(2)
    for number in range(20):
        checkpointer.put_state({"thread_id": "parent"}, {"n": number})
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert checkpointer.get_state({"thread_id": "child"}) == {"n": 19}
    assert checkpointer.get_state({"thread_id": "parent"}) == {"n": 19}
    checkpointer.release()


# Release ----------------------------------------------------------------------------------------------------


async def test_nothing_that_was_started_is_lost_at_release(pg_dsn: str) -> None:
    checkpointer = PgCheckpointer(pg_dsn)
    await checkpointer.asetup()
    texts = [Message.text_message(str(n), message_id=str(n)) for n in range(40)]
    tasks = [asyncio.create_task(checkpointer.aput_messages(CONFIG, [text])) for text in texts]
    await checkpointer.arelease()
    assert all(task.done() and task.exception() is None for task in tasks)
    async with PgCheckpointer(pg_dsn) as other:
        assert len(await other.alist_messages(CONFIG)) == 40


async def test_relaxed_commits_do_not_wait_for_the_disk(pg_dsn: str) -> None:
    """Which a session can see of itself, inside the transaction: the setting is there, and gone behind it."""
    async with asyncpg.create_pool(pg_dsn, min_size=1, max_size=1) as pool:
        seen: list[str] = []
        relaxed = PgCheckpointer(pg_pool=pool, durability="relaxed")
        await relaxed.asetup()
        await pool.execute(
            "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE NOTICE '%', current_setting('synchronous_commit'); RETURN NEW; END $$; "
            "CREATE CONSTRAINT TRIGGER watch AFTER INSERT OR UPDATE ON threadline_threads "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch()"
        )
        async with pool.acquire() as connection:

            def listen(_: Any, message: Any) -> None:
                seen.append(message.message)

            connection.add_log_listener(listen)
            strict = PgCheckpointer(pg_pool=_Only(connection, pool))
            await strict.aput_state(CONFIG, {"n": 1})
            relaxed = PgCheckpointer(pg_pool=_Only(connection, pool), durability="relaxed")
            await relaxed.aput_state({"thread_id": "new"}, {"n": 1})
            await relaxed.aput_state(CONFIG, {"n": 2}, expected_version=1)
            await relaxed.afork(CONFIG, "fork")
            await relaxed.adelete_thread(CONFIG)
            assert await connection.fetchval("SHOW synchronous_commit") == "on"
            await asyncio.sleep(0)  # Listeners are called by the loop.
            connection.remove_log_listener(listen)
    assert seen == ["on", "off", "off", "off", "off"]


class _Only:
    """A pool of one connection, which stays with its caller."""

    def __init__(self, connection: Any, pool: Any) -> None:
        self._connection, self._loop = connection, pool._loop

    async def acquire(self) -> Any:
        return self._connection

    async def release(self, connection: Any) -> None:
        pass


async def test_an_overridden_put_governs_everything(pg_dsn: str) -> None:
    class Counted(PgCheckpointer):
        puts = 0

        async def aput_state(self, config: Any, state: Any) -> Any:  # type: ignore[override]
            result = await super().aput_state(config, state)
            self.puts += 1
            return result

    async with Counted(pg_dsn) as checkpointer:
        await checkpointer.aput_state(CONFIG, AgentState())
        await asyncio.to_thread(checkpointer.put_state, CONFIG, AgentState())
        assert checkpointer.puts == 2


# Outcomes ---------------------------------------------------------------------------------------------------


class _Fails:
    """A pool whose connections fail at a statement of the store, as often as it says, and then work."""

    def __init__(self, pool: Any, error: BaseException, times: int) -> None:
        self._pool, self._loop, self.error, self.times = pool, pool._loop, error, times

    async def acquire(self) -> Any:
        connection = await self._pool.acquire()
        return _Failing(self, connection)

    async def release(self, connection: Any) -> None:
        await self._pool.release(connection.real)


class _Failing:
    def __init__(self, pool: _Fails, real: Any) -> None:
        self.pool, self.real = pool, real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    async def fetchrow(self, text: str, *arguments: Any) -> Any:
        found = await self.real.fetchrow(text, *arguments)
        if "threadline_journal" in text and text.startswith("WITH") and self.pool.times:
            self.pool.times -= 1
            raise self.pool.error
        return found


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (asyncpg.ConnectionDoesNotExistError("gone"), OutcomeUnknownError),
        (asyncpg.AdminShutdownError("shutting down"), OutcomeUnknownError),
        (ConnectionResetError("reset"), OutcomeUnknownError),
        (asyncpg.InterfaceError("connection is closed"), OutcomeUnknownError),
        (asyncpg.DeadlockDetectedError("deadlock"), UnavailableError),
        (asyncpg.QueryCanceledError("canceled"), DeadlineError),
        (asyncpg.LockNotAvailableError("lock timeout"), DeadlineError),
        (asyncpg.ReadOnlySQLTransactionError("read-only"), UnavailableError),
        (asyncpg.DiskFullError("full"), StorageFullError),
        (asyncpg.InsufficientPrivilegeError("no right"), ThreadlineError),
    ],
)
async def test_what_is_known_of_a_commit_that_failed(
    pg_dsn: str, error: BaseException, meant: type[Exception]
) -> None:
    async with asyncpg.create_pool(pg_dsn, min_size=1, max_size=2) as pool:
        async with PgCheckpointer(pg_pool=pool) as plain:
            await plain.aput_state(CONFIG, {"n": 0})
        failing = PgCheckpointer(pg_pool=_Fails(pool, error, 10**9), timeout=0.3)
        with pytest.raises(meant) as caught:
            await failing.aput_state(CONFIG, {"n": 1}, op_id="1" * 32)
        assert isinstance(caught.value, OutcomeUnknownError) == (meant is OutcomeUnknownError)


@pytest.mark.parametrize(
    "error", [asyncpg.ConnectionDoesNotExistError("gone"), ConnectionResetError()]
)
async def test_an_answer_that_is_lost_is_asked_for_again(pg_dsn: str, error: BaseException) -> None:
    async with asyncpg.create_pool(pg_dsn, min_size=1, max_size=2) as pool:
        checkpointer = PgCheckpointer(pg_pool=_Fails(pool, error, 3))
        state = AgentState(context=[Message.text_message("once", message_id="m")])
        assert (await checkpointer.aput_state(CONFIG, state, messages=state.context)).version == 1
        assert len(await checkpointer.alist_checkpoints(CONFIG)) == 1
        assert len(await checkpointer.alist_messages(CONFIG)) == 1
