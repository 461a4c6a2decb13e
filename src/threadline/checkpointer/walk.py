"""Walking through many threads, a page at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

from threadline.backend import ThreadQuery, ThreadRow
from threadline.checkpointer.engine import Engine
from threadline.config import Address

#: How many threads one read brings.
PAGE = 200


async def each_thread(
    engine: Engine, query: ThreadQuery, page: int | None = None
) -> AsyncIterator[ThreadRow]:
    """Every thread of a query, in its order; so many a read."""
    page = page or PAGE
    while True:
        rows = await engine.backend.read_threads(dataclasses.replace(query, limit=page))
        for row in rows:
            yield row
        if len(rows) < page:
            return
        query = dataclasses.replace(query, after=(rows[-1].activity_at, rows[-1].key))


async def addressed_threads(
    engine: Engine, address: Address, *, oldest: bool = False
) -> AsyncIterator[ThreadRow]:
    """The thread of an address; without a thread in it, every one of its tenant, app and user."""
    if address.thread_id:
        key = await engine.key(address)
        head = await engine.backend.read_head(key, address.ns_key, address.user, content=False)
        if head.thread is not None:
            yield head.thread
        return
    engine.check_user(address)
    await engine.ready()
    query = ThreadQuery(address.tenant, address.app, address.user, oldest=oldest)
    async for row in each_thread(engine, query):
        yield row
