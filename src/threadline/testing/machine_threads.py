"""Rules on threads and on the store: described, listed, erased and made anew; writes repeated, the store restarted."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from threadline.checkpointer import BaseCheckpointer
from threadline.codec.terms import matches
from threadline.errors import ThreadlineError
from threadline.model import Checkpoint, ThreadInfo
from threadline.testing.machine_base import (
    PLACES,
    THREADS,
    Done,
    Table,
    agree,
    config_of,
    users,
    which,
)
from threadline.testing.machine_states import Edit, edit, edits
from threadline.testing.model import User
from threadline.testing.naive import folded
from threadline.testing.strategies import moments, objects, sentences

#: Writes that name what may be gone when they are repeated: a message, an owner, a version, a thread.
MAY_BE_GONE = (
    "areplace_messages",
    "aput_thread",
    "aname_checkpoint",
    "arollback",
    "afork",
)
threads = st.sampled_from(THREADS)
infos = st.builds(
    ThreadInfo,
    thread_id=threads,
    thread_name=st.none() | sentences,
    user_id=st.sampled_from([None, None, "alice", 7]),
    metadata=objects,
    updated_at=st.none() | moments.filter(lambda at: 1 < at.year < 9999),
    run_id=st.none() | st.just("run"),
    stop_requested=st.booleans(),
)


class ThreadRules(Table):
    """What can be done with threads."""

    @rule(info=infos, user=users)
    def put_thread(self, info: ThreadInfo, user: User) -> None:
        """Something is said of a thread."""
        self.write(
            "aput_thread",
            config_of((info.thread_id, ""), user),
            lambda: self.world.put_thread(info, user),
            info,
        )

    @rule(thread_id=threads, user=users, sure=st.integers(0, 2))
    def delete_thread(self, thread_id: str, user: User, sure: int) -> None:
        """A thread goes for good, now and then; the next write makes another of that name."""
        if sure < 2:
            return
        answers = self.write(
            "adelete_thread",
            config_of((thread_id, ""), user),
            lambda: self.world.delete_thread(thread_id, user),
        )
        assert answers is not None
        assert answers[0] is answers[1]

    @rule(
        user=users,
        search=st.none() | sentences | st.sampled_from(["t", "T2", "1"]),
        number=which,
        meta=st.none() | objects,
        limit=st.none() | st.integers(1, 3),
        offset=st.integers(0, 2),
        oldest=st.booleans(),
    )
    def list_threads(
        self,
        user: User,
        search: str | None,
        number: int,
        meta: dict[str, Any] | None,
        limit: int | None,
        offset: int,
        oldest: bool,
    ) -> None:
        """Threads are listed by every filter there is."""
        found = self.world.listed(user)
        if oldest:
            found.reverse()
        after = found[number % len(found)] if found and number % 2 else None
        if after is not None:
            found = found[found.index(after) + 1 :]
        found = [
            info
            for info in found
            if (not meta or matches(info.metadata, meta))
            and (not search or self._named(search, info))
        ]
        config = {"user_id": user} if user is not None else {}
        real = self.read(
            "alist_threads",
            config,
            search=search,
            metadata=meta,
            limit=limit,
            offset=offset,
            after=after.thread_id if after else None,
            order="oldest" if oldest else "newest",
        )
        agree("threads", [timeless(info) for info in real], found[offset:][:limit])
        for thread_id in THREADS:
            seen = self.world.seen(thread_id, user)
            one = self.read("aget_thread", config_of((thread_id, ""), user))
            agree("thread", timeless(one), self.world.described(thread_id) if seen else None)

    def _named(self, search: str, info: ThreadInfo) -> bool:
        return any(
            folded(search) in folded(name) for name in (info.thread_name or "", info.thread_id)
        )

    @precondition(lambda self: self.done)
    @rule(number=which, changes=edits)
    def repeat(self, number: int, changes: list[Edit]) -> None:
        """A write is repeated with its `op_id`: it answers as before and changes nothing."""
        done = self.done[number % len(self.done)]
        if done.handle is not None:
            for change in changes:
                edit(done.handle.state, change)
        thread = self.world.threads.get(done.config["thread_id"])
        same_life = thread is not None and thread.life == done.life
        try:
            answer = self.read(done.name, done.config, *done.args, **done.kwargs)
        except (ThreadlineError, ValueError):
            # What it names may be gone since; then it is refused, and still does nothing.
            assert not same_life or done.name in MAY_BE_GONE
            return
        if done.handle is not None:
            place = (done.config["thread_id"], done.config.get("namespace", ""))
            done.handle.moved(place, done.life, done.answer.version)
        if same_life or not _lost_with_the_thread(done):
            whole = same_life and self._is_there(done)
            agree(f"repeated {done.name}", _answer(answer, whole), _answer(done.answer, whole))

    def _is_there(self, done: Done) -> bool:
        """Whether a version that was made has not been pruned, and lives: else little more than its number is known."""
        if not isinstance(done.answer, Checkpoint):
            return True
        place = done.answer.thread_id, done.answer.namespace
        there = self.world.space(place, None).versions.get(done.answer.version)
        return there is not None and there.life == done.made

    @precondition(lambda self: self.durable)
    @rule()
    def restart(self) -> None:
        """The checkpointer is released and another one opened on the same store."""
        self.call(self.checkpointer, "arelease")
        fresh = self.reopen()
        assert fresh is not None
        self.checkpointer, self.cold = fresh, BaseCheckpointer(fresh._engine.backend, None)

    @rule(user=st.sampled_from(["mallory", 8, "8"]))
    def stranger(self, user: User) -> None:
        """Whoever owns nothing sees nothing and takes nothing away."""
        for place in PLACES:
            config = config_of(place, user)
            assert self.read("aget_state", config) is None
            assert self.read("aget_checkpoint", {**config, "version": 1}) is None
            assert self.read("alist_checkpoints", config) == []
            assert self.read("alist_messages", config) == []
            assert self.read("aget_thread", config) is None
            assert self.read("apop_messages", config) == []
            assert self.read("aclear_messages", config) == 0
            assert self.read("aclear_state", config) is None
            assert self.read("adelete_thread", config) is False
        assert self.read("alist_threads", {"user_id": user}) == []


def timeless(info: ThreadInfo | None) -> ThreadInfo | None:
    """A thread without the store's times."""
    if info is None:
        return None
    assert info.created_at is not None
    assert info.activity_at is not None
    assert info.created_at <= info.activity_at
    return info.model_copy(update={"created_at": None, "activity_at": None})


def _lost_with_the_thread(done: Done) -> bool:
    """Answers that go with the thread's content, or look missing when the thread is another's now."""
    return done.name in (
        "apop_messages",
        "aclear_messages",
        "aclear_state",
        "adelete_message",
        "adelete_thread",
    )


def _answer(answer: Any, whole: bool) -> Any:
    if isinstance(answer, Checkpoint):
        # Its name may be another by now.
        return dataclasses.replace(answer, name=None) if whole else answer.version
    return answer
