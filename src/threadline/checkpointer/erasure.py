"""Erasing a user: every thread that is theirs, in every app of a tenant, one by one, and a receipt at the end.

What is going to be erased is written down before it is, in slots of a thread that no user sees (its app is `ERASURES`,
its name a keyed hash of the user): a call that died is called again, goes on, and its receipt has everything.
Forks that belong to others stay theirs, with the content that they copied; the receipt names them, and what they say
of their origin loses its name. At the end the notes are erased too, and the store is asked to keep nothing of it all.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from threadline import clock
from threadline.backend import (
    Batch,
    Refused,
    Slot,
    SlotPut,
    SlotQuery,
    ThreadPut,
    ThreadQuery,
    ThreadRow,
)
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.walk import each_thread
from threadline.codec.envelope import Where
from threadline.config import Address

#: The app of the notes.
ERASURES = "threadline.erasures"
#: How many threads one read brings.
PAGE = 200

#: A thread by app and id.
Name = tuple[str, str]


class Erasure:
    """Erasing users, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def user(self, address: Address) -> dict[str, Any]:
        """Erase every thread of the address's user; see `BaseCheckpointer.aerase_user`."""
        if address.user is None:
            raise ValueError("config has no user_id: whose threads are to be erased?")
        notes = Notes(self._engine, address, (await self._engine.ready()).salt)
        gone = dict.fromkeys(await notes.read("thread"))
        while rows := await self._of_user(address):
            names = [(row.app, row.thread_id) for row in rows]
            await notes.write("thread", [each for each in names if each not in gone])
            gone.update(dict.fromkeys(names))
            for row in rows:
                await self._erase(row, address.user)
        others = dict.fromkeys(await notes.read("fork"))
        forks = [row async for row in self._forks(address, gone)]
        names = [(row.app, row.thread_id) for row in forks]
        await notes.write("fork", [each for each in names if each not in others])
        others.update(dict.fromkeys(names))
        for row in forks:
            await self._unname(row)
        await notes.erase()
        return {
            "user_id": address.user_id,
            "threads": [thread_id for _, thread_id in gone],
            "forks_of_others": [thread_id for _, thread_id in others],
            "scrubbed": await self._engine.scrub(),
        }

    async def _of_user(self, address: Address) -> list[ThreadRow]:
        query = ThreadQuery(tenant=address.tenant, app=None, user=address.user, limit=PAGE)
        return await self._engine.backend.read_threads(query)

    async def _erase(self, row: ThreadRow, user: str) -> None:
        try:
            await self._engine.commit(_on(row, "erase", user=user, erase=True))
        except Refused:
            return  # Deleted meanwhile by another.
        await self._engine.copies.erase(row.key, row.incarnation)

    async def _forks(self, address: Address, gone: dict[Name, None]) -> AsyncIterator[ThreadRow]:
        """The threads that say they were forked from one of these."""
        if gone:
            async for row in each_thread(self._engine, ThreadQuery(address.tenant, app=None)):
                if row.lineage is not None and (row.app, self._origin(row)["thread_id"]) in gone:
                    yield row

    def _origin(self, row: ThreadRow) -> dict[str, Any]:
        origin: dict[str, Any] = self._engine.open(row.lineage or b"", 0, Where("lineage"))
        return origin

    async def _unname(self, row: ThreadRow) -> None:
        """A fork goes on knowing that it is one, and at which version it was made; no longer of what."""
        origin = {**self._origin(row), "thread_id": "", "namespace": ""}
        sealed = self._engine.seal(origin, Where("lineage"))
        said = ThreadPut(lineage=sealed.data, replaces_lineage=True, activity_at=row.activity_at)
        try:
            await self._engine.commit(_on(row, "erase_origin", thread=said))
        except Refused:
            return  # Deleted meanwhile.


class Notes:
    """What is known of one erasure, from its first step to its last."""

    def __init__(self, engine: Engine, address: Address, salt: bytes) -> None:
        user = hashlib.blake2b((address.user or "").encode("utf-8", "surrogatepass"), key=salt)
        self._engine = engine
        self._at = Address(address.tenant, ERASURES, user.hexdigest()[:32], "", None)

    async def read(self, kind: str) -> list[Name]:
        """The threads that were noted."""
        key, found = await self._engine.key(self._at), list[Name]()
        after: str | None = None
        while True:
            query = SlotQuery(kind, after=after, limit=PAGE)
            slots = await self._engine.backend.read_slots(key, self._at.ns_key, None, query)
            for slot in slots:
                names = self._engine.open(slot.payload, slot.key_id, Where("slot", kind))
                found += [(app, thread_id) for app, thread_id in names]
            if len(slots) < PAGE:
                return found
            after = slots[-1].key

    async def write(self, kind: str, names: Iterable[Name]) -> None:
        """Note some more."""
        wanted = [list(each) for each in names]
        if not wanted:
            return
        sealed = self._engine.seal(wanted, Where("slot", kind))
        slot = Slot(kind=kind, key=clock.new_id(), payload=sealed.data, key_id=sealed.key_id)
        await self._engine.commit(
            await self._engine.batch(self._at, "note", create=True, slots=(SlotPut(slot),))
        )

    async def erase(self) -> None:
        """Forget it all."""
        try:
            await self._engine.commit(await self._engine.batch(self._at, "erase", erase=True))
        except Refused:
            return  # Nothing was noted.


def _on(row: ThreadRow, kind: str, **parts: Any) -> Batch:
    return Batch(
        key=row.key,
        names=(row.tenant, row.app, row.thread_id),
        op_id=clock.new_id_bytes(),
        kind=kind,
        requires=row.incarnation,
        **parts,
    )
