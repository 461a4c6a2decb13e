"""What must be true of owners and names: another user's thread does not exist, and names are checked (P8)."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from contextlib import suppress
from keyword import iskeyword
from types import MappingProxyType
from typing import Any

import pytest

from threadline.checkpointer import BaseCheckpointer
from threadline.errors import ThreadlineError, ThreadNotFoundError
from threadline.history.retention import RetentionPolicy
from threadline.model import AgentState, ThreadInfo
from threadline.store import Head
from threadline.testing.faces import Face, FaceTests, at, picture, said

#: Every public method as another user calls it: its name, the call, and what it answers. An error: it raises that.
#: `...`: it answers what it would for a thread that does not exist.
CALLS: list[tuple[str, Callable[[Face, Any], Any], Any]] = [
    ("aget_state", lambda f, c: f.aget_state(c), None),
    ("aget_state", lambda f, c: f.aget_state({**c, "version": 1}), None),
    ("aget_state_cache", lambda f, c: f.aget_state_cache(c), None),
    ("aget_checkpoint", lambda f, c: f.aget_checkpoint(c), None),
    ("aget_checkpoint", lambda f, c: f.aget_checkpoint({**c, "name": "first"}), None),
    ("alist_checkpoints", lambda f, c: f.alist_checkpoints(c), []),
    ("aput_state", lambda f, c: f.aput_state(c, {"n": 9}, messages=said("x")), ThreadNotFoundError),
    ("aput_state", lambda f, c: f.aput_state(c, {}, expected_version=1), ThreadNotFoundError),
    ("aput_state", lambda f, c: f.aput_state(c, {}, expected_version=0), ThreadNotFoundError),
    ("aappend", lambda f, c: f.aappend(c, said("x")), ThreadNotFoundError),
    ("aclear_state", lambda f, c: f.aclear_state(c), None),
    ("aput_messages", lambda f, c: f.aput_messages(c, said("x")), ThreadNotFoundError),
    ("aget_message", lambda f, c: f.aget_message(c, "m1"), None),
    ("alist_messages", lambda f, c: f.alist_messages(c), []),
    ("alist_messages", lambda f, c: f.alist_messages(c, search="one"), []),
    ("alist_messages", lambda f, c: f.alist_messages(c, after="m1"), ValueError),
    ("aiter_messages", lambda f, c: f.collect("aiter_messages", c), []),
    ("asearch_messages", lambda f, c: f.asearch_messages(c, "one"), []),
    ("adelete_message", lambda f, c: f.adelete_message(c, "m1"), False),
    ("apop_messages", lambda f, c: f.apop_messages(c), []),
    (
        "areplace_messages",
        lambda f, c: f.areplace_messages(c, after=None, expected_tail=[], messages=said("x")),
        ThreadNotFoundError,
    ),
    ("aclear_messages", lambda f, c: f.aclear_messages(c), 0),
    ("aredact", lambda f, c: f.aredact(c, "m1"), ...),
    ("aput_thread", lambda f, c: f.aput_thread(c, ThreadInfo(thread_id="t")), ThreadNotFoundError),
    ("aget_thread", lambda f, c: f.aget_thread(c), None),
    ("alist_threads", lambda f, c: f.alist_threads(c), []),
    ("alist_threads", lambda f, c: f.alist_threads(c, after="t"), ValueError),
    ("adelete_thread", lambda f, c: f.adelete_thread(c), False),
    ("aerase_user", lambda f, c: f.aerase_user(c), ...),
    ("aname_checkpoint", lambda f, c: f.aname_checkpoint(c, "x"), ThreadNotFoundError),
    ("afork", lambda f, c: f.afork(c, "new"), ThreadNotFoundError),
    ("afork history", lambda f, c: f.afork(c, "new", history=True), ThreadNotFoundError),
    ("store.acopy", lambda f, c: f.store.acopy(c, "new"), ThreadNotFoundError),
    ("arollback", lambda f, c: f.arollback(c, 1), ThreadNotFoundError),
    ("adiff", lambda f, c: f.adiff(c, 1), ValueError),
    ("aexport", lambda f, c: f.aexport(c, io.BytesIO()), ...),
    ("astats", lambda f, c: f.astats(c), ...),
    ("averify", lambda f, c: f.averify(c), ...),
    ("aprune", lambda f, c: f.aprune(c, RetentionPolicy(keep_last=1, keep_named=False)), ...),
]  # fmt: skip
#: Methods that are about no thread.
NO_THREAD = {"asetup", "arelease", "ahealth", "aimport"}

#: Owners, and users who are not them.
FOREIGN: list[tuple[Any, Any]] = [
    ("alice", "bob"),
    ("alice", "Alice"),
    ("alice", "alice "),
    (7, "7"),
    ("7", 7),
    ("i:7", 7),
    (0, -1),
    (None, "alice"),
]


class TenancyContract(FaceTests):
    """Another user's thread does not exist: every read is empty, every write refused, and nothing changes."""

    @pytest.mark.parametrize(("owner", "user"), FOREIGN)
    async def test_p8_another_user_finds_nothing(self, face: Face, owner: Any, user: Any) -> None:
        """Every public method, with the thread in the caches; what is foreign looks like what is missing."""
        mine, foreign = at(user_id=owner), at(user_id=user)
        await _filled(face, mine)
        before = await picture(face, mine)
        for name, call, wanted in _calls(face):
            if isinstance(wanted, type):
                with pytest.raises(wanted):
                    await call(face, foreign)
            else:
                missing = await call(face, at("t", user_id=user, tenant="empty"))
                found = await call(face, foreign)
                assert (name, found) == (name, missing)
                assert wanted is ... or found == wanted
            assert await picture(face, mine) == before, name

    async def test_p8_the_matrix_has_every_method(self, face: Face) -> None:
        """A public method that the matrix above does not try would be a hole."""
        public = {
            name
            for name, value in inspect.getmembers(BaseCheckpointer, inspect.isfunction)
            if name.startswith("a")
            and (inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value))
        }
        assert public - NO_THREAD == {name for name, _, _ in _calls(face)}
        twins = {name.removeprefix("a") for name in public}
        assert [
            twin for twin in sorted(twins) if not (iskeyword(twin) or hasattr(face.target, twin))
        ] == []

    async def test_p8_the_store_keeps_owners_apart(self, face: Face) -> None:
        """The floor for adapters as well."""
        mine, foreign, store = at(user_id="alice"), at(user_id="bob"), face.store
        await _filled(face, mine)
        before = await picture(face, mine)
        assert await store.aread(foreign) == await store.aread(at("none")) == Head()
        assert await store.collect("ascan", foreign) == []
        for parts in ({"create": True}, {}, {"clear_entries": True}, {"erase": True}):
            batch = await store.abatch(foreign, "x", **parts)
            with pytest.raises(ThreadNotFoundError):
                await store.acommit(batch)
        assert await store.aerase(foreign) is False
        assert await picture(face, mine) == before
        assert [row.thread_id for row in await store.collect("ascan", mine)] == ["t"]

    async def test_p8_a_call_without_a_user_sees_every_thread(self, face: Face) -> None:
        """And a thread without owner is seen by no user."""
        for thread_id, user in (("a", "alice"), ("b", 7), ("c", None)):
            await _filled(face, at(thread_id, user_id=user))
        for thread_id in "abc":
            assert (await face.aget_state(at(thread_id))).context == said("one")
            await face.aput_messages(at(thread_id), said("two", ids="n"))
        owners = {info.thread_id: info.user_id for info in await face.alist_threads({})}
        assert owners == {"a": "alice", "b": 7, "c": None}
        assert [t.thread_id for t in await face.alist_threads({"user_id": 7})] == ["b"]
        assert type((await face.aget_thread(at("b"))).user_id) is int

    async def test_p8_a_redaction_leaves_the_forks_of_others(self, face: Face) -> None:
        """They are named in the receipt, and not touched."""
        await _filled(face, at())
        await face.aput_thread(at(), ThreadInfo(thread_id="t", user_id="alice"))
        state = await face.aget_state(at())
        await face.aput_state(at("b", user_id="bob"), state)
        receipt = await face.aredact(at(user_id="alice"), "m1")
        assert receipt["forks_of_others"] == ["b"]
        assert set(receipt["threads"]) == {"t"}
        assert (await face.aget_state(at("b"))).context == said("one")
        assert (await face.aget_state(at())).context[0].text() == ""

    async def test_p8_a_user_may_be_required(self, face: Face) -> None:
        """Then every call without one is a ValueError, and nothing is written."""
        strict = face.twin(require_user=True)
        for _, call, _ in _calls(face):
            with pytest.raises(ValueError, match="user_id"):
                await call(strict, at())
        for store_call in (strict.store.aread, strict.store.aerase):
            with pytest.raises(ValueError):
                await store_call(at())
        with pytest.raises(ValueError):
            await strict.store.abatch(at(), "x")
        with pytest.raises(ValueError):
            await strict.store.collect("ascan", {})
        assert await face.alist_threads({}) == []
        await strict.aput_state(at(user_id="alice"), {"n": 1})
        assert await strict.aget_state(at(user_id="alice")) == {"n": 1}


#: Names that are refused wherever they may stand, and as what.
WRONG_TEXTS: list[tuple[Any, type[Exception]]] = [
    *(
        (text, ValueError)
        for text in ("a\x00b", "a\nb", "\x1f", "\x7f", "\x85", "\ud800", "a\udfff")
    ),
    *((kind, TypeError) for kind in (b"t", 1.5, True, ["t"], {"t": 1}, object())),
]
#: Names that are names like any other.
GOOD_TEXTS = [
    " ",
    " t",
    "t ",
    "T",
    "t",
    "../../etc",
    "'; --",
    "%",
    "日本",
    "🎉",
    "e\u0301",
    "é",
    "\u200b",
    "0",
    "None",
]


class NamesContract(FaceTests):
    """The names in a config."""

    async def test_p8_names_have_bounds(self, face: Face) -> None:
        """255 characters for user, tenant and app, 1,024 for thread and namespace; not one more."""
        bounds = {"thread_id": 1024, "namespace": 1024, "user_id": 255, "tenant": 255, "app": 255}
        longest = {key: "é" * bound for key, bound in bounds.items()}
        await face.aput_state(longest, {"n": 1})
        assert await face.aget_state(longest) == {"n": 1}
        for key in ("run_id", "checkpoint_id", "name"):
            with pytest.raises(ValueError):
                await face.aget_state(at(**{key: "x" * 256}))
        for key, bound in bounds.items():
            with pytest.raises(ValueError):
                await face.aput_state({**at(), key: "x" * (bound + 1)}, {"n": 1})
        for name in ("x" * 256, "", "a\nb"):
            with pytest.raises(ValueError):
                await face.aput_state(at(), {"n": 1}, name=name)
        assert len(await face.alist_threads({})) == 0

    async def test_p8_wrong_names_are_refused(self, face: Face) -> None:
        """Control characters, surrogates and other types, before anything is written or read."""
        keys = ["thread_id", "user_id", "tenant", "app", "namespace", "run_id"]
        for key in keys:
            for wrong, error in WRONG_TEXTS:
                config = {**at(), key: wrong}
                with pytest.raises(error):
                    await face.aput_state(config, {"n": 1})
                with pytest.raises(error):
                    await face.aget_state(config)
                with pytest.raises(error):
                    await face.aput_messages(config, said("one"))
        for config in ({}, {"thread_id": None}, {"thread_id": ""}, at(user_id="")):
            with pytest.raises(ValueError):
                await face.aput_state(config, {"n": 1})
        for number in (2**63, -(2**63) - 1):
            with pytest.raises(ValueError):
                await face.aput_state(at(user_id=number), {"n": 1})
        for no_dict in (None, "t", [("thread_id", "t")], 7):
            with pytest.raises(TypeError):
                await face.aput_state(no_dict, {"n": 1})
        with pytest.raises(TypeError):
            await face.aput_state(at(7), {"n": 1})  # type: ignore[arg-type]
        assert await face.alist_threads({}) == []

    @pytest.mark.parametrize("key", ["thread_id", "namespace", "tenant", "app", "user_id"])
    async def test_p8_names_are_kept_as_they_are(self, face: Face, key: str) -> None:
        """White space, case and composed forms make another name."""
        for n, text in enumerate(GOOD_TEXTS):
            thread = {"thread_id": f"t{n}" if key == "user_id" else "t"}
            await face.aput_state({**thread, key: text}, {"n": n})
        for n, text in enumerate(GOOD_TEXTS):
            thread = {"thread_id": f"t{n}" if key == "user_id" else "t"}
            assert await face.aget_state({**thread, key: text}) == {"n": n}
            checkpoint = await face.aget_checkpoint({**thread, key: text})
            assert checkpoint.version == 1
        if key == "thread_id":
            assert {t.thread_id for t in await face.alist_threads({})} == set(GOOD_TEXTS)
        if key == "user_id":
            assert {t.user_id for t in await face.alist_threads({})} == set(GOOD_TEXTS)
        if key == "namespace":
            assert len(await face.alist_threads({})) == 1

    async def test_p8_a_config_is_never_written_to(self, face: Face) -> None:
        """A mapping that refuses changes serves as well; what frameworks add to it is ignored."""
        extra = {"checkpoint_ns": object(), "callbacks": [1], 7: "int key", "recursion_limit": 25}
        config: dict[Any, Any] = {**at(user_id="alice", run_id="r"), **extra}
        kept = dict(config)
        frozen = MappingProxyType(config)
        for _, call, _ in _calls(face):
            for each in (config, frozen):
                with suppress(ThreadlineError, ValueError):
                    await call(face, each)
        assert config == kept
        await face.aput_state(frozen, {"n": 1})
        assert (await face.aget_checkpoint(frozen)).run_id == "r"
        assert config == kept


def _calls(face: Face) -> list[tuple[str, Callable[[Face, Any], Any], Any]]:
    """The calls that this checkpointer has."""
    return [each for each in CALLS if hasattr(face.target, each[0])]


async def _filled(face: Face, config: dict[str, Any]) -> None:
    """A thread with a state, a past, messages and a name, read once, so that caches hold it."""
    await face.aput_state(
        config, AgentState(context=said("one")), name="first", messages=said("one")
    )
    await face.aput_state(config, AgentState(context=said("one")))
    info = ThreadInfo(thread_id=config["thread_id"], thread_name="one")
    await face.aput_thread(config, info)
    await face.aget_state(config)
