"""Which parts of an adapter's batch no store takes, and which texts no read asks for (P9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from threadline.errors import CorruptionError, NotStorableError
from threadline.store import (
    At,
    Blob,
    CheckpointQuery,
    CheckpointRow,
    Drop,
    Entry,
    EntryPut,
    EntryQuery,
    Expected,
    Range,
    Row,
    Slot,
    SlotIs,
    SlotPut,
    SlotQuery,
    TailIs,
    ThreadPut,
    words,
)
from threadline.testing.contract_store import commit_of, entry_of, put_of, slots_of
from threadline.testing.faces import Face, FaceTests, at, changes_nothing, said


def _row(**texts: Any) -> dict[str, Any]:
    row = CheckpointRow(**{"version": 1, "payload": b"x", "digest": b"d", **texts})
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


def _log(**parts: Any) -> Row:
    return Row(
        **{"log": 0, "start": 0, "count": 1, "payload": b"", "p_start": b"", "p_end": b"", **parts}
    )


_LONG, _INT = 2**63, 2**31
#: Numbers that some store has no room for, of a place of a batch each.
NUMBERS: dict[str, tuple[Callable[[Any], dict[str, Any]], tuple[int, ...]]] = {
    "version": (lambda n: _row(version=n), (0, -1, _LONG)),
    "parent": (lambda n: _row(parent_version=n), (-1, _LONG)),
    "base": (lambda n: _row(base=n), (-1, _LONG)),
    "bytes": (lambda n: _row(bytes=n), (-1, _INT)),
    "time": (lambda n: _row(created_at=n), (-1, _LONG)),
    "range": (lambda n: _row(refs=(Range(0, n, 9),)), (-1, _INT)),
    "end of a range": (lambda n: _row(refs=(Range(0, 0, n),)), (-1, _INT)),
    "term": (lambda n: {**_row(), "checkpoint_terms": (n,)}, (-_LONG - 1, _LONG)),
    "last_version": (lambda n: {**_row(version=9), "last_version": n}, (-2, 9, _LONG)),
    "expected": (lambda n: {**_row(), "expected": Expected(None, n)}, (-2, _LONG)),
    "log": (lambda n: {"rows": (_log(log=n),)}, (-1, _INT)),
    "start": (lambda n: {"rows": (_log(start=n),)}, (-1, _INT)),
    "count": (lambda n: {"merged": (_log(count=n),)}, (-1, 0, _INT)),
    "kind": (lambda n: {"rows": (_log(kind=n),)}, (-1, 2**15)),
    "key_id": (lambda n: {"blobs": (Blob(bytes(16), b"", n),)}, (-1, _INT)),
    "pops": (lambda n: {"pop_entries": n}, (-1, _LONG)),
    "tail": (lambda n: {"tail": TailIs(n, ())}, (-1, _LONG)),
    "expiry": (lambda n: {"slots": (put_of("k", expires_at=n),)}, (-1, _LONG)),
    "ttl": (lambda n: {"slots": (SlotPut(Slot(kind="k", key="k"), ttl=n),)}, (-1, _LONG - 1)),
    "renamed": (lambda n: {"renames": ((n, "x"),)}, (-1, _LONG)),
    "dropped": (lambda n: {"drop": Drop(rows=((0, n),))}, (-1, _LONG)),
    "activity": (lambda n: {"thread": ThreadPut(activity_at=n)}, (-1, _LONG)),
}
#: The types that are none, wherever a number or bytes belong.
NO_NUMBERS, NO_BYTES = ("1", 1.0, True, b""), ("x", 7, bytearray(16))
#: Bytes, of a place of a batch each; they are 16 where they are a name.
BYTES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "checkpoint": lambda data: _row(payload=data),
    "digest": lambda data: _row(digest=data),
    "marks": lambda data: {**_row(), "marks": data},
    "row": lambda data: {"rows": (_log(payload=data),)},
    "blob": lambda data: {"blobs": (Blob(bytes(16), data),)},
    "entry": lambda data: {"entries": (EntryPut(Entry(kind="e", payload=data, digest=b"")),)},
    "slot": lambda data: {"slots": (put_of("k", data),)},
    "meta": lambda data: {"slots": (put_of("k", meta=data),)},
    "info": lambda data: {"thread": ThreadPut(info=data)},
    "blob id": lambda data: {"blobs": (Blob(data, b""),)},
    "blob ref": lambda data: _row(blob_refs=(data,)),
}
#: Parts that do not go together, and words that are none.
MISFITS: dict[str, dict[str, Any]] = {
    "a checkpoint on no head": {"checkpoint": CheckpointRow(version=1, payload=b"", digest=b"")},
    "rows at one place": {"rows": (_log(), _log(payload=b"x"))},
    "merged at one place": {"merged": (_log(), _log(payload=b"x"))},
    "named twice": {"renames": ((1, "a"), (1, "b"))},
    "named in two ways": {**_row(name="a"), "renames": ((1, "b"),)},
    "erased and written": {"erase": True, "slots": (put_of("k"),), "create": False},
    "erased and created": {"erase": True},
    "a mode": {"slots": (put_of("k", mode="update"),)},
    "a duplicate": {"entries": (EntryPut(entry_of(b"e").entry, on_duplicate="update"),)},  # type: ignore[arg-type]
    "an entry of no kind": {"entries": (EntryPut(Entry(kind="", payload=b"", digest=b"")),)},
    **{
        f"facts {facts}": {"entries": (entry_of(b"e", facts=facts),)}
        for facts in (
            "",
            "x",
            "[]",
            '{"t": "x"}',
            '{"c": [["\\u0000", "x"]]}',
            '{"n": 1}',
            '{"at": 1e99}',
        )
    },
}


class StoreTextsContract(FaceTests):
    """What not every store can hold is refused by all alike."""

    async def test_p9_numbers_and_bytes_that_some_store_cannot_hold_are_refused(
        self, face: Face
    ) -> None:
        """Before anything is written: what there is no room for, and what is none."""
        for number, wrong in NUMBERS.values():
            for value in wrong:
                with pytest.raises(ValueError):
                    await commit_of(face, at(), **number(value))
            for none in NO_NUMBERS:
                with pytest.raises(TypeError):
                    await commit_of(face, at(), **number(none))
        for place, data in BYTES.items():
            for other in NO_BYTES:
                with pytest.raises(TypeError):
                    await commit_of(face, at(), **data(other))
            if place.startswith("blob "):
                with pytest.raises(NotStorableError):
                    await commit_of(face, at(), **data(b"short"))
        assert await face.aget_thread(at()) is None

    @pytest.mark.parametrize("misfit", MISFITS)
    async def test_p2_parts_that_do_not_go_together_are_refused(
        self, face: Face, misfit: str
    ) -> None:
        """With the same error everywhere, and nothing is written."""
        with pytest.raises(ValueError):
            await commit_of(face, at(), **MISFITS[misfit])
        assert await face.aget_thread(at()) is None

    async def test_p9_a_large_field_that_is_not_there_is_damage(self, face: Face) -> None:
        """It was promised by the checkpoint that refers to it."""
        await commit_of(face, at(), **_row(blob_refs=(bytes(16),)))
        with pytest.raises(CorruptionError):
            await face.store.aread(at())

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
