"""Other processes that are faster: what a saver reads or takes away while somebody else puts, prunes or deletes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from threadline import BaseCheckpointer, RetentionPolicy, ThreadNotFoundError
from threadline.adapters.langgraph import ThreadlineSaver
from threadline.store import At, SlotQuery, Store


def id_of(number: int) -> str:
    return f"1f000000-0000-6000-8000-{number:012x}"


def at(number: int | None = None) -> Any:
    where = {"thread_id": "t", "checkpoint_ns": ""}
    return {"configurable": where if number is None else {**where, "checkpoint_id": id_of(number)}}


class Late:
    """A method of the store before which something happens once, as if another process were faster."""

    def __init__(
        self, patch: pytest.MonkeyPatch, store: Store, name: str, when: Callable[[Any], bool]
    ) -> None:
        self._method, self._when = getattr(store, name), when
        self.waiting: list[Any] = []
        patch.setattr(store, name, self)

    async def __call__(self, *args: Any, **how: Any) -> Any:
        if self.waiting and self._when(args[-1]):
            await self.waiting.pop()()
        return await self._method(*args, **how)


async def aput(saver: ThreadlineSaver, number: int, parent: int | None = None) -> None:
    checkpoint = {"v": 4, "id": id_of(number), "ts": "", "channel_values": {"n": number}}
    checkpoint |= {"channel_versions": {"n": number}, "versions_seen": {}}
    await saver.aput(at(parent), checkpoint, {"run_id": str(number)}, {"n": number})


async def test_a_checkpoint_that_comes_while_the_latest_is_deleted_is_the_latest(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver, other = ThreadlineSaver(checkpointer), ThreadlineSaver(checkpointer)
    for number in (1, 2, 3):
        await aput(saver, number, number - 1 or None)
    for kind in ("lift", "prune"):  # Before the head is put again, and after.
        late = Late(monkeypatch, checkpointer.store, "acommit", lambda b, k=kind: b.kind == k)
        newest = (await saver.aget_tuple(at())).config["configurable"]["checkpoint_id"]  # type: ignore[union-attr]
        number = int(newest[-12:], 16)
        late.waiting.append(functools.partial(aput, other, number + 1, number))
        await saver.adelete_for_runs([str(number)])
        found = [each.checkpoint["id"] async for each in saver.alist(at())]
        assert found == [id_of(n) for n in {"lift": (4, 2, 1), "prune": (5, 2, 1)}[kind]]
        assert (await saver.aget_tuple(at())).checkpoint["id"] == found[0]  # type: ignore[union-attr]
        monkeypatch.undo()


async def test_the_latest_is_found_while_the_one_before_it_is_deleted(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver, other = ThreadlineSaver(checkpointer), ThreadlineSaver(checkpointer)
    for number in (2, 9, 3):  # The newest version says that 9 is the latest.
        await aput(saver, number)
    late = Late(monkeypatch, checkpointer.store, "aread", lambda what: isinstance(what, At))
    late.waiting.append(functools.partial(other.adelete_for_runs, ["9"]))
    latest = await saver.aget_tuple(at())
    assert latest is not None
    assert latest.checkpoint["id"] == id_of(3)


async def test_a_checkpoint_is_found_while_it_is_put_again(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver, other = ThreadlineSaver(checkpointer), ThreadlineSaver(checkpointer)
    for number in (1, 2, 1):
        await aput(saver, number)

    def by_version(what: Any) -> bool:
        return isinstance(what, At) and what.version is not None

    late = Late(monkeypatch, checkpointer.store, "aread", by_version)
    late.waiting.append(functools.partial(aput, other, 1))
    found = await saver.aget_tuple(at(1))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"n": 1}


@pytest.mark.parametrize("how", ["prune", "runs", "retain"])
async def test_a_thread_may_be_deleted_while_it_is_pruned(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    saver, other = ThreadlineSaver(checkpointer), ThreadlineSaver(checkpointer)
    for number in (1, 2, 3):
        await aput(saver, number, number - 1 or None)
    late = Late(monkeypatch, checkpointer.store, "acommit", lambda batch: batch.kind == "prune")
    late.waiting.append(functools.partial(other.adelete_thread, "t"))
    if how == "prune":
        await saver.aprune(["t"])
    elif how == "runs":
        await saver.adelete_for_runs(["1"])
    else:
        await saver.aretain(RetentionPolicy(keep_last=1))
    assert not late.waiting
    assert await saver.aget_tuple(at()) is None


async def test_a_fork_has_the_writes_that_a_later_checkpoint_takes_meanwhile(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver, other = ThreadlineSaver(checkpointer), ThreadlineSaver(checkpointer)
    said = [HumanMessage(f"message {n} " * 40, id=f"{n}") for n in range(3)]

    async def step(number: int) -> None:
        checkpoint = {"v": 4, "id": id_of(number), "ts": "", "versions_seen": {}}
        checkpoint |= {"channel_values": {"m": said[:number]}, "channel_versions": {"m": number}}
        await other.aput(at(number - 1 or None), checkpoint, {}, {"m": number})

    async def slots() -> int:
        config = {"app": "langgraph", "thread_id": "t"}
        return len(await checkpointer.store.aread(config, SlotQuery("w")))

    for number in (1, 2):
        await step(number)
        await other.aput_writes(at(number), [("m", said[number])], f"task {number}")
    before, count = await saver.aget_tuple(at(2)), await slots()
    late = Late(monkeypatch, checkpointer.store, "acopy", lambda _: True)
    late.waiting.append(functools.partial(step, 3))
    await saver.afork(at(2), "fork")
    assert await slots() < count  # They are in the third checkpoint now.
    found = await saver.aget_tuple({"configurable": {"thread_id": "fork"}})
    assert before is not None
    assert found is not None
    assert found.checkpoint == before.checkpoint
    assert found.pending_writes == before.pending_writes == [("task 2", "m", said[2])]


async def test_what_a_dead_process_left_of_a_replaced_checkpoint_goes_with_it(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver, dead = ThreadlineSaver(checkpointer), ThreadlineSaver(checkpointer)

    async def dies(*_: Any) -> None:
        """Between the commit that replaces a checkpoint and the one that takes the old one away."""

    monkeypatch.setattr(dead._puts, "_drop", dies)
    for number in (1, 2, 3, 2):
        await aput(dead, number)
    assert len([each async for each in saver.alist(at())]) == 3
    await saver.adelete_for_runs(["2"])
    assert [e.checkpoint["id"] async for e in saver.alist(at())] == [id_of(3), id_of(1)]
    assert await saver.aget_tuple(at(2)) is None


async def one_whose_thread_was_deleted(
    checkpointer: BaseCheckpointer,
) -> tuple[ThreadlineSaver, ThreadlineSaver]:
    """A saver that put two checkpoints, and another, as in another process, that deleted their thread."""
    saver, other = ThreadlineSaver(checkpointer), ThreadlineSaver(checkpointer)
    for number in (1, 2):
        await aput(saver, number, number - 1 or None)
    await other.adelete_thread("t")
    return saver, other


async def test_a_thread_that_another_process_deleted_begins_again(
    checkpointer: BaseCheckpointer,
) -> None:
    saver, other = await one_whose_thread_was_deleted(checkpointer)
    for task in ("late", "later"):  # It does not know yet, and must not bring the thread back.
        with pytest.raises(ThreadNotFoundError):
            await saver.aput_writes(at(3), [("n", 3)], task)
    with pytest.raises(ThreadNotFoundError):
        await aput(saver, 3, 2)
    assert await checkpointer.alist_threads({"app": "langgraph"}) == []
    for number in (1, 2):
        await aput(saver, 4 * number, None)
        await other.adelete_thread("t")
        assert await saver.aget_tuple(at()) is None
        with pytest.raises(ThreadNotFoundError):
            await saver.aput_writes(at(4 * number), [("n", 0)], "late")
    await saver.aput_writes(at(9), [("n", 9)], "task")  # The run that begins, before its put.
    await aput(saver, 9)
    found = await saver.aget_tuple(at())
    assert found is not None
    assert found.pending_writes == [("task", "n", 9)]


async def test_a_thread_that_another_process_began_again_is_written_to(
    checkpointer: BaseCheckpointer,
) -> None:
    saver, other = await one_whose_thread_was_deleted(checkpointer)
    await aput(other, 3)
    found = await saver.aget_tuple(at())
    assert found is not None
    assert found.checkpoint["id"] == id_of(3)
    await saver.aput_writes(at(3), [("n", 4)], "task")
    await aput(saver, 4, 3)
    found = await other.aget_tuple(at(3))
    assert found is not None
    assert found.pending_writes == [("task", "n", 4)]
