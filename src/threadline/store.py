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
from threadline.checkpointer.store import Store
from threadline.codec.digest import EMPTY, checkpoint_digest, extend, item_digest
from threadline.codec.envelope import Payload, Where
from threadline.codec.searchtext import words
from threadline.codec.terms import terms_of

__all__ = [
    "EMPTY",
    "At",
    "Batch",
    "Blob",
    "CheckpointQuery",
    "CheckpointRow",
    "Commit",
    "Entry",
    "EntryPut",
    "EntryQuery",
    "Expected",
    "Head",
    "Payload",
    "Range",
    "Row",
    "Slot",
    "SlotIs",
    "SlotPut",
    "SlotQuery",
    "Store",
    "TailIs",
    "ThreadPut",
    "ThreadRow",
    "Where",
    "checkpoint_digest",
    "extend",
    "item_digest",
    "terms_of",
    "words",
]
