"""Copying a thread with all of its past: in the store, in one commit."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from typing import Any

import pytest

from threadline import clock
from threadline.errors import ThreadlineError, ThreadNotFoundError
from threadline.history.retention import RetentionPolicy
from threadline.model import Message, ThreadInfo
from threadline.store import CheckpointQuery, CopyFrom, EntryQuery, ThreadPut, Where
from threadline.testing.contract_store import entry_of, put_of, slots_of
from threadline.testing.faces import Face, FaceTests, TripState, at, changes_nothing, ids_of, said

NAMESPACES = "", "inner", "inner|日"


async def _lived(face: Face, **address: Any) -> None:
    """A thread with everything: namespaces, names, edits, trims, large fields, a clear, a rollback, messages, slots."""
    await face.aput_thread(
        at(**address), ThreadInfo(thread_id="t", thread_name="Parent", metadata={"a": 1})
    )
    for turn, namespace in enumerate(NAMESPACES):
        here = at(**address, namespace=namespace)
        state = TripState(city="x" * 9000)
        for n in range(1, 25):
            message = Message.text_message(f"{namespace} message {n}", message_id=f"m{n}")
            state.context = [*state.context, message][n // 13 :]
            state.budget = {"n": n, "turn": turn, "more": "y" * 300 * (n % 3)}
            about = {"odd": n % 2}
            await face.aput_state(
                here, state, name=f"name{n % 5}", metadata=about, messages=[message]
            )
        await face.arollback(here, 3, metadata={"why": "back"})
        await face.aput_messages(here, said("found words"), {"kept": turn})
        await face.adelete_message(here, "m5")
        batch = await face.store.abatch(here, "s", slots=(put_of("a"), put_of("b", meta=b"m")))
        await face.store.acommit(batch)
    await face.aclear_state(at(**address, namespace="inner"))


async def content(face: Face, config: dict[str, Any]) -> dict[str, Any]:
    """All that stands in a namespace, but for whose it is."""
    store = face.store
    checkpoints = await store.aread(config, CheckpointQuery())
    versions = [{**config, "version": row.version, "state_class": dict} for row in checkpoints]
    head = await store.aread(config)
    return {
        "checkpoints": checkpoints,
        "states": [await face.aget_state(each) for each in versions],
        "head": (head.head_version, head.last_version, head.marks, head.rows, head.blobs),
        "entries": await store.aread(config, EntryQuery()),
        "slots": await slots_of(face, config),
        "named": [c.version for c in await face.alist_checkpoints(config, name="name2")],
        "odd": [c.version for c in await face.alist_checkpoints(config, metadata={"odd": 1})],
        "words": ids_of(await face.alist_messages(config, search="message 7")),
        "found": ids_of(await face.alist_messages(config, search="found words")),
    }


async def namespaces_of(face: Face, config: dict[str, Any]) -> list[str]:
    """The names of a thread's namespaces."""
    store = face.target.store
    if face.mode == "async":
        return list(await store.anamespaces(config))
    return list(await asyncio.to_thread(lambda: store.run(store.anamespaces(config))))


class CopyContract(FaceTests):
    """`afork(history=True)` and `store.acopy`."""

    async def test_a_copy_is_the_thread_with_all_of_its_past(self, face: Face) -> None:
        """Every namespace under the same versions and names, found in the same ways, and sound."""
        await _lived(face, user_id="alice")
        made = await face.afork(at(), "copy", history=True)
        assert (made.version, made.metadata, made.thread_id) == (25, {"why": "back"}, "copy")
        copy = at("copy", user_id="alice")
        assert await namespaces_of(face, copy) == await namespaces_of(face, at())
        for namespace in NAMESPACES:
            ours = await content(face, at(namespace=namespace))
            theirs = await content(face, {**copy, "namespace": namespace})
            assert len(ours["checkpoints"]) >= 25
            assert ours["words"] == ["m7"]
            assert theirs == ours
        report = await face.averify(copy)
        assert report.problems == []
        assert report.checkpoints == 76
        before, after = await face.aget_thread(at()), await face.aget_thread(copy)
        counts = ("message_count", "checkpoint_count", "thread_name", "metadata", "user_id")
        assert [getattr(after, n) for n in counts] == [getattr(before, n) for n in counts]
        assert (after.forked_from.thread_id, after.forked_from.version) == ("t", 25)
        found = await face.alist_threads({"user_id": "alice"}, metadata={"a": 1})
        assert {each.thread_id for each in found} == {"t", "copy"}

    async def test_a_copy_shares_nothing(self, face: Face) -> None:
        """Both go on, and the other does not see it; the origin may be pruned and go."""
        await _lived(face)
        await face.afork(at(), "copy", history=True)
        kept = await content(face, at("copy"))
        state = await face.aget_state(at())
        for n in range(30):
            state.context.append(Message.text_message(f"later {n}"))
            await face.aput_state(at(), state, messages=state.context[-1:])
        await face.aprune(at(), RetentionPolicy(keep_last=1))
        await face.adelete_message(at(), "m7")
        assert await content(face, at("copy")) == kept
        assert await face.adelete_thread(at())
        assert await content(face.twin(), at("copy")) == kept
        mine = await face.aget_state({**at("copy"), "state_class": TripState})
        for n in range(30):
            mine.context.append(Message.text_message(f"mine {n}"))
            checkpoint = await face.aput_state(at("copy"), mine, messages=mine.context[-1:])
        assert checkpoint.version == 55
        assert await face.aget_state({**at("copy"), "state_class": TripState}) == mine
        assert (await face.averify(at("copy"))).problems == []
        assert len(await face.alist_messages(at("copy"))) == len(kept["entries"]) + 30

    async def test_p7_a_redaction_reaches_the_copy(self, face: Face) -> None:
        """Every version and namespace of it; and an erased user's copies go with him."""
        await _lived(face, user_id="alice")
        await face.afork(at(), "copy", history=True)
        receipt = await face.aredact(at(), "m7")
        assert set(receipt["threads"]) == {"t", "copy"}
        for config in (at(), at("copy")):
            assert "message 7" not in repr(await face.alist_messages(config))
            for row in await face.store.aread(config, CheckpointQuery()):
                past = {**config, "version": row.version, "state_class": dict}
                assert "message 7'" not in repr(await face.aget_state(past))
            assert (await face.averify(config)).problems == []
        assert await face.alist_messages(at("copy"), search="message 7") == []
        erased = await face.aerase_user({"user_id": "alice"})
        assert set(erased["threads"]) == {"t", "copy"}
        assert await face.aget_thread(at("copy")) is None

    async def test_p2_a_copy_goes_only_where_nothing_is(self, face: Face) -> None:
        """Not into a thread that is there, with a state or without, nor into itself; nothing is written then."""
        await face.aput_state(at(), {"n": 1})
        await face.aput_state(at("taken"), {"n": 2})
        await face.aput_messages(at("said"), said("one"))
        for other in ("taken", "said", "t"):
            call = functools.partial(face.afork, at(), other, history=True)
            await changes_nothing(face, at(other), call, ValueError)
        await face.aput_messages(at("stateless"), said("one"))
        for config, error in (
            (at("none"), ThreadNotFoundError),
            (at(user_id="bob"), ThreadNotFoundError),
            (at("stateless"), ValueError),
            (at(version=1), ValueError),
        ):
            with pytest.raises(error):
                await face.afork(config, "new", history=True)
        with pytest.raises(ValueError, match="metadata"):
            await face.afork(at(), "new", metadata={}, history=True)
        assert await face.aget_thread(at("new")) is None
        await face.store.acopy(at("stateless"), "new")
        assert ids_of(await face.alist_messages(at("new"))) == ["m1"]

    async def test_p8_a_copy_is_its_owners(self, face: Face) -> None:
        """Whoever makes it; and at the floor a batch of one user takes nothing of another's."""
        await face.aput_state(at(user_id="alice"), {"n": 1})
        await face.store.acopy(at(), "copy")
        assert await face.aget_state(at("copy", user_id="alice")) == {"n": 1}
        assert await face.aget_state(at("copy", user_id="bob")) is None
        head = await face.store.aread(at())
        source = await face.store.abatch(at(), "copy")
        for parts in ({"whole": True}, {"gc": head.thread.gc}):
            copy = CopyFrom(source.key, source.ns, head.thread.incarnation, **parts)
            batch = await face.store.abatch(
                at("mine", user_id="bob"), "copy", create=True, copy=copy
            )
            with pytest.raises(ThreadNotFoundError):
                await face.store.acommit(batch)
        assert await face.aget_thread(at("mine")) is None

    async def test_p7_a_copy_into_a_deleted_thread_is_a_new_life(self, face: Face) -> None:
        """Its versions are those of the source; what was loaded before fits it no more; the counters go on."""
        for n in range(5):
            await face.aput_state(at("copy"), {"n": n}, messages=said("old", ids=f"o{n}"))
        await face.aput_state(at("copy", namespace="gone"), {"n": 1})
        old = await face.aget_state(at("copy"))
        await face.adelete_thread(at("copy"))
        await face.aput_state(at(), {"m": 1}, messages=said("one", "two"))
        await face.aput_state(at(), {"m": 2})
        sealed = face.target.store.seal(b"termed", Where("entry")).data
        termed = dataclasses.replace(entry_of(sealed, meta=b"m"), terms=(5,))
        await face.store.acommit(await face.store.abatch(at(), "e", entries=(termed,)))
        await face.afork(at(), "copy", history=True)
        assert [c.version for c in await face.alist_checkpoints(at("copy"))] == [2, 1]
        assert await namespaces_of(face, at("copy")) == [""]
        with pytest.raises(ThreadlineError):
            await face.aput_state(at("copy"), old)
        assert (await face.aput_state(at("copy"), {"m": 3}, expected_version=2)).version == 6
        assert ids_of(await face.alist_messages(at("copy"))) == ["m1", "m2"]
        entries = await face.store.aread(at("copy"), EntryQuery())
        assert entries[0].seq > 5
        assert await face.store.aread(at("copy"), EntryQuery(terms=(5,))) == entries[2:]
        assert (await face.averify(at("copy"))).problems == []

    async def test_p1_a_version_of_another_life_is_no_answer(self, face: Face) -> None:
        """A copy gives versions again that an earlier life had: a retry from then is answered of that life."""
        await face.aput_state(at(), {"n": 1})
        await face.aput_state(at("other"), {"other": 1}, name="other", metadata={"other": 1})
        first = await face.afork(at(), "copy", op_id="ab" * 16)
        await face.adelete_thread(at("copy"))
        await face.afork(at("other"), "copy", history=True)
        again = await face.afork(at(), "copy", op_id="ab" * 16)
        assert (again.version, again.incarnation) == (first.version, first.incarnation)
        assert (again.name, again.metadata, again.bytes) == (None, {}, 0)

    async def test_p1_a_copy_happens_once(self, face: Face) -> None:
        """However often it is asked for with one `op_id`, also when its source has moved on or is gone."""
        await face.aput_state(at(), {"n": 1})
        first = await face.afork(at(), "copy", history=True, op_id="ab" * 16)
        again = await face.store.acopy(at(), "copy", op_id="ab" * 16)
        assert again.duplicate
        await face.aput_state(at(), {"n": 2})
        assert await face.afork(at(), "copy", history=True, op_id="ab" * 16) == first
        await face.aput_state(at("copy"), {"n": 3})
        await face.adelete_thread(at())
        assert await face.twin().afork(at(), "copy", history=True, op_id="ab" * 16) == first
        with pytest.raises(ThreadNotFoundError):
            await face.afork(at(), "copy", history=True, op_id="cd" * 16)

    async def test_p1_copies_into_one_thread_at_once_are_one(self, face: Face) -> None:
        """Of two sources the copy is one or the other, whole; those who came later are told."""
        for thread, n in (("a", 20), ("b", 30)):
            for each in range(n):
                await face.aput_state(at(thread), {"from": thread}, messages=said(f"{each}"))
        calls = [face.store.acopy(at(thread), "copy") for thread in "abababab"]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(type(each).__name__ for each in done) == ["Commit"] + ["ValueError"] * 7
        found = await face.alist_checkpoints(at("copy"))
        source = (await face.aget_thread(at("copy"))).forked_from.thread_id
        assert len(found) == {"a": 20, "b": 30}[source]
        assert await face.aget_state(at("copy")) == {"from": source}
        assert (await face.averify(at("copy"))).problems == []

    async def test_p2_a_copy_beside_writers_is_one_moment(self, face: Face) -> None:
        """Every commit of the source is in it wholly or not at all."""

        async def put(number: int) -> None:
            text = Message.text_message("x")
            await face.aput_state(at(), {"n": number}, name="n", messages=[text])

        async def write() -> None:
            for number in range(2, 62):
                await put(number)

        await put(1)
        await asyncio.gather(write(), *(face.store.acopy(at(), f"copy{n}") for n in range(6)))
        for number in range(6):
            here = at(f"copy{number}")
            count = (await face.aget_state(here))["n"]
            report = await face.averify(here)
            assert report.problems == []
            assert (report.checkpoints, report.messages) == (count, count)
            assert (await face.aget_thread(here)).forked_from.version == count

    async def test_what_expires_is_not_copied(self, face: Face) -> None:
        """A lease belongs to its thread alone."""
        now = 2_000_000_000_000_000
        with clock.use(wall_us=lambda: now):
            await face.aput_state(at(), {"n": 1})
            puts = (put_of("s", expires_at=now + 10), put_of("stays"))
            await face.store.acommit(await face.store.abatch(at(), "s", slots=puts))
            await face.afork(at(), "copy", history=True)
            assert await slots_of(face, at("copy")) == {"stays": b"x"}

    async def test_a_copy_may_end_in_the_past(self, face: Face) -> None:
        """Only the namespaces that are named, each up to a version, with the entries until then."""
        moment = 2_000_000_000_000_000
        for n in range(1, 5):
            with clock.use(wall_us=functools.partial(int, moment + n)):
                for namespace in NAMESPACES:
                    here = at(namespace=namespace)
                    await face.aput_state(here, {"n": n}, name=f"n{n}", metadata={"n": n})
                    await face.aput_messages(here, said(f"word{n}", ids=f"m{n}."), {"n": n})
        await face.store.acopy(at(), "copy", ends={"": 2, "inner": 3}, until=moment + 2)
        assert await namespaces_of(face, at("copy")) == ["", "inner"]
        for namespace, last in (("", 2), ("inner", 3)):
            here = at("copy", namespace=namespace)
            found = await face.alist_checkpoints(here)
            assert [c.version for c in found] == list(range(last, 0, -1))
            assert await face.aget_state(here) == {"n": last}
            assert await face.alist_checkpoints(here, metadata={"n": 4}) == []
            assert ids_of(await face.alist_messages(here)) == ["m1.1", "m2.1"]
            assert await face.alist_messages(here, search="word3") == []
            assert (await face.aput_state(here, {"n": 9})).version == last + 1
        assert (await face.aget_thread(at("copy"))).forked_from.version == 2
        report = await face.averify(at("copy"))
        assert (report.problems, report.checkpoints, report.messages) == ([], 7, 4)

    async def test_a_batch_that_copies_a_thread_does_nothing_else(self, face: Face) -> None:
        """What else it says would be lost, so it is refused; its lineage counts."""
        await face.aput_state(at(), {"n": 1})
        head, named = await face.store.aread(at()), await face.store.abatch(at(), "copy")
        copy = CopyFrom(named.key, named.ns, head.thread.incarnation, whole=True)
        plain = await face.store.abatch(at("new"), "copy", create=True, copy=copy)
        for parts in ({"slots": (put_of("a"),)}, {"entries": (entry_of(b"x"),)}, {"frees": True}):
            with pytest.raises(ValueError, match=next(iter(parts))):
                await face.store.acommit(dataclasses.replace(plain, **parts))
        with pytest.raises(ThreadNotFoundError):
            await face.store.acommit(dataclasses.replace(plain, create=False))
        assert await face.aget_thread(at("new")) is None
        await face.store.acommit(dataclasses.replace(plain, thread=ThreadPut(lineage=b"where")))
        assert (await face.store.aread(at("new"))).thread.lineage == b"where"
