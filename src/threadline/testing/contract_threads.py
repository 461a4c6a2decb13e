"""What must be true of threads: what is said of them, their order, their owners and their end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from threadline.checkpointer.erasure import ERASURES
from threadline.errors import (
    ConflictError,
    NotStorableError,
    ThreadNotFoundError,
    UnavailableError,
)
from threadline.model import AgentState, Lineage, ThreadInfo
from threadline.testing.faces import Face, FaceTests, at, changes_nothing, picture, said


def _ids(threads: list[ThreadInfo]) -> list[str]:
    return [info.thread_id for info in threads]


class ThreadsContract(FaceTests):
    """What is said of threads, and listing them."""

    async def test_p9_what_is_said_of_a_thread_comes_back(self, face: Face) -> None:
        """Every field that users write; those of the store are filled in."""
        moment = datetime(2024, 5, 6, 7, 8, 9, 123456, timezone(timedelta(hours=2)))
        info = ThreadInfo(
            thread_id="t",
            thread_name="Oslo \x00 \ud800 日本",
            metadata={"tuple": (1, True), "": {"deep": [None]}, "n": 2**70},
            updated_at=moment,
            run_id="r",
            stop_requested=True,
        )
        await face.aput_thread(at(), info)
        for other in (face, face.twin()):
            found = await other.aget_thread(at())
            assert found.model_dump(include=info.model_fields_set) == info.model_dump(
                include=info.model_fields_set
            )
            assert found.updated_at.utcoffset() == timedelta(0)
            assert found.created_at.tzinfo is UTC
            assert found.activity_at >= found.created_at
            assert (found.message_count, found.checkpoint_count) == (0, 0)
            assert await other.alist_threads({}) == [found]
        await face.aput_thread(at(), ThreadInfo(thread_id="t"))
        found = await face.aget_thread(at())
        assert (found.thread_name, found.metadata, found.stop_requested) == (None, {}, False)

    async def test_p5_counts_follow_the_thread(self, face: Face) -> None:
        """Of messages and checkpoints, in all namespaces."""
        await face.aput_state(at(), {}, messages=said("one", "two"))
        await face.aput_state(at(namespace="x"), {}, messages=said("one"))
        await face.aput_messages(at(), said("one", "two", "three"))
        info = await face.aget_thread(at())
        assert (info.message_count, info.checkpoint_count) == (4, 2)
        await face.apop_messages(at(), 2)
        await face.aclear_state(at())
        info = await face.aget_thread(at(namespace="y"))
        assert (info.message_count, info.checkpoint_count) == (2, 3)

    async def test_p8_config_and_record_must_agree(self, face: Face) -> None:
        """On the thread and on the user; else a ValueError, and nothing is written."""
        wrong = [
            (at(), ThreadInfo(thread_id="other")),
            (at(user_id="alice"), ThreadInfo(thread_id="t", user_id="bob")),
            (at(user_id="7"), ThreadInfo(thread_id="t", user_id=7)),
        ]
        for config, info in wrong:
            with pytest.raises(ValueError):
                await face.aput_thread(config, info)
        assert await face.alist_threads({}) == []
        for record in ({"thread_id": "t"}, None, "t"):
            with pytest.raises(TypeError):
                await face.aput_thread(at(), record)
        await face.aput_thread(at(), ThreadInfo(thread_id="t", user_id="alice"))
        assert (await face.aget_thread(at(user_id="alice"))).user_id == "alice"
        put = partial(face.aput_thread, at(), ThreadInfo(thread_id="t", user_id="bob"))
        await changes_nothing(face, at(), put, ValueError)
        unstorable = ThreadInfo(thread_id="t", metadata={"x": object()})
        put = partial(face.aput_thread, at(), unstorable)
        await changes_nothing(face, at(), put, NotStorableError)

    async def test_p8_an_owner_is_given_once(self, face: Face) -> None:
        """To a thread that has none, by a call that names no user; then it stays."""
        await face.aput_state(at(), {"n": 1})
        with pytest.raises(ThreadNotFoundError):
            await face.aput_thread(at(user_id="alice"), ThreadInfo(thread_id="t"))
        await face.aput_thread(at(), ThreadInfo(thread_id="t", user_id="alice"))
        assert await face.aget_state(at(user_id="alice")) == {"n": 1}
        assert await face.aget_state(at(user_id="bob")) is None
        await face.aput_thread(at(), ThreadInfo(thread_id="t", thread_name="x"))
        assert (await face.aget_thread(at())).user_id == "alice"

    async def test_p5_threads_are_listed_by_activity(self, face: Face) -> None:
        """Newest first, or oldest first; any write is activity, reading is none."""
        for name in "abc":
            await face.aput_state(at(name), {})
            await asyncio.sleep(0.002)
        assert _ids(await face.alist_threads({})) == ["c", "b", "a"]
        await face.aput_messages(at("a"), said("one"))
        await asyncio.sleep(0.002)
        await face.aput_thread(at("b"), ThreadInfo(thread_id="b"))
        await face.aget_state(at("c"))
        assert _ids(await face.alist_threads({})) == ["b", "a", "c"]
        assert _ids(await face.alist_threads({}, order="oldest")) == ["c", "a", "b"]
        assert _ids(await face.alist_threads(at("a"))) == ["b", "a", "c"]
        with pytest.raises(ValueError):
            await face.alist_threads({}, order="name")

    async def test_p5_threads_are_paged(self, face: Face) -> None:
        """limit, offset, after (a ThreadInfo or an id), in both orders, over more than one page of any store."""
        for n in range(230):
            await face.aput_messages(at(f"t{n}"), said("x"))
        threads = await face.alist_threads({})
        assert sorted(_ids(threads)) == sorted(f"t{n}" for n in range(230))
        assert await face.alist_threads({}, order="oldest") == threads[::-1]
        assert await face.alist_threads({}, limit=3) == threads[:3]
        assert await face.alist_threads({}, limit=210, offset=15) == threads[15:225]
        assert await face.alist_threads({}, after=threads[4], limit=2) == threads[5:7]
        assert await face.alist_threads({}, after=threads[4].thread_id) == threads[5:]
        back = await face.alist_threads({}, after=threads[4], order="oldest")
        assert back == threads[:4][::-1]
        assert await face.alist_threads({}, offset=230) == []

    async def test_p5_an_offset_counts_what_is_asked_for(self, face: Face) -> None:
        """Behind a cursor, in both orders, of a user, of those that are found: the first so many are left out."""
        for n in range(12):
            owner = "al" if n % 3 else "bo"
            info = ThreadInfo(thread_id=f"t{n}", thread_name=f"trip {n % 2}", metadata={"n": n % 2})
            await face.aput_thread(at(f"t{n}", user_id=owner), info)
        every = await face.alist_threads({})
        odd = [info for info in every if info.metadata == {"n": 1}]
        mine = await face.alist_threads({"user_id": "al"})
        assert (len(every), len(odd), len(mine)) == (12, 6, 8)
        for options, whole in (
            ({}, every),
            ({"order": "oldest"}, every[::-1]),
            ({"after": every[2]}, every[3:]),
            ({"search": "trip 1"}, odd),
            ({"metadata": {"n": 1}}, odd),
        ):
            for skip in (0, 1, 5, 12, 2**70):
                found = await face.alist_threads({}, offset=skip, **options)
                assert found == whole[skip:]
                found = await face.alist_threads({}, offset=skip, limit=3, **options)
                assert found == whole[skip:][:3]
        assert await face.alist_threads({"user_id": "al"}, offset=6) == mine[6:]
        assert await face.alist_threads({"user_id": "al"}, offset=2, limit=2) == mine[2:4]

    async def test_p5_limits_of_threads_are_checked(self, face: Face) -> None:
        """1 or more (an offset 0 or more), ints and no bools; after names a thread that is there."""
        await face.aput_state(at(), {})
        for name in ("limit", "offset"):
            for kind in (True, "1", 1.0):
                with pytest.raises(TypeError):
                    await face.alist_threads({}, **{name: kind})
            with pytest.raises(ValueError):
                await face.alist_threads({}, **{name: -1})
        for options in ({"limit": 0}, {"after": "none"}, {"after": ""}):
            with pytest.raises(ValueError):
                await face.alist_threads({}, **options)
        with pytest.raises(TypeError):
            await face.alist_threads({}, after=7)
        with pytest.raises(ValueError):
            await face.alist_threads({"version": 0})

    async def test_p9_threads_are_searched_and_filtered(self, face: Face) -> None:
        """By a part of name or id without regard to case and accents; by any key of their metadata."""
        said_of: dict[str, tuple[str | None, dict[str, Any]]] = {
            "oslo": ("Café trip", {"k": 1, "tags": ["a"]}),
            "Bergen": ("100%_\"'", {"k": True}),
            "x": (None, {"k": 1, "tags": ["b"], "": {"日本": None}}),
        }
        for thread_id, (name, metadata) in said_of.items():
            info = ThreadInfo(thread_id=thread_id, thread_name=name, metadata=metadata)
            await face.aput_thread(at(thread_id), info)

        async def found(**options: Any) -> set[str]:
            return set(_ids(await face.alist_threads({}, **options)))

        assert await found(search="CAFE") == await found(search="é tr") == {"oslo"}
        assert await found(search="BERG") == {"Bergen"}
        assert await found(search="%") == await found(search="_") == {"Bergen"}
        assert await found(search="\"'") == {"Bergen"}
        assert await found(search="none") == set()
        assert await found(search="") == {"oslo", "Bergen", "x"}
        assert await found(metadata={"k": 1}) == {"oslo", "x"}
        assert await found(metadata={"k": True}) == {"Bergen"}
        assert await found(metadata={"k": 1, "tags": ["b"]}) == {"x"}
        assert await found(metadata={"": {"日本": None}}) == {"x"}
        assert await found(metadata={"k": 1}, search="caf") == {"oslo"}
        assert await found(metadata={"tags": "a"}) == set()


class DeletionContract(FaceTests):
    """Deleted is deleted (P7)."""

    async def test_p7_a_deleted_thread_is_gone(self, face: Face) -> None:
        """Every namespace, from every reader, also one that had it at hand."""
        await face.aput_state(at(), AgentState(context=said("one")), name="n", messages=said("one"))
        await face.aput_state(at(namespace="x"), {"n": 1})
        await face.aput_state(at("other"), {"n": 2})
        await face.aget_state(at())
        assert await face.twin().adelete_thread(at(namespace="x")) is True
        assert await face.adelete_thread(at()) is False
        for other in (face, face.twin()):
            for config in (at(), at(namespace="x"), at(version=1), at(name="n")):
                assert await other.aget_state(config) is None
                assert await other.aget_state_cache(config) is None
                assert await other.aget_checkpoint(config) is None
            nothing: dict[str, Any] = {
                "state": None,
                "checkpoints": [],
                "messages": [],
                "thread": None,
            }
            assert await picture(other, at()) == nothing
            assert _ids(await other.alist_threads({})) == ["other"]
            assert await other.asearch_messages({}, "one") == []

    async def test_p7_a_late_writer_cannot_resurrect(self, face: Face) -> None:
        """A put that carries a base, or expects a version, never creates; by state, copy, number, Checkpoint."""
        checkpoint = await face.aput_state(at(), AgentState(context=said("one")))
        loaded = await face.aget_state(at())
        await face.adelete_thread(at())
        late: list[Callable[[], Any]] = [
            lambda: face.aput_state(at(), loaded),
            lambda: face.aput_state(at(), loaded.model_copy(deep=True)),
            lambda: face.aput_state(at(), {"n": 1}, expected_version=1),
            lambda: face.aput_state(at(), {"n": 1}, expected_version=checkpoint),
            lambda: face.aappend(at(), said("two"), expected_version=checkpoint),
        ]
        for call in late:
            await changes_nothing(face, at(), call, ThreadNotFoundError)
        assert await face.aget_thread(at()) is None

    async def test_p7_a_new_life_is_another_thread(self, face: Face) -> None:
        """Versions go on, and what was loaded in the life before never fits."""
        for n in range(3):
            first = await face.aput_state(at(), {"n": n}, metadata={"life": 1})
        loaded = await face.aget_state(at())
        created = (await face.aget_thread(at())).created_at
        await face.adelete_thread(at())
        again = await face.aput_state(at(), {"n": 9})
        assert (again.version, again.parent_version, again.base) == (4, None, None)
        assert again.incarnation != first.incarnation
        assert [c.version for c in await face.alist_checkpoints(at())] == [4]
        assert await face.aget_state(at(version=3)) is None
        assert await face.alist_checkpoints(at(), metadata={"life": 1}) == []
        assert (await face.aget_thread(at())).created_at >= created
        for call in (
            partial(face.aput_state, at(), loaded),
            partial(face.aput_state, at(), {"n": 1}, expected_version=first),
        ):
            await changes_nothing(face, at(), call, (ThreadNotFoundError, ConflictError))
        await face.adelete_thread(at())
        assert (await face.aput_state(at(), {}, expected_version=0)).version == 5

    async def test_p7_a_new_life_may_have_another_owner(self, face: Face) -> None:
        """And the owner of the life before sees nothing of it."""
        await face.aput_state(at(user_id="alice"), {"n": 1})
        await face.adelete_thread(at(user_id="alice"))
        await face.aput_state(at(user_id="bob"), {"n": 2})
        assert await face.aget_state(at(user_id="alice")) is None
        assert (await face.aget_thread(at())).user_id == "bob"

    async def test_p7_a_user_is_erased(self, face: Face) -> None:
        """Every thread of the user in every app of the tenant, and no other."""
        mine = [at("a"), at("b", app="x"), at("c", namespace="n")]
        others = [at("d"), at("e", user_id="bob"), at("f", user_id="alice", tenant="x")]
        for config in mine:
            await face.aput_state({**config, "user_id": "alice"}, {"n": 1}, messages=said("word"))
        for config in others:
            await face.aput_state(config, {"n": 1})
        receipt = await face.aerase_user({"user_id": "alice"})
        assert receipt["user_id"] == "alice"
        assert sorted(receipt["threads"]) == ["a", "b", "c"]
        assert [await face.aget_state(config) for config in mine] == [None] * 3
        assert [await face.aget_state(config) for config in others] == [{"n": 1}] * 3
        assert (await face.aerase_user({"user_id": "alice"}))["threads"] == []
        with pytest.raises(ValueError):
            await face.aerase_user({})

    async def test_p7_an_erased_user_leaves_no_name_in_the_forks_of_others(
        self, face: Face
    ) -> None:
        """They are named in the receipt, keep what they copied, and know no more of their origin than its version."""
        alice, bob = {"user_id": "alice"}, {"user_id": "bob"}
        for n in (1, 2):
            await face.aput_state(at(**alice), {"n": n})
        await face.aput_state(at("bobs", **bob), await face.aget_state(at()))
        await face.afork(at(**alice), "mine")
        await face.aput_state(at("other"), {"n": 3})
        await face.afork(at("other"), "fork")
        before = await face.aget_thread(at("bobs"))
        receipt = await face.aerase_user(alice)
        assert sorted(receipt["threads"]) == ["mine", "t"]
        assert receipt["forks_of_others"] == ["bobs"]
        assert receipt["scrubbed"] is not False
        after = await face.aget_thread(at("bobs", **bob))
        assert after.forked_from == Lineage(thread_id="", namespace="", version=2)
        assert after.activity_at == before.activity_at
        assert await face.aget_state(at("bobs", **bob)) == {"n": 2}
        assert (await face.averify(at("bobs"))).problems == []
        assert (await face.aget_thread(at("fork"))).forked_from.thread_id == "other"
        assert await face.alist_threads({"app": ERASURES}) == []

    async def test_p7_an_erasure_that_died_goes_on(
        self, face: Face, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Wherever it ended: the receipt of the call that ends it has everything since the first."""
        for dies_at in range(1, 9):
            alice = {"user_id": f"alice {dies_at}", "tenant": f"t{dies_at}"}
            bob = {"user_id": "bob", "tenant": f"t{dies_at}"}
            for name in ("a", "b"):
                await face.aput_state(at(name, **alice), {"n": 1})
            loaded = await face.aget_state(at("a", **alice))
            await face.aput_state(at("bobs", **bob), loaded)
            commit, left = face.target._engine.backend.commit, [dies_at]

            async def dying(batches: Any, commit: Any = commit, left: Any = left) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    raise UnavailableError("the store is gone")
                return await commit(batches)

            with monkeypatch.context() as patch:
                patch.setattr(face.target._engine.backend, "commit", dying)
                with contextlib.suppress(UnavailableError):
                    await face.aerase_user(alice)
            died = left[0] <= 0
            receipt = await face.aerase_user(alice)
            if not died:
                assert dies_at > 6
                assert receipt["threads"] == []
                break
            assert sorted(receipt["threads"]) == ["a", "b"]
            assert receipt["forks_of_others"] == ["bobs"]
            assert (await face.aget_thread(at("bobs", **bob))).forked_from.thread_id == ""
            assert await face.alist_threads({"tenant": f"t{dies_at}", "app": ERASURES}) == []
        else:
            raise AssertionError("an erasure has fewer commits than that")
