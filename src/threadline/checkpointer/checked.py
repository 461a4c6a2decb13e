"""What a batch must hold before any store sees it, when somebody else than the pipelines made it.

The pipelines check what users give them as they read it. An adapter's texts come here, so that all stores refuse the
same ones, with the same error, and nothing is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from threadline.batch import Batch, Entry
from threadline.checkpointer.parts import check_parts
from threadline.codec.facts import are_facts
from threadline.codec.searchtext import is_words
from threadline.errors import NotStorableError
from threadline.texts import KEY_BYTES, check_text

#: What a batch that copies a whole thread, erases one, or may come twice, may say.
_ALL = {
    *("key", "names", "user", "ns", "namespace", "op_id", "fresh", "kind", "incarnation"),
    "requires_slots",
}
_COPYING = _ALL | {"create", "thread", "copy"}
_IDEMPOTENT = _ALL | {"requires", "slots", "idempotent"}
_ERASING = _ALL | {"erase", "requires", "expected", "last_version", "assumes_gc", "assumes_rev"}
#: A text, what it is called, and the most bytes that it may have (None: any number).
Text = tuple[object, str, int | None]


def check(batch: Batch) -> None:
    """Raise NotStorableError for what not every store can hold, TypeError for what is not of the type that its part
    says, ValueError for parts that do not go together. Pure."""
    check_parts(batch)
    _check_together(batch)
    for text, what, most in _texts(batch):
        if text is not None:
            check_text(text, what, most)
    for entry in _entries(batch):
        _check_entry(entry)
    for kind, key in _slots(batch):
        if len(kind) + len(key) > KEY_BYTES // 4:  # So many characters may be too many bytes.
            check_text(kind + key, "the kind and key of a slot", KEY_BYTES)


def _texts(batch: Batch) -> Iterator[Text]:
    for text, what in zip(batch.names, ("tenant", "app", "thread_id"), strict=True):
        yield text, what, None
    yield batch.user, "user", KEY_BYTES
    yield batch.namespace, "namespace", None
    yield batch.kind, "the kind of a batch", None
    if (row := batch.checkpoint) is not None:
        yield row.kind, "the kind of a checkpoint", None
        yield row.ext_id, "the ext_id of a checkpoint", KEY_BYTES
        yield row.name, "the name of a checkpoint", KEY_BYTES
        yield row.run_id, "the run_id of a checkpoint", None
    for entry in _entries(batch):
        yield entry.kind, "the kind of an entry", None
        yield entry.ext_id, "the ext_id of an entry", KEY_BYTES
        yield entry.role, "the role of an entry", None
        yield entry.search, "the search text of an entry", None
        yield entry.facts, "the facts of an entry", None
    for ext_id in (*batch.remove_entries, *batch.forget):
        yield ext_id, "the ext_id of an entry", None
    for kind, key in _slots(batch):
        yield kind, "the kind of a slot", None
        yield key, "the key of a slot", None
    if (said := batch.thread) is not None:
        yield said.title, "the title of a thread", None
        yield said.owner, "the owner of a thread", KEY_BYTES
    for _, name in batch.renames:
        yield name, "the name of a checkpoint", KEY_BYTES


def _entries(batch: Batch) -> Iterator[Entry]:
    for put in batch.entries:
        yield put.entry
    yield from batch.rewrite_entries


def _slots(batch: Batch) -> Iterator[tuple[str, str]]:
    for put in batch.slots:
        yield put.slot.kind, put.slot.key
    for required in batch.requires_slots:
        yield required.kind, required.key


def _check_together(batch: Batch) -> None:
    """Raise ValueError for parts that do not go together."""
    if batch.copies_all:
        _check_alone(batch, "copies a whole thread", _COPYING)
    if batch.erase:
        _check_alone(batch, "erases a thread", _ERASING)
    if batch.idempotent:
        _check_alone(batch, "is idempotent", _IDEMPOTENT)
        if batch.requires is None or any(put.mode != "if_absent" for put in batch.slots):
            raise ValueError(
                "a batch that is idempotent says which incarnation of the thread it `requires`, and writes its slots "
                "`if_absent`"
            )
    if (row := batch.checkpoint) is not None:
        if batch.expected is None:
            raise ValueError("a batch with a checkpoint says which head it `expected`")
        if row.version <= batch.last_version:
            raise ValueError(
                f"a checkpoint's version is more than `last_version` ({batch.last_version}), not {row.version}"
            )
    named = [version for version, _ in batch.renames]
    if len(set(named)) < len(named) or (row is not None and row.version in named):
        raise ValueError("`renames` names a checkpoint twice, or the one of this batch")
    for name, rows in (("rows", batch.rows), ("merged", batch.merged)):
        if len({(row.log, row.start) for row in rows}) < len(rows):
            raise ValueError(f"two of `{name}` begin at one position of one log")


def _check_alone(batch: Batch, does: str, fields: set[str]) -> None:
    for field in dataclasses.fields(batch):
        if field.name not in fields and getattr(batch, field.name) != field.default:
            raise ValueError(
                f"a batch that {does} does nothing else: `{field.name}` is for another one"
            )


def _check_entry(entry: Entry) -> None:
    if not entry.kind:
        raise NotStorableError("the kind of an entry is a text of one character or more")
    if entry.search is not None and not is_words(entry.search):
        raise NotStorableError(
            f"the search text of an entry, {entry.search[:50]!r}, is not words with one space between them: give "
            "`threadline.store.words(text) or None`"
        )
    if entry.facts is not None and not are_facts(entry.facts):
        raise NotStorableError(
            f"the facts of an entry, {entry.facts[:50]!r}, are not what is counted: give None, or make the entry with "
            "`checkpointer.store.entry`"
        )
