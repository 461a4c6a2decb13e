"""The pipelines of threads: what is said of them, listing and searching them, and taking them away."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from threadline import clock
from threadline.backend import Refused, ThreadPut, ThreadQuery, ThreadRow
from threadline.checkpointer.engine import Engine, refuse
from threadline.codec.envelope import Where
from threadline.codec.searchtext import fold
from threadline.codec.terms import matches, terms_of
from threadline.config import LONG, Address, canonical_user, text_id, user_id_of
from threadline.model import Lineage, ThreadInfo

Order = Literal["newest", "oldest"]
#: How many threads one read brings.
PAGE = 200


class Threads:
    """Putting, reading, listing and erasing threads, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def put(self, address: Address, info: ThreadInfo, op_id: str | None) -> None:
        """Say something of a thread; see `BaseCheckpointer.aput_thread`."""
        if not isinstance(info, ThreadInfo):
            raise TypeError(f"thread_info must be a ThreadInfo, not {type(info).__name__}")
        if info.thread_id != address.thread_id:
            raise ValueError(
                f"config names thread {address.thread_id!r} and thread_info {info.thread_id!r}: which is meant?"
            )
        owner = canonical_user(info.user_id)
        if address.user is not None and owner is not None and owner != address.user:
            raise ValueError(
                f"config names user {address.user_id!r} and thread_info {info.user_id!r}: which is meant?"
            )
        row = await self._row(address)
        if row is not None and owner is not None and row.user not in (None, owner):
            raise ValueError(
                f"thread {address.thread_id!r} belongs to another user than thread_info.user_id; "
                "leave it out, or name the owner"
            )
        record = {
            "name": info.thread_name,
            "metadata": info.metadata,
            "updated_at": info.updated_at,
            "run_id": info.run_id,
            "stop_requested": info.stop_requested,
        }
        sealed = self._engine.seal(record, Where("thread"))
        said = ThreadPut(
            info=sealed.data,
            key_id=sealed.key_id,
            title=_title(info.thread_name) if info.thread_name else None,
            terms=terms_of(info.metadata),
            owner=owner or address.user,
        )
        batch = await self._engine.batch(address, "thread", op_id, create=True, thread=said)
        try:
            await self._engine.commit(batch)
        except Refused as refused:
            refuse(address, refused)

    async def get(self, address: Address) -> ThreadInfo | None:
        """What is known of a thread, or None."""
        row = await self._row(address)
        return self._info(row) if row else None

    async def list(
        self,
        address: Address,
        *,
        search: str | None,
        metadata: Mapping[str, Any] | None,
        limit: int | None,
        offset: int,
        after: ThreadInfo | str | None,
        order: Order,
    ) -> list[ThreadInfo]:
        """Threads of the config's tenant, app and user, by their last activity."""
        if order not in ("newest", "oldest"):
            raise ValueError(f'order must be "newest" or "oldest", not {order!r}')
        self._engine.check_user(address)
        await self._engine.ready()
        wanted = _title(search) if search else None
        cursor = await self._cursor(address, after) if after is not None else None
        filtered = wanted is not None or bool(metadata)
        query = ThreadQuery(
            tenant=address.tenant,
            app=address.app,
            user=address.user,
            terms=terms_of(metadata) if metadata else (),
            oldest=order == "oldest",
            after=cursor,
            limit=PAGE if filtered or limit is None else min(limit, PAGE),
            # What is filtered here is left out here.
            offset=0 if filtered else offset,
        )
        found: list[ThreadInfo] = []
        skip = offset if filtered else 0
        while limit is None or len(found) < limit:
            rows = await self._engine.backend.read_threads(query)
            for row in rows:
                if wanted is not None and wanted not in _searched(row):
                    continue
                info = self._info(row)
                if metadata and not matches(info.metadata, metadata):
                    continue
                skip -= 1
                if skip < 0 and (limit is None or len(found) < limit):
                    found.append(info)
            if len(rows) < (query.limit or 0):
                break
            edge = (rows[-1].activity_at, rows[-1].key)
            query = dataclasses.replace(query, after=edge, offset=0)
        return found

    async def delete(self, address: Address, op_id: str | None) -> bool:
        """Erase a thread with everything in it; False when there is none."""
        row = await self._row(address)
        if row is None and op_id is None:
            return False
        batch = await self._engine.batch(address, "erase", op_id, erase=True)
        commit = await self._engine.commit_if_any(address, batch)
        if commit is None:
            return False
        await self._engine.copies.erase(batch.key, commit.incarnation)
        await self._engine.scrub()
        return True

    async def _row(self, address: Address) -> ThreadRow | None:
        key, ns = await self._engine.key(address), address.ns_key
        head = await self._engine.backend.read_head(key, ns, address.user, content=False)
        return head.thread

    async def _cursor(self, address: Address, after: ThreadInfo | str) -> tuple[int, bytes]:
        thread_id = after.thread_id if isinstance(after, ThreadInfo) else after
        text_id(thread_id, "after", LONG)
        salt = (await self._engine.ready()).salt
        names = Address(address.tenant, address.app, thread_id, "", address.user)
        if isinstance(after, ThreadInfo) and after.activity_at is not None:
            return clock.to_us(after.activity_at), names.thread_key(salt)
        row = await self._row(names)
        if row is None:
            raise ValueError(f"after names the thread {thread_id!r}, which does not exist")
        return row.activity_at, row.key

    def _info(self, row: ThreadRow) -> ThreadInfo:
        said: dict[str, Any] = {}
        if row.info is not None:
            said = self._engine.open(row.info, row.key_id, Where("thread"))
        lineage = None
        if row.lineage is not None:
            lineage = Lineage(**self._engine.open(row.lineage, 0, Where("lineage")))
        return ThreadInfo(
            thread_id=row.thread_id,
            thread_name=said.get("name"),
            user_id=user_id_of(row.user),
            metadata=said.get("metadata", {}),
            updated_at=said.get("updated_at"),
            run_id=said.get("run_id"),
            stop_requested=said.get("stop_requested", False),
            created_at=clock.from_us(row.created_at),
            activity_at=clock.from_us(row.activity_at),
            message_count=row.message_count,
            checkpoint_count=row.checkpoint_count,
            forked_from=lineage,
        )


def _searched(row: ThreadRow) -> str:
    return f"{row.title or ''}\n{_title(row.thread_id)}"


def _title(name: str) -> str:
    """A name as it is searched: folded, and without what a text column may refuse (NUL, lone surrogates)."""
    return fold(name).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
