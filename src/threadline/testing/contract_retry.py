"""What must be true of repeating any write with its `op_id` (P1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from threadline import clock
from threadline.history.retention import RetentionPolicy
from threadline.model import Checkpoint, ThreadInfo
from threadline.store import Commit
from threadline.testing.contract_store import commit_of, entry_of, put_of, slots_of
from threadline.testing.faces import Face, FaceTests, at, changes_nothing, ids_of, picture, said

#: Every mutating call, what stands before it, and what another writer does before it is repeated.
WRITES: dict[str, Callable[[Face, str], Any]] = {
    "aput_state": lambda f, op: f.aput_state(at(), {"n": 2}, name="x", metadata={"k": 1}, op_id=op),
    "aput_state expected": lambda f, op: f.aput_state(at(), {}, expected_version=1, op_id=op),
    "aput_state messages": lambda f, op: f.aput_state(
        at(), {}, messages=said("new", ids="p"), op_id=op
    ),
    "aappend": lambda f, op: f.aappend(at(), [1], field="log", op_id=op),
    "aclear_state": lambda f, op: f.aclear_state(at(), op_id=op),
    "aput_messages": lambda f, op: f.aput_messages(at(), said("NEW", "x", "y"), op_id=op),
    "adelete_message": lambda f, op: f.adelete_message(at(), "m2", op_id=op),
    "apop_messages": lambda f, op: f.apop_messages(at(), op_id=op),
    "areplace_messages": lambda f, op: f.areplace_messages(
        at(), after="m1", expected_tail=["m2"], messages=said("r", ids="r"), op_id=op
    ),
    "aclear_messages": lambda f, op: f.aclear_messages(at(), op_id=op),
    "aput_thread": lambda f, op: f.aput_thread(
        at(), ThreadInfo(thread_id="t", thread_name="new"), op_id=op
    ),
    "adelete_thread": lambda f, op: f.adelete_thread(at(), op_id=op),
    "aerase": lambda f, op: f.store.aerase(at(), op_id=op),
    "acommit": lambda f, op: commit_of(f, at(), op_id=op, slots=(put_of("s", b"1"),), entries=(entry_of(b"e"),)),
}  # fmt: skip
#: Calls that are about a version.
PAST: dict[str, Callable[[Face, str], Any]] = {
    "aput_state": lambda f, op: f.aput_state(at(run_id="r"), {"n": 3}, name="x", op_id=op),
    "aput_state expected": lambda f, op: f.aput_state(at(), {}, expected_version=2, op_id=op),
    "aappend": WRITES["aappend"],
    "aclear_state": WRITES["aclear_state"],
    "arollback": lambda f, op: f.arollback(at(), 1, metadata={"k": 1}, op_id=op),
    "arollback name": lambda f, op: f.arollback(at(), "old", op_id=op),
    "aname_checkpoint": lambda f, op: f.aname_checkpoint(at(), "x", op_id=op),
    "aname_checkpoint past": lambda f, op: f.aname_checkpoint(at(version=1), "x", op_id=op),
    "afork": lambda f, op: f.afork(at(), "u", metadata={"k": 1}, op_id=op),
    "afork past": lambda f, op: f.afork(at(name="old"), "u", op_id=op),
}  # fmt: skip
#: Keeps the head and nothing else.
NEWEST = RetentionPolicy(
    keep_last=1,
    keep_first=False,
    keep_latest_of_each_name=False,
    keep_named=False,
    keep_branch_points=False,
)
each_write = pytest.mark.parametrize("write", [pytest.param(w, id=n) for n, w in WRITES.items()])


async def prepare(face: Face) -> None:
    """A thread with a version and two messages."""
    await face.aput_state(at(), {"n": 1}, messages=said("one", "two"))


async def meanwhile(face: Face) -> None:
    """Another writer moves everything on, so that doing anything twice would show."""
    await face.aput_state(at(), {"n": 7}, messages=said("one", "two", "three"))
    await face.aput_thread(at(), ThreadInfo(thread_id="t", thread_name="meanwhile"))
    await commit_of(face, at(), slots=(put_of("s", b"meanwhile"),))


class RetryContract(FaceTests):
    """A call repeated with its `op_id` after its answer was lost does nothing more, and answers the same (P1)."""

    @each_write
    async def test_p1_a_retry_answers_the_same(
        self, face: Face, write: Callable[[Face, str], Any]
    ) -> None:
        """At once, and through another checkpointer."""
        await prepare(face)
        op_id = clock.new_id()
        first = await write(face, op_id)
        before = await picture(face, at()), await face.store.aread(at())
        for other in (face, face.twin()):
            again = await write(other, op_id)
            assert _result(again) == _result(first)
            assert (await picture(face, at()), await face.store.aread(at())) == before

    @each_write
    async def test_p1_a_retry_never_does_it_twice(
        self, face: Face, write: Callable[[Face, str], Any]
    ) -> None:
        """However late: what others wrote meanwhile stays."""
        await prepare(face)
        op_id = clock.new_id()
        first = await write(face, op_id)
        await meanwhile(face)
        before = await picture(face, at()), await slots_of(face, at())
        again = await write(face, op_id)
        assert _result(again) == _result(first)
        assert (await picture(face, at()), await slots_of(face, at())) == before
        assert await face.aget_state(at()) == {"n": 7}

    async def test_p1_retries_at_the_same_time_are_one(self, face: Face) -> None:
        """Eight calls with one op_id make one version, and all are told of it."""
        op_id = clock.new_id()
        puts = (face.aput_state(at(), {"n": 1}, op_id=op_id) for _ in range(8))
        checkpoints = await asyncio.gather(*puts)
        assert {checkpoint.version for checkpoint in checkpoints} == {1}
        appends = (face.aappend(at(), [1], field="log", op_id=clock.new_id()) for _ in range(8))
        assert len({checkpoint.version for checkpoint in await asyncio.gather(*appends)}) == 8
        assert len(await face.alist_checkpoints(at())) == 9

    async def test_p1_a_retry_of_a_loaded_state(self, face: Face) -> None:
        """A state that carries a base, put twice with one op_id, is put once; then it goes on."""
        await prepare(face)
        state = await face.aget_state(at())
        twin = state.copy()
        op_id = clock.new_id()
        first = await face.aput_state(at(), state, op_id=op_id)
        assert _result(await face.aput_state(at(), twin, op_id=op_id)) == _result(first)
        assert (await face.aput_state(at(), twin)).version == 3

    async def test_p7_what_was_popped_is_forgotten_too(self, face: Face) -> None:
        """A redacted message leaves the answer that a repeated pop would get; the others stay in it."""
        await face.aput_messages(at(), said("one", "two", "three"))
        op_id = clock.new_id()
        popped = await face.apop_messages(at(), 2, op_id=op_id)
        assert await face.apop_messages(at(), 2, op_id=op_id) == popped
        await face.aredact(at(), "m2")
        assert await face.apop_messages(at(), 2, op_id=op_id) == popped[1:]
        assert ids_of(await face.alist_messages(at())) == ["m1"]

    async def test_p1_a_replacement_is_repeated_when_its_anchor_is_gone(self, face: Face) -> None:
        """The first result is the answer; another operation is told that there is no such message."""
        await face.aput_messages(at(), said("one", "two"))
        replace = partial(
            face.areplace_messages,
            at(),
            after="m1",
            expected_tail=["m2"],
            messages=said("r", ids="r"),
        )
        op_id = clock.new_id()
        await replace(op_id=op_id)
        await face.adelete_message(at(), "m1")
        await replace(op_id=op_id)
        assert ids_of(await face.alist_messages(at())) == ["r1"]
        for other in ({}, {"op_id": clock.new_id()}):
            await changes_nothing(face, at(), partial(replace, **other), ValueError)
        await face.aclear_messages(at())
        await changes_nothing(face, at(), partial(replace, op_id=clock.new_id()), ValueError)

    async def test_p1_a_repeated_naming_answers_what_it_named(self, face: Face) -> None:
        """Also when the head that it named is the head no more."""
        await prepare(face)
        op_id = clock.new_id()
        first = await face.aname_checkpoint(at(), "x", op_id=op_id)
        await face.aput_state(at(), {"n": 9})
        again = await face.aname_checkpoint(at(), "x", op_id=op_id)
        assert again == first
        assert [c.version for c in await face.alist_checkpoints(at(), name="x")] == [1]

    @pytest.mark.parametrize("gone", ["pruned", "deleted"])
    @pytest.mark.parametrize("past", [pytest.param(w, id=n) for n, w in PAST.items()])
    async def test_p1_a_retry_is_answered_when_what_it_is_about_is_gone(
        self, face: Face, past: Callable[[Face, str], Any], gone: str
    ) -> None:
        """As the first time; of a version that was pruned it takes 0 bytes, and the store knows no more than the call
        says. Another operation is refused, and nothing is done twice."""
        await prepare(face)
        await face.aput_state(at(), {"n": 2}, name="old")
        op_id = clock.new_id()
        first = await past(face, op_id)
        if gone == "deleted":
            await face.adelete_thread(at())
        else:
            await meanwhile(face)
            if await face.aget_thread(at("u")):
                await face.aput_state(at("u"), {"n": 8})
            await face.aprune({}, NEWEST)
        before = await picture(face, at()), await picture(face, at("u"))
        for other in (face, face.twin()):
            again = await past(other, op_id)
            if first is None:
                assert again is None
                continue
            known = "version", "name", "run_id", "metadata", "thread_id", "incarnation"
            assert [getattr(again, each) for each in known] == [
                getattr(first, each) for each in known
            ]
            assert again.base in (first.base, None)
            assert again.parent_version in (first.parent_version, None)
            assert again.bytes in (first.bytes, 0)
        assert (await picture(face, at()), await picture(face, at("u"))) == before

    async def test_p1_a_put_with_a_base_is_told_it_again(self, face: Face) -> None:
        """Also when its version was pruned: what it was put onto is what it carries."""
        await prepare(face)
        op_id = clock.new_id()
        put = partial(face.aput_state, at(run_id="r"), {"n": 2}, name="x", expected_version=1)
        first = await put(op_id=op_id)
        await meanwhile(face)
        await face.aprune({}, NEWEST)
        assert _result(await put(op_id=op_id)) == {**_result(first), "bytes": 0}

    async def test_p1_an_append_is_told_again_where_it_would_not_fit_now(self, face: Face) -> None:
        """The state has another shape since."""
        await face.aput_state(at(), {"log": []})
        op_id = clock.new_id()
        first = await face.aappend(at(), [1], field="log", op_id=op_id)
        await face.aput_state(at(), {"log": "text"})
        assert _result(await face.aappend(at(), [1], field="log", op_id=op_id)) == _result(first)
        with pytest.raises((TypeError, ValueError)):
            await face.aappend(at(), [1], field="log", op_id=clock.new_id())

    async def test_p1_an_op_id_belongs_to_its_thread(self, face: Face) -> None:
        """The same one in another thread is another operation."""
        op_id = clock.new_id()
        for name in ("a", "b"):
            await face.aput_messages(at(name), said("one"), op_id=op_id)
            assert ids_of(await face.alist_messages(at(name))) == ["m1"]

    async def test_p1_an_op_id_is_checked(self, face: Face) -> None:
        """32 hexadecimal digits, with or without dashes."""
        for wrong, error in (
            ("x", ValueError),
            ("", ValueError),
            (7, TypeError),
            (b"0" * 32, TypeError),
        ):
            with pytest.raises(error):
                await face.aput_state(at(), {}, op_id=wrong)
            with pytest.raises(error):
                await face.aput_messages(at(), said("one"), op_id=wrong)
        assert await face.aget_thread(at()) is None
        dashed = "01234567-89ab-cdef-0123-456789ABCDEF"
        await face.aput_state(at(), {}, op_id=dashed)
        again = await face.aput_state(at(), {}, op_id=dashed.replace("-", "").lower())
        assert again.version == 1


def _result(answer: Any) -> Any:
    """What a caller is told; a commit may say that it is a duplicate."""
    if isinstance(answer, Commit):
        return answer.rev, answer.at, answer.seqs, answer.slots, answer.removed
    if isinstance(answer, Checkpoint):
        return answer.to_dict()
    return answer
