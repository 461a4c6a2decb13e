"""What must be true of a put whose `op_id` was made for it: it names the version, and is known by that (P1)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest

from threadline import clock
from threadline.errors import OutcomeUnknownError
from threadline.store import (
    Batch,
    CheckpointQuery,
    CheckpointRow,
    Commit,
    Entry,
    EntryPut,
    Expected,
)
from threadline.testing.contract_retry import NEWEST, meanwhile, prepare
from threadline.testing.contract_store import commit_of, entry_of, put_of, slots_of
from threadline.testing.faces import Face, FaceTests, at, picture, said

#: Puts without an `op_id`: the error tells it when the answer is lost.
PUTS: dict[str, Callable[[Face, str | None], Any]] = {
    "aput_state": lambda f, op: f.aput_state(at(), {"n": 2}, name="x", metadata={"k": 1}, op_id=op),
    "aput_state expected": lambda f, op: f.aput_state(at(), {}, expected_version=1, op_id=op),
    "aput_state messages": lambda f, op: f.aput_state(at(), {}, messages=said("p"), op_id=op),
    "aappend": lambda f, op: f.aappend(at(), [1], field="log", op_id=op),
    "aclear_state": lambda f, op: f.aclear_state(at(), op_id=op),
    "arollback": lambda f, op: f.arollback(at(), 1, op_id=op),
}


class MadeIdContract(FaceTests):
    """A put without an `op_id` has one all the same, and its retry is no second put (P1)."""

    @pytest.mark.parametrize("since", ["at once", "moved on", "pruned", "deleted", "begun again"])
    @pytest.mark.parametrize("put", [pytest.param(w, id=n) for n, w in PUTS.items()])
    async def test_p1_a_put_without_an_op_id_is_repeated_with_that_of_its_error(
        self, face: Face, put: Callable[[Face, str | None], Any], since: str
    ) -> None:
        """Whatever became of its version since: it is answered, and not done again."""
        await prepare(face)
        op_id = await _lost(face, partial(put, face, None))
        if since in ("moved on", "pruned"):
            await meanwhile(face)
        if since == "pruned":
            await face.aprune({}, NEWEST)
        if since in ("deleted", "begun again"):
            await face.adelete_thread(at())
        if since == "begun again":
            await face.aput_state(at(), {"n": 9}, messages=said("again"))
        before = await picture(face, at())
        for other in (face, face.twin(), face):
            assert (await put(other, op_id)).version == 2
            assert await picture(face, at()) == before
        if since != "deleted":
            later = await face.aput_state(at(), {"n": 10})
            assert later.version == max(each.version for each in before["checkpoints"]) + 1
            assert (await put(face, op_id)).version == 2

    async def test_p1_the_first_put_of_a_thread_without_an_op_id(self, face: Face) -> None:
        """The same of one that creates its thread, in any namespace."""
        for config in (at("a"), at("b", namespace="n")):
            op_id = await _lost(face, partial(face.aput_state, config, {"n": 1}))
            for other in (face.twin(), face):
                assert (await other.aput_state(config, {"n": 1}, op_id=op_id)).version == 1
            assert len(await face.alist_checkpoints(config)) == 1

    async def test_p1_a_loaded_state_without_an_op_id(self, face: Face) -> None:
        """The head is its own version by then, which is not the one it was loaded from."""
        await prepare(face)
        state = await face.aget_state(at())
        state["n"] = 2
        op_id = await _lost(face, lambda: face.aput_state(at(), state))
        await face.twin().aput_state(at(), {"n": 7})
        assert (await face.aput_state(at(), state, op_id=op_id)).version == 2
        assert await face.aget_state(at()) == {"n": 7}

    async def test_p1_a_made_op_id_is_one_operation_beside_others(self, face: Face) -> None:
        """Of calls at the same time one is made, whichever version they come to; the others are told of it."""
        for thread, version in (("a", 1), ("b", 1), ("b", 2), ("c", 3)):
            before = {each.version for each in await face.alist_checkpoints(at(thread))}
            op_id = clock.new_id_of(version).hex()
            puts = [face.aput_state(at(thread), {"n": n}, op_id=op_id) for n in range(6)]
            others = [face.aput_state(at(thread), {"other": n}) for n in range(4)]
            made = [each.version for each in await asyncio.gather(*puts, *others)]
            assert len({*made[:6]}) == 1
            assert len({*made}) == 5
            after = {each.version for each in await face.alist_checkpoints(at(thread))}
            assert after == before | {*made}

    async def test_p1_a_copy_does_not_know_the_op_ids_of_its_source(self, face: Face) -> None:
        """They were committed to another thread."""
        await prepare(face)
        op_id = await _lost(face, lambda: face.aput_state(at(), {"n": 2}))
        await face.afork(at(), "copy", history=True)
        assert (await face.aput_state(at("copy"), {"n": 2}, op_id=op_id)).version == 3
        assert (await face.aput_state(at(), {"n": 2}, op_id=op_id)).version == 2

    async def test_p1_a_made_op_id_is_answered_whatever_else_it_is_used_for(
        self, face: Face
    ) -> None:
        """What the first commit did is told, and nothing is written."""
        await prepare(face)
        op_id = await _lost(face, lambda: face.aput_state(at(), {"n": 2}))
        before = await picture(face, at())
        commit = await commit_of(face, at(), op_id=op_id, slots=(put_of("s"),))
        assert (commit.duplicate, commit.version) == (True, 2)
        await face.aput_messages(at(), said("new", ids="x"), op_id=op_id)
        await face.aclear_messages(at(), op_id=op_id)
        assert await face.adelete_thread(at(), op_id=op_id)
        assert await slots_of(face, at()) == {}
        assert await picture(face, at()) == before

    @pytest.mark.parametrize("since", ["at once", "pruned", "deleted"])
    async def test_p1_a_made_op_id_is_answered_in_full(self, face: Face, since: str) -> None:
        """Number, time, life, where each entry stands and which slots were written, as they were told first."""
        commits: list[tuple[Batch, Commit]] = []
        entries = entry_of(b"x"), entry_of(b"y")
        more: list[dict[str, Any]] = [
            {"slots": (put_of("there"),)},
            {"entries": (*_again("m1"), *_again("m2"))},
            {"slots": (put_of("a"), put_of("b"))},
            {"slots": (put_of("new", mode="if_absent"), put_of("there", mode="if_absent"))},
            {"slots": (put_of("other", mode="if_absent"),), "entries": entries},
            {"entries": (*entries, *_again("m2"))},
            {"entries": (*_again("m1"), *entries, *_again("p1"), *_again("p1"))},
            {"created_at": 1_700_000_000_000_000},
        ]
        for number, parts in enumerate(more, 1):
            version = _version(number, parts.pop("created_at", 0))
            batch = await face.store.abatch(at(), "test", **version, **parts)
            commits.append((batch, await face.store.acommit(batch)))
            await face.aput_messages(at(), said("between", ids=f"between{number}"))
        if since == "pruned":
            await commit_of(face, at(), **_version(len(more) + 1))
            await face.aprune({}, NEWEST)
            assert len(await face.store.aread(at(), CheckpointQuery())) == 1
        if since == "deleted":
            await face.adelete_thread(at())
            await face.aput_messages(at(), said("one"))
        for batch, commit in commits:
            again = await face.store.acommit(batch)
            assert again == dataclasses.replace(commit, duplicate=True)


def _again(ext_id: str) -> tuple[EntryPut, ...]:
    return (EntryPut(Entry(kind="item", payload=b"again", digest=b"again", ext_id=ext_id)),)


def _version(number: int, created_at: int = 0) -> dict[str, Any]:
    """The parts of a batch that writes a version onto the one before."""
    digest = b"%016d" % number
    return {
        "checkpoint": CheckpointRow(
            version=number, payload=b"p", digest=digest, created_at=created_at
        ),
        "expected": Expected(None, number - 1),
        "last_version": number - 1,
        "create": True,
    }


async def _lost(face: Face, call: Callable[[], Awaitable[Any]]) -> str:
    """The `op_id` that the error of a call names which was carried out and whose answer was lost."""
    face.twin()  # Skips the test where there is no backend.
    backend = face.target._engine.backend
    commit = backend.commit

    async def unanswered(batches: Sequence[Batch]) -> list[Commit]:
        patch.undo()
        await commit(batches)
        raise OutcomeUnknownError(op_id=batches[0].op_id.hex())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "commit", unanswered)
        with pytest.raises(OutcomeUnknownError) as unknown:
            await call()
    return unknown.value.op_id
