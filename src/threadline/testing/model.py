"""What a checkpointer must do, in plain dicts: the model that the state machine judges by.

It keeps every version whole, checks nothing twice and saves nothing. Each method does what the call of the same name
does and returns or raises what that must return or raise (the class of the error is what counts).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from threadline.errors import ConflictError, ThreadNotFoundError
from threadline.model import Lineage, Message, StateDict, ThreadInfo
from threadline.testing.naive import tombstone

User = str | int | None
#: A thread and a namespace.
Place = tuple[str, str]


@dataclass(frozen=True)
class Version:
    """One version of a state, as it was put. `state` is None where it was cleared. `at`: the commit that made it."""

    version: int
    state: Any
    name: str | None
    metadata: dict[str, Any]
    parent: int | None
    base: int | None
    life: int
    at: int

    @property
    def kind(self) -> type:
        """The class that the state is read as."""
        return dict if isinstance(self.state, dict) else type(self.state)


@dataclass
class Kept:
    """One message of a log, the metadata that was put beside it, and the commit that put it."""

    message: Message
    beside: dict[str, Any]
    at: int

    def read(self) -> Message:
        """The message as it is read."""
        merged = {**self.beside, **self.message.metadata}
        return self.message.model_copy(update={"metadata": merged})


@dataclass
class Space:
    """One namespace of a thread."""

    versions: dict[int, Version] = field(default_factory=dict)
    head: int = 0
    log: list[Kept] = field(default_factory=list)


@dataclass
class Thread:
    """One life of a thread."""

    life: int
    owner: User
    spaces: dict[str, Space] = field(default_factory=dict)
    info: ThreadInfo | None = None
    lineage: Lineage | None = None
    active: int = 0
    #: Whether its rows may hold items that none of its versions shows: what a prune or a fork leaves in shared rows.
    loose: bool = False


@dataclass
class Handle:
    """A state in someone's hands: where it was loaded from or put to, the last touched last."""

    state: Any
    at: dict[Place, tuple[int, int]] = field(default_factory=dict)

    def moved(self, place: Place, life: int, version: int) -> None:
        """Remember a load or a put; what cannot carry a base (a plain dict) forgets it."""
        if type(self.state) is not dict:
            self.at.pop(place, None)
            self.at[place] = (life, version)


class World:
    """Every thread, for one tenant and app."""

    def __init__(self) -> None:
        self.threads: dict[str, Thread] = {}
        self.last: dict[Place, int] = {}
        self.lives = self.commits = 0

    # Threads ------------------------------------------------------------------------------------------

    def seen(self, thread_id: str, user: User) -> Thread | None:
        """A thread that lives and that this user may see."""
        thread = self.threads.get(thread_id)
        if thread is None or (user is not None and not _is_user(thread.owner, user)):
            return None
        return thread

    def space(self, place: Place, user: User) -> Space:
        """A namespace as this user sees it; an empty one where there is none."""
        thread = self.seen(place[0], user)
        return thread.spaces.get(place[1], Space()) if thread else Space()

    def open(self, thread_id: str, user: User) -> Thread:
        """The thread to write to, made when it is missing."""
        if thread_id in self.threads and self.seen(thread_id, user) is None:
            raise ThreadNotFoundError()
        if thread_id not in self.threads:
            self.lives += 1
            self.threads[thread_id] = Thread(self.lives, user)
        return self._touched(thread_id)

    def put_thread(self, info: ThreadInfo, user: User) -> None:
        """Say something of a thread."""
        there = self.seen(info.thread_id, user)
        if info.user_id is not None and user is not None and not _is_user(info.user_id, user):
            raise ValueError
        owner = there.owner if there is not None else None
        if None not in (owner, info.user_id) and not _is_user(owner, info.user_id):
            raise ValueError
        thread = self.open(info.thread_id, user)
        thread.info = info
        if thread.owner is None:
            thread.owner = info.user_id

    def delete_thread(self, thread_id: str, user: User) -> bool:
        """Take a thread away; its counters stay."""
        if self.seen(thread_id, user) is None:
            return False
        del self.threads[thread_id]
        return True

    def listed(self, user: User) -> list[ThreadInfo]:
        """Every thread that a user sees, most recent activity first, without the store's times."""
        found = [
            (thread.active, thread_id)
            for thread_id, thread in self.threads.items()
            if self.seen(thread_id, user)
        ]
        return [self.described(thread_id) for _, thread_id in sorted(found, reverse=True)]

    def described(self, thread_id: str) -> ThreadInfo:
        """What is known of a thread, without the store's times."""
        thread = self.threads[thread_id]
        said = thread.info or ThreadInfo(thread_id=thread_id)
        counts = {
            "user_id": thread.owner,
            "message_count": sum(len(space.log) for space in thread.spaces.values()),
            "checkpoint_count": sum(len(space.versions) for space in thread.spaces.values()),
            "forked_from": thread.lineage,
        }
        return said.model_copy(update=counts)

    def _touched(self, thread_id: str) -> Thread:
        self.commits += 1
        thread = self.threads[thread_id]
        thread.active = self.commits
        return thread

    # States -------------------------------------------------------------------------------------------

    def put(
        self,
        place: Place,
        user: User,
        handle: Handle,
        *,
        expected: int | Version | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        messages: Sequence[Message] = (),
    ) -> Version:
        """Put a state; the handle moves."""
        thread_id, namespace = place
        source = None if place in handle.at else self._source(handle)
        self._check(place, user, expected, handle.at.get(place))
        new_head = self.space(place, user).head == 0
        born = thread_id not in self.threads
        thread = self.open(thread_id, user)
        if new_head and source is not None and source[0].thread_id != thread_id:
            thread.lineage = thread.lineage or source[0]
            if (
                born and user is None
            ):  # A thread that was there keeps its owner, or that it has none.
                thread.owner = source[1]
        had_base = expected is not None or place in handle.at
        state = copy.deepcopy(handle.state)
        version = self._write(place, state, had_base, name, metadata or {})
        self._put_messages(thread.spaces[namespace], messages, {}, "replace")
        handle.moved(place, thread.life, version.version)
        return version

    def append(
        self, place: Place, user: User, items: list[Any], fresh: type, name: str | None
    ) -> Version:
        """Let the context of the head grow by items."""
        space = self.space(place, user)
        head = space.versions.get(space.head)
        self.open(place[0], user)
        state = fresh() if head is None or head.state is None else copy.deepcopy(head.state)
        if isinstance(state, dict):
            state["context"] = [*state.get("context", []), *copy.deepcopy(items)]
        else:
            state.context = [*state.context, *copy.deepcopy(items)]
        return self._write(place, state, True, name, {})

    def clear(self, place: Place, user: User) -> Version | None:
        """Let there be no state."""
        space = self.space(place, user)
        if not space.head or space.versions[space.head].state is None:
            return None
        self.open(place[0], user)
        return self._write(place, None, True, None, {})

    def _write(
        self,
        place: Place,
        state: Any,
        had_base: bool,
        name: str | None,
        metadata: Mapping[str, Any],
    ) -> Version:
        thread_id, namespace = place
        space = self.threads[thread_id].spaces.setdefault(namespace, Space())
        number = self.last.get(place, 0) + 1
        parent = space.head or None
        if isinstance(state, StateDict):
            state = dict(state)
        kept = Version(
            number,
            state,
            name,
            copy.deepcopy(dict(metadata)),
            parent,
            parent if had_base else None,
            self.threads[thread_id].life,
            self.commits,
        )
        space.versions[number] = kept
        space.head = self.last[place] = number
        return kept

    def _check(
        self,
        place: Place,
        user: User,
        expected: int | Version | None,
        loaded: tuple[int, int] | None,
    ) -> None:
        thread, space = self.seen(place[0], user), self.space(place, user)
        life, wanted = loaded if loaded else (None, None)
        if isinstance(expected, Version):
            life, wanted = expected.life, expected.version
        elif expected is not None:
            life, wanted = None, expected
        if wanted is None:
            return
        if wanted == 0:
            if space.head and space.versions[space.head].state is not None:
                raise ConflictError(current=space.head)
            return
        if thread is None or life not in (None, thread.life):
            raise ThreadNotFoundError()
        if wanted != space.head:
            raise ConflictError(current=space.head)

    def _source(self, handle: Handle) -> tuple[Lineage, User] | None:
        if not handle.at:
            return None
        place, (life, version) = list(handle.at.items())[-1]
        thread = self.threads.get(place[0])
        if thread is None or thread.life != life:
            return None
        return Lineage(place[0], place[1], version), thread.owner

    # Messages -----------------------------------------------------------------------------------------

    def put_messages(
        self,
        place: Place,
        user: User,
        messages: Sequence[Message],
        beside: Mapping[str, Any],
        on_duplicate: str,
    ) -> None:
        """Put messages at the end, or in place."""
        if not messages:
            return
        space = self.open(place[0], user).spaces.setdefault(place[1], Space())
        self._put_messages(space, messages, beside, on_duplicate)

    def _put_messages(
        self,
        space: Space,
        messages: Sequence[Message],
        beside: Mapping[str, Any],
        on_duplicate: str,
    ) -> None:
        for message in messages:
            fresh = copy.deepcopy(message)
            there = [kept for kept in space.log if kept.message.message_id == message.message_id]
            if not there:
                space.log.append(Kept(fresh, dict(beside), self.commits))
            elif on_duplicate == "replace":
                there[0].message = fresh
                there[0].beside = dict(beside) or there[0].beside

    def remove(self, place: Place, user: User, ids: Iterable[str]) -> list[Message]:
        """Take messages out of the log; touches the thread even when there are none."""
        gone = set(ids)
        if self.seen(place[0], user) is None:
            return []
        space = self._touched(place[0]).spaces.get(place[1], Space())
        taken = [kept.read() for kept in space.log if kept.message.message_id in gone]
        space.log[:] = [kept for kept in space.log if kept.message.message_id not in gone]
        return taken

    def replace_messages(
        self,
        place: Place,
        user: User,
        after: str | None,
        tail: Sequence[str],
        messages: Sequence[Message],
    ) -> None:
        """Replace what stands behind a message."""
        ids = [kept.message.message_id for kept in self.space(place, user).log]
        if after is not None and after not in ids:
            raise ValueError
        start = ids.index(after) + 1 if after is not None else 0
        if ids[start:] != list(tail):
            raise ConflictError
        space = self.open(place[0], user).spaces.setdefault(place[1], Space())
        del space.log[start:]
        self._put_messages(space, messages, {}, "replace")

    def redact(self, thread_id: str, user: User, message_id: str) -> tuple[set[str], set[str]]:
        """Take a message's content away, in forks too; the threads, and the forks of others."""
        done, others, waiting = set[str](), set[str](), [thread_id]
        reported = {thread_id}
        while waiting:
            here = waiting.pop()
            if here in done:
                continue
            done.add(here)
            thread = self.seen(here, user)
            if thread is not None and _redact(thread, message_id):
                reported.add(here)
            for fork_id, fork in self.threads.items():
                if fork.lineage is None or fork.lineage.thread_id != here:
                    continue
                if self.seen(fork_id, user):
                    waiting.append(fork_id)
                elif thread is not None:
                    others.add(fork_id)
        return reported, others


def _holds_message(thread: Thread, message_id: str) -> bool:
    return any(
        item.message_id == message_id for space in thread.spaces.values() for item in _items(space)
    )


def _items(space: Space) -> list[Message]:
    states = [version.state for version in space.versions.values()]
    items = [item for state in states if hasattr(state, "context") for item in state.context]
    return [*items, *(kept.message for kept in space.log)]


def _redact(thread: Thread, message_id: str) -> bool:
    for space in thread.spaces.values():
        for version in space.versions.values():
            for number, item in enumerate(getattr(version.state, "context", [])):
                if item.message_id == message_id:
                    version.state.context[number] = tombstone(item)
        for kept in space.log:
            if kept.message.message_id == message_id:
                kept.message, kept.beside = tombstone(kept.message), {}
    return _holds_message(thread, message_id)


def _is_user(owner: User, user: User) -> bool:
    return type(owner) is type(user) and owner == user
