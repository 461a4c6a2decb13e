"""What this process remembers between two puts: how each namespace stood, and slots that may yet be written shorter."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from threading import Lock
from typing import NamedTuple

from threadline.adapters.langgraph.plan import Ground
from threadline.adapters.langgraph.seen import Sights
from threadline.adapters.langgraph.spans import Place
from threadline.store import Head, Slot

#: Of how many namespaces the ground is remembered, of how many what a user has just read of them, and how many slots
#: of each wait for their items.
GROUNDS, HEADS, WAITING = 1000, 64, 64
#: How many puts a slot waits for the items that it is near to.
TRIES = 4


class Waiting(NamedTuple):
    """A slot that was written in full, and may be written near items that come: its payload and its content."""

    payload: bytes
    content: bytes
    tries: int = 0


class Grounds:
    """What this process knows of namespaces: their ground, and the slots that may be written near the next items."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._grounds: OrderedDict[Place, Ground] = OrderedDict()
        self._heads: OrderedDict[Place, Head] = OrderedDict()
        self._waiting: OrderedDict[Place, dict[str, Waiting]] = OrderedDict()
        self._late: OrderedDict[Place, str] = OrderedDict()
        self.sights = Sights()

    def get(self, place: Place) -> Ground | None:
        """The ground as it was last seen."""
        with self._lock:
            return self._grounds.get(place)

    def read(self, place: Place, head: Head, before: Ground | None) -> None:
        """A namespace was read for a user, who may be about to put its next version. before: its ground when it was."""
        life = head.thread and head.thread.incarnation
        if before is not None and before.incarnation not in (None, life):
            self._ended(place, before, here=life is not None)  # By another process.
        if head.checkpoint is None:
            return
        with self._lock:
            known = self._grounds.get(place)
            if known and known.incarnation == life and known.last_version >= head.last_version:
                return
            self._heads[place] = head
            self._heads.move_to_end(place)
            while len(self._heads) > HEADS:
                self._heads.popitem(last=False)

    def newer(self, place: Place) -> Head | None:
        """What was read of a namespace since its ground was remembered; only once."""
        with self._lock:
            return self._heads.pop(place, None)

    def put(self, place: Place, ground: Ground) -> None:
        """Remember a ground, unless a newer one of the same life is known."""
        with self._lock:
            known = self._grounds.get(place)
            if (
                known
                and known.incarnation == ground.incarnation
                and known.last_version > ground.last_version
            ):
                return
            self._grounds[place] = ground
            self._grounds.move_to_end(place)
            while len(self._grounds) > GROUNDS:
                self._grounds.popitem(last=False)

    def deleted(self, place: Place) -> None:
        """The thread of a place was deleted: forget it, but for which checkpoints it had."""
        with self._lock:
            ended = [each for each in self._grounds if each.thread_id == place.thread_id]
            self._remember_late(ended)
        self.forget(place, thread=True)

    def refused(self, place: Place, checkpoint_id: str) -> None:
        """What was put on or as a checkpoint found its thread no more: so will what comes for it later."""
        with self._lock:
            self._late[place] = max(checkpoint_id, self._late.get(place, ""))
        self.forget(place, thread=True)

    def _ended(self, place: Place, known: Ground, *, here: bool) -> None:
        """The life of its thread in which a ground was known has ended: the same, for what is known of that life. here:
        another has begun already, which may have checkpoints of those ids."""
        with self._lock:
            ended = [
                each
                for each, ground in self._grounds.items()
                if each.thread_id == place.thread_id and ground.incarnation == known.incarnation
            ]
            if not here:
                self._remember_late(ended)
        for each in ended:
            self.forget(each)

    def _remember_late(self, ended: Sequence[Place]) -> None:
        for each in ended:
            if (top := self._grounds[each].top) is not None:
                self._late[each] = top
        while len(self._late) > GROUNDS:
            self._late.popitem(last=False)

    def born(self, place: Place) -> None:
        """The thread of a place came into being with checkpoints of its own."""
        self.forget(place, thread=True)
        with self._lock:
            for each in [each for each in self._late if each.thread_id == place.thread_id]:
                del self._late[each]

    def is_late(self, place: Place, checkpoint_id: str) -> bool:
        """Whether a checkpoint belongs to a life of its thread that ended here."""
        with self._lock:
            return checkpoint_id <= self._late.get(place, "")

    def forget(self, place: Place, *, thread: bool = False) -> None:
        """Forget a namespace, or its whole thread."""
        self.sights.forget(place, thread=thread)
        with self._lock:
            for kept in (self._grounds, self._heads, self._waiting):
                places = [p for p in kept if p.thread_id == place.thread_id] if thread else [place]
                for each in places:
                    kept.pop(each, None)

    def wait(self, place: Place, slot: Slot, content: bytes) -> None:
        """Remember a slot that was just written, with its content."""
        with self._lock:
            waiting = self._waiting.setdefault(place, {})
            self._waiting.move_to_end(place)
            if len(waiting) >= WAITING:
                waiting.pop(next(iter(waiting)))
            waiting[slot.key] = Waiting(slot.payload, content)
            while len(self._waiting) > GROUNDS:
                self._waiting.popitem(last=False)

    def waiting(self, place: Place) -> dict[str, Waiting]:
        """The slots that wait."""
        with self._lock:
            return dict(self._waiting.get(place, {}))

    def served(self, place: Place, keys: Collection[str], tried: Collection[str] = ()) -> None:
        """These wait no more; those that were tried in vain, only so often."""
        with self._lock:
            waiting = self._waiting.get(place, {})
            for key in tried:
                if key in waiting:
                    waiting[key] = waiting[key]._replace(tries=waiting[key].tries + 1)
            for key in {*keys, *(key for key, each in waiting.items() if each.tries >= TRIES)}:
                waiting.pop(key, None)
