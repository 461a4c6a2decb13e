"""What must be true of a thread's past, and of the base that a loaded state carries."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from threadline.checkpointer import BaseCheckpointer
from threadline.errors import ConflictError, ThreadNotFoundError
from threadline.model import AgentState, Checkpoint, ThreadInfo
from threadline.testing.faces import (
    Board,
    Face,
    FaceTests,
    Ledger,
    Slotted,
    at,
    changes_nothing,
    said,
)


async def _three(face: Face) -> list[Checkpoint]:
    """Three versions: 1 named "a", 2 named "b", 3 named "a"."""
    names = ["a", "b", "a"]
    return [await face.aput_state(at(), {"n": n}, name=name) for n, name in enumerate(names, 1)]


class HistoryContract(FaceTests):
    """Listing checkpoints and reading the past."""

    async def test_p5_the_past_is_addressed(self, face: Face) -> None:
        """By version, by checkpoint id, by name (the latest of that name)."""
        checkpoints = await _three(face)
        for other in (face, face.twin()):
            for checkpoint in checkpoints:
                n = checkpoint.version
                assert await other.aget_state(at(version=n)) == {"n": n}
                assert await other.aget_state(at(checkpoint_id=checkpoint.id)) == {"n": n}
                found = await other.aget_checkpoint(at(version=n))
                assert (found, found.state) == (checkpoint, {"n": n})
            assert await other.aget_state(at(name="a")) == {"n": 3}
            assert await other.aget_state(at(name="b")) == {"n": 2}
            assert (await other.aget_checkpoint(at(name="b"))).version == 2
            assert await other.aget_state_cache(at(version=1)) == {"n": 1}

    async def test_p5_what_is_not_there_is_none(self, face: Face) -> None:
        """An unknown version, id or name is not the head."""
        await _three(face)
        pasts: list[dict[str, Any]] = [{"version": 4}, {"version": 2**62}, {"name": "c"}]
        for past in [*pasts, {"checkpoint_id": "4"}]:
            assert await face.aget_state(at(**past)) is None
            assert await face.aget_checkpoint(at(**past)) is None
        for unknown in ("x", "01x", "٣", "-1", "9" * 30):
            assert await face.aget_state(at(checkpoint_id=unknown)) is None
        assert await face.aget_state(at(namespace="other", version=1)) is None

    async def test_p5_a_config_addresses_one_moment(self, face: Face) -> None:
        """Two at once, or a value that cannot be one, is an error."""
        await _three(face)
        twice: list[dict[str, Any]] = [
            {"version": 1, "name": "a"},
            {"name": "a", "checkpoint_id": "1"},
        ]
        for past in twice:
            with pytest.raises(ValueError):
                await face.aget_state(at(**past))
        for version in (0, -1):
            with pytest.raises(ValueError):
                await face.aget_state(at(version=version))
        for kind in (True, "1", 1.0):
            with pytest.raises(TypeError):
                await face.aget_state(at(version=kind))

    @pytest.mark.parametrize("past", [{"version": 1}, {"checkpoint_id": "1"}, {"name": "a"}])
    async def test_p6_the_past_is_not_written_to(self, face: Face, past: dict[str, Any]) -> None:
        """A write whose config addresses the past is a ValueError, for every mutating call."""
        await _three(face)
        await face.aput_messages(at(), said("one"))
        config = at(**past)
        calls: list[Callable[[], Any]] = [
            lambda: face.aput_state(config, {"n": 9}),
            lambda: face.aappend(config, [1], field="list"),
            lambda: face.aclear_state(config),
            lambda: face.aput_messages(config, said("two", ids="x")),
            lambda: face.adelete_message(config, "m1"),
            lambda: face.apop_messages(config),
            lambda: face.areplace_messages(config, after=None, expected_tail=["m1"], messages=[]),
            lambda: face.aclear_messages(config),
            lambda: face.aredact(config, "m1"),
            lambda: face.aput_thread(config, ThreadInfo(thread_id="t")),
            lambda: face.adelete_thread(config),
            lambda: face.store.abatch(config, "x"),
            lambda: face.store.aerase(config),
        ]
        for call in calls:
            await changes_nothing(face, at(), call, ValueError)

    async def test_p5_checkpoints_are_listed_newest_first(self, face: Face) -> None:
        """All, of a name, before a version, at most so many."""
        checkpoints = await _three(face)

        async def versions(**options: Any) -> list[int]:
            listed = await face.alist_checkpoints(at(), **options)
            assert all(each == checkpoints[each.version - 1] for each in listed)
            assert all(each.state is None for each in listed)
            return [each.version for each in listed]

        assert await versions() == [3, 2, 1]
        assert await versions(name="a") == [3, 1]
        assert await versions(name="c") == []
        assert await versions(before=3) == [2, 1]
        assert await versions(before=checkpoints[1]) == [1]
        assert await versions(before=1) == []
        assert await versions(limit=2) == [3, 2]
        assert await versions(limit=1, name="a", before=3) == [1]
        assert await versions(limit=99) == [3, 2, 1]
        assert await face.alist_checkpoints(at(namespace="other")) == []

    async def test_p5_limits_of_the_past_are_checked(self, face: Face) -> None:
        """1 or more, an int, and no bool."""
        await _three(face)
        for wrong in (0, -1):
            with pytest.raises(ValueError):
                await face.alist_checkpoints(at(), limit=wrong)
        for kind in (True, "1", 1.0):
            with pytest.raises(TypeError):
                await face.alist_checkpoints(at(), limit=kind)
        with pytest.raises(TypeError):
            await face.alist_checkpoints(at(), metadata=["a"])

    async def test_p9_metadata_filters_by_equal_values(self, face: Face) -> None:
        """Any key and any value, nested ones whole; 1 equals 1.0 and is not True."""
        stored: list[dict[Any, Any]] = [
            {"node": "tool", "step": 1, "tags": ["a", "b"], "deep": {"x": {"y": None}}},
            {"node": "agent", "step": True, "tags": ["b", "a"], "deep": {"x": {"y": 0}}},
            {"node": "Tool", "step": "1", "": "empty", "a.b": 1, "日本": "é", "$dict": [["k", 1]]},
            {"'; --": '"', "node": None, "step": 2, "nul\x00": "\x00", "lone": "\ud800"},
        ]
        for metadata in stored:
            await face.aput_state(at(), {}, metadata=metadata)

        async def found(wanted: dict[Any, Any]) -> list[int]:
            return [c.version for c in await face.alist_checkpoints(at(), metadata=wanted)]

        for version, metadata in enumerate(stored, 1):
            assert await found(metadata) == [version]
            for key, value in metadata.items():
                assert version in await found({key: value})
        assert await found({"node": "tool"}) == [1]
        assert await found({"step": 1}) == await found({"step": 1.0}) == [1]
        assert await found({"step": True}) == [2]
        assert await found({"tags": ["a"]}) == []
        assert await found({"deep": {"x": {}}}) == await found({"x": {"y": None}}) == []
        assert await found({"node": None}) == [4]
        assert await found({"missing": None}) == []
        assert await found({"node": "tool", "step": 2}) == []
        assert await found({"a": {"b": 1}}) == []
        assert await found({}) == [4, 3, 2, 1]

    async def test_p5_a_long_past_is_listed_whole(self, face: Face) -> None:
        """Beyond one page of any store, filters and limits apply to all of it."""
        for n in range(230):
            await face.aput_state(at(), {"n": n}, metadata={"odd": n % 2 == 1, "n": n})
        listed = await face.alist_checkpoints(at())
        assert [c.version for c in listed] == list(range(230, 0, -1))
        odd = await face.alist_checkpoints(at(), metadata={"odd": True}, limit=110)
        assert [c.version for c in odd] == list(range(230, 10, -2))
        (first,) = await face.alist_checkpoints(at(), metadata={"n": 3})
        assert first.version == 4


#: The kinds of states that carry a base once they were loaded.
CARRIERS: dict[str, Callable[[], Any]] = {
    "agent": AgentState,
    "model": lambda: Ledger(title="x"),
    "dataclass": lambda: Board("x"),
    "dict": lambda: {"n": 1},
}
each_carrier = pytest.mark.parametrize(
    "make", [pytest.param(make, id=name) for name, make in CARRIERS.items()]
)


class BasesContract(FaceTests):
    """A loaded state carries where it was loaded from, and goes back onto nothing else (P6)."""

    @each_carrier
    async def test_p6_a_stale_state_conflicts(self, face: Face, make: Callable[[], Any]) -> None:
        """Of two that loaded the same version, the second to put is told so, and nothing is merged."""
        await face.aput_state(at(), make())
        one, two = await face.aget_state(at()), await face.aget_state(at())
        assert (await face.aput_state(at(), one)).base == 1
        error = await changes_nothing(face, at(), lambda: face.aput_state(at(), two), ConflictError)
        assert (error.thread_id, error.expected, error.current) == ("t", 1, 2)
        assert (await face.aput_state(at(), one)).base == 2
        fresh = await face.aget_state(at())
        assert (await face.aput_state(at(), fresh)).version == 4

    async def test_p6_an_object_put_twice_goes_on(self, face: Face) -> None:
        """Once put, a state carries what it became."""
        state = AgentState()
        assert (await face.aput_state(at(), state)).base is None
        assert (await face.aput_state(at(), state)).base == 1
        await face.twin().aappend(at(), said("one"))
        await changes_nothing(face, at(), lambda: face.aput_state(at(), state), ConflictError)

    async def test_p6_copies_keep_the_base_and_dumps_lose_it(self, face: Face) -> None:
        """A copy is as stale as its original; what is rebuilt goes on top, and its checkpoint says so."""
        await face.aput_state(at(), AgentState())
        old = await face.aget_state(at())
        copies = [copy.copy(old), copy.deepcopy(old), old.model_copy(), old.model_copy(deep=True)]
        await face.aput_state(at(), old)
        for stale in copies:
            put = partial(face.aput_state, at(), stale)
            await changes_nothing(face, at(), put, ConflictError)
        rebuilt = AgentState.model_validate(old.model_dump())
        assert (await face.aput_state(at(), rebuilt)).base is None

    async def test_p6_a_state_from_the_past_is_stale(self, face: Face) -> None:
        """An old version is not put back as if it were the head, unless the caller says that it means it."""
        await _three(face)
        old = await face.aget_state(at(version=1))
        await changes_nothing(face, at(), lambda: face.aput_state(at(), old), ConflictError)
        assert (await face.aput_state(at(), old, expected_version=3)).version == 4
        assert await face.aget_state(at()) == {"n": 1}

    async def test_p6_expected_version(self, face: Face) -> None:
        """None: what the state carries; 0: there must be none; n; a Checkpoint."""
        first = await face.aput_state(at(), {"n": 1}, expected_version=0)
        second = await face.aput_state(at(), {"n": 2}, expected_version=1)
        third = await face.aput_state(at(), {"n": 3}, expected_version=second)
        assert (third.version, third.base) == (3, 2)
        for stale, number in ((0, 0), (1, 1), (first, 1), (second, 2), (4, 4)):
            put = partial(face.aput_state, at(), {"n": 9}, expected_version=stale)
            error = await changes_nothing(face, at(), put, ConflictError)
            assert (error.expected, error.current) == (number, 3)
        slotted = Slotted("x")
        await face.aput_state(at(), slotted, expected_version=third)
        assert (await face.aput_state(at(), slotted)).base is None

    async def test_p6_expected_version_is_checked(self, face: Face) -> None:
        """A version is an int of 0 or more; a version of a missing thread makes none."""
        for wrong, error in (
            (True, TypeError),
            ("1", TypeError),
            (1.0, TypeError),
            (-1, ValueError),
        ):
            with pytest.raises(error):
                await face.aput_state(at(), {}, expected_version=wrong)
        with pytest.raises(ThreadNotFoundError):
            await face.aput_state(at(), {}, expected_version=3)
        assert await face.aget_thread(at()) is None

    async def test_p6_one_object_serves_two_threads(self, face: Face) -> None:
        """A put to another thread forks, with no aliasing; then each goes its own way with the same object."""
        await face.aput_state(at("a"), AgentState(context=said("one")))
        state = await face.aget_state(at("a"))
        await face.aput_state(at("b"), state)
        state.context += said("two", ids="n")
        assert (await face.aput_state(at("b"), state)).base == 1
        assert len((await face.aget_state(at("a"))).context) == 1
        assert (await face.aput_state(at("a"), state)).base == 1
        await face.aappend(at("b"), said("three", ids="o"))
        with pytest.raises(ConflictError):
            await face.aput_state(at("b"), state)
        assert (await face.aput_state(at("a"), state)).base == 2

    async def test_p6_a_fork_knows_where_it_came_from(self, face: Face) -> None:
        """Thread, namespace and version; the record outlives its source, and the source's end changes nothing."""
        await _three(face)
        await face.aput_state(at("b"), await face.aget_state(at(version=2)))
        info = await face.aget_thread(at("b"))
        assert info.forked_from is not None
        assert (info.forked_from.thread_id, info.forked_from.version) == ("t", 2)
        assert (await face.aget_thread(at())).forked_from is None
        await face.aput_thread(at("b"), ThreadInfo(thread_id="b", thread_name="fork"))
        assert await face.adelete_thread(at())
        info = await face.aget_thread(at("b"))
        assert (info.thread_name, info.forked_from.thread_id) == ("fork", "t")
        assert await face.twin().aget_state(at("b")) == {"n": 2}
        await face.aput_state(at("c"), {"n": 1})
        assert (await face.aget_thread(at("c"))).forked_from is None

    async def test_p8_a_fork_by_a_put_inherits_the_owner(self, face: Face) -> None:
        """Also when the one who forks names no user; a user forks what they may read into what is theirs."""
        alice = at(user_id="alice")
        await face.aput_state(alice, {"n": 1})
        await face.aput_state(at("b"), await face.aget_state(at()))
        assert (await face.aget_thread(at("b"))).user_id == "alice"
        assert await face.aget_state(at("b", user_id="bob")) is None
        assert await face.aget_state(at("b", user_id="alice")) == {"n": 1}
        with pytest.raises(ThreadNotFoundError):
            await face.aput_state(at("b", user_id="bob"), {"n": 2})

    async def test_p6_require_base(self, face: Face) -> None:
        """Then a state that was not loaded from its thread needs a word of the caller."""
        strict = face.twin(require_base=True)
        with pytest.raises(ValueError, match="expected_version"):
            await strict.aput_state(at(), {"n": 1})
        assert await face.aget_thread(at()) is None
        await strict.aput_state(at(), {"n": 1}, expected_version=0)
        state = await strict.aget_state(at())
        assert (await strict.aput_state(at(), state)).base == 1
        await changes_nothing(face, at(), lambda: strict.aput_state(at(), {"n": 3}), ValueError)

    async def test_p6_a_race_has_one_winner(self, face: Face) -> None:
        """Eight that loaded the same version: one puts, seven are told, each with the current version."""
        await face.aput_state(at(), {"n": 0})
        states = [await face.aget_state(at()) for _ in range(8)]
        results = await asyncio.gather(
            *(
                face.aput_state(at(), {**s, "n": n}, expected_version=1)
                for n, s in enumerate(states)
            ),
            return_exceptions=True,
        )
        won = [each for each in results if isinstance(each, Checkpoint)]
        lost = [each for each in results if isinstance(each, ConflictError)]
        assert (len(won), len(lost)) == (1, 7)
        assert {error.current for error in lost} == {2}
        assert len(await face.alist_checkpoints(at())) == 2

    async def test_p5_sixteen_tasks_lose_nothing(self, face: Face) -> None:
        """Every append and every put on top is there, in an order of its own."""
        calls = [face.aappend(at(), said(f"text {n}", ids=f"t{n}-")) for n in range(16)]
        versions = [checkpoint.version for checkpoint in await asyncio.gather(*calls)]
        assert sorted(versions) == list(range(1, 17))
        context = (await face.aget_state(at())).context
        assert sorted(m.message_id for m in context) == sorted(f"t{n}-1" for n in range(16))
        puts = [face.aput_state(at("p"), {"n": n}) for n in range(16)]
        assert sorted(c.version for c in await asyncio.gather(*puts)) == list(range(1, 17))
        assert len(await face.alist_checkpoints(at("p"))) == 16

    async def test_p6_an_override_governs_every_put(self, face: Face) -> None:
        """A subclass that overrides `aput_state` and calls super also governs the sync twin."""
        seen: list[Any] = []

        class Audited(BaseCheckpointer):
            async def aput_state(self, config: Any, state: Any) -> Checkpoint:  # type: ignore[override]
                seen.append(state)
                return await super().aput_state(config, state)

        audited = face.twin(Audited)
        await audited.aput_state(at(), {"n": 1})
        audited.target.put_state(at(), {"n": 2})
        assert seen == [{"n": 1}, {"n": 2}]
        assert (await face.aget_checkpoint(at())).version == 2
