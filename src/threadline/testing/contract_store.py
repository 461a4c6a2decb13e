"""What must be true of the store floor (P2)."""

from __future__ import annotations

from typing import Any

import pytest

from threadline.errors import ConflictError, ThreadNotFoundError
from threadline.model import AgentState
from threadline.store import (
    At,
    Batch,
    CheckpointQuery,
    Commit,
    Entry,
    EntryPut,
    EntryQuery,
    Head,
    Slot,
    SlotPut,
    SlotQuery,
    TailIs,
    ThreadPut,
    Where,
    item_digest,
)
from threadline.testing.faces import Face, FaceTests, at, said


def put_of(key: str, payload: bytes = b"x", mode: Any = "overwrite", **more: Any) -> SlotPut:
    """A slot of kind "k", to write."""
    return SlotPut(Slot(kind=more.pop("kind", "k"), key=key, payload=payload, **more), mode)


def entry_of(text: bytes, **more: Any) -> EntryPut:
    """An entry of kind "item", to put."""
    return EntryPut(Entry(kind="item", payload=text, digest=item_digest(0, text), **more))


async def commit_of(face: Face, config: Any, **parts: Any) -> Commit:
    """Commit a batch of these parts; the thread may come into being."""
    batch = await face.store.abatch(config, "test", **{"create": True, **parts})
    commit: Commit = await face.store.acommit(batch)
    return commit


async def slots_of(face: Face, config: Any, **query: Any) -> dict[str, bytes]:
    """The payloads of the slots that are found, by key."""
    found = await face.store.aread(config, SlotQuery(query.pop("kind", "k"), **query))
    return {slot.key: slot.payload for slot in found}


class StoreContract(FaceTests):
    """`checkpointer.store`: batches of rows in, rows out."""

    async def test_p2_a_batch_can_assume_that_nothing_was_committed_since(self, face: Face) -> None:
        """By `rev`, which every commit moves; a batch that comes too late changes nothing."""
        first = await commit_of(face, at(), slots=(put_of("a"),))
        await face.aput_messages(at(), said("one"))
        for erase in (False, True):
            with pytest.raises(ConflictError):
                await commit_of(face, at(), create=False, assumes_rev=first.rev, erase=erase)
        assert len(await face.alist_messages(at())) == 1
        now = (await face.store.aread(at())).thread.rev
        await commit_of(face, at(), create=False, assumes_rev=now, erase=True)
        assert await face.aget_thread(at()) is None

    async def test_p5_upkeep_is_no_activity(self, face: Face) -> None:
        """And a thread that comes from elsewhere brings its times, and one lineage unless it is replaced."""
        store, (old, older) = face.store, (1_500_000_000_000_000, 1_400_000_000_000_000)
        await commit_of(face, at(), thread=ThreadPut(b"i", created_at=older, activity_at=old))
        row = (await store.aread(at())).thread
        assert (row.created_at, row.activity_at) == (older, old)
        await commit_of(face, at(), forget=("m1",))
        assert (await store.aread(at())).thread.activity_at == old
        for said_of, stands in (
            (ThreadPut(lineage=b"1"), b"1"),
            (ThreadPut(lineage=b"2"), b"1"),
            (ThreadPut(lineage=b"3", replaces_lineage=True), b"3"),
        ):
            await commit_of(face, at(), thread=said_of)
            assert (await store.aread(at())).thread.lineage == stands
        row = (await store.aread(at())).thread
        assert (row.created_at, row.activity_at > old) == (older, True)

    async def test_p2_several_threads_are_one_commit(self, face: Face) -> None:
        """All of it or nothing, whichever of them is refused."""
        store = face.store
        await face.aput_state(at("b", user_id="bob"), {"n": 1})
        good = await store.abatch(at("a"), "x", create=True, slots=(put_of("s"),))
        third = await store.abatch(at("c"), "x", create=True, entries=(entry_of(b"e"),))
        bad: list[tuple[Batch, type[Exception]]] = [
            (await store.abatch(at("none"), "x", slots=(put_of("s"),)), ThreadNotFoundError),
            (await store.abatch(at("b", user_id="al"), "x", create=True), ThreadNotFoundError),
            (await store.abatch(at("b"), "x", tail=TailIs(0, ((1, b"d"),))), ConflictError),
        ]
        for batch, error in bad:
            for batches in ([good, third, batch], [batch, good, third], [good, batch, third]):
                with pytest.raises(error):
                    await store.acommit(batches)
                assert [t.thread_id for t in await face.alist_threads({})] == ["b"]
        with pytest.raises(ValueError):
            await store.acommit([good, await store.abatch(at("a"), "y", create=True)])
        commits = await store.acommit([good, third])
        assert [commit.rev for commit in commits] == [1, 1]
        assert await slots_of(face, at("a")) == {"s": b"x"}
        assert len(await store.aread(at("c"), EntryQuery())) == 1
        assert await store.acommit([]) == []

    async def test_p5_entries_are_read_by_position(self, face: Face) -> None:
        """after, before, newest, ids, role, words and terms; put in place by id."""
        puts = [entry_of(b"%d" % n, ext_id=f"e{n}" if n % 2 else None, role="r") for n in range(6)]
        words = EntryPut(
            Entry(kind="item", payload=b"w", digest=b"d", search="two words"), terms=(7,)
        )
        seqs = (await commit_of(face, at(), entries=(*puts, words))).seqs
        assert list(seqs) == sorted(set(seqs))

        async def read(**query: Any) -> list[bytes]:
            return [entry.payload for entry in await face.store.aread(at(), EntryQuery(**query))]

        assert await read() == [b"0", b"1", b"2", b"3", b"4", b"5", b"w"]
        assert await read(newest=True, limit=2) == [b"w", b"5"]
        assert await read(after=seqs[3], before=seqs[5]) == [b"4"]
        assert await read(ext_ids=("e1", "e5", "none")) == [b"1", b"5"]
        assert await read(role="r", limit=1) == [b"0"]
        assert await read(terms=(7,)) == await read(words=("two", "words")) == [b"w"]
        assert await read(words=("words",)) == [b"w"]
        assert await read(words=("word",)) == await read(terms=(8,)) == []
        again = await commit_of(face, at(), entries=(entry_of(b"new", ext_id="e1"),))
        assert again.seqs == (seqs[1],)
        assert await read(limit=2) == [b"0", b"new"]

    async def test_p6_a_tail_is_compared_and_replaced(self, face: Face) -> None:
        """The floor of a branch that several write to."""
        first = await commit_of(face, at(), entries=(entry_of(b"1"), entry_of(b"2")))
        tail = ((first.seqs[1], item_digest(0, b"2")),)
        with pytest.raises(ConflictError):
            await commit_of(face, at(), tail=TailIs(0, tail), entries=(entry_of(b"3"),))
        commit = await commit_of(
            face, at(), tail=TailIs(first.seqs[0], tail), entries=(entry_of(b"3"),)
        )
        assert commit.removed == 1
        assert commit.seqs[0] > first.seqs[1]
        found = await face.store.aread(at(), EntryQuery())
        assert [entry.payload for entry in found] == [b"1", b"3"]

    async def test_p5_heads_and_checkpoints_are_read_as_rows(self, face: Face) -> None:
        """With the rows that cover them; `rev` counts commits of any kind, versions only states."""
        for n in range(3):
            await face.aput_state(at(), AgentState(context=said(*map(str, range(n + 1)))))
            await face.aput_messages(at(), said("x"))
        head = await face.store.aread(at())
        assert (head.head_version, head.last_version, head.thread.rev) == (3, 3, 6)
        assert head.thread.thread_id == "t"
        assert len(await face.store.aread(at(), list(head.checkpoint.refs))) == len(head.rows) > 0
        assert (await face.store.aread(at(), At(version=2))).checkpoint.version == 2
        assert (await face.store.aread(at(), At(version=9))).checkpoint is None
        rows = await face.store.aread(at(), CheckpointQuery(before=3))
        assert [row.version for row in rows] == [2, 1]
        assert await face.store.aread(at("none")) == Head()
        with pytest.raises(TypeError):
            await face.store.aread(at(), "everything")
        await face.adelete_thread(at())
        assert (await face.store.aread(at())).last_version == 3

    async def test_p5_threads_are_scanned(self, face: Face) -> None:
        """Every live one of the scope, page by page."""
        for n in range(7):
            await face.aput_messages(at(f"t{n}", user_id="a" if n % 2 else None), said("x"))
        await face.adelete_thread(at("t0"))
        for page in (1, 3, 200):
            rows = await face.store.collect("ascan", {}, page=page)
            assert sorted(row.thread_id for row in rows) == [f"t{n}" for n in range(1, 7)]
        mine = await face.store.collect("ascan", {"user_id": "a"})
        assert sorted(row.thread_id for row in mine) == ["t1", "t3", "t5"]

    async def test_p7_erasing_takes_slots_and_entries(self, face: Face) -> None:
        """And a new life begins without them."""
        await commit_of(face, at(), slots=(put_of("s"),), entries=(entry_of(b"e"),))
        assert await face.store.aerase(at()) is True
        assert await face.store.aerase(at()) is False
        await commit_of(face, at())
        assert await slots_of(face, at()) == {}
        assert await face.store.aread(at(), EntryQuery()) == []

    async def test_p9_payloads_are_sealed_and_opened(self, face: Face) -> None:
        """Bytes come back as they are, whether they are written or not."""
        store = face.target.store
        for data in (b"", b"\x00\xff" * 9, b"text " * 100_000):
            payload = store.seal(data, Where("slot"))
            assert store.open(payload.data, Where("slot"), payload.key_id) == data
            await commit_of(face, at(), slots=(put_of("s", payload.data),))
            assert store.open((await slots_of(face, at()))["s"], Where("slot")) == data
