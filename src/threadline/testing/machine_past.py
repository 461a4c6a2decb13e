"""Rules on the past: named, rolled back, forked, pruned, verified, carried to another store; users erased."""

from __future__ import annotations

import io
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from threadline.checkpointer import BaseCheckpointer
from threadline.history.retention import RetentionPolicy
from threadline.testing.machine_base import (
    THREADS,
    Table,
    agree,
    agree_on_checkpoint,
    config_of,
    names,
    places,
    users,
    which,
)
from threadline.testing.model import Place, User
from threadline.testing.strategies import objects

threads = st.sampled_from(THREADS)


class PastRules(Table):
    """What can be done with a past."""

    def _version(self, place: Place, number: int) -> int:
        """Most often one that is there."""
        there = sorted(self.world.space(place, None).versions)
        return there[number % len(there)] if there and number % 8 else 1 + number

    @rule(place=places, user=users, number=which, name=names, head=st.booleans())
    def name_checkpoint(
        self, place: Place, user: User, number: int, name: str | None, head: bool
    ) -> None:
        """A version gets a name, another one, or none."""
        version = None if head else self._version(place, number)
        past = {} if version is None else {"version": version}
        answers = self.write(
            "aname_checkpoint",
            config_of(place, user, **past),
            lambda: self.world.name(place, user, version, name),
            name,
        )
        if answers:
            agree_on_checkpoint(*answers)

    @rule(
        place=places,
        user=users,
        number=which,
        by_name=st.booleans(),
        expected=st.sampled_from(["any", "any", "head", "other"]),
        metadata=objects,
    )
    def rollback(
        self,
        place: Place,
        user: User,
        number: int,
        by_name: bool,
        expected: str,
        metadata: dict[str, Any],
    ) -> None:
        """An old state becomes the head again, in the store."""
        version = None if by_name else self._version(place, number)
        name = "checked" if by_name else None
        head = self.world.space(place, None).head
        wanted = {"any": None, "head": head or None, "other": head + 1}[expected]
        answers = self.write(
            "arollback",
            config_of(place, user),
            lambda: self.world.rollback(place, user, version, name, wanted, metadata),
            version if version is not None else "checked",
            metadata=metadata,
            expected_version=wanted,
        )
        if answers:
            agree_on_checkpoint(*answers)

    @rule(place=places, user=users, number=which, head=st.booleans(), into=threads)
    def fork_in_the_store(
        self, place: Place, user: User, number: int, head: bool, into: str
    ) -> None:
        """A thread is copied into another, as it is or as it was."""
        version = None if head else self._version(place, number)
        past = {} if version is None else {"version": version}
        answers = self.write(
            "afork",
            config_of(place, user, **past),
            lambda: self.world.fork(place, user, version, into, {"by": "fork"}),
            into,
            metadata={"by": "fork"},
        )
        if answers:
            agree_on_checkpoint(*answers)

    @rule(place=places, user=users, into=threads)
    def copy_with_history(self, place: Place, user: User, into: str) -> None:
        """A thread is copied with all of its past."""
        answers = self.write(
            "afork",
            config_of(place, user),
            lambda: self.world.copy(place, user, into),
            into,
            history=True,
        )
        if answers:
            agree_on_checkpoint(*answers)

    @rule(thread_id=st.none() | threads, user=users, last=st.integers(1, 6), named=st.booleans())
    def prune(self, thread_id: str | None, user: User, last: int, named: bool) -> None:
        """Old versions go; a dry run says the same, and takes nothing."""
        config: dict[str, Any] = {} if user is None else {"user_id": user}
        if thread_id is not None:
            config["thread_id"] = thread_id
        policy = RetentionPolicy(keep_last=last, keep_named=named, keep_branch_points=False)
        dry = self.read("aprune", config, policy, dry_run=True)
        report = self.read("aprune", config, policy, batch_size=2)
        gone = self.world.prune(thread_id, user, last, named)
        assert (dry.checkpoints, report.checkpoints) == (gone, gone)
        assert (dry.rows, dry.blobs, dry.bytes) == (report.rows, report.blobs, report.bytes)

    @rule(thread_id=threads)
    def verify(self, thread_id: str) -> None:
        """Nothing is ever wrong."""
        report = self.read("averify", {"thread_id": thread_id})
        assert report.problems == []
        thread = self.world.threads.get(thread_id)
        spaces = thread.spaces.values() if thread else ()
        assert report.checkpoints == sum(len(space.versions) for space in spaces)
        assert report.messages == sum(len(space.log) for space in spaces)

    @rule(sure=st.integers(0, 3))
    def carry(self, sure: int) -> None:
        """Everything is exported, and the game goes on in another store, into which it was imported."""
        if sure < 3:
            return
        file = io.BytesIO()
        self.read("aexport", {}, file)
        fresh = self.open()
        file.seek(0)
        self.call(fresh, "aimport" if self.loop else "import_", file)
        again = io.BytesIO()
        self.call(fresh, "aexport", {}, again)
        there, here = again.getvalue().splitlines(), file.getvalue().splitlines()
        agree("export", there[:-1], here[:-1])  # The last line has the digest of all before it.
        agree("export", there, here)
        self.call(self.checkpointer, "arelease")
        self.checkpointer, self.cold = fresh, BaseCheckpointer(fresh._engine.backend, None)
        self.world.carried()
        self.done = []
        for handle in self.handles:
            handle.at.clear()  # A base is of one store.

    @rule(user=st.sampled_from(["alice", "bob", 7]), sure=st.integers(0, 3))
    def erase_user(self, user: User, sure: int) -> None:
        """Every thread of a user goes for good."""
        if sure < 3:
            return
        receipt = self.read("aerase_user", {"user_id": user})
        mine, forks = self.world.erase_user(user)
        assert (set(receipt["threads"]), set(receipt["forks_of_others"])) == (mine, forks)
        assert receipt["scrubbed"] is not False
