"""Threads carried from one backend to another and back: equal, down to the bytes of their exports."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from threadline import (
    AgentState,
    InMemoryCheckpointer,
    Message,
    RetentionPolicy,
    SqliteCheckpointer,
    ThreadInfo,
    clock,
)
from threadline.checkpointer import BaseCheckpointer
from threadline.store import Entry, EntryPut, Slot, SlotPut, Where, item_digest

SECOND = 1_000_000
ENTRY, DIGEST = Where("entry"), item_digest(0, b"x")


@pytest.fixture(params=["memory to sqlite", "sqlite to memory", "sqlite to sqlite"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> list[BaseCheckpointer]:
    kinds = request.param.split(" to ")
    return [
        InMemoryCheckpointer()
        if kind == "memory"
        else SqliteCheckpointer(tmp_path / f"{n}.db", durability="relaxed")
        for n, kind in enumerate(kinds)
    ]


def live(store: BaseCheckpointer) -> None:
    """A few threads with everything in them, over some days."""
    now = 1_700_000_000 * SECOND

    def tick() -> int:
        nonlocal now
        now += 1_234_567
        return now

    with clock.use(wall_us=tick):
        for user in ("alice", 7, None):
            config = {"thread_id": f"thread of {user}", "user_id": user, "run_id": "r"}
            state = AgentState()
            for n in range(60):
                said = Message.text_message(f"message {n}", message_id=f"m{n}")
                state.context.append(said)
                state.context_summary = f"summary {n} " * (900 if n == 40 else 5)
                if n % 17 == 0:
                    state.context[0].metadata["edited"] = n
                name = "named" if n % 20 == 0 else None
                store.put_state(config, state, name=name, metadata={"n": n}, messages=[said])
            store.put_messages(config, [Message.text_message("é \U0001f389")], {"beside": [1, "x"]})
            store.rollback({**config}, 30)
            store.fork({**config, "version": 20}, f"fork of {user}")
            store.redact(config, "m7")
            store.pop_messages(config, 2)
            store.put_state({**config, "namespace": "sub"}, {"a": (1, 2), 3: {"\ud800": None}})
            info = ThreadInfo(
                thread_id=config["thread_id"], thread_name="A name", metadata={"k": 1}
            )
            store.put_thread(config, info)
            item = Entry(kind="item", payload=store.store.seal(b"x", ENTRY).data, digest=DIGEST)
            slot = Slot(kind="k", key="\U0001f389", payload=b"\x00", meta=b"m")
            parts = {"slots": (SlotPut(slot),), "entries": (EntryPut(item),)}
            store.store.commit(store.store.batch(config, "x", **parts))
            store.prune(config, RetentionPolicy(keep_last=30))


def exported(store: BaseCheckpointer) -> bytes:
    file = io.BytesIO()
    store.export({}, file)
    return file.getvalue()


def test_an_import_is_equal(stores: list[BaseCheckpointer]) -> None:
    here, there = stores
    live(here)
    data = exported(here)
    counts = there.import_(io.BytesIO(data))
    assert counts["threads"] == 6
    assert exported(there).splitlines() == data.splitlines()
    ours, theirs = here.list_threads({}), there.list_threads({})
    assert ours == theirs
    assert len({info.activity_at for info in theirs}) == 6
    assert {info.created_at.year for info in theirs} == {2023}
    for info in theirs:
        config = {"thread_id": info.thread_id}
        assert there.verify(config).problems == []
        assert [c.to_dict() | {"incarnation": ""} for c in here.list_checkpoints(config)] == [
            c.to_dict() | {"incarnation": ""} for c in there.list_checkpoints(config)
        ]
    # And it goes on from there as it would have gone on here.
    last = Message.text_message("on", message_id="on")
    for store in stores:
        store.append({"thread_id": "thread of alice"}, [last])
    assert here.get_state({"thread_id": "thread of alice"}) == there.get_state(
        {"thread_id": "thread of alice", "state_class": AgentState}
    )
    for store in stores:
        store.release()


def test_a_thread_without_a_default_namespace_gets_none() -> None:
    here, there = InMemoryCheckpointer(), InMemoryCheckpointer()
    here.put_state({"thread_id": "t", "namespace": "sub"}, {"n": 1})
    there.import_(io.BytesIO(exported(here)))
    assert exported(there) == exported(here)


def test_a_thread_that_lived_before_is_carried_as_it_lives_now(
    stores: list[BaseCheckpointer],
) -> None:
    source, target = stores
    config = {"thread_id": "again"}
    source.put_state({**config, "user_id": "alice"}, {"a": 1})
    source.erase_user({"user_id": "alice"})
    source.put_messages(config, [Message.text_message("here again")])
    whole = exported(source)
    target.import_(io.BytesIO(whole))
    assert exported(target) == whole
    assert target.put_state(config, {"a": 2}).version == 1
