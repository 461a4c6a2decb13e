"""`CheckpointManager`: named moments that an agent can recover from, for sync code.

It stands on `manager_log` (the session in a store) and `manager_rules` (what stays, and the exported text); what is
here is what users call.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from threadline import clock
from threadline.backend import Entry, EntryQuery
from threadline.checkpointer.base import BaseCheckpointer
from threadline.checkpointer.calls import read_metadata
from threadline.checkpointer.in_memory import InMemoryCheckpointer
from threadline.checkpointer.manager_log import Change, Memory, SessionLog, View
from threadline.checkpointer.manager_rules import Export, Record, kept, read_export, write_export
from threadline.codec.values import encode
from threadline.config import LONG, SHORT, text_id
from threadline.model import Checkpoint

logger = logging.getLogger(__name__)
#: The longest number of an id, in digits: what 64 bits hold without asking.
_DIGITS: Final = 18

Callback = Callable[[Checkpoint], object]


class CheckpointManager:
    """The recovery points of one session: created under a name, found by id, name or time, kept in number.

    session_id: whose they are; the ids are `"{session_id}:{n}"`, n counting from 1 and never given twice. A manager
    of the same session in another thread or process sees the same checkpoints, in the order of their creation.
    max_checkpoints: never more than these (1 or more, default 100). compress_after: with more than these (0 or more,
    default 50) the first, the latest of each name and the newest 20 stay, the others go. Both are applied when
    something is added. checkpointer: where they are kept, and stay when the process ends; None: in this object.
    user_id, tenant: the owner and tenant, as in a config.

    Data and metadata are kept by value, with the types that the codec knows (tuples, bytes, datetimes, int keys, ...).
    All methods may be called from several threads, and inside a running event loop, which they block.

    Errors of every method: TypeError and ValueError for bad input, before anything is written; ThreadNotFoundError
    when the session belongs to another user; those of the checkpointer, e.g. `UnavailableError`.
    """

    def __init__(
        self,
        session_id: str,
        max_checkpoints: int = 100,
        compress_after: int = 50,
        checkpointer: BaseCheckpointer | None = None,
        *,
        user_id: str | int | None = None,
        tenant: str = "",
    ) -> None:
        if checkpointer is not None and not hasattr(checkpointer, "store"):
            raise TypeError(
                f"checkpointer must be a checkpointer or None, not {type(checkpointer).__name__}"
            )
        self.session_id = text_id(session_id, "session_id", LONG)
        self.max_checkpoints = _count(max_checkpoints, "max_checkpoints", 1)
        self.compress_after = _count(compress_after, "compress_after", 0)
        self._session = SessionLog(
            InMemoryCheckpointer() if checkpointer is None else checkpointer,
            {"thread_id": self.session_id, "user_id": user_id, "tenant": tenant},
        )
        self._callbacks: list[Callback] = []

    def create(
        self,
        name: str,
        data: Any,
        metadata: Mapping[str, Any] | None = None,
        *,
        op_id: str | None = None,
    ) -> Checkpoint:
        """Keep `data` as the newest checkpoint, in one commit with the compression that it makes due.

        name: 1 to 255 characters, any number of times. data, metadata: plain values; what would not come back equal
        is refused with NotStorableError before anything is written. op_id: 32 hexadecimal digits; the same call with
        the same op_id, within a day, keeps nothing twice and returns the first checkpoint. The callbacks are called
        when it is kept, and again by such a call: the first may not have come to that.
        """
        record = Record(
            uid=clock.new_id(),
            name=text_id(name, "name", SHORT),
            at=clock.now_us(),
            data=encode(data),
            metadata=encode(read_metadata(metadata)),
        )
        entry = self._session.seal(record)
        commit = self._session.write(
            "create_checkpoint", op_id, lambda view: self._add(view, (entry,))
        )
        if commit is None or len(commit.seqs) != 1:
            raise ValueError(f"op_id {op_id!r} was used for another call")
        seq = commit.seqs[0]
        if commit.duplicate:  # What was kept then, or all that is known of it when it went since.
            record = dataclasses.replace(record, at=commit.at)
            stored = self._session.entries(EntryQuery(after=seq - 1, before=seq + 1))
            entry = stored[0] if stored else self._session.seal(record)
        entry = dataclasses.replace(entry, seq=seq)
        self._tell(entry)
        return self._session.checkpoint(entry)

    def get(self, checkpoint_id: str) -> Checkpoint | None:
        """The checkpoint with this id, or None. An imported one is also found by the id that it had in the session it
        came from, unless that is an id of this session."""
        if not isinstance(checkpoint_id, str):
            raise TypeError(f"a checkpoint's id is a str, not a {type(checkpoint_id).__name__}")
        session, _, number = checkpoint_id.rpartition(":")
        if session != self.session_id:
            return self._imported(checkpoint_id)
        if not (number.isascii() and number.isdigit() and len(number) <= _DIGITS):
            return None
        if number.startswith("0"):
            return None
        found = self._session.entries(EntryQuery(after=int(number) - 1, before=int(number) + 1))
        return self._session.checkpoint(found[0]) if found else None

    def get_by_name(self, name: str) -> list[Checkpoint]:
        """The checkpoints of this name, newest first."""
        query = EntryQuery(role=text_id(name, "name", SHORT), newest=True)
        return [self._session.checkpoint(entry) for entry in self._session.entries(query)]

    def get_latest(self, name: str | None = None) -> Checkpoint | None:
        """The newest checkpoint (of this name), or None."""
        role = None if name is None else text_id(name, "name", SHORT)
        found = self._session.entries(EntryQuery(role=role, newest=True, limit=1))
        return self._session.checkpoint(found[0]) if found else None

    def get_all(self) -> list[Checkpoint]:
        """All checkpoints, oldest first."""
        return [self._session.checkpoint(entry) for entry in self._session.entries(EntryQuery())]

    def get_since(self, moment: datetime) -> list[Checkpoint]:
        """The checkpoints with a timestamp strictly after an aware moment, in the order of their creation."""
        after = _moment(moment, "moment")
        return self._within(lambda at: at > after)

    def get_between(self, start: datetime, end: datetime) -> list[Checkpoint]:
        """The checkpoints from `start` to `end`, both aware and both included, in the order of their creation; none
        when `end` is before `start`."""
        first, last = _moment(start, "start"), _moment(end, "end")
        return self._within(lambda at: first <= at <= last)

    def rollback_to(self, checkpoint_id: str) -> Any:
        """The data to recover with, or None when there is no such checkpoint. Nothing is taken away, and the data is
        the caller's own."""
        checkpoint = self.get(checkpoint_id)
        return checkpoint.data if checkpoint else None

    def clear(self, *, op_id: str | None = None) -> int:
        """Take all checkpoints away, and forget what was imported; returns how many there were. Their ids are not
        given again. op_id: as for `create`; the same call returns the same count."""

        def plan(view: View) -> Change | None:
            if _idle(view, bool(view.lines), op_id):
                return None
            return Change(clear=True, memory=Memory(view.last or self._session.memory().cleared))

        commit = self._session.write("clear_checkpoints", op_id, plan)
        return commit.removed if commit else 0

    def get_summary(self) -> dict[str, Any]:
        """What there is: `total_count`; `unique_names`, how many; `names`, the count of each; `first_checkpoint` and
        `last_checkpoint`, by creation (Checkpoint; None when empty); `duration_seconds` from the earliest to the
        latest timestamp (float; 0.0 when empty)."""
        entries = self._session.entries(EntryQuery())
        names = Counter(entry.role for entry in entries)
        times = [self._session.beside(entry)["at"] for entry in entries]
        return {
            "total_count": len(entries),
            "unique_names": len(names),
            "names": dict(names),
            "first_checkpoint": self._session.checkpoint(entries[0]) if entries else None,
            "last_checkpoint": self._session.checkpoint(entries[-1]) if entries else None,
            "duration_seconds": (max(times) - min(times)) / 1e6 if times else 0.0,
        }

    def on_checkpoint(self, callback: Callback) -> Callback:
        """Call `callback` with each checkpoint that this manager creates, when it is kept; returns it, so that it can
        decorate. Several are called in the order of their registration, each with a Checkpoint of its own, in the
        thread that called `create`. One that raises is logged and disturbs nothing. Imports call none."""
        if not callable(callback):
            raise TypeError(f"a callback must be callable, not a {type(callback).__name__}")
        self._callbacks.append(callback)
        return callback

    def export(self) -> str:
        """All checkpoints as a JSON text for `import_checkpoints`, the same for the same checkpoints. Values keep their
        types in it: what JSON has no form for is an object like `{"$tuple": [1, 2]}`; times are ISO 8601 in UTC."""
        incarnation, _ = self._session.about()
        records = [self._session.record(entry) for entry in self._session.entries(EntryQuery())]
        return write_export(self.session_id, incarnation, records)

    def import_checkpoints(self, exported: str | bytes, *, op_id: str | None = None) -> int:
        """Add the checkpoints of an exported text behind those that are here, in their order, in one commit; returns
        how many were added and kept.

        They get new ids and keep name, timestamp, data and metadata. What is here, was imported before, or was here
        and went by compression is not added again; `clear` forgets all that. op_id: as for `create`.
        Raises ValueError for a text that is no export and for a bad entry, which it names; nothing is imported then.
        """
        export = read_export(exported)

        def plan(view: View) -> Change | None:
            memory = self._session.memory()
            fresh = _unseen(export, view, memory)
            if _idle(view, bool(fresh), op_id):
                return None
            change = self._add(view, [self._session.seal(record) for record in fresh])
            uids = memory.uids | {record.uid for record in fresh}
            return dataclasses.replace(change, memory=Memory(memory.cleared, uids))

        commit = self._session.write("import_checkpoints", op_id, plan)
        return len(commit.seqs) if commit else 0

    def __len__(self) -> int:
        return self._session.about()[1]

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self.get_all())

    def _add(self, view: View, entries: Sequence[Entry]) -> Change:
        """Entries behind what is there, and what goes for them."""
        names = [line.name for line in view.lines] + [entry.role or "" for entry in entries]
        stay = set(kept(names, self.compress_after, self.max_checkpoints))
        return Change(
            remove=tuple(line.uid for at, line in enumerate(view.lines) if at not in stay),
            puts=tuple(entry for at, entry in enumerate(entries, len(view.lines)) if at in stay),
        )

    def _within(self, wanted: Callable[[int], bool]) -> list[Checkpoint]:
        log = self._session
        entries = log.entries(EntryQuery())
        return [log.checkpoint(entry) for entry in entries if wanted(log.beside(entry)["at"])]

    def _imported(self, origin: str) -> Checkpoint | None:
        for entry in self._session.entries(EntryQuery(newest=True)):
            if self._session.beside(entry).get("origin") == origin:
                return self._session.checkpoint(entry)
        return None

    def _tell(self, entry: Entry) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback(self._session.checkpoint(entry))
            except Exception:
                logger.exception(
                    "a callback of session %r raised; checkpoint %s:%d is kept",
                    self.session_id,
                    self.session_id,
                    entry.seq,
                )


def _idle(view: View, work: bool, op_id: str | None) -> bool:
    """Whether nothing need be written. With an `op_id` the store is asked all the same: it may know the result."""
    return not work and (op_id is None or view.incarnation is None)


def _unseen(export: Export, view: View, memory: Memory) -> list[Record]:
    """The checkpoints of an export that are not here, were not imported since the last `clear`, and were not made
    here since and compressed away."""
    here = {line.uid for line in view.lines} | memory.uids
    taken = {
        line.seq for line in view.lines
    }  # Under another uid: a copy of the store went its own way.
    ours = view.incarnation is not None and export.incarnation == view.incarnation.hex()

    def was_here(number: int) -> bool:
        return ours and memory.cleared < number <= view.last and number not in taken

    return [r for r in export.records if r.uid not in here and not was_here(r.version)]


def _count(value: int, what: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{what} must be {least} or more, not {value}")
    return value


def _moment(value: datetime, what: str) -> int:
    if not isinstance(value, datetime):
        raise TypeError(f"{what} must be a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise ValueError(
            f"{what} {value.isoformat()} has no time zone; use an aware datetime, e.g. datetime.now(UTC)"
        )
    return clock.to_us(value)
