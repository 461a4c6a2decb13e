"""The public methods on threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from threadline.checkpointer.calls import Calls, read_limit, read_metadata, read_offset
from threadline.checkpointer.sync import face
from threadline.checkpointer.threads import Order
from threadline.config import Config, read_config
from threadline.model import ThreadInfo
from threadline.telemetry import operation


class ThreadCalls(Calls):
    """What is known of threads, listing them, and erasing them."""

    @operation
    async def aput_thread(
        self, config: Config, thread_info: ThreadInfo, *, op_id: str | None = None
    ) -> None:
        """Say what is to be known of a thread: its name, metadata, run. Makes the thread when it is missing.

        Raises ValueError when config and thread_info name different threads or users.
        """
        await self._threads.put(read_config(config, write=True), thread_info, op_id)

    @operation
    async def aget_thread(self, config: Config) -> ThreadInfo | None:
        """What is known of a thread, or None."""
        return await self._threads.get(read_config(config))

    @operation
    async def alist_threads(
        self,
        config: Config,
        *,
        search: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int | None = None,
        after: ThreadInfo | str | None = None,
        order: Order = "newest",
    ) -> list[ThreadInfo]:
        """The threads of the config's tenant, app and user (without `user_id`: of all), by their last activity.

        search: only those whose name or id contains this text. metadata: only those with these keys and equal values.
        after: those behind this one, for paging. limit: 1 or more; None: all.
        """
        return await self._threads.list(
            read_config(config, thread=False),
            search=search,
            metadata=read_metadata(metadata),
            limit=read_limit(limit),
            offset=read_offset(offset),
            after=after,
            order=order,
        )

    @operation
    async def adelete_thread(self, config: Config, *, op_id: str | None = None) -> bool:
        """Erase a thread with its states, messages and past; False when there is none. It never comes back: states
        loaded before can no longer be put to it. Its words are then in no file of a SQLite store. Forks of it stay."""
        return await self._threads.delete(read_config(config, write=True), op_id)

    @operation
    async def aerase_user(self, config: Config) -> dict[str, Any]:
        """Erase every thread of the config's `user_id`, in every app of the tenant, one by one.

        Returns a receipt: `{"user_id", "threads": [ids], "forks_of_others": [ids], "scrubbed"}`. Forks of these
        threads that belong to others stay, with what they copied; their `forked_from` loses the name of the thread.
        scrubbed: whether nothing of it is in the store's files any more (False: a reader of an older moment holds
        that up; it is so after the next erasure or checkpoint; None: the store cannot say). After a crash, call it
        again: it goes on where it ended, and the receipt has everything since the first call.
        """
        return await self._erasure.user(read_config(config, thread=False))

    put_thread = face(aput_thread)
    get_thread = face(aget_thread)
    list_threads = face(alist_threads)
    delete_thread = face(adelete_thread)
    erase_user = face(aerase_user)
