"""P10 on PostgreSQL: a server that accepts and never answers. Every call ends by its deadline, async and sync."""

from __future__ import annotations

import asyncio
import inspect
import io
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from threadline import AgentState, Message, PgCheckpointer, RetentionPolicy, ThreadInfo
from threadline.testing.faults import BLACK_HOLE, PASS, REFUSE, RESET, Fault, FaultProxy, cut

#: Seconds: the deadline of the calls here, and how much later they may end.
DEADLINE, GRACE = 1.0, 0.5
CONFIG = {"thread_id": "t"}
#: They ask the store nothing, or have a test of their own below.
NO_CALLS = {"asetup", "arelease", "ahealth", "aimport"}


def calls() -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Every public call that asks the store, by name, with its arguments."""
    message = Message.text_message("late")
    replaced = {"after": None, "expected_tail": ["m"], "messages": [message]}
    return {
        "aput_state": ((CONFIG, AgentState()), {}),
        "aappend": ((CONFIG, [message]), {}),
        "aget_state": ((CONFIG,), {}),
        "aget_state_cache": ((CONFIG,), {}),
        "aclear_state": ((CONFIG,), {}),
        "alist_checkpoints": ((CONFIG,), {}),
        "aget_checkpoint": ((CONFIG,), {}),
        "aname_checkpoint": (({**CONFIG, "version": 1}, "name"), {}),
        "afork": ((CONFIG, "other"), {}),
        "arollback": ((CONFIG, 1), {}),
        "adiff": ((CONFIG, 1, 2), {}),
        "aprune": ((CONFIG, RetentionPolicy(keep_last=1)), {}),
        "aput_messages": ((CONFIG, [message]), {}),
        "aget_message": ((CONFIG, "m"), {}),
        "alist_messages": ((CONFIG,), {}),
        "aiter_messages": ((CONFIG,), {}),
        "asearch_messages": ((CONFIG, "word"), {}),
        "adelete_message": ((CONFIG, "m"), {}),
        "apop_messages": ((CONFIG,), {}),
        "areplace_messages": ((CONFIG,), replaced),
        "aclear_messages": ((CONFIG,), {}),
        "aredact": ((CONFIG, "m"), {}),
        "aput_thread": ((CONFIG, ThreadInfo(thread_id="t")), {}),
        "aget_thread": ((CONFIG,), {}),
        "alist_threads": (({},), {}),
        "adelete_thread": ((CONFIG,), {}),
        "aerase_user": (({"user_id": "u"},), {}),
        "averify": ((CONFIG,), {}),
        "astats": ((CONFIG,), {}),
        "aexport": ((CONFIG, io.BytesIO()), {}),
        "apending_sql": ((), {}),
    }


@pytest.fixture
def proxy(pg_dsn: str) -> Any:
    with FaultProxy.before(pg_dsn) as proxy:
        yield proxy


@pytest.fixture
async def checkpointer(pg_dsn: str, proxy: FaultProxy) -> AsyncIterator[PgCheckpointer]:
    """With two states and a message, and connections that are open, through the proxy."""
    # Nothing is trusted, or `aget_state_cache` would answer without asking.
    async with PgCheckpointer(proxy.address(pg_dsn), timeout=DEADLINE, max_stale=0) as checkpointer:
        message = Message.text_message("a word", message_id="m")
        state = AgentState(context=[message])
        await checkpointer.aput_state(CONFIG, state, messages=[message])
        state.context_summary = "more"
        await checkpointer.aput_state(CONFIG, state)
        await asyncio.gather(*(checkpointer.aget_thread(CONFIG) for _ in range(8)))
        await asyncio.to_thread(checkpointer.get_thread, CONFIG)
        yield checkpointer
        proxy.set(PASS)


async def ended(call: Any) -> tuple[BaseException | None, float]:
    """How a call ended, and after how many seconds."""
    begun = time.monotonic()
    try:
        if inspect.isasyncgen(call):
            async for _ in call:
                pass
        else:
            await call
    except ConnectionError as error:
        return error, time.monotonic() - begun
    return None, time.monotonic() - begun


def ended_sync(call: Callable[[], Any]) -> tuple[BaseException | None, float]:
    begun = time.monotonic()
    try:
        found = call()
        if inspect.isgenerator(found):
            list(found)
    except ConnectionError as error:
        return error, time.monotonic() - begun
    return None, time.monotonic() - begun


def assert_all_ended_in_time(outcomes: dict[str, tuple[BaseException | None, float]]) -> None:
    assert {name for name, (error, _) in outcomes.items() if error is None} == set()
    late = {name: took for name, (_, took) in outcomes.items() if took > DEADLINE + GRACE}
    assert late == {}


def test_no_call_is_forgotten_here() -> None:
    public = {
        name
        for name, each in inspect.getmembers(PgCheckpointer)
        if name.startswith("a")
        and (inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each))
    }
    assert calls().keys() | NO_CALLS == public


async def test_every_async_call_ends_by_its_deadline(
    checkpointer: PgCheckpointer, proxy: FaultProxy
) -> None:
    proxy.set(BLACK_HOLE)
    outcomes = await asyncio.gather(
        *(ended(getattr(checkpointer, name)(*args, **kw)) for name, (args, kw) in calls().items())
    )
    assert_all_ended_in_time(dict(zip(calls(), outcomes, strict=True)))
    await heals(checkpointer, proxy)


async def test_every_sync_call_ends_by_its_deadline(
    checkpointer: PgCheckpointer, proxy: FaultProxy
) -> None:
    proxy.set(BLACK_HOLE)
    with ThreadPoolExecutor(len(calls())) as threads:
        waiting = {
            name: threads.submit(
                ended_sync,
                lambda name=name, args=args, kw=kw: getattr(checkpointer, name[1:])(*args, **kw),
            )
            for name, (args, kw) in calls().items()
        }
        outcomes = {name: await asyncio.wrap_future(each) for name, each in waiting.items()}
    assert_all_ended_in_time(outcomes)
    await heals(checkpointer, proxy)
    assert await asyncio.to_thread(checkpointer.get_thread, CONFIG) is not None


async def heals(checkpointer: PgCheckpointer, proxy: FaultProxy) -> None:
    """The pool is usable within a second, the deadline of the call, and what was late has harmed nothing."""
    proxy.set(PASS)
    found = await checkpointer.aget_thread(CONFIG)
    assert found is None or found.thread_id == "t"
    state = AgentState(context_summary="after")
    await checkpointer.aput_state({"thread_id": "after"}, state)
    assert await checkpointer.aget_state({"thread_id": "after"}) == state


@pytest.mark.parametrize("fault", [RESET, REFUSE, cut(0)], ids=lambda fault: fault.name)
async def test_a_broken_network_is_a_connection_error(
    checkpointer: PgCheckpointer, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.set(fault)
    outcomes = await asyncio.gather(
        *(ended(getattr(checkpointer, name)(*args, **kw)) for name, (args, kw) in calls().items())
    )
    assert_all_ended_in_time(dict(zip(calls(), outcomes, strict=True)))
    await heals(checkpointer, proxy)


async def test_a_new_checkpointer_ends_by_its_deadline_too(pg_dsn: str, proxy: FaultProxy) -> None:
    proxy.set(BLACK_HOLE)
    checkpointer = PgCheckpointer(proxy.address(pg_dsn), timeout=DEADLINE)
    error, took = await ended(checkpointer.asetup())
    assert isinstance(error, ConnectionError)
    assert took <= DEADLINE + GRACE
    assert (await checkpointer.ahealth())["ok"] is False
    proxy.set(PASS)
    assert (await checkpointer.ahealth())["ok"] is True
    await checkpointer.arelease()


async def test_release_ends_while_nothing_answers(pg_dsn: str, proxy: FaultProxy) -> None:
    checkpointer = PgCheckpointer(proxy.address(pg_dsn), timeout=30)
    await checkpointer.asetup()
    proxy.set(BLACK_HOLE)
    hanging = asyncio.create_task(ended(checkpointer.aget_thread(CONFIG)))
    await asyncio.sleep(0)
    begun = time.monotonic()
    await checkpointer.arelease()
    assert time.monotonic() - begun <= 20
    hanging.cancel()
    proxy.set(PASS)
    proxy.set(RESET)


async def test_a_pool_of_one_serves_a_hundred_or_says_why_not(pg_dsn: str) -> None:
    with FaultProxy.before(pg_dsn) as proxy:
        async with PgCheckpointer(
            proxy.address(pg_dsn), pool_config={"max_size": 1}, timeout=DEADLINE
        ) as checkpointer:
            await checkpointer.aput_state(CONFIG, AgentState())
            found = await asyncio.gather(*(checkpointer.aget_state(CONFIG) for _ in range(100)))
            assert None not in found
            proxy.set(BLACK_HOLE)
            outcomes = await asyncio.gather(
                *(ended(checkpointer.aget_state(CONFIG)) for _ in range(100))
            )
            assert_all_ended_in_time({str(n): each for n, each in enumerate(outcomes)})
            await heals(checkpointer, proxy)
