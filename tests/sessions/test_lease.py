"""One run at a time, by the store's clock; a holder that was overtaken cannot write anything."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from threadline import (
    AgentState,
    ConflictError,
    LeaseHeldError,
    LeaseLostError,
    Message,
    ThreadNotFoundError,
    clock,
)
from threadline.checkpointer import BaseCheckpointer, Session
from threadline.checkpointer import lease as lease_module
from threadline.store import Slot, SlotPut

CONFIG = {"thread_id": "t", "user_id": "alice"}


class Clock:
    """A clock of the store that the test moves."""

    def __init__(self) -> None:
        self.us = 2_000_000_000_000_000

    def __call__(self) -> int:
        return self.us

    def forward(self, seconds: float) -> None:
        self.us += int(seconds * 1_000_000)


@pytest.fixture
def store_clock() -> Any:
    made = Clock()
    with clock.use(wall_us=made):
        yield made


def said(text: str) -> Message:
    return Message.text_message(text)


async def test_a_second_run_is_rejected(make: Any) -> None:
    async with make().session(CONFIG, lease="reject") as session:
        await session.save(name="mine")
        with pytest.raises(LeaseHeldError, match="'t'") as caught:
            await make().session(CONFIG, lease="reject").__aenter__()
        assert caught.value.retryable
        async with make().session({**CONFIG, "thread_id": "other"}, lease="reject"):
            pass
    async with make().session(CONFIG, lease="reject") as session:
        await session.save(name="next")


async def test_a_second_run_waits(make: Any) -> None:
    order = []

    async def second() -> None:
        async with make().session(CONFIG, lease="wait") as session:
            order.append("second")
            await session.append([said("second")])

    async with make().session(CONFIG, lease="wait") as session:
        task = asyncio.create_task(second())
        await asyncio.sleep(0.05)
        order.append("first")
        await session.append([said("first")])
    await task
    assert order == ["first", "second"]
    assert len((await make().aget_state(CONFIG)).context) == 2


async def test_waiting_has_an_end(make: Any) -> None:
    async with make().session(CONFIG, lease="reject"):
        with pytest.raises(LeaseHeldError, match="kept it for"):
            await make().session(CONFIG, lease="wait", lease_timeout=0.1).__aenter__()


def test_the_sync_face_has_leases(make: Any) -> None:
    with make().session(CONFIG, lease="reject", ttl=0.3) as session:
        with pytest.raises(LeaseHeldError):
            make().session(
                CONFIG, lease="wait", lease_timeout=0.5
            ).__enter__()  # Renewed meanwhile.
        session.save(name="mine")
    with make().session(CONFIG, lease="reject") as session:
        assert session.checkpoint.name == "mine"


async def test_a_lease_is_renewed_while_it_is_used(make: Any) -> None:
    """Longer than its ttl, and a second run still waits for it."""
    async with make().session(CONFIG, lease="reject", ttl=0.15) as session:
        for _ in range(6):
            await asyncio.sleep(0.1)
            with pytest.raises(LeaseHeldError):
                await make().session(CONFIG, lease="reject").__aenter__()
        await session.save()


async def test_a_holder_that_slept_cannot_write(
    make: Any, store_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing: no state, no append, no tool record, no message by a call made with its config."""
    monkeypatch.setattr(lease_module.Lease, "keep", lambda self: None)  # It is asleep.
    sleeper = make()
    async with sleeper.session(CONFIG, lease="reject", ttl=30) as session:
        await session.append([said("mine")])
        store_clock.forward(29)
        await session.save()
        store_clock.forward(1.5)
        before = await sleeper.aget_state(CONFIG)
        for write in writes(session, sleeper):  # It expired, and nobody took it over yet.
            with pytest.raises(LeaseLostError):
                await write
        async with make().session(CONFIG, lease="reject") as other:
            await other.append([said("theirs")])
            for write in writes(session, sleeper):
                with pytest.raises(LeaseLostError):
                    await write
            await other.save()
            store_clock.forward(20)
            with pytest.raises(LeaseHeldError):
                await make().session(CONFIG, lease="reject").__aenter__()
    after = await sleeper.aget_state(CONFIG)
    assert len(before.context) == 1
    assert [message.text() for message in after.context] == ["mine", "theirs"]
    assert [m.text() for m in await sleeper.alist_messages(CONFIG)] == ["mine", "theirs"]


def writes(session: Session, checkpointer: BaseCheckpointer) -> list[Any]:
    """Every way of a session to write."""
    return [
        session.save(),
        session.append([said("late")]),
        session.run(lambda state: None, name="late"),
        session.tool(lambda: 1, call_id="late"),
        checkpointer.aput_messages(session.config, [said("late")]),
        checkpointer.aput_state(session.config, AgentState()),
        checkpointer.aappend(session.config, [said("late")]),
        checkpointer.apop_messages(session.config),
        checkpointer.aclear_messages(session.config),
        checkpointer.arollback(session.config, 1),
        checkpointer.adelete_thread(session.config),
        checkpointer.store.aerase(session.config),
    ]


async def test_a_lease_is_given_back_by_its_holder_only(
    make: Any, store_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module.Lease, "keep", lambda self: None)
    first = make().session(CONFIG, lease="reject", ttl=30)
    session = await first.__aenter__()
    fence = session.lease.fence
    store_clock.forward(31)
    async with make().session(CONFIG, lease="reject") as second:
        assert second.lease.fence > fence
        await first.__aexit__(None, None, None)
        await second.save()


async def test_what_was_paid_for_lands_on_a_branch(
    make: Any, store_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module.Lease, "keep", lambda self: None)
    async with make().session(CONFIG, lease="reject", on_conflict="fork") as session:
        await session.append([said("mine")])
        store_clock.forward(31)
        async with make().session(CONFIG, lease="reject") as other:
            await other.append([said("theirs")])
            session.state.context.append(said("paid for"))
            await session.save()
        assert session.thread_id != "t"
        branch = session.config
    state = await make().aget_state(branch)
    assert [message.text() for message in state.context] == ["mine", "paid for"]


async def test_a_lost_lease_is_found_while_a_node_runs(make: Any) -> None:
    """The renewal notices it, and the next write says so."""
    thief = make()
    async with make().session(CONFIG, lease="reject", ttl=0.06) as session:
        stolen = (SlotPut(Slot(kind="lease", key="run", payload=b"another")),)
        await thief.store.acommit(await thief.store.abatch(CONFIG, "steal", slots=stolen))
        await asyncio.wait({session.lease._task})
        assert session.lease.lost is not None
        with pytest.raises(LeaseLostError):
            await session.save()


async def test_a_deleted_thread_is_a_lost_lease(make: Any) -> None:
    async with make().session(CONFIG, lease="reject", ttl=0.06) as session:
        await make().adelete_thread(CONFIG)
        await asyncio.wait({session.lease._task})
        assert session.lease.lost is not None
        with pytest.raises(LeaseLostError):
            await session.save()


async def test_a_fork_is_not_held_by_the_lease(make: Any) -> None:
    checkpointer = make()
    async with checkpointer.session(CONFIG, lease="reject") as session:
        await session.save()
        await checkpointer.afork(session.config, "fork")
        async with checkpointer.session(thread_id="fork", user_id="alice", lease="reject") as fork:
            await fork.save()


async def test_an_override_that_knows_nothing_of_leases_is_fenced(
    make: Any, store_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain:
        async def aput_state(self, config: Any, state: Any) -> Any:
            return await super().aput_state(config, state)  # type: ignore[misc]

    monkeypatch.setattr(lease_module.Lease, "keep", lambda self: None)
    async with make(Plain).session(CONFIG, lease="reject") as session:
        await session.save()
        store_clock.forward(31)
        with pytest.raises(LeaseLostError):
            await session.save()


async def test_a_conflict_under_a_lease_that_holds_is_a_conflict(make: Any) -> None:
    """A lease keeps other runs away, not writers that ask for none."""
    checkpointer = make()
    async with checkpointer.session(CONFIG, lease="reject") as session:
        await session.save()
        await checkpointer.aput_state(CONFIG, AgentState())
        with pytest.raises(ConflictError) as caught:
            await session.save()
        assert not isinstance(caught.value, LeaseLostError)


async def test_a_foreign_thread_gives_no_lease(make: Any) -> None:
    await make().aput_state(CONFIG, AgentState())
    with pytest.raises(ThreadNotFoundError):
        await make().session(thread_id="t", user_id="mallory", lease="reject").__aenter__()
