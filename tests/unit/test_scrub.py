"""After an erasure and a redaction the words are in no file of a SQLite store: its bytes are searched for them.

Words are random letters. In this module payloads are stored as they are, not compressed, so that a word that is left
anywhere is found; what is typed in upper case stands so in payloads, and folded in the word index.
"""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from threadline import AgentState, Message, SqliteCheckpointer, ThreadInfo
from threadline.backends import sqlite_file, sqlite_past, sqlite_scrub
from threadline.backends.sqlite import SqliteBackend
from threadline.codec import envelope
from threadline.codec.envelope import Codec, Payload, Where
from threadline.store import Slot, SlotPut

MAKE = random.Random(11)
#: What leaves the index and payloads of a store that is busy enough to have several segments.
NOISE = 150


def word() -> str:
    return "".join(MAKE.choices(string.ascii_uppercase, k=24))


def forms(text: bytes) -> list[bytes]:
    """As it is, and as base 85, which the journal keeps entries in, wherever a group of four may begin."""
    cuts = (text[at : at + (len(text) - at) // 4 * 4] for at in range(4))
    return [text, *map(base64.b85encode, cuts)]


class Words:
    """Words that were put into a store, by where they were put."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, dict[str, str]()

    def __getitem__(self, where: str) -> str:
        return self.said.setdefault(where, word())

    def found(self) -> set[str]:
        """Where the words were put that are found in the files; "... (index)": as a folded word. The index leaves out
        the first letters of a word that it shares with the word before."""
        data = b"".join(path.read_bytes() for path in sorted(self.folder.iterdir()))
        left = {
            where
            for where, text in self.said.items()
            if any(form in data for form in forms(text.encode()))
        }
        return left | {
            f"{where} (index)"
            for where, text in self.said.items()
            if text.lower().encode()[6:] in data
        }


@pytest.fixture(autouse=True)
def stored_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def seal(self: Codec, data: bytes, where: Where) -> Payload:
        return Payload(b"\x00" + envelope._checksum(data) + data)

    assert envelope._RAW == b"\x00"
    monkeypatch.setattr(Codec, "seal", seal)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteCheckpointer]:
    with SqliteCheckpointer(tmp_path / "memory.db") as checkpointer:
        yield checkpointer


def message(*texts: str, id: str) -> Message:
    return Message.text_message(" ".join(texts), message_id=id, metadata={"k": texts[0]})


def fill(store: SqliteCheckpointer, words: Words, user: str | None = "alice") -> dict[str, Any]:
    """A thread with words in everything that a thread has, beside a busy neighbour."""
    neighbour = {"thread_id": "neighbour"}
    for n in range(NOISE):
        store.put_messages(neighbour, [Message.text_message(word(), message_id=f"n{n}")])
    config = {"thread_id": words["thread id"], "user_id": user}
    secret = message(words["message"], words["second word"], id="secret")
    state = AgentState(context=[secret, Message.text_message("plain", message_id="p")])
    state.context_summary = words["field"]
    store.put_state(config, state, name=words["name"], metadata={"m": words["metadata"]})
    state.context_summary = words["blob"] * 900
    store.put_state(config, state)
    store.put_messages(config, [secret], {"beside": words["beside"]})
    store.put_messages(config, [message(words["replaced"], id="r")])
    store.put_messages(config, [message("other", id="r")])
    store.put_messages(config, [message(words["popped"], id="popped")])
    store.pop_messages(config)
    store.put_state({**config, "namespace": words["namespace"]}, {"n": words["other state"]})
    info = ThreadInfo(thread_id=words["thread id"], thread_name=words["title"])
    store.put_thread(config, info)
    slot = SlotPut(Slot(kind="k", key=words["slot key"], payload=words["slot"].encode()))
    store.store.commit(store.store.batch(config, "x", slots=(slot,)))
    for n in range(NOISE):
        store.put_messages(neighbour, [Message.text_message(word(), message_id=f"n{n}")])
    assert {*words.said, "message (index)", "title (index)"} <= words.found() | {"replaced"}
    return config


def test_a_deleted_thread_is_in_no_file(store: SqliteCheckpointer, tmp_path: Path) -> None:
    words = Words(tmp_path)
    config = fill(store, words)
    assert store.delete_thread(config)
    assert words.found() == set()
    assert len(store.list_messages({"thread_id": "neighbour"})) == NOISE
    store.release()
    assert words.found() == set()


def test_an_erased_user_is_in_no_file(store: SqliteCheckpointer, tmp_path: Path) -> None:
    words = Words(tmp_path)
    config = fill(store, words, words["user"])
    store.put_state({"thread_id": "fork"}, {"n": 1})
    store.fork({**config, "namespace": words["namespace"]}, words["fork"])
    other = store.get_state({"thread_id": words["fork"], "namespace": words["namespace"]})
    del words.said["other state"]  # It lives on in the state that bob has made his own.
    store.put_state({"thread_id": "bobs", "user_id": "bob"}, other)
    receipt = store.erase_user({"user_id": words["user"]})
    assert (len(receipt["threads"]), receipt["forks_of_others"]) == (2, ["bobs"])
    assert receipt["scrubbed"] is True
    assert words.found() == set()
    lineage = store.get_thread({"thread_id": "bobs"}).forked_from
    assert (lineage.thread_id, lineage.version) == ("", 1)
    search = store.search_messages({}, "other")
    assert search == []


def test_what_was_redacted_is_in_no_file(store: SqliteCheckpointer, tmp_path: Path) -> None:
    words = Words(tmp_path)
    config = fill(store, words)
    for id in ("secret", "popped"):
        assert store.redact(config, id)["scrubbed"] is True
    gone = {"message", "second word", "beside", "popped"}
    left = words.found()
    assert not {where for where in left if where.removesuffix(" (index)") in gone}
    assert {"field", "blob", "other state", "slot"} <= left


def test_a_message_that_was_deleted_is_erased_by_a_redaction(
    store: SqliteCheckpointer, tmp_path: Path
) -> None:
    """To delete it is to take it out of the log: its words stay in the files, as the documents say."""
    words = Words(tmp_path)
    config = fill(store, words)
    store.put_messages(config, [message(words["log only"], id="log")])
    assert store.delete_message(config, "log")
    assert words.found() & {"log only", "log only (index)"}
    store.put_state({"thread_id": "another"}, {})
    assert store.delete_thread(
        {"thread_id": "another"}
    )  # Any erasure takes what was deleted before.
    assert not words.found() & {"log only", "log only (index)"}
    assert store.delete_message(config, "secret")
    assert {"message", "message (index)", "second word (index)"} <= words.found()
    assert store.redact(config, "secret")["scrubbed"] is True
    gone = {"message", "second word", "beside"}
    assert not {where for where in words.found() if where.removesuffix(" (index)") in gone}


Break = Callable[[pytest.MonkeyPatch], None]


def no_secure_delete(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sqlite_file.SQL, "secure_delete", "PRAGMA secure_delete = OFF")


BROKEN: dict[str, tuple[Break, set[str]]] = {
    "nothing is scrubbed": (
        lambda patch: patch.setattr(SqliteBackend, "scrub", _nothing),
        {"message", "message (index)", "popped", "slot"},
    ),
    "the index is not merged": (
        lambda patch: patch.setattr(sqlite_scrub, "_merge", lambda db, step: False),
        {"message (index)", "second word (index)"},
    ),
    "deleted rows are not overwritten": (no_secure_delete, {"blob"}),
    "the journal is left": (
        lambda patch: patch.setattr(sqlite_past, "forget", lambda *_: None),
        {"popped"},
    ),
}


async def _nothing(self: SqliteBackend) -> bool:
    return True


@pytest.mark.parametrize("broken", BROKEN)
def test_the_search_finds_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Each way of scrubbing is needed: without it, words are found."""
    breaks, left = BROKEN[broken]
    breaks(monkeypatch)
    with SqliteCheckpointer(tmp_path / "memory.db") as store:
        words = Words(tmp_path)
        config = fill(store, words)
        if broken == "the journal is left":
            store.redact(config, "popped")
        else:
            store.delete_thread(config)
        assert left <= words.found()


def test_a_reader_holds_the_wal_up(store: SqliteCheckpointer, tmp_path: Path) -> None:
    """The erasure ends all the same, says so, and the next one empties the WAL."""
    words = Words(tmp_path)
    config = fill(store, words)
    reader = sqlite_file.connect(str(tmp_path / "memory.db"), "FULL", reader=True)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM entries").fetchone()
    assert store.redact(config, "secret")["scrubbed"] is False
    assert "message" in words.found()
    reader.execute("COMMIT")
    assert store.redact(config, "secret")["scrubbed"] is True
    assert "message" not in words.found()
    reader.close()
