"""What documents are written near: items of log 0 that stay, go and are copied with the checkpoints that need them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from tests.adapters.test_langgraph_saver import THREAD, at, id_of, put
from threadline import BaseCheckpointer, CorruptionError, RetentionPolicy
from threadline.adapters.langgraph import ThreadlineSaver
from threadline.adapters.langgraph.document import FIELDS
from threadline.store import (
    CheckpointQuery,
    CheckpointRow,
    Expected,
    Range,
    Row,
    Where,
)

#: Two kinds of documents, each with channels that no other has.
ODD: dict[str, Any] = {f"channel {n} of the odd ones": n for n in range(8)}
EVEN: dict[str, Any] = {f"another channel, number {n}": n for n in range(8)}


def documents(saver: ThreadlineSaver, count: int) -> list[Any]:
    """So many checkpoints of both kinds."""
    for number in range(1, count + 1):
        put(saver, number, ODD if number % 2 else EVEN, number - 1 or None)
    return listed(saver)


def listed(saver: ThreadlineSaver, thread: str = "t", ns: str = "") -> list[Any]:
    """All of a namespace that says what it holds."""
    return [(e.checkpoint, e.metadata) for e in saver.list(at(thread=thread, ns=ns))]


def rows_of(checkpointer: BaseCheckpointer, thread: str = "t") -> list[CheckpointRow]:
    return checkpointer.store.read({**THREAD, "thread_id": thread}, CheckpointQuery())


def skeleton_of(row: CheckpointRow) -> Range:
    """The range of a checkpoint's skeleton."""
    assert row.refs, "it has none"
    assert (row.refs[0].log, row.refs[0].end) == (FIELDS, row.refs[0].start + 1)
    return row.refs[0]


def log(checkpointer: BaseCheckpointer, last: int = 1 << 20) -> list[Row]:
    """The rows of log 0."""
    return checkpointer.store.read(THREAD, [Range(FIELDS, 0, last)])


class Reads:
    """What a store is asked, from now on."""

    def __init__(self, patch: pytest.MonkeyPatch, checkpointer: BaseCheckpointer) -> None:
        self.all: list[Any] = []
        read: Callable[..., Any] = checkpointer.store.aread

        async def told(config: Any, what: Any = None) -> Any:
            self.all.append(what)
            return await read(config, what)

        patch.setattr(checkpointer.store, "aread", told)


@pytest.fixture
def saver(checkpointer: BaseCheckpointer) -> ThreadlineSaver:
    return ThreadlineSaver(checkpointer)


def test_a_new_process_goes_on_with_the_skeleton_that_it_finds(
    checkpointer: BaseCheckpointer, saver: ThreadlineSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = documents(saver, 4)
    reads = Reads(monkeypatch, checkpointer)
    put(ThreadlineSaver(checkpointer), 5, ODD, 4)
    assert reads.all == [None]  # The skeleton comes with the head.
    newest, older, *_ = rows_of(checkpointer)
    assert skeleton_of(newest) == skeleton_of(older)
    assert len(newest.payload) < 160
    assert listed(ThreadlineSaver(checkpointer))[1:] == before
    reads.all.clear()
    listed(saver)
    assert not [what for what in reads.all if isinstance(what, list) and what[0].log == FIELDS]


def test_a_new_process_begins_a_skeleton_without_a_read(
    checkpointer: BaseCheckpointer, saver: ThreadlineSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(saver, 1, ODD)
    for number in range(2, 22):
        put(saver, number, {"plan": f"{number:02}" * 1500}, number - 1)
    put(saver, 22, {}, 21)  # It does not refer to the open row of the log.
    reads = Reads(monkeypatch, checkpointer)
    put(ThreadlineSaver(checkpointer), 23, EVEN, 22)
    assert reads.all == [None]
    newest, older, *_ = rows_of(checkpointer)
    assert skeleton_of(newest).start > skeleton_of(older).start
    found = listed(ThreadlineSaver(checkpointer))
    assert [checkpoint["channel_values"] for checkpoint, _ in found[:2]] == [EVEN, {}]
    assert checkpointer.verify(THREAD).ok


def test_a_prune_keeps_the_skeletons_that_are_needed_and_frees_the_others(
    checkpointer: BaseCheckpointer, saver: ThreadlineSaver
) -> None:
    source = random.Random(1)
    for number in range(1, 31):  # Nothing is near to anything: each begins a skeleton.
        put(saver, number, {"n": number}, number - 1 or None, about=source.randbytes(3000))
    assert len({skeleton_of(row) for row in rows_of(checkpointer)}) == 30
    before, size = listed(saver), len(log(checkpointer))
    checkpointer.name_checkpoint({**THREAD, "checkpoint_id": id_of(9)}, "kept")
    assert saver.retain(RetentionPolicy(keep_last=2)) == 27
    assert len(log(checkpointer)) < size
    kept = [before[0], before[1], before[21]]
    assert listed(ThreadlineSaver(checkpointer)) == listed(saver) == kept
    put(saver, 31, {"n": 31}, 30)
    put(ThreadlineSaver(checkpointer), 32, {"n": 32}, 31)
    assert listed(ThreadlineSaver(checkpointer))[2:] == kept
    assert checkpointer.verify(THREAD).ok


def test_what_comes_after_a_deleted_run_can_be_read(
    checkpointer: BaseCheckpointer, saver: ThreadlineSaver
) -> None:
    before = documents(saver, 4)
    put(saver, 5, EVEN, 4, run_id="gone")
    saver.delete_for_runs(["gone"])
    assert listed(ThreadlineSaver(checkpointer)) == before
    put(saver, 5, EVEN, 4)
    put(saver, 5, ODD, 4)  # Again.
    found = listed(ThreadlineSaver(checkpointer))
    assert found[0][0]["channel_values"] == ODD
    assert found[1:] == before
    saver.prune(["t"])
    assert listed(ThreadlineSaver(checkpointer)) == found[:1]


@pytest.mark.parametrize("until", [None, 2])
def test_a_copy_has_the_skeletons_of_its_checkpoints(
    checkpointer: BaseCheckpointer, saver: ThreadlineSaver, until: int | None
) -> None:
    before = documents(saver, 5)
    saver.fork(at(until), "copy")
    saver.delete_thread("t")
    put(saver, 9, EVEN)  # Another life, whose skeleton stands where that of the copy does.
    for reader in (saver, ThreadlineSaver(checkpointer)):
        assert listed(reader, "copy") == before[-until if until else 0 :]
        assert listed(reader)[0][0]["channel_values"] == EVEN
    assert checkpointer.verify({**THREAD, "thread_id": "copy"}).ok


def test_a_skeleton_of_another_life_is_not_taken_for_one(
    checkpointer: BaseCheckpointer, saver: ThreadlineSaver
) -> None:
    other = ThreadlineSaver(checkpointer)
    put(saver, 1, ODD)
    put(saver, 1, EVEN, ns="sub")
    for ns, values in (("", ODD), ("sub", EVEN)):
        assert listed(saver, ns=ns)[0][0]["channel_values"] == values
    other.delete_thread("t")
    put(other, 2, EVEN)
    assert listed(saver)[0][0]["channel_values"] == EVEN
    put(other, 3, EVEN, 2)
    assert [checkpoint["channel_values"] for checkpoint, _ in listed(saver)] == [EVEN] * 2


def test_a_put_that_was_too_late_writes_its_skeleton_where_the_log_ends_then(
    checkpointer: BaseCheckpointer, saver: ThreadlineSaver
) -> None:
    other = ThreadlineSaver(checkpointer)
    put(saver, 1, {"n": 1})
    put(other, 2, {"plan": "a plan " * 40, **ODD}, 1)
    put(saver, 3, EVEN, 1)  # Drafted on 1, where log 0 is empty.
    put(other, 4, {**ODD, **EVEN}, 2)  # Drafted on 2.
    skeletons = {row.version: skeleton_of(row).start for row in rows_of(checkpointer)[:3]}
    assert skeletons == {2: 1, 3: 2, 4: 3}
    for reader in (saver, other, ThreadlineSaver(checkpointer)):
        found = [checkpoint["channel_values"] for checkpoint, _ in listed(reader)]
        assert found == [
            {**ODD, **EVEN},
            EVEN,
            {"plan": "a plan " * 40, **ODD},
            {"n": 1},
        ]
    assert checkpointer.verify(THREAD).ok


@pytest.mark.parametrize(
    "refs",
    [(), (Range(1, 1, 2),), (Range(0, 1, 3),), (Range(0, 0, 1),), (Range(0, 99, 100),)],
    ids=["none", "another log", "two items", "another item", "behind the end"],
)
@pytest.mark.parametrize("short", [False, True])
async def test_a_damaged_skeleton_is_told_with_its_thread(
    checkpointer: BaseCheckpointer, saver: ThreadlineSaver, refs: tuple[Range, ...], short: bool
) -> None:
    store = checkpointer.store
    for number, values in enumerate((ODD, EVEN), 1):
        checkpoint: Any = {"v": 4, "id": id_of(number), "ts": "", "channel_values": values}
        checkpoint |= {"channel_versions": dict.fromkeys(values, number), "versions_seen": {}}
        await saver.aput(at(number - 1 or None), checkpoint, {}, checkpoint["channel_versions"])
    head = await store.aread(THREAD)
    assert head.thread
    assert head.checkpoint
    assert skeleton_of(head.checkpoint).start == 1
    data = store.open(head.checkpoint.payload, Where("head"))
    payload = store.seal(data[:4] if short else data, Where("head")).data
    row = CheckpointRow(version=3, ext_id=id_of(3), payload=payload, digest=bytes(16), refs=refs)
    expected = Expected(head.thread.incarnation, 2)
    batch = await store.abatch(
        THREAD, "put", expected=expected, last_version=2, marks=head.marks, checkpoint=row
    )
    await store.acommit(batch)
    told = f"thread 't', checkpoint '{id_of(3)}': .* its skeleton is"
    for reader in (saver, ThreadlineSaver(checkpointer)):
        with pytest.raises(CorruptionError, match=told):
            await reader.aget_tuple(at())
        with pytest.raises(CorruptionError, match=told):
            [each async for each in reader.alist(at())]
    assert await saver.aget_tuple(at(1)) is not None  # The version after another is read with it.


def test_no_text_of_a_message_stands_in_log_0(
    checkpointer: BaseCheckpointer, saver: ThreadlineSaver
) -> None:
    said: list[Any] = []
    for number in range(1, 9):
        start = {"__start__": {"m": [HumanMessage("secret", id=str(number))]}}
        put(saver, number, {"m": list(said), **start, **(ODD if number % 2 else {})})
        saver.put_writes(at(number), [("m", [HumanMessage("secret", id=str(number))])], "task")
        said.append(HumanMessage("secret", id=str(number)))
    items = [item for row in log(checkpointer) for item in checkpointer.store.open_row(row).cut()]
    assert items
    assert not [item for item in items if b"secret" in item]
