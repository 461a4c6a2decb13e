"""What the saver does beyond LangGraph's contract: refusals, hostile rows, whole threads, many writers."""

from __future__ import annotations

import io
import operator
import pickle
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict
from uuid import UUID

import ormsgpack
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph

from threadline import (
    AgentState,
    BaseCheckpointer,
    CorruptionError,
    InMemoryCheckpointer,
    Message,
    NotStorableError,
    RetentionPolicy,
    ThreadInfo,
    ThreadNotFoundError,
)
from threadline.adapters.langgraph import ThreadlineSaver, reading
from threadline.adapters.langgraph.document import Document, Inline, Typed, write_document
from threadline.adapters.langgraph.writes import Task, Write, checkpoint_of, sealed, task_key
from threadline.store import CheckpointQuery, CheckpointRow, Expected, SlotPut, SlotQuery, Where

THREAD = {"app": "langgraph", "thread_id": "t"}


def id_of(number: int) -> str:
    return f"1f000000-0000-6000-8000-{number:012x}"


def at(number: int | None = None, thread: str = "t", ns: str = "") -> Any:
    where = {"thread_id": thread, "checkpoint_ns": ns}
    return {"configurable": where if number is None else {**where, "checkpoint_id": id_of(number)}}


def put(
    saver: ThreadlineSaver,
    number: int,
    values: dict[str, Any],
    parent: int | None = None,
    *,
    thread: str = "t",
    ns: str = "",
    versions: dict[str, Any] | None = None,
    **metadata: Any,
) -> None:
    versions = dict.fromkeys(values, number) if versions is None else versions
    checkpoint = {
        "v": 4,
        "id": id_of(number),
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values,
        "channel_versions": versions,
        "versions_seen": {},
        "updated_channels": None,
    }
    about: Any = {"source": "loop", "step": number, "parents": {}, **metadata}
    saver.put(at(parent, thread, ns), checkpoint, about, versions)


def messages(*numbers: int) -> list[Any]:
    return [HumanMessage(f"{n} says " * 40, id=str(n)) for n in numbers]


def everything(saver: ThreadlineSaver, thread: str = "t") -> list[Any]:
    """All that can be listed of a thread but its name."""
    found = []
    for each in saver.list({"configurable": {"thread_id": thread}}):
        for config in (each.config, each.parent_config):
            if config is not None:
                config["configurable"].pop("thread_id")
        found.append(each)
    return found


@pytest.fixture
def saver(checkpointer: BaseCheckpointer) -> ThreadlineSaver:
    return ThreadlineSaver(checkpointer)


# Values ---------------------------------------------------------------------------------------------------


@dataclass
class Mine:
    value: int


@pytest.mark.parametrize(
    "values",
    [
        {"a": Mine(1)},
        {"a": [Mine(1)] * 3},
        {"m": [*messages(1), Mine(1)]},
        {"a": {"b": [{1: Mine(1)}]}},
    ],
)
def test_a_type_that_is_not_allowed_is_refused_by_name_and_nothing_is_written(
    saver: ThreadlineSaver, values: dict[str, Any]
) -> None:
    put(saver, 1, {"a": 1})
    with pytest.raises(
        NotStorableError, match=r"channel '[am]' holds a [\w.]*test_langgraph_saver\.Mine"
    ):
        put(saver, 2, values, 1)
    with pytest.raises(NotStorableError, match="Mine"):
        saver.put_writes(at(1), [("a", values)], "task")
    with pytest.raises(NotStorableError, match="Mine"):
        put(saver, 2, {"a": 1}, 1, about=Mine(2))
    with pytest.raises(NotStorableError):
        put(saver, 2, {"a": object()}, 1)
    assert [each.checkpoint["id"] for each in saver.list(at())] == [id_of(1)]
    assert saver.get_tuple(at()).pending_writes == []  # type: ignore[union-attr]


def test_an_allowed_type_comes_back(checkpointer: BaseCheckpointer) -> None:
    for saver in (
        ThreadlineSaver(checkpointer, allowed_msgpack_modules=[Mine]),
        ThreadlineSaver(checkpointer).with_allowlist([(Mine.__module__, "Mine")]),
    ):
        put(saver, 1, {"a": Mine(1), "b": [Mine(2)]})  # type: ignore[arg-type]
        assert saver.get_tuple(at()).checkpoint["channel_values"] == {"a": Mine(1), "b": [Mine(2)]}  # type: ignore[union-attr]
    with pytest.raises(CorruptionError, match="Mine"):
        ThreadlineSaver(checkpointer).get_tuple(at())


class Run:
    """What no stored bytes may call."""

    def __reduce__(self) -> Any:
        return (print, ("run",))


def extension(code: int, *content: Any) -> bytes:
    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(content)))


HOSTILE = {
    "a function": Typed("msgpack", extension(0, "subprocess", "getoutput", "echo run")),
    "a function of arguments": Typed("msgpack", extension(1, "os", "system", ["echo run"])),
    "keywords": Typed("msgpack", extension(2, "subprocess", "Popen", {"args": ["true"]})),
    "a method": Typed("msgpack", extension(3, "builtins", "str", "x", "format")),
    "a model": Typed("msgpack", extension(5, "this", "Zen", {}, "model_validate_json")),
    "deep inside": Typed("msgpack", ormsgpack.packb([{"a": ormsgpack.Ext(5, ormsgpack.packb(
        ("langchain_core.messages.human", "HumanMessage", {"content": ormsgpack.Ext(
            0, ormsgpack.packb(("this", "c", 1)))}, "model_validate_json")))}])),
    "an unknown extension": Typed("msgpack", ormsgpack.packb(ormsgpack.Ext(99, b"x"))),
    "no list": Typed("msgpack", ormsgpack.packb(ormsgpack.Ext(0, ormsgpack.packb(7)))),
    "a constructor in JSON": Typed("json", b'{"lc": 2, "type": "constructor", "id": ["this", "Zen"]}'),
    "a core object in JSON": Typed("json", b'{"lc": 1, "type": "constructor", "id": ["langchain_core", "load"]}'),
    "a pickle": Typed("pickle", pickle.dumps(Run())),
    "another form": Typed("eval", b"print('run')"),
}  # fmt: skip

_heard: list[str] | None = None


def _listen(event: str, _: Any) -> None:
    if _heard is not None and event.split(".")[0] in (
        "import",
        "exec",
        "compile",
        "subprocess",
        "os",
        "pickle",
    ):
        _heard.append(event)


sys.addaudithook(_listen)


async def craft(checkpointer: BaseCheckpointer, where: str, typed: Typed) -> None:
    """Write a checkpoint of ours with hostile bytes as a value, as its metadata, or in a pending write."""
    store, plain = checkpointer.store, Typed("msgpack", ormsgpack.packb({}))
    places: Any = {"a": Inline(typed)} if where == "value" else {}
    metadata = typed if where == "metadata" else plain
    data = Document(None, places, None, plain, metadata).to_bytes()
    payload = store.seal(write_document(data, None).payload(), Where("head"))
    row = CheckpointRow(version=1, ext_id=id_of(1), payload=payload.data, digest=bytes(16))
    slots = ()
    if where == "write":
        task = Task("", "task", (Write(0, "a", typed),))
        slots = (SlotPut(sealed(store, task_key(id_of(1), "task"), task.to_bytes())),)
    batch = await store.abatch(
        THREAD, "put", create=True, expected=Expected(None, 0), checkpoint=row, slots=slots
    )
    await store.acommit(batch)


@pytest.mark.parametrize("where", ["value", "metadata", "write"])
@pytest.mark.parametrize("typed", HOSTILE.values(), ids=HOSTILE)
def test_a_crafted_row_runs_nothing(where: str, typed: Typed) -> None:
    global _heard
    with InMemoryCheckpointer() as checkpointer:
        saver = ThreadlineSaver(checkpointer)
        put(saver, 1, {"a": 1}, thread="other")
        saver.get_tuple(at(thread="other"))
        checkpointer.store.run(craft(checkpointer, where, typed))
        _heard = []
        try:
            for read in (lambda: saver.get_tuple(at()), lambda: list(saver.list(at()))):
                with pytest.raises(CorruptionError):
                    read()
            heard = _heard
        finally:
            _heard = None
    assert heard == []
    assert "this" not in sys.modules


# Whole threads --------------------------------------------------------------------------------------------


def test_a_late_put_does_not_bring_a_deleted_thread_back(checkpointer: BaseCheckpointer) -> None:
    ours, others = ThreadlineSaver(checkpointer), ThreadlineSaver(checkpointer)
    put(ours, 1, {"a": 1})
    put(ours, 2, {"a": 2}, 1)
    others.delete_thread("t")
    with pytest.raises(ThreadNotFoundError):
        put(ours, 3, {"a": 3}, 2)
    with pytest.raises(ThreadNotFoundError):
        put(others, 3, {"a": 3}, 2)
    assert ours.get_tuple(at()) is None
    put(ours, 4, {"a": 4})  # A new life, which knows nothing of the old one.
    assert [each.checkpoint["id"] for each in ours.list(at())] == [id_of(4)]


def test_late_writes_do_not_bring_a_deleted_thread_back(checkpointer: BaseCheckpointer) -> None:
    ours, others = ThreadlineSaver(checkpointer), ThreadlineSaver(checkpointer)
    put(others, 1, {"a": 1})
    put(ours, 2, {"a": 2}, 1)
    ours.delete_thread("t")
    for saver in (ours, others):
        with pytest.raises(ThreadNotFoundError):
            saver.put_writes(at(2), [("a", 1)], "task")
    assert checkpointer.list_threads({"app": "langgraph"}) == []
    ours.put_writes(
        at(3), [("a", 3)], "task"
    )  # A new life begins with the writes of its first checkpoint.
    put(ours, 3, {"a": 3})
    assert ours.get_tuple(at()).pending_writes == [("task", "a", 3)]  # type: ignore[union-attr]


def test_a_copy_is_equal_and_apart(saver: ThreadlineSaver) -> None:
    for number in range(1, 6):
        put(saver, number, {"m": messages(*range(number)), "big": "x" * 5000}, number - 1 or None)
        saver.put_writes(at(number), [("m", messages(number))], "task", "~p")
    put(saver, 9, {"a": 1}, ns="inner")
    saver.copy_thread("t", "copy")
    before = everything(saver)
    assert everything(saver, "copy") == before
    put(saver, 7, {"m": messages(7)}, 5, thread="copy")
    saver.put_writes(at(7, "copy"), [("m", messages(8))], "task")
    saver.delete_thread("t")
    assert len(everything(saver, "copy")) == len(before) + 1
    with pytest.raises(ValueError, match="exists already"):
        saver.copy_thread("copy", "copy")


def test_a_copy_into_a_thread_that_was_deleted_before(saver: ThreadlineSaver) -> None:
    for number in (1, 2, 3):
        put(saver, number, {"a": number}, thread="copy")
        put(saver, number, {"m": messages(number)}, number - 1 or None)
    put(saver, 2, {"m": messages(2, 2)}, 1)  # Its slot says under which version.
    saver.delete_thread("copy")
    saver.copy_thread("t", "copy")
    assert everything(saver, "copy") == everything(saver)
    saver.put_writes(at(3, "copy"), [("a", 1)], "task")  # Of this life, not of the one that ended.
    put(saver, 4, {"m": messages(1, 2, 3, 4)}, 3, thread="copy")
    assert len(everything(saver, "copy")) == 4
    assert saver.get_tuple(at(2, "copy")).checkpoint["channel_values"] == {"m": messages(2, 2)}  # type: ignore[union-attr]


def test_a_copy_is_one_commit_that_reads_nothing(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver, backend = ThreadlineSaver(checkpointer), checkpointer._engine.backend
    for number in range(1, 31):
        put(saver, number, {"m": messages(*range(number))}, number - 1 or None)
        saver.put_writes(at(number), [("m", messages(number))], "task")
    calls: list[str] = []
    for name in ("commit", "read_head", "read_rows", "read_checkpoints", "read_slots"):
        original = getattr(backend, name)

        async def counted(*a: Any, _name: str = name, _call: Any = original, **k: Any) -> Any:
            assert _name != "read_head" or k["content"] is False
            calls.append(_name)
            return await _call(*a, **k)

        monkeypatch.setattr(backend, name, counted)
    saver.copy_thread("t", "copy")
    assert calls == ["read_head", "commit"]


def test_a_copy_is_refused_whole(checkpointer: BaseCheckpointer) -> None:
    saver = ThreadlineSaver(checkpointer)
    put(saver, 1, {"a": 1})
    put(saver, 9, {"a": 9}, thread="taken")
    checkpointer.put_messages({**THREAD, "thread_id": "said"}, [Message.text_message("hello")])
    before = everything(saver, "taken")
    for target in ("taken", "said"):
        with pytest.raises(ValueError, match=f"'{target}' exists already; nothing was copied"):
            saver.copy_thread("t", target)
    with pytest.raises(ThreadNotFoundError, match="'none' does not exist"):
        saver.copy_thread("none", "new")
    assert everything(saver, "taken") == before
    assert everything(saver, "said") == everything(saver, "new") == []


def test_a_copy_has_the_owner_the_title_and_the_messages(checkpointer: BaseCheckpointer) -> None:
    saver = ThreadlineSaver(checkpointer, user_key="user", index="m")
    mine: Any = {"configurable": {**at()["configurable"], "user": "alice"}}
    checkpoint = {"v": 4, "id": id_of(1), "ts": "", "channel_values": {"m": messages(1, 2)}}
    checkpoint |= {"channel_versions": {"m": 1}, "versions_seen": {}, "updated_channels": None}
    saver.put(mine, checkpoint, {}, {"m": 1})  # type: ignore[arg-type]
    checkpointer.put_thread(THREAD, ThreadInfo(thread_id="t", thread_name="A trip"))
    saver.copy_thread("t", "copy")
    there: Any = {"configurable": {**at(thread="copy")["configurable"], "user": "alice"}}
    assert saver.get_tuple(there) is not None
    there["configurable"]["user"] = "bob"
    assert saver.get_tuple(there) is None
    info = checkpointer.get_thread({**THREAD, "thread_id": "copy"})
    assert info is not None
    assert (info.thread_name, info.user_id, info.message_count) == ("A trip", "alice", 2)
    assert info.forked_from is not None
    assert (info.forked_from.thread_id, info.forked_from.version) == ("t", 1)


def test_the_newest_run_can_be_deleted(saver: ThreadlineSaver) -> None:
    for number, run in enumerate(["a", "b", "a", "c"], 1):
        put(saver, number, {"m": messages(*range(number))}, number - 1 or None, run_id=run)
        saver.put_writes(at(number), [("m", messages(number))], "task")
    put(saver, 8, {"x": 1}, ns="inner", run_id="c")
    before = {each.checkpoint["id"]: each for each in saver.list(at())}
    saver.delete_for_runs(["c"])
    assert list(saver.list(at(ns="inner"))) == []
    assert [each.checkpoint["id"] for each in saver.list(at())] == [id_of(n) for n in (3, 2, 1)]
    assert saver.get_tuple(at()) == before[id_of(3)]
    put(saver, 5, {"m": messages(5)}, 3, run_id="d")
    saver.delete_for_runs(["d", "a"])
    assert list(saver.list(at())) == [before[id_of(2)]]
    saver.delete_for_runs(["b"])
    assert list(saver.list(at())) == []
    assert saver.get_tuple(at()) is None
    put(saver, 6, {"m": messages(6)})
    assert [each.checkpoint["id"] for each in saver.list(at())] == [id_of(6)]


def test_a_run_is_known_by_its_text(saver: ThreadlineSaver) -> None:
    """Metadata may hold a UUID, or what no run is called."""
    run = UUID(int=7)
    for number, about in enumerate((run, str(run), ["x"], None), 1):
        put(saver, number, {"n": number}, run_id=about)
    put(saver, 5, {"n": 5})
    saver.delete_for_runs([str(run)])
    assert [each.checkpoint["id"] for each in saver.list(at())] == [id_of(n) for n in (5, 4, 3)]


@pytest.mark.parametrize("how", ["prune", "delete", "retain"])
def test_what_is_taken_away_while_it_is_listed_is_not_there(
    saver: ThreadlineSaver, how: str
) -> None:
    for number in range(1, 46):
        values = {"m": messages(*range(number % 7, number % 7 + 3)), "big": f"{number:02}" * 3000}
        put(saver, number, values, number - 1 or None)
        saver.put_writes(at(number), [("m", messages(number + 1))], "task")
    put(saver, 50, {"m": messages(1)}, ns="inner")
    before = list(saver.list({"configurable": {"thread_id": "t"}}))
    listing = saver.list({"configurable": {"thread_id": "t"}})
    found = [next(listing)]
    if how == "prune":
        saver.prune(["t"])
    elif how == "delete":
        saver.delete_thread("t")
    else:
        saver.retain(RetentionPolicy(keep_last=25))
    found += listing
    assert found == before[: len(found)]
    assert len(found) < len(before)


def test_what_documents_are_written_near_may_go_while_they_are_read(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver, other = ThreadlineSaver(checkpointer), ThreadlineSaver(checkpointer)
    source = random.Random(1)
    for number in range(1, 31):  # Nothing is near to anything.
        put(saver, number, {}, number - 1 or None, about=source.randbytes(3000))
    before, read = next(saver.list(at())), checkpointer.store.aread
    pruned, waiting = [], [RetentionPolicy(keep_last=1)]

    async def late(config: Any, what: Any = None) -> Any:
        if waiting and isinstance(what, list):
            pruned.append(await other.aretain(waiting.pop()))
        return await read(config, what)

    monkeypatch.setattr(checkpointer.store, "aread", late)
    assert list(ThreadlineSaver(checkpointer).list(at())) == [before]
    assert pruned == [29]


def test_the_latest_can_be_deleted_when_it_is_not_the_newest(saver: ThreadlineSaver) -> None:
    for number, run in ((2, "b"), (5, "a"), (3, "b"), (4, "c")):
        put(saver, number, {"n": number}, run_id=run)
    saver.delete_for_runs(["a"])
    latest = saver.get_tuple(at())
    assert latest is not None
    assert latest.checkpoint["id"] == id_of(4)
    put(saver, 1, {"n": 1}, 4, run_id="b")
    saver.delete_for_runs(["c"])
    assert saver.get_tuple(at()) == next(saver.list(at()))
    assert [e.checkpoint["id"] for e in saver.list(at())] == [id_of(n) for n in (3, 2, 1)]


def test_pruning_keeps_the_latest_with_its_writes(saver: ThreadlineSaver) -> None:
    put(saver, 1, {"__start__": {"m": messages(1)}})
    saver.put_writes(at(1), [("m", messages(1))], "input")
    put(saver, 2, {"m": messages(1)}, 1)
    saver.put_writes(at(2), [("m", messages(2))], "task")
    put(saver, 3, {"m": messages(1, 2)}, 2)
    put(saver, 2, {"m": messages(9)}, 1)  # The newest version is not the latest checkpoint.
    before = saver.get_tuple(at(3))
    saver.prune(["t", "missing"])
    assert list(saver.list(at())) == [before]
    put(saver, 4, {"m": messages(1, 2, 4)}, 3)
    assert saver.get_tuple(at()).checkpoint["channel_values"]["m"] == messages(1, 2, 4)  # type: ignore[union-attr]
    saver.prune(["t"], strategy="delete")
    assert everything(saver) == []
    with pytest.raises(ValueError, match="strategy"):
        saver.prune(["t"], strategy="all")


def test_a_kept_write_survives_the_items_that_it_was_near_to(saver: ThreadlineSaver) -> None:
    put(saver, 1, {"m": messages(1)})
    saver.put_writes(at(1), [("m", messages(2))], "task")
    put(saver, 2, {"m": messages(1, 2)}, 1, run_id="gone")
    before = saver.get_tuple(at(1))
    saver.delete_for_runs(["gone"])
    assert saver.get_tuple(at()) == before


class Deltas(TypedDict):
    log: Annotated[
        list[int],
        DeltaChannel(lambda s, w: [*s, *(n for each in w for n in each)], snapshot_frequency=4),
    ]
    total: Annotated[int, operator.add]


def test_a_prune_that_drops_nothing_keeps_the_writes_near_items_that_were_replaced(
    saver: ThreadlineSaver,
) -> None:
    long = [HumanMessage(chr(97 + n) * 100 + str(n) * 15_000, id=str(n)) for n in range(3)]
    put(saver, 1, {"m": long})
    saver.put_writes(at(1), [("m", [long[1]]), ("x", 1)], "task")
    put(saver, 1, {"m": messages(9)})
    before = saver.get_tuple(at())
    assert before is not None
    assert len(before.pending_writes or []) == 2
    saver.prune(["t"])
    assert saver.get_tuple(at()) == before


def summing(saver: ThreadlineSaver) -> Any:
    """A graph with a delta channel."""
    builder = StateGraph(Deltas)
    builder.add_node("add", lambda state: {"log": [len(state["log"])], "total": 1})
    builder.add_edge(START, "add")
    builder.add_edge("add", END)
    return builder.compile(checkpointer=saver)


def test_no_pruning_severs_a_delta_chain(saver: ThreadlineSaver) -> None:
    graph = summing(saver)
    for number in range(7):
        graph.invoke({"log": [100 + number], "total": 0}, at())
        before = graph.get_state(at()).values
        saver.prune(["t"])
        assert graph.get_state(at()).values == before
        assert len(list(saver.list(at()))) <= 12
    assert len(before["log"]) == 14
    saver.copy_thread("t", "copy")
    assert graph.get_state(at(thread="copy")).values == before


def test_a_prune_of_the_store_severs_nothing(checkpointer: BaseCheckpointer) -> None:
    """It does not know which checkpoints others are rebuilt from: of one thread it is refused, of many they stay."""
    saver = ThreadlineSaver(checkpointer)
    graph = summing(saver)
    for number in range(5):
        graph.invoke({"log": [100 + number], "total": 0}, at())
    before, count = graph.get_state(at()).values, len(list(saver.list(at())))
    for dry_run in (True, False):
        for policy in (RetentionPolicy(keep_last=1), RetentionPolicy(max_per_thread=1)):
            with pytest.raises(ValueError, match=r"'t' holds checkpoints of a framework.*retain"):
                checkpointer.prune(THREAD, policy, dry_run=dry_run)
            report = checkpointer.prune({"app": "langgraph"}, policy, dry_run=dry_run)
            assert (report.checkpoints, report.kept) == (0, count)
    checkpointer.prune(THREAD, RetentionPolicy())
    assert graph.get_state(at()).values == before
    assert saver.retain(RetentionPolicy(keep_last=1)) > 0
    assert graph.get_state(at()).values == before
    checkpointer.put_state({"app": "langgraph", "thread_id": "own"}, AgentState())
    checkpointer.put_state({"app": "langgraph", "thread_id": "own"}, AgentState())
    assert checkpointer.prune({"app": "langgraph"}, RetentionPolicy(keep_last=1)).checkpoints == 1


# Threadline's own -----------------------------------------------------------------------------------------


async def test_threads_are_listed_verified_exported_and_imported(
    make_checkpointer: Callable[[], BaseCheckpointer],
) -> None:
    ours, theirs = make_checkpointer(), make_checkpointer()
    saver = ThreadlineSaver(ours)
    for number in range(1, 30):
        put_values = {"m": messages(*range(number)), "big": f"{number // 10}" * 5000}
        await aput(saver, number, put_values, number - 1 or None)
    await saver.aput_writes(at(29), [("m", messages(30)), ("x", b"\xff")], "task")
    assert [each.thread_id for each in await ours.alist_threads({"app": "langgraph"})] == ["t"]
    assert await ours.alist_threads({}) == []
    report = await ours.averify(THREAD)
    assert report.ok, report.problems
    assert report.checkpoints == 29
    file = io.BytesIO()
    await ours.aexport({"app": "langgraph"}, file)
    file.seek(0)
    await theirs.aimport(file)
    expected = [each async for each in saver.alist(at())]
    assert [each async for each in ThreadlineSaver(theirs).alist(at())] == expected


async def aput(saver: ThreadlineSaver, number: int, values: dict[str, Any], parent: Any) -> None:
    versions = dict.fromkeys(values, number)
    checkpoint: Any = {
        "v": 4,
        "id": id_of(number),
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values,
        "channel_versions": versions,
        "versions_seen": {},
        "updated_channels": None,
    }
    await saver.aput(at(parent), checkpoint, {"step": number}, versions)


def test_owners_keep_threads_apart(checkpointer: BaseCheckpointer) -> None:
    saver = ThreadlineSaver(checkpointer, user_key="user_id")

    def of(user: str) -> Any:
        return {"configurable": {"thread_id": "t", "checkpoint_ns": "", "user_id": user}}

    checkpoint: Any = {
        "v": 4, "id": id_of(1), "ts": "", "channel_values": {"a": 1}, "channel_versions": {"a": 1},
        "versions_seen": {}, "updated_channels": None,
    }  # fmt: skip
    saver.put(of("alice"), checkpoint, {}, {"a": 1})
    assert saver.get_tuple(of("alice")) is not None
    assert saver.get_tuple(of("bob")) is None
    with pytest.raises(ThreadNotFoundError):
        saver.put_writes(
            {"configurable": {**of("bob")["configurable"], "checkpoint_id": id_of(1)}},
            [("a", 1)],
            "t",
        )


def test_a_message_is_stored_once(checkpointer: BaseCheckpointer) -> None:
    saver = ThreadlineSaver(checkpointer)
    for number in range(1, 41):
        said = HumanMessage(
            "".join(chr(33 + (number * n) % 90) for n in range(2000)), id=str(number)
        )
        history = saver.get_tuple(at())
        known = history.checkpoint["channel_values"].get("m", []) if history else []
        put(
            saver,
            3 * number,
            {"m": known, "__start__": {"m": [said]}},
            3 * number - 2 if known else None,
        )
        saver.put_writes(at(3 * number), [("m", [said])], "input", "~p, __start__")
        put(saver, 3 * number + 1, {"m": [*known, said]}, 3 * number)
    store = checkpointer.store
    assert store.read(THREAD, SlotQuery("w")) == []
    sizes = [row.bytes for row in store.read(THREAD, CheckpointQuery())]
    assert sum(sizes) < 40 * 2900
    assert [each.pending_writes for each in saver.list(at())][1::2] == [
        [("input", "m", [said])]
        for said in reversed(saver.get_tuple(at()).checkpoint["channel_values"]["m"])  # type: ignore[union-attr]
    ]


# Many writers ---------------------------------------------------------------------------------------------


def test_sixteen_threads_put_into_one_thread_and_into_many(saver: ThreadlineSaver) -> None:
    def one(number: int) -> None:
        put(
            saver,
            number,
            {"m": messages(number)},
            thread="shared" if number % 2 else f"own-{number}",
        )
        saver.put_writes(
            at(number, "shared" if number % 2 else f"own-{number}"), [("m", 1)], "task"
        )

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(1, 65)))
    shared = list(saver.list(at(thread="shared")))
    assert [each.checkpoint["id"] for each in shared] == [id_of(n) for n in range(63, 0, -2)]
    for each in shared:
        number = int(each.checkpoint["id"][-12:], 16)
        assert each.checkpoint["channel_values"]["m"] == messages(number)
        assert each.pending_writes == [("task", "m", 1)]
    for number in range(2, 65, 2):
        assert saver.get_tuple(at(thread=f"own-{number}")) is not None


def test_calls_of_one_task_at_once_lose_no_write(saver: ThreadlineSaver) -> None:
    put(saver, 1, {})

    def one(number: int) -> None:
        saver.put_writes(at(1), [("a", n) for n in range(number)], "task")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(1, 33)))
    assert saver.get_tuple(at()).pending_writes == [("task", "a", n) for n in range(32)]  # type: ignore[union-attr]


def test_edits_are_found_in_a_long_row_of_puts_of_the_same_objects(saver: ThreadlineSaver) -> None:
    said: list[Any] = []
    expected = []
    for number in range(1, 41):
        quiet = number % 5 == 0  # A step that does not touch the channel.
        if not quiet:
            said = [*said, HumanMessage(f"{number} " * 40, id=str(number))]
        if number in (7, 17, 18, 36):
            said[number // 2].content = f"edited in {number}"
        if number in (9, 19, 38):
            said[1].additional_kwargs["seen"] = number
        if number == 22:
            said = said[3:]
        if number == 28:
            said = [*said[5:], *said[:5]]
        expected.append([each.model_dump() for each in said])
        put_list(saver, number, said, {} if quiet else {"m": number})
    for number, wanted in enumerate(expected, 1):
        found = saver.get_tuple(at(number))
        assert found is not None
        assert [each.model_dump() for each in found.checkpoint["channel_values"]["m"]] == wanted


def put_list(saver: ThreadlineSaver, number: int, said: list[Any], new: Any) -> None:
    checkpoint: Any = {
        "v": 4, "id": id_of(number), "ts": "", "channel_values": {"m": said}, "updated_channels": None,
        "channel_versions": {"m": new.get("m", number - 1)}, "versions_seen": {},
    }  # fmt: skip
    saver.put(at(number - 1 or None), checkpoint, {"step": number}, new)


def test_two_savers_of_one_store_see_each_other(checkpointer: BaseCheckpointer) -> None:
    savers = [ThreadlineSaver(checkpointer), ThreadlineSaver(checkpointer)]
    for number in range(1, 9):
        put(
            savers[number % 2],
            number,
            {"m": messages(*range(number)), "a": AIMessage("x", id="a")},
            number - 1 or None,
        )
        savers[number // 2 % 2].put_writes(at(number), [("m", messages(number))], "task")
    for saver in savers:
        found = list(saver.list(at()))
        assert [len(each.checkpoint["channel_values"]["m"]) for each in found] == list(
            range(8, 0, -1)
        )
        assert all(each.pending_writes for each in found)


# Forks, rollbacks, differences, retention, search -----------------------------------------------------------


def test_a_put_after_a_get_reads_nothing_again(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another saver, perhaps another process, put what was read; and a stale one costs another try only."""
    savers = [ThreadlineSaver(checkpointer) for _ in range(2)]
    put(savers[0], 1, {"m": messages(1, 2)})
    asked: list[Any] = []
    for saver in savers:
        store = saver._store
        read = store.aread
        monkeypatch.setattr(store, "aread", lambda *a, r=read: (asked.append(a), r(*a))[1])
    for number in range(2, 8):
        saver, other = savers[number % 2], savers[1 - number % 2]
        found = saver.get_tuple(at())
        assert found is not None
        said = found.checkpoint["channel_values"]["m"]
        if number == 5:
            put(other, 100, {"m": messages(9)}, number - 1)
        asked.clear()
        put(saver, number, {"m": [*said, *messages(number + 1)]}, number - 1)
        assert bool(asked) == (number == 5)
        if number == 5:
            savers[0].prune(["t"], strategy="delete")
            put(savers[0], 5, {"m": [*said, *messages(6)]})
    back = ThreadlineSaver(checkpointer).get_tuple(at())
    assert back is not None
    assert back.checkpoint["channel_values"]["m"] == messages(*range(1, 9))


def test_the_writes_of_many_checkpoints_come_in_pages(
    saver: ThreadlineSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SLOTS", 3)
    ids = [*(id_of(number) for number in range(1, 9)), "é", "a~b", "x", "x1", "zz"]
    for number, id in enumerate(ids):
        where: Any = at()
        checkpoint: Any = {
            "v": 4,
            "id": id,
            "ts": "2026-01-01T00:00:00+00:00",
            "versions_seen": {},
            "channel_values": {"a": number},
            "channel_versions": {"a": number},
            "updated_channels": None,
        }
        about: Any = {"source": "loop", "step": number, "third": number % 3 == 0}
        where = saver.put(where, checkpoint, about, {"a": number})
        for task in range(number % 5):
            saver.put_writes(where, [("a", number), ("b", task)], f"task-{task}")
    for only in (None, {"third": True}, {"step": 4}):
        listed = list(saver.list(at(), filter=only))
        assert len(listed) == {None: 13, "third": 5, "step": 1}[next(iter(only or {}), None)]
        assert listed == [saver.get_tuple(each.config) for each in listed]
        for each in listed:
            step = each.metadata["step"]
            assert len(each.pending_writes or []) == 2 * (step % 5)


def test_a_fork_ends_where_it_was_asked_for(saver: ThreadlineSaver) -> None:
    for number in range(1, 6):
        put(saver, number, {"m": messages(*range(number)), "a": number}, number - 1 or None)
        saver.put_writes(at(number), [("m", messages(number))], "task")
    put(saver, 4, {"n": 4}, ns="inner")
    put(saver, 9, {"n": 9}, ns="inner")
    config = saver.fork(at(3), "fork")
    assert config == at(3, "fork")
    assert [
        each.checkpoint["id"] for each in saver.list({"configurable": {"thread_id": "fork"}})
    ] == [id_of(n) for n in (3, 2, 1)]
    assert everything(saver, "fork") == [
        e for e in everything(saver) if e.checkpoint["id"] <= id_of(3)
    ]
    put(saver, 7, {"m": messages(1, 2, 7)}, 3, thread="fork")
    assert len(everything(saver)) == 7
    with pytest.raises(ThreadNotFoundError):
        saver.fork(at(77), "other")
    assert saver.checkpointer.verify({**THREAD, "thread_id": "fork"}).ok
    slots = saver.checkpointer.store.read({**THREAD, "thread_id": "fork"}, SlotQuery("w"))
    assert {checkpoint_of(each.key) for each in slots} <= {id_of(n) for n in (1, 2, 3)}


def test_a_fork_ends_where_it_was_asked_for_also_with_ids_of_any_form_and_order(
    saver: ThreadlineSaver,
) -> None:
    """Versions are not in the order of ids here, and pending writes stand on checkpoints that are not there."""
    for id in ("a", "e", "b", "d", "c", "lag"):
        checkpoint = {"v": 4, "id": id, "ts": "", "channel_values": {"m": messages(1), "id": id}}
        checkpoint |= {"channel_versions": {"m": 1, "id": id}, "versions_seen": {}}
        saver.put(at(), checkpoint, {}, {"m": 1, "id": id})  # type: ignore[arg-type]
    for id in ("b", "cc", "bb", "e"):
        where: Any = {**at()["configurable"], "checkpoint_id": id}
        saver.put_writes({"configurable": where}, [("m", messages(2))], "task")
    before = {e.checkpoint["id"]: e.checkpoint for e in saver.list(at())}
    for id, kept in (("c", "cba"), ("d", "dcba"), ("a", "a"), ("b", "ba")):
        where = {**at()["configurable"], "checkpoint_id": id}
        saver.fork({"configurable": where}, f"fork {id}")
        found = list(saver.list(at(thread=f"fork {id}")))
        assert [e.checkpoint for e in found] == [before[each] for each in kept]
        latest = saver.get_tuple(at(thread=f"fork {id}"))
        assert latest is not None
        assert latest.checkpoint == before[id]
        config = {**THREAD, "thread_id": f"fork {id}"}
        slots = saver.checkpointer.store.read(config, SlotQuery("w"))
        writes = [each for each in slots if not each.key.endswith("!")]
        assert len(writes) == {"a": 0, "b": 1, "c": 2, "d": 3}[id]
        assert saver.checkpointer.verify(config).ok


def test_a_fork_holds_the_messages_until_then(checkpointer: BaseCheckpointer) -> None:
    saver = ThreadlineSaver(checkpointer, index="m")
    for number in range(1, 5):
        put(saver, number, {"m": messages(*range(1, number + 1))}, number - 1 or None)
    put(saver, 2, {"m": messages(9)}, ns="inner")
    put(saver, 8, {"m": messages(8, 9)}, ns="inner")
    saver.fork(at(2), "fork")
    there = {**THREAD, "thread_id": "fork"}
    log = checkpointer.list_messages(there)
    assert [each.message_id for each in log] == ["1", "2"]
    assert checkpointer.list_messages(there, search="3 says") == []
    assert checkpointer.verify(there).ok
    saver.fork(at(), "whole")
    log = checkpointer.list_messages({**THREAD, "thread_id": "whole"})
    assert [each.message_id for each in log] == ["1", "2", "3", "4"]


def test_a_fork_beside_a_prune_is_computed_again(
    checkpointer: BaseCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = ThreadlineSaver(checkpointer)
    for number in range(1, 6):
        put(saver, number, {"m": messages(*range(number))}, number - 1 or None, run_id=f"{number}")
    copy, pruned = checkpointer.store.acopy, ["5", "3"]

    async def late(*args: Any, **how: Any) -> Any:
        if pruned:
            await saver.adelete_for_runs([pruned.pop()])
        return await copy(*args, **how)

    monkeypatch.setattr(checkpointer.store, "acopy", late)
    saver.fork(at(4), "fork")
    assert [e.checkpoint["id"] for e in saver.list(at(thread="fork"))] == [
        id_of(n) for n in (4, 2, 1)
    ]
    assert saver.get_tuple(at(thread="fork")) is not None
    assert checkpointer.verify({**THREAD, "thread_id": "fork"}).ok


def test_a_rollback_is_a_new_checkpoint(checkpointer: BaseCheckpointer) -> None:
    saver = ThreadlineSaver(checkpointer, allowed_msgpack_modules=[Mine])
    for number in range(1, 5):
        put(
            saver, number, {"m": messages(*range(number)), "mine": Mine(number)}, number - 1 or None
        )
    size = checkpointer.stats(THREAD)["bytes"]
    config = ThreadlineSaver(checkpointer).rollback(at(2))  # Values stay closed: no type is needed.
    found = saver.get_tuple(at())
    assert found is not None
    assert found.config == config
    assert found.parent_config == at(4)
    assert found.checkpoint["channel_values"] == {"m": messages(0, 1), "mine": Mine(2)}
    assert found.metadata["source"] == "fork"
    assert checkpointer.stats(THREAD)["bytes"] - size < 200


@pytest.mark.parametrize("ids", [("zz1", "zz2"), (str(UUID(int=5)), str(UUID(int=2**127 - 1)))])
def test_a_rollback_is_the_latest_whatever_the_ids(
    saver: ThreadlineSaver, ids: tuple[str, str]
) -> None:
    """Another machine's clock may have been ahead."""
    for id in ids:
        checkpoint = {"v": 4, "id": id, "ts": "", "channel_values": {"id": id}}
        checkpoint |= {"channel_versions": {"id": id}, "versions_seen": {}}
        saver.put(at(), checkpoint, {}, {"id": id})  # type: ignore[arg-type]
    config = saver.rollback({"configurable": {**at()["configurable"], "checkpoint_id": ids[0]}})
    latest = saver.get_tuple(at())
    assert latest is not None
    assert latest.config == config
    assert latest.checkpoint["channel_values"] == {"id": ids[0]}


def test_a_difference_says_what_changed(saver: ThreadlineSaver) -> None:
    put(saver, 1, {"m": messages(1, 2), "a": 1})
    put(saver, 2, {"m": [messages(1)[0], HumanMessage("new", id="2"), *messages(3)], "b": [1]}, 1)
    diff = saver.diff(at(1), at(2))
    assert [(c.kind, c.path[:2]) for c in diff] == [
        ("changed", ("m", 1)),
        ("added", ("m", 2)),
        ("added", ("b",)),
        ("removed", ("a",)),
    ]
    assert not saver.diff(at(2), at())


def test_retention_keeps_what_the_policy_says(saver: ThreadlineSaver) -> None:
    for number in range(1, 31):
        put(saver, number, {"m": messages(number), "big": f"{number}" * 3000}, number - 1 or None)
        saver.put_writes(at(number), [("m", messages(number + 1))], "task")
    checkpointer = saver.checkpointer
    checkpointer.name_checkpoint({**THREAD, "checkpoint_id": id_of(5)}, "kept")
    before = {each.checkpoint["id"]: each for each in saver.list(at())}
    size = checkpointer.stats(THREAD)["bytes"]
    policy = RetentionPolicy(keep_last=3)
    assert saver.retain(policy, "t", dry_run=True) == 26
    assert len(list(saver.list(at()))) == 30
    assert saver.retain(policy) == 26
    left = list(saver.list(at()))
    assert left == [before[id_of(n)] for n in (30, 29, 28, 5)]
    assert checkpointer.stats(THREAD)["bytes"] < size / 2
    assert checkpointer.verify(THREAD).ok
    assert len(checkpointer.store.read(THREAD, SlotQuery("w"))) == 2  # Of the latest, and of 5.
    assert [c.name for c in checkpointer.list_checkpoints(THREAD)] == [None, None, None, "kept"]


def test_a_skeleton_stays_for_a_checkpoint_that_could_do_without(
    checkpointer: BaseCheckpointer,
) -> None:
    ours, others = ThreadlineSaver(checkpointer), ThreadlineSaver(checkpointer)
    names = {f"channel number {n} of many": n for n in range(30)}
    put(ours, 1, names, about="the first")
    put(ours, 2, {}, 1)
    assert others.retain(RetentionPolicy(keep_last=1)) == 1
    put(ours, 3, names, 2, about="the third")
    found = ThreadlineSaver(checkpointer).get_tuple(at())
    assert found is not None
    assert found.checkpoint["channel_values"] == names


def test_messages_can_be_searched(checkpointer: BaseCheckpointer) -> None:
    saver = ThreadlineSaver(checkpointer, index="messages")
    call = {"name": "search", "args": {"city": "Oslo"}, "id": "c1"}
    said: list[Any] = [
        HumanMessage("Where is the harbour?", id="1"),
        AIMessage("", id="2", tool_calls=[call]),
        ToolMessage("Bergen has one", id="3", tool_call_id="c1"),
    ]
    put(saver, 1, {"messages": said, "other": [HumanMessage("harbour " * 20, id="9")]})
    said = [
        HumanMessage("Where is the airport?", id="1"),
        *said[1:],
        AIMessage("In the harbour", id="4"),
    ]
    put(saver, 2, {"messages": said}, 1)
    log = checkpointer.list_messages(THREAD)
    assert [each.message_id for each in log] == ["1", "2", "3", "4"]
    assert [each.role for each in log] == ["user", "assistant", "tool", "assistant"]
    assert [each.message_id for each in checkpointer.list_messages(THREAD, search="harbour")] == [
        "4"
    ]
    assert [each.message_id for each in checkpointer.list_messages(THREAD, search="bergen")] == [
        "3"
    ]
    saver.delete_thread("t")
    assert checkpointer.list_messages(THREAD) == []


def test_a_saver_is_made_of_a_checkpointer() -> None:
    with pytest.raises(TypeError, match=r"SqliteCheckpointer\('memory.db'\), not on a str"):
        ThreadlineSaver("memory.db")  # type: ignore[arg-type]
