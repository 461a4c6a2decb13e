"""What a reader has is confirmed only when it is the head to the last byte, on every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from threadline.backend import Backend, Batch, CheckpointRow, Expected, Known, Range, Row
from threadline.backends.memory import MemoryBackend
from threadline.backends.sqlite import SqliteBackend

KEY, NS, LIFE = b"k" * 16, bytes(8), b"first incarnatio"
KNOWN = Known(LIFE, 2, 0, b"digest of put 2.")
MAKERS: dict[str, Callable[[Path], Backend]] = {
    "memory": lambda path: MemoryBackend(),
    "sqlite": lambda path: SqliteBackend(path / "memory.db"),
}


def put(version: int) -> Batch:
    return Batch(
        key=KEY,
        names=("", "", "trip"),
        op_id=b"o%015d" % version,
        kind="put",
        create=True,
        incarnation=LIFE,
        expected=Expected(None, version - 1),
        last_version=version - 1,
        checkpoint=CheckpointRow(
            version=version,
            payload=b"head",
            digest=b"digest of put %d." % version,
            refs=(Range(0, 0, version),),
        ),
        rows=(Row(0, version - 1, 1, b"item", b"p" * 16, b"q" * 16),),
    )


@pytest.fixture(params=MAKERS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made = MAKERS[request.param](tmp_path)
    await made.open()
    await made.commit([put(1)])
    await made.commit([put(2)])
    yield made
    await made.close()


async def test_the_head_is_confirmed_without_its_bytes(backend: Backend) -> None:
    head = await backend.read_head(KEY, NS, None, known=KNOWN)
    assert head.unchanged
    assert head.thread is not None
    assert (head.head_version, head.last_version, head.checkpoint, head.rows) == (2, 2, None, ())


@pytest.mark.parametrize(
    "known",
    [
        KNOWN._replace(version=1, digest=b"digest of put 1."),
        KNOWN._replace(incarnation=b"another incarnat"),
        KNOWN._replace(gc=1),
        KNOWN._replace(digest=b"another content."),
    ],
)
async def test_what_differs_in_anything_is_answered_with_the_head(
    backend: Backend, known: Known
) -> None:
    head = await backend.read_head(KEY, NS, None, known=known)
    assert not head.unchanged
    assert head.checkpoint is not None
    assert (head.checkpoint.digest, len(head.rows)) == (KNOWN.digest, 2)


async def test_nothing_is_confirmed_of_a_thread_or_namespace_that_is_not_there(
    backend: Backend,
) -> None:
    for key, ns in ((b"l" * 16, NS), (KEY, b"another!")):
        head = await backend.read_head(key, ns, None, known=KNOWN)
        assert (head.unchanged, head.checkpoint) == (False, None)
