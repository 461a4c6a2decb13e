"""Rules on the message log: put, replaced, read, searched, removed, redacted."""

from __future__ import annotations

from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.stateful import rule

from threadline.codec.terms import matches
from threadline.model import Message
from threadline.testing.machine_base import (
    Table,
    agree,
    config_of,
    message_ids,
    places,
    users,
    which,
)
from threadline.testing.model import Kept, Place, User
from threadline.testing.naive import found_by
from threadline.testing.strategies import ODD_TEXTS, WORDS, message, small_values

beside = st.dictionaries(st.sampled_from(["node", "run", "%"]), small_values, max_size=2)
searches = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(WORDS).map(str.upper),
    st.sampled_from(ODD_TEXTS),
    st.lists(st.sampled_from(WORDS), min_size=2, max_size=2).map(" ".join),
    st.sampled_from(["osl", "5", "本", "caf", '"oslo"', "NEAR", "'", "2", "5.", "nothing here"]),
)
sizes = st.none() | st.integers(1, 6)


class MessageRules(Table):
    """What can be done with messages."""

    @rule(
        place=places,
        user=users,
        messages=st.lists(message(message_ids), max_size=5),
        meta=beside,
        how=st.sampled_from(["replace", "replace", "ignore"]),
    )
    def put_messages(
        self,
        place: Place,
        user: User,
        messages: list[Message],
        meta: dict[str, Any],
        how: Literal["replace", "ignore"],
    ) -> None:
        """Messages come to the end, or replace those with their ids in place."""
        self.write(
            "aput_messages",
            config_of(place, user),
            lambda: self.world.put_messages(place, user, messages, meta, how),
            messages,
            meta,
            on_duplicate=how,
        )

    @rule(
        place=places,
        user=users,
        how=st.sampled_from(["delete", "delete", "pop", "pop", "clear"]),
        message_id=message_ids,
        count=st.integers(1, 3),
    )
    def remove_messages(
        self, place: Place, user: User, how: str, message_id: str, count: int
    ) -> None:
        """One message goes, or the newest, or all."""
        ids = self._ids(self.world.space(place, user).log)
        if how == "delete" and message_id not in ids:
            assert self.read("adelete_message", config_of(place, user), message_id) is False
            return
        gone = {"delete": [message_id], "pop": ids[-count:], "clear": ids}[how]
        calls: dict[str, tuple[str, list[Any]]] = {
            "delete": ("adelete_message", [message_id]),
            "pop": ("apop_messages", [count]),
            "clear": ("aclear_messages", []),
        }
        name, args = calls[how]
        answers = self.write(
            name,
            config_of(place, user),
            lambda: self.world.remove(place, user, gone),
            *args,
        )
        assert answers is not None
        if how == "pop":
            agree("popped", *answers)
        else:
            assert answers[0] == len(answers[1])

    @rule(
        place=places,
        user=users,
        number=which,
        as_messages=st.booleans(),
        wrong=st.sampled_from([False, False, False, True]),
        messages=st.lists(message(message_ids), max_size=3),
    )
    def replace_messages(
        self,
        place: Place,
        user: User,
        number: int,
        as_messages: bool,
        wrong: bool,
        messages: list[Message],
    ) -> None:
        """The end of the log becomes another, if it is what the caller read."""
        log = self.world.space(place, user).log
        wrong = wrong and self.world.seen(place[0], user) is not None
        start = number % (len(log) + 1)
        after = self._ids(log)[start - 1] if start else None
        tail = self._ids(log)[start:] + (["m0"] if wrong else [])
        read: list[Any] = list(tail)
        if as_messages and not wrong:
            read = self.read("alist_messages", config_of(place, user), after=after)
        self.write(
            "areplace_messages",
            config_of(place, user),
            lambda: self.world.replace_messages(place, user, after, tail, messages),
            after=after,
            expected_tail=read,
            messages=messages,
        )

    @rule(
        place=places,
        user=users,
        role=st.none() | st.sampled_from(["user", "assistant", "tool"]),
        search=st.none() | searches,
        limit=sizes,
        offset=st.none() | st.integers(0, 3),
        last=sizes,
        number=which,
        meta=st.sampled_from([None, None, {"node": 1}, {"run": None}, {}]),
    )
    def list_messages(
        self,
        place: Place,
        user: User,
        role: str | None,
        search: str | None,
        limit: int | None,
        offset: int | None,
        last: int | None,
        number: int,
        meta: dict[str, Any] | None,
    ) -> None:
        """Messages are listed by every filter there is."""
        log = self.world.space(place, user).log
        after = log[number % len(log)].message.message_id if log and number % 3 == 0 else None
        found = [
            kept.read()
            for kept in log[self._ids(log).index(after) + 1 if after else 0 :]
            if role in (None, kept.message.role)
            and (search is None or found_by(search, kept.message.text()))
            and (not meta or matches(kept.beside, meta))
        ]
        if last is not None:
            limit = offset = None
            found = found[-last:]
        found = found[offset or 0 :][:limit]
        asked = {
            "role": role,
            "search": search,
            "limit": limit,
            "offset": offset,
            "last": last,
            "after": after,
            "metadata": meta,
        }
        real = self.read("alist_messages", config_of(place, user), **asked)
        agree(f"messages of {place} for {user!r} by {asked}", real, found)
        for kept in log[number % 7 : number % 7 + 1]:
            one = self.read("aget_message", config_of(place, user), kept.message.message_id)
            agree("message", one, kept.read())

    @rule(user=users, search=searches)
    def search_messages(self, user: User, search: str) -> None:
        """Messages of all threads are searched."""
        wanted = [
            (thread_id, kept.read())
            for thread_id, thread in sorted(self.world.threads.items())
            if self.world.seen(thread_id, user)
            for _, space in sorted(thread.spaces.items())
            for kept in space.log
            if search.strip() and found_by(search, kept.message.text())
        ]
        config = {"user_id": user} if user is not None else {}
        real = self.read("asearch_messages", config, search, limit=1000)
        agree(f"search for {search!r}", sorted(real, key=repr), sorted(wanted, key=repr))

    @rule(place=places, user=users, message_id=message_ids, sure=st.integers(0, 2))
    def redact(self, place: Place, user: User, message_id: str, sure: int) -> None:
        """A message's content goes out of everything; states in hand are let go, since they still hold it."""
        if sure < 2:
            return
        receipt = self.read("aredact", config_of(place, user), message_id)
        threads, others = self.world.redact(place[0], user, message_id)
        loose = {name for name, thread in self.world.threads.items() if thread.loose}
        assert threads <= set(receipt["threads"]) <= threads | loose
        assert set(receipt["forks_of_others"]) == others
        self.handles, self.done = [], []

    @staticmethod
    def _ids(log: list[Kept]) -> list[str]:
        return [kept.message.message_id for kept in log]
