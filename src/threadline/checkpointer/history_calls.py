"""The public methods that work with a thread's past."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from threadline.checkpointer.calls import Calls, read_metadata, read_name
from threadline.checkpointer.sync import face
from threadline.config import Address, Config, read_config
from threadline.model import Checkpoint
from threadline.model.verification import Verification
from threadline.telemetry import operation


class HistoryCalls(Calls):
    """Naming checkpoints, rolling back, and forking."""

    @operation
    async def aname_checkpoint(
        self, config: Config, name: str | None, *, op_id: str | None = None
    ) -> Checkpoint:
        """Name the checkpoint that the config points at (the head, or a moment of the past); None takes its name away.

        Several checkpoints may share a name: addressing by it finds the latest. Raises ThreadNotFoundError,
        ValueError when there is no such checkpoint.
        """
        return await self._past.name(read_config(config), read_name(name), op_id)

    @operation
    async def arollback(
        self,
        config: Config,
        to: int | str | Checkpoint,
        *,
        metadata: Mapping[str, Any] | None = None,
        expected_version: int | Checkpoint | None = None,
        op_id: str | None = None,
    ) -> Checkpoint:
        """Make an old state the head again, as a new checkpoint; nothing is erased.

        to: a version, a Checkpoint, or a text: a checkpoint id, else a name (its latest). expected_version: refuse
        unless the head is this version; None: whatever is the head. Raises ConflictError, ThreadNotFoundError,
        ValueError when there is no such checkpoint.
        """
        address = read_config(config, write=True)
        target = await self._target(address, to)
        return await self._past.rollback(
            address, target, expected_version, read_metadata(metadata), op_id
        )

    @operation
    async def afork(
        self,
        config: Config,
        thread_id: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        history: bool = False,
        op_id: str | None = None,
    ) -> Checkpoint:
        """Copy the state that the config points at (the head, or a moment of the past) into a new thread.

        The rows are copied in the store, not through this process; messages of the log up to that moment keep their
        ids, and slots are copied too. The new thread has the owner and the description of the old one and knows where
        it came from (`ThreadInfo.forked_from`); from then on the two share nothing. Returns its first checkpoint.

        history: the whole thread instead, as it stands: every namespace with all of its checkpoints, under their
        versions and names, the message log and the slots, in one commit whatever the length. Returns the newest
        checkpoint. The config cannot address the past then, no new checkpoint is made that could have `metadata`, and
        the new thread must not exist.

        Raises ThreadNotFoundError, ValueError when there is no such checkpoint or the new thread has a state already.
        """
        if history:
            if metadata is not None:
                raise ValueError("with history=True no checkpoint is made that metadata belongs to")
            return await self._copying.fork(read_config(config), thread_id, op_id)
        return await self._past.fork(read_config(config), thread_id, read_metadata(metadata), op_id)

    @operation
    async def averify(self, config: Config) -> Verification:
        """Read the config's thread again, all namespaces and all of its past, and say what does not fit: damaged or
        missing rows, digests, ranges, messages, counts. True when nothing is wrong; `problems` says what and where. A
        thread that is written to meanwhile is read again, up to 5 times; then only what was found each time is a
        problem, so that its counts are not compared while that goes on."""
        return await self._verifier.verify(read_config(config))

    async def _target(self, address: Address, to: int | str | Checkpoint) -> Address:
        if isinstance(to, Checkpoint):
            return dataclasses.replace(address, version=to.version)
        if isinstance(to, bool) or not isinstance(to, int | str):
            raise TypeError(
                f"to must be a version, a Checkpoint or a text, not {type(to).__name__}"
            )
        if isinstance(to, int):
            if to < 1:
                raise ValueError(f"to must be 1 or more, not {to}")
            return dataclasses.replace(address, version=to)
        by_id = dataclasses.replace(address, checkpoint_id=to)
        found = await self._checkpoints.get(by_id)
        return by_id if found else dataclasses.replace(address, name=to)

    name_checkpoint = face(aname_checkpoint)
    rollback = face(arollback)
    fork = face(afork)
    verify = face(averify)
