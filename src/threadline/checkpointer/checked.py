"""What a batch must hold before any store sees it, when somebody else than the pipelines made it.

The pipelines check what users give them as they read it. An adapter's texts come here, so that all stores refuse the
same ones, with the same error, and nothing is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from threadline.batch import Batch
from threadline.codec.searchtext import is_words
from threadline.errors import NotStorableError
from threadline.texts import KEY_BYTES, check_text

#: What a batch that copies a whole thread may say.
_COPYING = {
    *("key", "names", "user", "ns", "namespace", "op_id", "kind", "create", "incarnation"),
    *("requires_slots", "thread", "copy"),
}
#: A text, what it is called, and the most bytes that it may have (None: any number).
Text = tuple[object, str, int | None]


def check(batch: Batch) -> None:
    """Raise NotStorableError for a text that not every store can hold, TypeError for one that is no str,
    ValueError for parts that do not go together. Pure."""
    if batch.copies_all:
        _check_alone(batch)
    for text, what, most in _texts(batch):
        if text is not None:
            check_text(text, what, most)
    for put in batch.entries:
        _check_search(put.entry.search)
    for entry in batch.rewrite_entries:
        _check_search(entry.search)
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
    for entry in (*(put.entry for put in batch.entries), *batch.rewrite_entries):
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


def _slots(batch: Batch) -> Iterator[tuple[str, str]]:
    for put in batch.slots:
        yield put.slot.kind, put.slot.key
    for required in batch.requires_slots:
        yield required.kind, required.key


def _check_alone(batch: Batch) -> None:
    """Raise ValueError when a batch that copies a whole thread would do something else too."""
    for field in dataclasses.fields(batch):
        if field.name not in _COPYING and getattr(batch, field.name) != field.default:
            raise ValueError(
                f"a batch that copies a whole thread does nothing else: `{field.name}` is for another one"
            )


def _check_search(search: str | None) -> None:
    if search is not None and not is_words(search):
        raise NotStorableError(
            f"the search text of an entry, {search[:50]!r}, is not words with one space between them: give "
            "`threadline.store.words(text) or None`"
        )
