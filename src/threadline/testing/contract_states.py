"""What must be true of states: they come back equal, by value, whatever was done to them, or nothing is written."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from threadline.errors import ConflictError, NotStorableError
from threadline.model import AgentState, Checkpoint, ExecutionStatus, Message
from threadline.testing.faces import (
    Board,
    Face,
    FaceTests,
    Ledger,
    TripState,
    another_process,
    at,
    changes_nothing,
    ids_of,
    said,
    same,
)


def _trip() -> TripState:
    state = TripState(
        context=said("one", "two"), city="Oslo", visited=["Bergen"], budget={"a": [1]}
    )
    state.context_summary = "so far"
    state.set_interrupt("tools", "approve", {"tool": "pay"})
    return state


KINDS: dict[str, Callable[[], Any]] = {
    "agent": lambda: AgentState(context=said("one", "two"), context_summary="so far"),
    "subclass": _trip,
    "model": lambda: Ledger(title="l", rows=[{"n": n} for n in range(20)], total=3),
    "dataclass": lambda: Board("b", list(range(40)), {"k": (1, 2)}),
    "dict": lambda: {"a": [1, {"b": None}], "c": "text", "empty": {}, "list": []},
    "odd keys": lambda: {1: "int", (2, 3): ["tuple"], "\x00": "control", None: {"": "empty"}},
    "empty dict": dict,
    "empty agent": AgentState,
}
Kind = Callable[[], Any]
each_kind = pytest.mark.parametrize("make", [pytest.param(make, id=n) for n, make in KINDS.items()])


class StatesContract(FaceTests):
    """Putting states and reading them back."""

    async def test_p3_what_was_never_put_is_not_there(self, face: Face) -> None:
        """Reading finds nothing and makes nothing."""
        assert await face.aget_state(at()) is None
        assert await face.aget_state_cache(at()) is None
        assert await face.aget_checkpoint(at()) is None
        assert await face.alist_checkpoints(at()) == []
        assert await face.aget_thread(at()) is None
        assert await face.alist_threads({}) == []

    @each_kind
    async def test_p9_a_state_of_each_kind_comes_back_equal(self, face: Face, make: Kind) -> None:
        """Equal and of its class, from the cache and from the store."""
        await face.aput_state(at(), make())
        for reader in (face.aget_state, face.aget_state_cache, face.twin().aget_state):
            found = await reader(at())
            assert found == make()
            assert isinstance(found, type(make()))
            assert not isinstance(found, dict) or same(dict(found), make())

    @each_kind
    async def test_p9_a_state_is_put_by_value(self, face: Face, make: Kind) -> None:
        """What the caller does to a state after putting or getting it changes nothing that is stored."""
        state = make()
        await face.aput_state(at(), state)
        _spoil(state)
        first = await face.aget_state(at())
        assert first == make()
        _spoil(first)
        assert await face.aget_state(at()) == make()
        assert (await face.aget_checkpoint(at(version=1))).state == make()

    @each_kind
    async def test_p9_edits_in_place_are_stored(self, face: Face, make: Kind) -> None:
        """The same object, edited at any depth and put again, each time."""
        state = make()
        for _ in range(4):
            await face.aput_state(at(), state)
            _spoil(state)
            checkpoint = await face.aput_state(at(), state)
            assert await face.twin().aget_state(at()) == state
            assert await face.aget_state(at()) == state
        assert checkpoint.version == 8

    async def test_p9_an_edit_at_any_depth_is_stored(self, face: Face) -> None:
        """One by one: in a block, in metadata, in a nested field, in what the run says of itself."""
        await face.aput_state(at(), _trip())
        state = await face.aget_state(at())
        state.context[0].metadata = {"a": {"b": [0]}}
        edits: list[Callable[[], Any]] = [
            lambda: setattr(state.context[1].content[0], "text", "edited"),
            lambda: state.context[0].metadata["a"]["b"].append({"c": 1}),
            lambda: state.context[0].metadata["a"]["b"][1].update(c=True),
            lambda: state.context[0].__dict__.update(role="assistant"),
            lambda: state.budget["a"].append(2),
            lambda: state.budget["a"].__setitem__(0, 1.0),
            lambda: state.budget["a"].__setitem__(0, -0.0),
            lambda: state.visited.insert(0, "Narvik"),
            lambda: setattr(state.execution_meta, "step", 7),
            lambda: state.execution_meta.internal_data.update(deep={"er": []}),
            state.complete,
            lambda: setattr(state, "context_summary", None),
        ]
        for edit in edits:
            edit()
            await face.aput_state(at(), state)
            found = await face.twin().aget_state(at())
            assert found == state
            assert same(found.model_dump(), state.model_dump())
        assert found.execution_meta.status is ExecutionStatus.COMPLETED

    async def test_p5_trims_summaries_and_reorders(self, face: Face) -> None:
        """Whatever is done to a list, the head has it and every version before still has its own."""
        state = AgentState(context=said(*(f"text {n}" for n in range(30))))
        late = iter(said(*(f"later {n}" for n in range(100)), ids="n"))
        steps: list[Callable[[list[Message]], Any]] = [
            lambda c: None,
            lambda c: c.append(next(late)),
            lambda c: c.__delitem__(slice(0, 10)),
            lambda c: c.insert(0, next(late)),
            lambda c: c.__setitem__(slice(3, 9), [next(late)]),
            lambda c: c.reverse(),
            lambda c: random.Random(7).shuffle(c),
            lambda c: c.append(c[0]),
            lambda c: c.extend(next(late) for _ in range(20)),
            lambda c: c.pop(),
            lambda c: c.__delitem__(5),
            lambda c: c.sort(key=lambda message: message.message_id),
            lambda c: c.clear(),
            lambda c: c.append(next(late)),
        ]
        put: list[AgentState] = []
        for step in steps:
            step(state.context)
            state.context_summary = f"after {len(put)}"
            await face.aput_state(at(), state)
            put.append(copy.deepcopy(state))
            assert await face.aget_state(at()) == state
        other = face.twin()
        for version, wanted in enumerate(put, 1):
            assert await other.aget_state(at(version=version)) == wanted

    async def test_p5_a_field_may_change_its_kind(self, face: Face) -> None:
        """A list becomes a text, a dict, longer, absent; keys come and go and keep their order."""
        values: list[dict[str, Any]] = [
            {"a": list(range(40)), "b": 1},
            {"b": 1, "a": list(range(39))},
            {"a": "text", "b": [{"n": 1}]},
            {"b": [{"n": 2}, {"n": 1}], "new": "x" * 9000},
            {"new": "x" * 9000, "b": []},
            {"new": "x" * 200_000, "b": [[]] * 20},
            {},
            {"a": list(range(40))},
        ]
        for value in values:
            await face.aput_state(at(), value)
            assert same(dict(await face.aget_state(at())), value)
        for version, value in enumerate(values, 1):
            found = await face.twin().aget_state(at(version=version))
            assert same(dict(found), value)

    async def test_p5_a_long_conversation_keeps_every_version(self, face: Face) -> None:
        """70 turns, some appended and some put whole; any version reads back as it was."""
        state = AgentState()
        for turn in range(70):
            state.context += said(f"question {turn}", f"answer {turn}", ids=f"t{turn}-")
            state.execution_meta.step = turn
            await face.aput_state(at(), state)
        other = face.twin()
        for version in (1, 2, 15, 16, 17, 33, 64, 69, 70):
            found = await other.aget_state(at(version=version))
            assert found.context == state.context[: 2 * version]
            assert found.execution_meta.step == version - 1

    async def test_p2_state_and_messages_are_one_commit(self, face: Face) -> None:
        """With a put come its messages; a refused put brings none."""
        one, two, three = said("one", "two", "three")
        await face.aput_state(at(), {"n": 1}, messages=[one, two])
        assert await face.alist_messages(at()) == [one, two]

        async def unstorable() -> None:
            bad = Message.text_message("bad", metadata={"x": object()})
            await face.aput_state(at(), {"n": 2}, messages=[three, bad])

        async def bad_state() -> None:
            await face.aput_state(at(), {"n": object()}, messages=[three])

        async def conflict() -> None:
            await face.aput_state(at(), {"n": 2}, messages=[three], expected_version=7)

        async def no_message() -> None:
            await face.aput_state(at(), {"n": 2}, messages=["three"])

        await changes_nothing(face, at(), unstorable, NotStorableError)
        await changes_nothing(face, at(), bad_state, NotStorableError)
        await changes_nothing(face, at(), conflict, ConflictError)
        await changes_nothing(face, at(), no_message, TypeError)

    async def test_p2_run_id_name_and_metadata_are_kept(self, face: Face) -> None:
        """The checkpoint that a put returns is the one that is listed and loaded."""
        config = at(namespace="n", run_id="run 7")
        first = await face.aput_state(config, {"n": 1})
        second = await face.aput_state(config, {"n": 2}, name="asked", metadata={"k": [1, (2,)]})
        assert isinstance(second, Checkpoint)
        assert (second.thread_id, second.namespace, second.version) == ("t", "n", 2)
        assert (second.parent_version, second.base) == (1, None)
        assert (second.name, second.run_id, second.metadata) == ("asked", "run 7", {"k": [1, (2,)]})
        assert second.timestamp.utcoffset() == timedelta(0)
        assert second.bytes > 0
        assert (first.parent_version, first.name, first.metadata) == (None, None, {})
        assert await face.alist_checkpoints(config) == [second, first]
        loaded = await face.twin().aget_checkpoint(config)
        assert loaded == second
        assert loaded.state == loaded.data == {"n": 2}

    async def test_p8_namespaces_apps_and_tenants_are_apart(self, face: Face) -> None:
        """The same thread id eight times, none of which sees another."""
        configs = [
            at(tenant=tenant, app=app, namespace=namespace)
            for tenant in ("", "x")
            for app in ("", "x")
            for namespace in ("", "x")
        ]
        for n, config in enumerate(configs):
            assert await face.aget_state(config) is None
            checkpoint = await face.aput_state(config, {"n": n}, messages=said(f"word{n}"))
            assert checkpoint.version == 1
        for n, config in enumerate(configs):
            assert await face.aget_state(config) == {"n": n}
            assert [m.text() for m in await face.alist_messages(config)] == [f"word{n}"]
        assert len(await face.alist_threads({"tenant": "x"})) == 1
        assert await face.adelete_thread(at(tenant="x"))
        gone = [await face.aget_state(config) is None for config in configs]
        assert gone == [False] * 4 + [True] * 2 + [False] * 2

    async def test_p5_a_cleared_state_is_no_state_and_has_a_past(self, face: Face) -> None:
        """A clear is a version of its own; the next put stands on it."""
        assert await face.aclear_state(at()) is None
        assert await face.aget_thread(at()) is None
        await face.aput_state(at(), {"n": 1})
        loaded = await face.aget_state(at())
        checkpoint = await face.aclear_state(at())
        assert checkpoint.version == 2
        assert await face.aget_state(at()) is None
        assert await face.twin().aget_state(at()) is None
        assert await face.aget_state(at(version=1)) == {"n": 1}
        assert await face.aclear_state(at()) is None
        with pytest.raises(ConflictError):
            await face.aput_state(at(), loaded)
        assert (await face.aput_state(at(), {"n": 3}, expected_version=0)).version == 3
        assert [c.version for c in await face.alist_checkpoints(at())] == [3, 2, 1]

    async def test_p5_append_grows_a_list(self, face: Face) -> None:
        """Without a state it makes one; a list that is not named or not there begins."""
        one, two, three = said("one", "two", "three")
        assert (await face.aappend(at(), [one])).version == 1
        assert await face.aget_state(at()) == AgentState(context=[one])
        checkpoint = await face.aappend(at(), [two, three], name="both", metadata={"k": 1})
        assert (checkpoint.version, checkpoint.name, checkpoint.metadata) == (2, "both", {"k": 1})
        assert ids_of((await face.twin().aget_state(at())).context) == ["m1", "m2", "m3"]
        assert ids_of((await face.aget_state(at(version=1))).context) == ["m1"]
        await face.aput_state(at("d"), {"log": [1], "other": "x"})
        await face.aappend(at("d"), [2, (3,)], field="log")
        await face.aappend(at("d"), [{"n": 1}], field="new")
        wanted = {"log": [1, 2, (3,)], "other": "x", "new": [{"n": 1}]}
        assert same(dict(await face.aget_state(at("d"))), wanted)
        with pytest.raises(ConflictError):
            await face.aappend(at("d"), [4], field="log", expected_version=2)
        for wrong in (one, "text", {"a": 1}):
            with pytest.raises(TypeError):
                await face.aappend(at("d"), wrong)

    async def test_p6_append_moves_the_head(self, face: Face) -> None:
        """A state that was loaded before an append is stale."""
        await face.aput_state(at(), AgentState(context=said("one")))
        state = await face.aget_state(at())
        await face.aappend(at(), said("two", ids="n"))
        await changes_nothing(face, at(), lambda: face.aput_state(at(), state), ConflictError)
        await face.aclear_state(at())
        await face.aappend(at(), said("three", ids="o"))
        assert ids_of((await face.aget_state(at())).context) == ["o1"]


class StateClassContract(FaceTests):
    """As which class a state comes back. No class is ever imported because stored bytes name it (P12)."""

    async def test_p12_the_config_names_the_class(self, face: Face) -> None:
        """Before the class it was put as; `dict` reads any state."""
        await face.aput_state(at(), _trip())
        assert await face.aget_state(at()) == _trip()
        fields = await face.aget_state(at(state_class=dict))
        assert (fields["city"], fields["visited"]) == ("Oslo", ["Bergen"])
        await face.aput_state(at("d"), {"title": "t", "rows": [], "total": 1})
        found = await face.aget_state(at("d", state_class=Ledger))
        assert found == Ledger(title="t", rows=[], total=1)
        assert isinstance((await face.aget_checkpoint(at("d", state_class=Ledger))).state, Ledger)

    async def test_p12_another_process_knows_no_class(self, face: Face) -> None:
        """A plain AgentState and a dict come back as such; where guessing would lose fields it is refused."""
        for name, make in KINDS.items():
            await face.aput_state(at(name), make())
        with another_process():
            assert type(await face.aget_state(at("agent"))) is AgentState
            assert await face.aget_state(at("dict")) == KINDS["dict"]()
            assert await face.aget_state(at("odd keys")) == KINDS["odd keys"]()
            for name in ("subclass", "model", "dataclass"):
                with pytest.raises(TypeError, match="state_class"):
                    await face.aget_state(at(name))
                assert isinstance(await face.aget_state(at(name, state_class=dict)), dict)
                named = at(name, state_class=type(KINDS[name]()))
                assert await face.aget_state(named) == KINDS[name]()

    async def test_p12_the_checkpointer_names_the_class(self, face: Face) -> None:
        """What is registered on it is used where the config names none."""
        await face.aput_state(at(), _trip())
        with another_process():
            other = face.twin(state_class=TripState)
            assert await other.aget_state(at()) == _trip()
            await other.aappend(at(), said("more", ids="n"))
            assert ids_of((await other.aget_state(at())).context) == ["m1", "m2", "n1"]
            assert (await other.aget_state(at())).city == "Oslo"

    async def test_p12_a_class_that_does_not_fit_is_refused(self, face: Face) -> None:
        """With an error that says so, and not with half a state."""
        await face.aput_state(at(), {"title": ["no text"]})
        with pytest.raises(ValueError, match="Ledger"):
            await face.aget_state(at(state_class=Ledger))
        for wrong in ("Ledger", Ledger(), 7):
            with pytest.raises(TypeError):
                await face.aget_state(at(state_class=wrong))
        for nothing in (None, 7, "text", [1], Ledger, object()):
            with pytest.raises(TypeError):
                await face.aput_state(at("new"), nothing)
        assert await face.aget_thread(at("new")) is None


def _spoil(state: Any) -> None:
    """Change a state in place, at several depths."""
    if isinstance(state, TripState):
        state.budget.setdefault("a", []).append({"more": [len(state.visited)]})
        state.visited.append("Tromsø")
    if isinstance(state, AgentState):
        for message in state.context:
            message.metadata["seen"] = message.metadata.get("seen", 0) + 1
        state.context.insert(0, Message.text_message("first"))
    elif isinstance(state, Ledger):
        state.rows[3]["n"] = {"deep": [len(state.rows)]}
        state.rows.pop()
    elif isinstance(state, Board):
        state.cells[20] += 1
        state.notes["new"] = [len(state.cells)]
    else:
        state["a"] = [state.get("a")]
        state.setdefault("c", {})
