"""Listing threads: a page far behind costs what the first one costs, and no more threads are read than are wanted."""

from __future__ import annotations

from typing import Any

import pytest

from threadline import Message
from threadline.backend import ThreadQuery, ThreadRow
from threadline.backends.memory import MemoryBackend
from threadline.checkpointer import BaseCheckpointer
from threadline.checkpointer.threads import PAGE


class Watched(MemoryBackend):
    """Notes what each read of threads asked for, and how many were measured together."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int | None, int]] = []
        self.measured: list[int] = []

    async def read_threads(self, query: ThreadQuery) -> list[ThreadRow]:
        self.asked.append((query.limit, query.offset))
        return await super().read_threads(query)

    async def measure(self, keys: Any) -> list[dict[str, int]]:
        self.measured.append(len(keys))
        return await super().measure(keys)


@pytest.fixture(scope="module")
def backend() -> Watched:
    backend = Watched()
    checkpointer = BaseCheckpointer(backend, None)
    for n in range(2 * PAGE + 5):
        checkpointer.put_messages({"thread_id": f"t{n}"}, [Message.text_message("x")])
    return backend


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"limit": 3}, [(3, 0)]),
        ({"limit": 3, "offset": 2 * PAGE}, [(3, 2 * PAGE)]),
        ({"offset": PAGE}, [(PAGE, PAGE), (PAGE, 0)]),
        ({"limit": PAGE + 1, "offset": 2}, [(PAGE, 2), (PAGE, 0)]),
        ({"limit": 3, "offset": 1, "search": "none"}, [(PAGE, 0), (PAGE, 0), (PAGE, 0)]),
        ({"limit": 3, "metadata": {"a": 1}}, [(PAGE, 0)]),
    ],
)
def test_no_more_is_read_than_is_wanted(
    backend: Watched, options: dict[str, Any], asked: list[tuple[int, int]]
) -> None:
    backend.asked = []
    BaseCheckpointer(backend, None).list_threads({}, **options)
    assert backend.asked == asked


def test_the_bytes_of_many_threads_are_asked_for_together(backend: Watched) -> None:
    backend.measured = []
    counted = BaseCheckpointer(backend, None).stats({})
    assert backend.measured == [PAGE, PAGE, 5]
    assert len(counted["by_thread"]) == 2 * PAGE + 5
    assert sum(each["bytes"] for each in counted["by_thread"]) == counted["bytes"]
