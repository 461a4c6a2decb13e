"""The public floor for adapters: what `checkpointer.store` takes and gives. Names here are stable."""

from threadline.backend import (
    At,
    Batch,
    Blob,
    CheckpointQuery,
    CheckpointRow,
    Commit,
    Entry,
    EntryPut,
    EntryQuery,
    Expected,
    Head,
    Range,
    Row,
    Slot,
    SlotIs,
    SlotPut,
    SlotQuery,
    TailIs,
    ThreadPut,
    ThreadRow,
)
from threadline.batch import CopyFrom, Drop
from threadline.checkpointer.store import Store
from threadline.codec.digest import EMPTY, checkpoint_digest, extend, item_digest
from threadline.codec.envelope import Payload, Where
from threadline.codec.near import Near, expand, shrink
from threadline.codec.rows import Items
from threadline.codec.searchtext import words
from threadline.codec.terms import matches, terms_of
from threadline.history.delta import appended, pieces_of, place, positions
from threadline.history.diff import changes
from threadline.history.freeing import joined
from threadline.history.logs import Growth, Mark, read_marks, write_marks
from threadline.history.retention import Meta, decide
from threadline.history.snapshot import Snapshot
from threadline.history.watch import Watch

__all__ = [
    "EMPTY",
    "At",
    "Batch",
    "Blob",
    "CheckpointQuery",
    "CheckpointRow",
    "Commit",
    "CopyFrom",
    "Drop",
    "Entry",
    "EntryPut",
    "EntryQuery",
    "Expected",
    "Growth",
    "Head",
    "Items",
    "Mark",
    "Meta",
    "Near",
    "Payload",
    "Range",
    "Row",
    "Slot",
    "SlotIs",
    "SlotPut",
    "SlotQuery",
    "Snapshot",
    "Store",
    "TailIs",
    "ThreadPut",
    "ThreadRow",
    "Watch",
    "Where",
    "appended",
    "changes",
    "checkpoint_digest",
    "decide",
    "expand",
    "extend",
    "item_digest",
    "joined",
    "matches",
    "pieces_of",
    "place",
    "positions",
    "read_marks",
    "shrink",
    "terms_of",
    "words",
    "write_marks",
]
