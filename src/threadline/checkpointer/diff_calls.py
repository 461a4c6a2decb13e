"""The public method that compares two states."""

from __future__ import annotations

from threadline.checkpointer.calls import Calls
from threadline.checkpointer.sync import face
from threadline.config import Config, read_config
from threadline.history.changes import StateDiff
from threadline.model import Checkpoint
from threadline.telemetry import operation


class DiffCalls(Calls):
    """Comparing states."""

    @operation
    async def adiff(
        self,
        config: Config,
        a: int | str | Checkpoint | None,
        b: int | str | Checkpoint | None = None,
    ) -> StateDiff:
        """What differs from state `a` to state `b` of a thread and namespace, at the cost of what differs.

        a, b: a version, a Checkpoint, a checkpoint id, or a name (of which the latest); a text is looked for as an id
        first, then as a version when it is a number, then as a name. None: the head. A cleared state is an empty one.

        Raises ValueError for a state that is not there, for a Checkpoint of another thread, and for a config that
        addresses the past itself; a thread of another user has none.
        """
        address = read_config(config)
        if address.past:
            raise ValueError(
                f"config of thread {address.thread_id!r} addresses the past; give the two states as a and b"
            )
        return await self._diffs.diff(address, a, b)

    diff = face(adiff)
