"""Pending writes that a later version has: read wherever they were before, kept whatever goes, at any moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from threadline import BaseCheckpointer, ConflictError, RetentionPolicy
from threadline.adapters.langgraph import ThreadlineSaver
from threadline.adapters.langgraph.grounds import TRIES
from threadline.adapters.langgraph.reading import Reader
from threadline.store import SlotQuery

THREAD = {"app": "langgraph", "thread_id": "t"}


def id_of(number: int) -> str:
    return f"1f000000-0000-6000-8000-{number:012x}"


def at(number: int | None = None, thread: str = "t") -> Any:
    where = {"thread_id": thread, "checkpoint_ns": ""}
    return {"configurable": where if number is None else {**where, "checkpoint_id": id_of(number)}}


def said(number: int) -> HumanMessage:
    return HumanMessage(f"{number} is said " * 40, id=str(number))


def given(number: int, parent: int | None, values: dict[str, Any]) -> tuple[Any, ...]:
    """What a put of a checkpoint takes."""
    checkpoint = {
        "v": 4,
        "id": id_of(number),
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values,
        "channel_versions": dict.fromkeys(values, number),
        "versions_seen": {},
        "updated_channels": None,
    }
    about = {"source": "loop", "step": number, "parents": {}, "run_id": f"run {number}"}
    return at(parent), checkpoint, about, checkpoint["channel_versions"]


def put(saver: ThreadlineSaver, number: int, parent: int | None, values: dict[str, Any]) -> None:
    saver.put(*given(number, parent, values))


def write(saver: ThreadlineSaver, number: int, *values: Any, task: str = "task") -> None:
    saver.put_writes(at(number), [("m", value) for value in values], task, "~path")


def grow(saver: ThreadlineSaver, count: int) -> None:
    """So many checkpoints, each but the last with an input and the write that makes the next one."""
    for number in range(1, count + 1):
        known = [said(n) for n in range(1, number)]
        start = {"__start__": {"m": [said(number)]}} if number < count else {}
        put(saver, number, number - 1 or None, {"m": known, **start})
        if number < count:
            write(saver, number, [said(number)])


def slots(saver: ThreadlineSaver) -> int:
    return len(saver.checkpointer.store.read(THREAD, SlotQuery("w")))


def is_whole(saver: ThreadlineSaver, number: int, thread: str = "t") -> None:
    """A checkpoint has its input and its write."""
    found = saver.get_tuple(at(number, thread))
    assert found is not None
    assert found.checkpoint["channel_values"]["__start__"] == {"m": [said(number)]}
    assert found.pending_writes == [("task", "m", [said(number)])]


@pytest.fixture
def saver(checkpointer: BaseCheckpointer) -> ThreadlineSaver:
    return ThreadlineSaver(checkpointer)


def test_writes_are_read_wherever_they_are(checkpointer: BaseCheckpointer) -> None:
    grow(ThreadlineSaver(checkpointer), 6)
    saver = ThreadlineSaver(checkpointer)
    assert slots(saver) == 0
    for number in range(1, 6):
        is_whole(saver, number)
    everything = list(saver.list(at()))
    for each in everything[1:]:
        (write,) = each.pending_writes or ()
        assert each.checkpoint["channel_values"]["__start__"] == {"m": write[2]}
    assert list(saver.list(at(), before=at(4), limit=2)) == everything[3:5]
    assert list(saver.list(at(), filter={"step": 2})) == everything[4:5]
    assert list(saver.list(at(3))) == everything[3:4]
    (told,) = saver.get_delta_channel_history(config=at(6), channels=["x"]).values()
    assert told == {"writes": []}
    assert checkpointer.verify(THREAD).ok


def test_the_writes_of_a_delta_channel_are_found(saver: ThreadlineSaver) -> None:
    for number in range(1, 5):
        put(saver, number, number - 1 or None, {"m": [said(n) for n in range(1, number)]})
        saver.put_writes(at(number), [("m", [said(number)]), ("d", number)], "task")
    put(saver, 5, 4, {"m": [said(n) for n in range(1, 5)]})
    assert slots(saver) == 0
    told = saver.get_delta_channel_history(config=at(5), channels=["d"])["d"]
    assert [value for *_, value in told["writes"]] == [1, 2, 3, 4]


def test_writes_that_come_later_complete_those_that_are_settled(saver: ThreadlineSaver) -> None:
    grow(saver, 3)
    write(saver, 1, "ignored", "second")
    write(saver, 1, "other", task="another")
    expected = [("another", "m", "other"), ("task", "m", [said(1)]), ("task", "m", "second")]
    assert saver.get_tuple(at(1)).pending_writes == expected  # type: ignore[union-attr]
    saver.delete_for_runs(["run 2"])  # It has what was settled.
    assert saver.get_tuple(at(1)).pending_writes == expected  # type: ignore[union-attr]
    assert slots(saver) == 3


def test_a_call_that_comes_again_changes_nothing(saver: ThreadlineSaver) -> None:
    """As after a lost reply: nothing remembers that regular writes were put."""
    grow(saver, 2)
    for _ in range(2):
        write(saver, 2, "mine", task="another")
        write(saver, 1, [said(1)])  # What it wrote is settled.
    mine = [("another", "m", "mine")]
    assert saver.get_tuple(at(2)).pending_writes == mine  # type: ignore[union-attr]
    is_whole(saver, 1)
    put(saver, 3, 2, {"m": [said(1), said(2)]})
    is_whole(saver, 1)
    assert saver.get_tuple(at(2)).pending_writes == mine  # type: ignore[union-attr]
    assert saver.checkpointer.verify(THREAD).ok


@pytest.mark.parametrize("gone", [[2], [6], [5, 6], [1, 3], [2, 3, 4, 5, 6], [1, 2, 4]])
def test_what_stays_keeps_its_writes(saver: ThreadlineSaver, gone: list[int]) -> None:
    grow(saver, 6)
    saver.delete_for_runs([f"run {number}" for number in gone])
    for number in {1, 2, 3, 4, 5} - set(gone):
        is_whole(saver, number)
    assert len(list(saver.list(at()))) == 6 - len(gone)
    latest = saver.get_tuple(at())
    assert latest is not None
    assert latest.checkpoint["id"] == id_of(max({*range(1, 7)} - {*gone}))
    assert saver.checkpointer.verify(THREAD).ok


def test_retention_keeps_the_writes_of_what_it_keeps(saver: ThreadlineSaver) -> None:
    grow(saver, 6)
    saver.checkpointer.name_checkpoint({**THREAD, "checkpoint_id": id_of(2)}, "kept")
    saver.retain(RetentionPolicy(keep_last=1, keep_named=True))
    is_whole(saver, 2)


@pytest.mark.parametrize("again", [[1], [2], [3], [1, 2], [2, 1], [2, 3]])
def test_a_checkpoint_that_is_put_again_keeps_the_writes_on_it_and_before_it(
    saver: ThreadlineSaver, again: list[int]
) -> None:
    grow(saver, 4)
    for number in again:
        known = [said(n) for n in range(1, number)]
        put(saver, number, number - 1 or None, {"m": known, "__start__": {"m": [said(number)]}})
    for number in (1, 2, 3):
        is_whole(saver, number)


def test_an_input_that_is_put_again_is_the_later_one(saver: ThreadlineSaver) -> None:
    grow(saver, 3)
    put(saver, 2, 1, {"m": [said(1)], "__start__": {"m": [said(9)]}})
    found = saver.get_tuple(at(2))
    assert found is not None
    assert found.checkpoint["channel_values"]["__start__"] == {"m": [said(9)]}
    assert found.pending_writes == [("task", "m", [said(2)])]


def test_slots_that_another_saver_wrote_anew_are_not_tried_for_ever(
    saver: ThreadlineSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(saver, 1, None, {"m": []})
    write(saver, 1, [said(1)])
    other = ThreadlineSaver(saver.checkpointer)
    write(other, 1, [said(1)], "more")
    refused = []
    commit = type(saver.checkpointer.store).acommit

    async def counted(store: Any, batch: Any) -> Any:
        try:
            return await commit(store, batch)
        except ConflictError:
            refused.append(batch)
            raise

    monkeypatch.setattr(type(saver.checkpointer.store), "acommit", counted)
    same = said(1).content
    for number in range(2, 12):
        items = [HumanMessage(same, id=str(n)) for n in range(1, number)]
        put(saver, number, number - 1, {"m": items})
    assert 0 < len(refused) <= TRIES
    found = saver.get_tuple(at(1))
    assert found is not None
    assert found.pending_writes == [("task", "m", [said(1)]), ("task", "m", "more")]


def test_copies_and_forks_have_them(saver: ThreadlineSaver) -> None:
    grow(saver, 5)
    saver.copy_thread("t", "copy")
    saver.fork(at(3), "fork")
    for number in (1, 2, 3, 4):
        is_whole(saver, number, "copy")
    for number in (1, 2, 3):
        is_whole(saver, number, "fork")


@pytest.mark.parametrize("asked", [None, 1])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_put_while_a_checkpoint_is_read_hides_no_write(
    saver: ThreadlineSaver, monkeypatch: pytest.MonkeyPatch, moment: str, asked: int | None
) -> None:
    await begin(saver)
    during(monkeypatch, moment, lambda: saver.aput(*given(2, 1, {"m": [said(1)]})))
    found = await saver.aget_tuple(at(asked))
    assert found is not None
    assert found.checkpoint["id"] == id_of(1)
    assert found.checkpoint["channel_values"]["__start__"] == {"m": [said(1)]}
    assert found.pending_writes == [("task", "m", [said(1)])]
    assert await saver.checkpointer.store.aread(THREAD, SlotQuery("w")) == []


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_put_while_checkpoints_are_listed_hides_no_write(
    saver: ThreadlineSaver, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    await begin(saver)
    during(monkeypatch, moment, lambda: saver.aput(*given(2, 1, {"m": [said(1)]})))
    (found,) = [each async for each in saver.alist(at())]
    assert found.checkpoint["channel_values"]["__start__"] == {"m": [said(1)]}
    assert found.pending_writes == [("task", "m", [said(1)])]


async def test_a_prune_while_a_checkpoint_is_read_hides_no_write(
    saver: ThreadlineSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(saver)
    await saver.aput(*given(2, 1, {"m": [said(1)]}))
    await saver.aput(*given(3, 2, {"m": [said(1)]}))
    during(monkeypatch, "after", lambda: saver.adelete_for_runs(["run 2"]))
    found = await saver.aget_tuple(at(1))
    assert found is not None
    assert found.checkpoint["channel_values"]["__start__"] == {"m": [said(1)]}
    assert found.pending_writes == [("task", "m", [said(1)])]


async def begin(saver: ThreadlineSaver) -> None:
    await saver.aput(*given(1, None, {"m": [], "__start__": {"m": [said(1)]}}))
    await saver.aput_writes(at(1), [("m", [said(1)])], "task", "~path")


def during(
    monkeypatch: pytest.MonkeyPatch, moment: str, work: Callable[[], Awaitable[Any]]
) -> None:
    """Do something right before, or after, the slots of a checkpoint are read for the first time."""
    read = Reader.slots

    async def slots(reader: Reader, *asked: Any) -> Any:
        monkeypatch.setattr(Reader, "slots", read)
        if moment == "before":
            await work()
        found = await read(reader, *asked)
        if moment == "after":
            await work()
        return found

    monkeypatch.setattr(Reader, "slots", slots)
