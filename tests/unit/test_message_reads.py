"""Reading the message log: decoded together it is what it is one by one, and no more is read than is wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadline import CorruptionError, Message
from threadline.backend import Entry, EntryQuery
from threadline.backends.memory import MemoryBackend
from threadline.caches.local import LocalCache
from threadline.checkpointer.base import BaseCheckpointer
from threadline.checkpointer.messages import PAGE
from threadline.testing.strategies import faithful, message

CONFIG = {"thread_id": "t"}
Messages = list[Message]


class Watched(MemoryBackend):
    """Notes how many entries each read asked for; the payload of those in `damaged` comes back with a bit flipped."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int | None] = []
        self.damaged: set[str] = set()

    async def read_entries(
        self, key: bytes, ns: bytes, user: str | None, query: EntryQuery
    ) -> list[Entry]:
        self.asked.append(query.limit)
        found = await super().read_entries(key, ns, user, query)
        return [
            dataclasses.replace(each, payload=each.payload[:-1] + bytes([each.payload[-1] ^ 1]))
            if each.ext_id in self.damaged
            else each
            for each in found
        ]


def holding(messages: Sequence[Message], **metadata: Any) -> tuple[BaseCheckpointer, Watched]:
    backend = Watched()
    checkpointer = BaseCheckpointer(backend, LocalCache())
    checkpointer.put_messages(CONFIG, list(messages), metadata or None)
    return checkpointer, backend


def texts(count: int) -> Messages:
    return [Message.text_message(f"text {n}", message_id=f"m{n:04}") for n in range(count)]


ids = st.uuids().map(lambda each: each.hex)


@given(st.lists(message(ids), max_size=8, unique_by=lambda each: each.message_id), st.booleans())
def test_all_at_once_is_one_by_one(messages: Messages, beside: bool) -> None:
    checkpointer, _ = holding(messages, **({"where": ["beside"]} if beside else {}))
    found = checkpointer.list_messages(CONFIG)
    single = [checkpointer.get_message(CONFIG, each.message_id) for each in messages]
    assert faithful(found) == faithful(single)
    assert [each.model_fields_set for each in found] == [
        each.model_fields_set for each in single if each is not None
    ]
    assert len({id(each.metadata) for each in found}) == len(found)


def test_what_stands_before_damage_is_read() -> None:
    checkpointer, backend = holding(texts(5))
    backend.damaged = {"m0003"}
    found: list[str] = []
    with pytest.raises(CorruptionError, match="checksum"):
        found.extend(each.message_id for each in checkpointer.iter_messages(CONFIG))
    assert found == ["m0000", "m0001", "m0002"]


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ({}, PAGE),
        ({"limit": 3}, 3),
        ({"limit": 3, "offset": 4}, 7),
        ({"last": 2}, 2),
        ({"limit": PAGE * 2}, PAGE),
        ({"limit": 3, "metadata": {"a": 1}}, PAGE),
        ({"limit": 3, "search": "text"}, PAGE),
        ({"limit": 3, "role": "user"}, 3),
    ],
)
def test_no_more_is_read_than_is_wanted(arguments: dict[str, Any], asked: int) -> None:
    checkpointer, backend = holding(texts(20))
    checkpointer.list_messages(CONFIG, **arguments)
    assert backend.asked == [asked]


def test_what_is_left_out_is_left_out_over_pages() -> None:
    messages = texts(PAGE + 20)
    checkpointer, backend = holding(messages)
    backend.damaged = {"m0000"}  # Nobody asks what is in it.
    found = checkpointer.list_messages(CONFIG, offset=PAGE + 5, limit=3)
    assert [each.message_id for each in found] == [f"m{PAGE + n:04}" for n in (5, 6, 7)]
    found = checkpointer.list_messages(CONFIG, offset=PAGE - 2, limit=4, role="user")
    assert [each.message_id for each in found] == [f"m{PAGE + n:04}" for n in (-2, -1, 0, 1)]
    assert checkpointer.list_messages(CONFIG, offset=PAGE + 20, limit=4) == []
    backend.damaged = set()
    found = checkpointer.list_messages(CONFIG, offset=PAGE, search="text", limit=2)
    assert [each.message_id for each in found] == [f"m{PAGE:04}", f"m{PAGE + 1:04}"]
