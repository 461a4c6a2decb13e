"""The public methods on states and their past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from threadline.checkpointer.calls import Calls, read_limit, read_metadata, read_name
from threadline.checkpointer.handover import take
from threadline.checkpointer.messages import listed
from threadline.checkpointer.states import PutOptions
from threadline.checkpointer.sync import face
from threadline.config import Config, read_config
from threadline.model import Checkpoint, Message
from threadline.telemetry import operation


class StateCalls(Calls):
    """Putting, appending to, reading and clearing states, and listing checkpoints."""

    @operation
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
        address = read_config(config, write=True)
        given: dict[str, Any] = {
            "name": name,
            "metadata": metadata,
            "messages": messages,
            "expected_version": expected_version,
            "op_id": op_id,
        }
        handed = take(address)
        if handed is not None:
            given.update(handed.keywords)
        options = PutOptions(
            name=read_name(given["name"]),
            metadata=read_metadata(given["metadata"]),
            messages=given["messages"],
            expected=given["expected_version"],
            op_id=given["op_id"],
        )
        checkpoint = await self._states.put(address, state, options)
        if handed is not None:
            handed.checkpoint = checkpoint
        return checkpoint

    @operation
    async def aappend(
        self,
        config: Config,
        messages: Sequence[Any],
        *,
        field: str = "context",
        log: bool = False,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expected_version: int | Checkpoint | None = None,
        op_id: str | None = None,
    ) -> Checkpoint:
        """Let the head's state grow by items at the end of one of its lists, at the cost of what is new only.

        messages: the items, of the kind that the list holds. field: which list, default `context`. log: they are
        Messages, and put into the message log in the same commit. Where there is no state yet, one is made of the
        state's class. Without `expected_version` it appends to whatever is the head.
        The other arguments and errors are those of `aput_state`.
        """
        options = PutOptions(
            name=read_name(name),
            metadata=read_metadata(metadata),
            messages=messages if log else (),
            expected=expected_version,
            op_id=op_id,
        )
        address = read_config(config, write=True)
        return await self._states.append(address, listed(messages), field, options)

    @operation
    async def aget_state(self, config: Config) -> Any:
        """The state of a thread (or of the moment of its past that the config addresses), or None.

        Never anything that was not committed, nor older than a put that returned before. The class: `state_class`
        of the config, the class it was put as in this process, that of the checkpointer, AgentState or dict. Raises
        CorruptionError for damaged bytes; TypeError when no class is named that holds every field.
        """
        return await self._reads.get(read_config(config))

    @operation
    async def aget_state_cache(self, config: Config) -> Any:
        """As `aget_state`, but a cache's copy may be served without asking the store while the store confirmed it at
        most `max_stale` seconds ago; else the store is asked, and the cache filled. An embedded store is asked at every
        call, so that nothing stale is ever served."""
        return await self._reads.get(read_config(config), trusting=True)

    @operation
    async def aclear_state(self, config: Config, *, op_id: str | None = None) -> Checkpoint | None:
        """Let the thread have no state: `aget_state` gives None, the history stays. Returns the checkpoint that says
        so, None when there was no state."""
        return await self._states.clear(read_config(config, write=True), PutOptions(op_id=op_id))

    @operation
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
        return await self._checkpoints.list(
            read_config(config),
            name=read_name(name),
            metadata=read_metadata(metadata),
            before=before,
            limit=read_limit(limit),
        )

    @operation
    async def aget_checkpoint(self, config: Config) -> Checkpoint | None:
        """The checkpoint that the config points at (the head, or a moment of the past) with its `state`, or None."""
        return await self._checkpoints.get(read_config(config))

    put_state = face(aput_state)
    append = face(aappend)
    get_state = face(aget_state)
    get_state_cache = face(aget_state_cache)
    clear_state = face(aclear_state)
    list_checkpoints = face(alist_checkpoints)
    get_checkpoint = face(aget_checkpoint)
