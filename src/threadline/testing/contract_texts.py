"""Which texts of adapters no store takes, and which texts no read asks for (P9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from threadline.errors import NotStorableError
from threadline.store import (
    At,
    CheckpointQuery,
    CheckpointRow,
    Entry,
    EntryPut,
    EntryQuery,
    Expected,
    SlotIs,
    SlotQuery,
    ThreadPut,
    words,
)
from threadline.testing.contract_store import commit_of, entry_of, put_of, slots_of
from threadline.testing.faces import Face, FaceTests, at, changes_nothing, said


def _row(**texts: Any) -> dict[str, Any]:
    row = CheckpointRow(version=1, payload=b"x", digest=b"d", **texts)
    return {"checkpoint": row, "expected": Expected(None, 0)}


#: Every place of a batch where an adapter's text may stand.
TEXTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "checkpoint kind": lambda text: _row(kind=text),
    "checkpoint ext_id": lambda text: _row(ext_id=text),
    "checkpoint name": lambda text: _row(name=text),
    "checkpoint run_id": lambda text: _row(run_id=text),
    "entry kind": lambda text: {"entries": (EntryPut(Entry(kind=text, payload=b"", digest=b"")),)},
    "entry ext_id": lambda text: {"entries": (entry_of(b"e", ext_id=text),)},
    "entry role": lambda text: {"entries": (entry_of(b"e", role=text),)},
    "entry search": lambda text: {"entries": (entry_of(b"e", search=text),)},
    "entry facts": lambda text: {"entries": (entry_of(b"e", facts=text),)},
    "removed": lambda text: {"remove_entries": (text,)},
    "forgotten": lambda text: {"forget": (text,)},
    "slot kind": lambda text: {"slots": (put_of("k", kind=text),)},
    "slot key": lambda text: {"slots": (put_of(text),)},
    "required slot": lambda text: {"requires_slots": (SlotIs("k", text, b""),)},
    "title": lambda text: {"thread": ThreadPut(info=b"i", title=text)},
    "owner": lambda text: {"thread": ThreadPut(owner=text)},
    "renamed": lambda text: {"renames": ((1, text),)},
}
#: Those that stand in keys.
KEYS = ("checkpoint ext_id", "checkpoint name", "entry ext_id", "slot kind", "slot key", "owner")
#: Every text that a read may ask for.
ASKED: dict[str, Callable[[Any], Any]] = {
    "role": lambda text: EntryQuery(role=text),
    "ext_ids": lambda text: EntryQuery(ext_ids=("e", text)),
    "words": lambda text: EntryQuery(words=(text,)),
    "slot kind": lambda text: SlotQuery(text),
    "prefix": lambda text: SlotQuery("k", prefix=text),
    "after": lambda text: SlotQuery("k", after=text),
    "name": lambda text: CheckpointQuery(name=text),
    "at ext_id": lambda text: At(ext_id=text),
    "at name": lambda text: At(name=text),
}


class StoreTextsContract(FaceTests):
    """Texts that not every store can hold are refused by all alike."""

    async def test_p9_texts_that_some_store_cannot_hold_are_refused(self, face: Face) -> None:
        """Before anything is written: a NUL, a lone surrogate, no text at all; in keys also one that is too long."""
        for place, parts in TEXTS.items():
            wrong: list[Any] = ["a\0b", "\ud800", "a\udfff", 7]
            for text in wrong + ["\u65e5" * 700] * (place in KEYS):
                with pytest.raises(TypeError if text == 7 else NotStorableError):
                    await commit_of(face, at(), **parts(text))
        assert await face.aget_thread(at()) is None

    async def test_p9_keys_may_be_long(self, face: Face) -> None:
        """Up to 2,048 bytes, whatever they are made of, and they are found again."""
        key = "".join(chr(0x20000 + n * 37 % 40_000) for n in range(511))  # 2,044 bytes
        slots, entries = (put_of(key),), (entry_of(b"e", ext_id=key),)
        await commit_of(face, at(), slots=slots, entries=entries, **_row(ext_id=key, name=key))
        assert list(await slots_of(face, at())) == [key]
        assert len(await face.store.aread(at(), EntryQuery(ext_ids=(key,)))) == 1
        assert (await face.store.aread(at(), At(ext_id=key))).checkpoint.name == key
        message = said("x")[0]
        message.message_id = "\u65e5" * 682
        await face.aput_messages(at("u"), [message])
        assert await face.aget_message(at("u"), message.message_id) == message
        message.message_id += "\u65e5"
        await changes_nothing(
            face, at("u"), lambda: face.aput_messages(at("u"), [message]), ValueError
        )

    async def test_p9_search_texts_are_words(self, face: Face) -> None:
        """As `threadline.store.words` makes them; anything else would be found by one store and not by another."""
        for text in (
            "two  words",
            " x",
            "x ",
            "",
            "Two",
            "a-b",
            "a\tb",
            "caf\u00e9",
            "\u6771\u4eac",
        ):
            with pytest.raises(NotStorableError):
                await commit_of(face, at(), entries=(entry_of(b"e", search=text),))
        assert await face.aget_thread(at()) is None
        for text in ("Two  words!", "Caf\u00e9 \u6771\u4eac"):
            await commit_of(face, at(), entries=(entry_of(b"e", search=words(text)),))
        found = await face.store.aread(at(), EntryQuery(words=("\u4eac", "cafe")))
        assert [entry.seq for entry in found] == [2]

    async def test_p9_no_read_asks_for_them(self, face: Face) -> None:
        """A filter is as strict as what it looks for."""
        wrong: tuple[tuple[Any, type[Exception]], ...] = (
            ("a\0b", NotStorableError),
            ("\ud800", NotStorableError),
            (7, TypeError),
        )
        for text, error in wrong:
            for asked in ASKED.values():
                with pytest.raises(error):
                    await face.store.aread(at(), asked(text))
