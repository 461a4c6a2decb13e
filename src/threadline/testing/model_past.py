"""The model of what is done with a past: names, rollbacks, forks, pruning, carrying it away, erasing a user."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from threadline.errors import ConflictError, ThreadNotFoundError
from threadline.model import Lineage
from threadline.testing.model import Kept, Place, Space, Thread, User, Version, World, _is_user


class PastWorld(World):
    """Every thread, and its past."""

    def found(self, place: Place, user: User, number: int | None, name: str | None) -> Version:
        """The version that is meant: a number, the newest of a name, or the head."""
        if self.seen(place[0], user) is None:
            raise ThreadNotFoundError()
        versions = self.space(place, user).versions
        if name is not None:
            number = max((v.version for v in versions.values() if v.name == name), default=0)
        version = versions.get(self.space(place, user).head if number is None else number)
        if version is None:
            raise ValueError
        return version

    def name(self, place: Place, user: User, number: int | None, name: str | None) -> Version:
        """Give a version another name."""
        version = self.found(place, user, number, None)
        self._touched(place[0])
        named = dataclasses.replace(version, name=name)
        self.space(place, user).versions[version.version] = named
        return named

    def rollback(
        self,
        place: Place,
        user: User,
        number: int | None,
        name: str | None,
        expected: int | None,
        metadata: Mapping[str, Any],
    ) -> Version:
        """Make an old state the head again."""
        version, space = self.found(place, user, number, name), self.space(place, user)
        if expected not in (None, space.head):
            raise ConflictError(current=space.head)
        self.open(place[0], user)
        made = self._write(place, copy.deepcopy(version.state), True, None, metadata)
        space.versions[made.version] = dataclasses.replace(made, base=version.version)
        return space.versions[made.version]

    def fork(
        self,
        place: Place,
        user: User,
        number: int | None,
        into: str,
        metadata: Mapping[str, Any],
    ) -> Version:
        """Copy a state, and the messages up to then, into a thread that has none."""
        if into == place[0]:
            raise ValueError
        version, source = self.found(place, user, number, None), self.threads[place[0]]
        there = self.seen(into, user)
        if there is not None and self.space((into, place[1]), user).head:
            raise ValueError
        thread = self.open(into, user)
        if there is None:
            thread.owner = source.owner
            if source.info is not None:
                thread.info = source.info.model_copy(update={"thread_id": into})
        thread.lineage = thread.lineage or Lineage(place[0], place[1], version.version)
        thread.loose = True
        made = self._write((into, place[1]), copy.deepcopy(version.state), False, None, metadata)
        origin = source.spaces[place[1]]
        past = version.version != origin.head
        for kept in origin.log:
            if not past or kept.at <= version.at:
                _copied(thread.spaces[place[1]], kept)
        return made

    def copy(self, place: Place, user: User, into: str) -> Version:
        """Copy a thread with all of its past into one that is not there."""
        if into == place[0]:
            raise ValueError
        version, source = self.found(place, user, None, None), self.threads[place[0]]
        if into in self.threads and self.seen(into, user) is None:
            raise ThreadNotFoundError()
        if into in self.threads:
            raise ValueError
        thread = self.open(into, source.owner)
        thread.spaces, thread.loose = copy.deepcopy(source.spaces), source.loose
        thread.lineage = Lineage(place[0], place[1], version.version)
        if source.info is not None:
            thread.info = source.info.model_copy(update={"thread_id": into})
        for namespace, space in thread.spaces.items():
            given = self.last.get((place[0], namespace), 0), self.last.get((into, namespace), 0)
            self.last[into, namespace] = max(given)
            for number, kept in space.versions.items():
                space.versions[number] = dataclasses.replace(kept, life=thread.life)
        return thread.spaces[place[1]].versions[version.version]

    def prune(self, thread_id: str | None, user: User, last: int, named: bool) -> int:
        """Keep the last so many versions of each namespace and, if so, those with a name; how many went."""
        gone = 0
        for name, thread in self.threads.items():
            if thread_id not in (None, name) or self.seen(name, user) is None:
                continue
            for space in thread.spaces.values():
                kept = sorted(space.versions)[-last:]
                going = [
                    number
                    for number, version in space.versions.items()
                    if number not in kept and not (named and version.name is not None)
                ]
                for number in going:
                    del space.versions[number]
                gone += len(going)
                thread.loose = thread.loose or bool(going)
        return gone

    def carried(self) -> None:
        """Everything goes to another store: each thread begins a new life there, and what is deleted stays behind."""
        self.last = {
            (name, namespace): space.head
            for name, thread in self.threads.items()
            for namespace, space in thread.spaces.items()
        }
        for thread in self.threads.values():
            self.lives += 1
            thread.life = self.lives
            for space in thread.spaces.values():
                for number, version in space.versions.items():
                    space.versions[number] = dataclasses.replace(version, life=thread.life)

    def erase_user(self, user: User) -> tuple[set[str], set[str]]:
        """Take away every thread of a user; which, and the forks of them that belong to others."""
        mine = {name for name, thread in self.threads.items() if _is_user(thread.owner, user)}
        for name in mine:
            del self.threads[name]
        forks: dict[str, Thread] = {
            name: thread
            for name, thread in self.threads.items()
            if thread.lineage is not None and thread.lineage.thread_id in mine
        }
        for thread in forks.values():
            if thread.lineage is not None:
                thread.lineage = Lineage("", "", thread.lineage.version)
        return mine, set(forks)


def _copied(space: Space, kept: Kept) -> None:
    """A message comes to the end of a log, or in place of the one with its id."""
    fresh = copy.deepcopy(kept)
    for there in space.log:
        if there.message.message_id == kept.message.message_id:
            there.message, there.beside = fresh.message, fresh.beside or there.beside
            return
    space.log.append(fresh)
