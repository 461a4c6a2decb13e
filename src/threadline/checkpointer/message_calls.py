"""The public methods on the message log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from threadline.backend import ThreadQuery
from threadline.checkpointer.calls import Calls, read_limit, read_metadata, read_offset, read_role
from threadline.checkpointer.messages import OnDuplicate
from threadline.checkpointer.sync import face, face_iter
from threadline.config import Config, read_config
from threadline.model import Message
from threadline.telemetry import operation


class MessageCalls(Calls):
    """Putting, reading, searching and removing messages."""

    @operation
    async def aput_messages(
        self,
        config: Config,
        messages: Sequence[Message],
        metadata: Mapping[str, Any] | None = None,
        *,
        on_duplicate: OnDuplicate = "replace",
        op_id: str | None = None,
    ) -> None:
        """Put messages into the thread's log, in order, in one commit.

        A message whose id is there is replaced in place ("replace": position and earlier `metadata` are kept) or left
        as it is ("ignore"). metadata: kept beside each of them; reading shows it in `Message.metadata`, where the
        message's own keys win. Raises ThreadNotFoundError for another user's thread, NotStorableError.
        """
        address = read_config(config, write=True)
        beside = read_metadata(metadata)
        await self._messages.put(address, messages, beside, on_duplicate, op_id)

    @operation
    async def aget_message(self, config: Config, message_id: str) -> Message | None:
        """One message by its id, or None."""
        return await self._messages.get(read_config(config), message_id)

    @operation
    async def alist_messages(
        self,
        config: Config,
        *,
        search: str | None = None,
        role: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int | None = None,
        after: str | None = None,
        last: int | None = None,
    ) -> list[Message]:
        """The messages of a thread in the order of its log.

        search: only those that hold every part of this text, as whole words, without regard to case and accents. role,
        metadata: only those of this role, with these keys. after: only those behind the message with this id. offset,
        limit: leave out so many, then at most so many (1 or more; None: all). last: the newest so many, instead.

        Raises TypeError, and ValueError, also for a role that no message can have.
        """
        address = read_config(config)
        most, skip, newest = read_limit(limit), read_offset(offset), read_limit(last, "last")
        if newest is not None and (most is not None or skip):
            raise ValueError("last cannot be combined with limit or offset")
        wanted = most if most is not None else newest
        found: list[Message] = []
        messages = self._messages.iterate(
            address,
            search=search,
            role=read_role(role),
            metadata=read_metadata(metadata),
            after=after,
            newest=newest is not None,
            skip=skip,
            count=wanted,
        )
        async for message in messages:
            found.append(message)
            if len(found) == wanted:
                break
        await messages.aclose()
        return found if newest is None else found[::-1]

    async def aiter_messages(
        self,
        config: Config,
        *,
        search: str | None = None,
        role: str | None = None,
        after: str | None = None,
    ) -> AsyncIterator[Message]:
        """The messages of a thread one by one, read page by page; the arguments are those of `alist_messages`."""
        address = read_config(config)
        async for message in self._messages.iterate(
            address, search=search, role=read_role(role), after=after
        ):
            yield message

    @operation
    async def asearch_messages(
        self, config: Config, search: str, *, role: str | None = None, limit: int = 20
    ) -> list[tuple[str, Message]]:
        """Messages of all threads of the config's tenant, app and user that match, newest first, each with its
        thread's id; at most `limit`."""
        address = read_config(config, thread=False)
        self._engine.check_user(address)
        threads = ThreadQuery(address.tenant, address.app, address.user)
        return await self._messages.search(
            threads, search, read_role(role), read_limit(limit) or 20
        )

    @operation
    async def adelete_message(
        self, config: Config, message_id: str, *, op_id: str | None = None
    ) -> bool:
        """Take a message out of the log; False when it is not there. It is no longer read, listed, searched or counted.

        That is no erasure: states that hold the message keep it, and so do forks; its words stay in the store's files
        until it has overwritten them (SQLite: the word index, the WAL; PostgreSQL: until it vacuums). `aredact` with
        the same id, before or after, takes the content out of all of these.
        """
        return await self._messages.delete(read_config(config, write=True), message_id, op_id)

    @operation
    async def apop_messages(
        self, config: Config, n: int = 1, *, op_id: str | None = None
    ) -> list[Message]:
        """Take the newest `n` messages out of the log and return them in the log's order, in one commit.

        No erasure, see `adelete_message`; and for a day a repeated `op_id` is answered with them.
        """
        return await self._messages.pop(read_config(config, write=True), n, op_id)

    @operation
    async def areplace_messages(
        self,
        config: Config,
        *,
        after: str | None,
        expected_tail: Sequence[Message | str],
        messages: Sequence[Message],
        op_id: str | None = None,
    ) -> None:
        """Replace all messages behind the one with id `after` (None: all there are), if they are `expected_tail`.

        expected_tail: the messages expected there, or their ids. Raises ConflictError when there are others. What was
        replaced is not erased, see `adelete_message`.
        """
        address = read_config(config, write=True)
        await self._messages.replace(address, after, expected_tail, messages, op_id)

    @operation
    async def aclear_messages(self, config: Config, *, op_id: str | None = None) -> int:
        """Take every message out of the log; returns how many there were. The thread and its states stay.

        No erasure, see `adelete_message`; `adelete_thread` is one.
        """
        return await self._messages.clear(read_config(config, write=True), op_id)

    @operation
    async def aredact(self, config: Config, message_id: str) -> dict[str, Any]:
        """Take a message's content out of everything: the log and its search, the states of every version and
        namespace, and the forks of this thread. A tombstone with its id, role and digest stays.

        Returns a receipt: `{"message_id", "threads": {id: places redacted}, "forks_of_others": [ids], "scrubbed"}`.
        forks_of_others: forks that belong to other users, which this call may not touch. scrubbed: whether nothing of
        it is in the store's files any more; see `aerase_user`. Messages are found by their id where they are
        items of a list; a copy of the text in another field is not. Can be repeated.
        """
        return await self._redaction.redact(read_config(config, write=True), message_id)

    put_messages = face(aput_messages)
    get_message = face(aget_message)
    list_messages = face(alist_messages)
    iter_messages = face_iter(aiter_messages)
    search_messages = face(asearch_messages)
    delete_message = face(adelete_message)
    pop_messages = face(apop_messages)
    replace_messages = face(areplace_messages)
    clear_messages = face(aclear_messages)
    redact = face(aredact)
