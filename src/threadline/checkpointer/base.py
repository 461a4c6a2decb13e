"""`BaseCheckpointer`: what users call. Each method reads its config, checks its arguments, and hands on to a pipeline.

The async methods are the ones to override; each sync face calls its async twin through `self`. Pipelines and
backends never see each other's insides: a checkpointer is a backend, perhaps a cache, and the same code on top.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from threadline.backend import Backend, ThreadQuery
from threadline.cache import Cache
from threadline.checkpointer.checkpoints import Checkpoints
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.messages import Messages, OnDuplicate
from threadline.checkpointer.states import PutOptions, States
from threadline.checkpointer.store import Store
from threadline.checkpointer.sync import face, face_iter
from threadline.checkpointer.threads import Order, Threads
from threadline.config import SHORT, Config, read_config, text_id
from threadline.inline import run_inline
from threadline.model import Checkpoint, Message, ThreadInfo

T = TypeVar("T")
#: How long `arelease` waits for tasks that were started and have not finished, in seconds.
RELEASE_WAIT = 10.0


class BaseCheckpointer:
    """The session memory of agents, on any backend.

    `config` is a plain dict that is never written to: `thread_id`; optional `user_id` (str or int), `tenant`, `app`,
    `namespace`, `run_id`, `state_class`; and `version`, `checkpoint_id` or `name` to address the past. Without a
    `user_id` a call sees every thread; with one that is not the owner's, a thread does not exist.

    state_class: the class that states come back as when the config names none; default: the class they were put
    as in this process, else AgentState or dict. require_user: refuse calls without a `user_id`. require_base: refuse
    to put a state that was not loaded from its thread.

    Errors of every method: TypeError and ValueError for bad input, before anything is written; `UnavailableError`
    (a builtin ConnectionError) when the store cannot be reached; `ReleasedError` after `arelease`.
    """

    def __init__(
        self,
        backend: Backend,
        cache: Cache | None = None,
        *,
        state_class: type | None = None,
        require_user: bool = False,
        require_base: bool = False,
        max_stale: float = 0.0,
    ) -> None:
        self._engine = Engine(
            backend,
            cache,
            state_class=state_class,
            require_user=require_user,
            require_base=require_base,
            max_stale=max_stale,
        )
        self._states = States(self._engine)
        self._checkpoints = Checkpoints(self._engine, self._states)
        self._messages = Messages(self._engine)
        self._threads = Threads(self._engine)
        #: The floor for adapters: batches, reads, scans.
        self.store = Store(self._engine)

    # Life ---------------------------------------------------------------------------------------------

    async def asetup(self) -> Self:
        """Make the store ready: create or migrate its schema. Called by the first use too; safe to repeat."""
        await self._engine.ready()
        return self

    async def arelease(self) -> None:
        """Wait (at most 10 s) for calls of this checkpointer that were started as tasks, then close what it opened."""
        await _finish_tasks_of(self)
        await self._engine.release()

    async def __aenter__(self) -> Self:
        await self.asetup()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.arelease()

    def __enter__(self) -> Self:
        self.setup()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    async def ahealth(self) -> dict[str, Any]:
        """Whether the store answers, and what it is: `{"ok", "backend", ...}`; never raises for a store that is
        down, but says so (`"ok": False, "error": ...`)."""
        try:
            info = await self._engine.ready()
            counts = await self._engine.backend.measure(None)
        except ConnectionError as error:
            return {"ok": False, "backend": self._engine.backend.name, "error": str(error)}
        return {"ok": True, "backend": self._engine.backend.name, **info.facts, **counts}

    # State --------------------------------------------------------------------------------------------

    async def aput_state(
        self,
        config: Config,
        state: Any,
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        messages: Sequence[Message] = (),
        expected_version: int | Checkpoint | None = None,
        op_id: str | None = None,
    ) -> Checkpoint:
        """Put a state as the new head of its thread; returns its checkpoint.

        state: an AgentState or another pydantic model, a dataclass, or a dict. A state that was loaded from this
        thread, or put to it before, goes onto that very version; one that was not goes on top of what is there.
        name: names the checkpoint. metadata: a dict kept with it. messages: put into the message log in the same
        commit. expected_version: instead of what the state carries: 0 (there must be none), a version, or a
        Checkpoint. op_id: 32 hexadecimal digits; a repeated call with the same one returns the first one's result.

        Raises ConflictError when the head has moved; ThreadNotFoundError when the thread was deleted since the state
        was loaded, or is another user's; NotStorableError for a value that would not come back equal; LimitError.
        """
        options = PutOptions(
            name=_name(name),
            metadata=_metadata(metadata),
            messages=messages,
            expected=expected_version,
            op_id=op_id,
        )
        return await self._states.put(read_config(config, write=True), state, options)

    async def aappend(
        self,
        config: Config,
        messages: Sequence[Any],
        *,
        field: str = "context",
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expected_version: int | Checkpoint | None = None,
        op_id: str | None = None,
    ) -> Checkpoint:
        """Let the head's state grow by items at the end of one of its lists, at the cost of what is new only.

        messages: the items, of the kind that the list holds. field: which list, default `context`. Where there is no
        state yet, one is made of the state's class. Without `expected_version` it appends to whatever is the head.
        The other arguments and errors are those of `aput_state`.
        """
        options = PutOptions(
            name=_name(name), metadata=_metadata(metadata), expected=expected_version, op_id=op_id
        )
        address = read_config(config, write=True)
        if isinstance(messages, Message | str | bytes | Mapping):
            raise TypeError(f"messages must be a list, not a {type(messages).__name__}")
        return await self._states.append(address, list(messages), field, options)

    async def aget_state(self, config: Config) -> Any:
        """The state of a thread (or of the moment of its past that the config addresses), or None.

        Never anything that was not committed, nor older than a put that returned before. The class: `state_class`
        of the config, the class it was put as in this process, that of the checkpointer, AgentState or dict. Raises
        CorruptionError for damaged bytes; TypeError when no class is named that holds every field.
        """
        return await self._states.get(read_config(config))

    async def aget_state_cache(self, config: Config) -> Any:
        """The state as a cache has it if the store confirmed it at most `max_stale` seconds ago, else as `aget_state`
        reads it, filling the cache. Embedded stores confirm at every call."""
        return await self._states.get(read_config(config))

    async def aclear_state(self, config: Config, *, op_id: str | None = None) -> Checkpoint | None:
        """Let the thread have no state: `aget_state` gives None, the history stays. Returns the checkpoint that says
        so, None when there was no state."""
        return await self._states.clear(read_config(config, write=True), PutOptions(op_id=op_id))

    # History ------------------------------------------------------------------------------------------

    async def alist_checkpoints(
        self,
        config: Config,
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        before: int | Checkpoint | None = None,
        limit: int | None = None,
    ) -> list[Checkpoint]:
        """The checkpoints of a thread and namespace, newest first, without their states.

        name, metadata: only those with this name, with these keys and equal values. before: only versions below this
        one. limit: at most so many, 1 or more; None: all.
        """
        address = read_config(config)
        checked = {"metadata": _metadata(metadata), "limit": _limit(limit), "before": before}
        return await self._checkpoints.list(address, name=_name(name), **checked)

    async def aget_checkpoint(self, config: Config) -> Checkpoint | None:
        """The checkpoint that the config points at (the head, or a moment of the past) with its `state`, or None."""
        return await self._checkpoints.get(read_config(config))

    # Messages -----------------------------------------------------------------------------------------

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
        beside = _metadata(metadata)
        await self._messages.put(address, messages, beside, on_duplicate, op_id)

    async def aget_message(self, config: Config, message_id: str) -> Message | None:
        """One message by its id, or None."""
        return await self._messages.get(read_config(config), message_id)

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
        """
        address = read_config(config)
        most, skip, newest = _limit(limit), _offset(offset), _limit(last, "last")
        if newest is not None and (most is not None or skip):
            raise ValueError("last cannot be combined with limit or offset")
        wanted = skip + most if most is not None else newest
        found: list[Message] = []
        if search is not None and not search.strip():
            search = None
        messages = self._messages.iterate(
            address,
            search=search,
            role=role,
            metadata=_metadata(metadata),
            after=after,
            newest=newest is not None,
        )
        async for message in messages:
            found.append(message)
            if len(found) == wanted:
                break
        await messages.aclose()
        return found[skip:] if newest is None else found[::-1]

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
        async for message in self._messages.iterate(address, search=search, role=role, after=after):
            yield message

    async def asearch_messages(
        self, config: Config, search: str, *, role: str | None = None, limit: int = 20
    ) -> list[tuple[str, Message]]:
        """Messages of all threads of the config's tenant, app and user that match, newest first, each with its
        thread's id; at most `limit`."""
        address = read_config(config, thread=False)
        self._engine.check_user(address)
        threads = ThreadQuery(address.tenant, address.app, address.user)
        return await self._messages.search(threads, search, role, _limit(limit) or 20)

    async def adelete_message(
        self, config: Config, message_id: str, *, op_id: str | None = None
    ) -> bool:
        """Take a message out of the log (states that hold it keep it); False when it is not there."""
        return await self._messages.delete(read_config(config, write=True), message_id, op_id)

    async def apop_messages(
        self, config: Config, n: int = 1, *, op_id: str | None = None
    ) -> list[Message]:
        """Take the newest `n` messages out of the log and return them in the log's order, in one commit."""
        return await self._messages.pop(read_config(config, write=True), n, op_id)

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

        expected_tail: the messages expected there, or their ids. Raises ConflictError when there are others.
        """
        address = read_config(config, write=True)
        await self._messages.replace(address, after, expected_tail, messages, op_id)

    async def aclear_messages(self, config: Config, *, op_id: str | None = None) -> int:
        """Take every message out of the log; returns how many there were. The thread and its states stay."""
        return await self._messages.clear(read_config(config, write=True), op_id)

    # Threads ------------------------------------------------------------------------------------------

    async def aput_thread(
        self, config: Config, thread_info: ThreadInfo, *, op_id: str | None = None
    ) -> None:
        """Say what is to be known of a thread: its name, metadata, run. Makes the thread when it is missing.

        Raises ValueError when config and thread_info name different threads or users.
        """
        await self._threads.put(read_config(config, write=True), thread_info, op_id)

    async def aget_thread(self, config: Config) -> ThreadInfo | None:
        """What is known of a thread, or None."""
        return await self._threads.get(read_config(config))

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
            metadata=_metadata(metadata),
            limit=_limit(limit),
            offset=_offset(offset),
            after=after,
            order=order,
        )

    async def adelete_thread(self, config: Config, *, op_id: str | None = None) -> bool:
        """Erase a thread with its states, messages and past; False when there is none. It never comes back: states
        loaded before can no longer be put to it."""
        return await self._threads.delete(read_config(config, write=True), op_id)

    async def aerase_user(self, config: Config) -> dict[str, Any]:
        """Erase every thread of the config's `user_id`, in every app of the tenant, one by one.

        Returns a receipt: `{"user_id", "threads": [ids]}`. After a crash, call it again.
        """
        return await self._threads.erase_user(read_config(config, thread=False))

    # Sync faces ---------------------------------------------------------------------------------------

    setup = face(asetup)
    release = face(arelease)
    health = face(ahealth)
    put_state = face(aput_state)
    append = face(aappend)
    get_state = face(aget_state)
    get_state_cache = face(aget_state_cache)
    clear_state = face(aclear_state)
    list_checkpoints = face(alist_checkpoints)
    get_checkpoint = face(aget_checkpoint)
    put_messages = face(aput_messages)
    get_message = face(aget_message)
    list_messages = face(alist_messages)
    iter_messages = face_iter(aiter_messages)
    search_messages = face(asearch_messages)
    delete_message = face(adelete_message)
    pop_messages = face(apop_messages)
    replace_messages = face(areplace_messages)
    clear_messages = face(aclear_messages)
    put_thread = face(aput_thread)
    get_thread = face(aget_thread)
    list_threads = face(alist_threads)
    delete_thread = face(adelete_thread)
    erase_user = face(aerase_user)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return run_inline(coroutine)


async def _finish_tasks_of(checkpointer: BaseCheckpointer) -> None:
    """Wait for the tasks of this loop that run a method of this checkpointer, begun or not."""
    try:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
    except RuntimeError:  # No loop is running: a sync release.
        return
    ours = [task for task in tasks if _belongs(task.get_coro(), checkpointer)]
    if ours:
        await asyncio.wait(ours, timeout=RELEASE_WAIT)


def _belongs(coroutine: object, checkpointer: BaseCheckpointer) -> bool:
    frame = getattr(coroutine, "cr_frame", None)
    return frame is not None and frame.f_locals.get("self") is checkpointer


def _name(name: str | None) -> str | None:
    return None if name is None else text_id(name, "name", SHORT)


def _metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a dict, not {type(metadata).__name__}")
    return dict(metadata)


def _limit(limit: int | None, what: str = "limit") -> int | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"{what} must be an int, not {type(limit).__name__}")
    if limit < 1:
        raise ValueError(f"{what} must be 1 or more, not {limit}")
    return limit


def _offset(offset: int | None) -> int:
    if offset is None:
        return 0
    if isinstance(offset, bool) or not isinstance(offset, int):
        raise TypeError(f"offset must be an int, not {type(offset).__name__}")
    if offset < 0:
        raise ValueError(f"offset must be 0 or more, not {offset}")
    return offset
