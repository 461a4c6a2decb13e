"""What must be true of the store floor (P2)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from threadline import clock
from threadline.errors import ConflictError, LeaseLostError, ThreadNotFoundError
from threadline.model import AgentState
from threadline.store import (
    At,
    Batch,
    CheckpointQuery,
    Commit,
    Entry,
    EntryPut,
    EntryQuery,
    Expected,
    Head,
    Slot,
    SlotIs,
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

    async def test_p2_slots_are_overwritten_kept_or_deleted(self, face: Face) -> None:
        """And each says whether it was written."""
        one = await commit_of(face, at(), slots=(put_of("a", b"1"), put_of("b", b"1", "if_absent")))
        assert one.slots == (True, True)
        modes = (put_of("a", b"2"), put_of("b", b"2", "if_absent"), put_of("c", b"2", "if_absent"))
        assert (await commit_of(face, at(), slots=modes)).slots == (True, False, True)
        assert await slots_of(face, at()) == {"a": b"2", "b": b"1", "c": b"2"}
        gone = (put_of("a", mode="delete"), put_of("none", mode="delete"))
        assert (await commit_of(face, at(), slots=gone)).slots == (True, False)
        assert await slots_of(face, at()) == {"b": b"1", "c": b"2"}
        assert await slots_of(face, at(), kind="other") == {}
        assert await slots_of(face, at(namespace="other")) == {}
        full = Slot(kind="k", key="d", payload=b"\x00", meta=b"m", key_id=3)
        await commit_of(face, at(), slots=(SlotPut(full),))
        (found,) = await face.store.aread(at(), SlotQuery("k", prefix="d"))
        assert found == full

    async def test_p5_slots_are_read_by_prefix_in_byte_order(self, face: Face) -> None:
        """Of their UTF-8 keys; a prefix is no pattern; with after and limit."""
        keys = ["a", "a%", "a_", "ab", "aé", "a日", "a🎉", "a\uffff", "A", "b", "", "a\x7f", "a*"]
        await commit_of(face, at(), slots=tuple(put_of(key) for key in keys))
        ordered = sorted(keys, key=str.encode)
        assert list(await slots_of(face, at())) == ordered
        for prefix in ("a", "a%", "a_", "a🎉", "a\uffff", "A", "a*", "none"):
            wanted = [key for key in ordered if key.startswith(prefix)]
            assert list(await slots_of(face, at(), prefix=prefix)) == wanted
        assert list(await slots_of(face, at(), after="ab", limit=2)) == ["a\x7f", "aé"]
        assert list(await slots_of(face, at(), prefix="a", after="a%")) == [
            key for key in ordered if key.startswith("a") and key.encode() > b"a%"
        ]

    async def test_p5_slots_expire(self, face: Face) -> None:
        """By the store's clock; an expired one is absent, also to "if_absent"."""
        now = 2_000_000_000_000_000
        with clock.use(wall_us=lambda: now):
            puts = (put_of("lease", b"1", expires_at=now + 10), put_of("stays", b"1"))
            await commit_of(face, at(), slots=puts)
            assert await slots_of(face, at()) == {"lease": b"1", "stays": b"1"}
        with clock.use(wall_us=lambda: now + 9):
            taken = put_of("lease", b"2", "if_absent", expires_at=now + 30)
            assert (await commit_of(face, at(), slots=(taken,))).slots == (False,)
        with clock.use(wall_us=lambda: now + 11):
            assert await slots_of(face, at()) == {"stays": b"1"}
            assert (await commit_of(face, at(), slots=(taken,))).slots == (True,)
            assert await slots_of(face, at()) == {"lease": b"2", "stays": b"1"}

    async def test_p5_a_slot_lives_as_long_as_the_store_says(self, face: Face) -> None:
        """A `ttl` counts from the commit, by the store's clock; what expires is not copied into a fork."""
        now = 2_000_000_000_000_000
        with clock.use(wall_us=lambda: now):
            short = SlotPut(Slot(kind="k", key="s", payload=b"1", expires_at=1), ttl=10)
            await commit_of(face, at(), slots=(short, put_of("stays")))
            await face.aput_state(at(), {"n": 1})
        with clock.use(wall_us=lambda: now + 9):
            assert await slots_of(face, at()) == {"s": b"1", "stays": b"x"}
            await face.afork(at(), "fork")
            assert await slots_of(face, at("fork")) == {"stays": b"x"}
        with clock.use(wall_us=lambda: now + 10):
            assert await slots_of(face, at()) == {"stays": b"x"}

    async def test_p2_a_batch_may_require_a_slot(self, face: Face) -> None:
        """Exactly these bytes and not expired, judged in the commit: what a lease is fenced with. An operation that
        was committed before is answered whatever the slot is now."""
        now = 2_000_000_000_000_000
        mine = {"create": False, "requires_slots": (SlotIs("lease", "run", b"mine"),)}

        async def refused(config: Any = None, **parts: Any) -> None:
            with pytest.raises(LeaseLostError):
                await commit_of(face, config or at(), slots=(put_of("x"),), **{**mine, **parts})
            assert "x" not in await slots_of(face, at())

        with clock.use(wall_us=lambda: now):
            await refused(at("none"), create=True)
            await commit_of(face, at(), slots=(put_of("a"),))
            await refused()
            lease = Slot(kind="lease", key="run", payload=b"mine")
            await commit_of(face, at(), slots=(SlotPut(lease, "if_absent", ttl=100),))
            await refused(at(namespace="other"))
            for wrong in (b"", b"min", b"minE", b"mine\0"):
                await refused(requires_slots=(SlotIs("lease", "run", wrong),))
            await refused(requires_slots=(SlotIs("lease", "run", b"mine"), SlotIs("k", "b", b"x")))
            op_id = clock.new_id()
            await commit_of(face, at(), op_id=op_id, slots=(put_of("done"),), **mine)
            renewed = (SlotPut(lease, ttl=300),)
        with clock.use(wall_us=lambda: now + 99):
            await commit_of(face, at(), slots=renewed, **mine)
        with clock.use(wall_us=lambda: now + 398):
            await commit_of(face, at(), slots=(put_of("late"),), **mine)
        with clock.use(wall_us=lambda: now + 399):
            await refused()
            assert (await commit_of(face, at(), op_id=op_id, **mine)).duplicate
            other = (SlotPut(Slot(kind="lease", key="run", payload=b"other"), "if_absent", ttl=9),)
            assert (await commit_of(face, at(), slots=other)).slots == (True,)
            await refused()
            await refused(expected=Expected(None, 7))
        assert await slots_of(face, at()) == {"a": b"x", "done": b"x", "late": b"x"}

    async def test_p2_a_slot_has_one_first_writer(self, face: Face) -> None:
        """Of 16 that write if absent, one is told that it did."""
        puts = [
            commit_of(face, at(), slots=(put_of("lock", b"%d" % n, "if_absent"),))
            for n in range(16)
        ]
        commits = await asyncio.gather(*puts)
        (winner,) = [n for n, commit in enumerate(commits) if commit.slots == (True,)]
        assert await slots_of(face, at()) == {"lock": b"%d" % winner}
        assert sorted(commit.rev for commit in commits) == list(range(1, 17))

    async def test_p2_a_slot_passes_from_hand_to_hand(self, face: Face) -> None:
        """Of 8 that write over the same bytes, one does."""
        await commit_of(face, at(), slots=(put_of("a", b"free"),))
        free = (SlotIs("k", "a", b"free"),)
        taken = [
            commit_of(face, at(), requires_slots=free, slots=(put_of("a", b"%d" % n),))
            for n in range(8)
        ]
        answers = await asyncio.gather(*taken, return_exceptions=True)
        (winner,) = [n for n, answer in enumerate(answers) if isinstance(answer, Commit)]
        assert sum(isinstance(answer, LeaseLostError) for answer in answers) == 7
        assert await slots_of(face, at()) == {"a": b"%d" % winner}

    async def test_p2_a_slot_is_taken_away_once(self, face: Face) -> None:
        """Of 8 that delete the same bytes, each with a slot of its own, one does; repeated, it is answered the same."""
        await commit_of(face, at(), slots=(put_of("a"), put_of("b"), put_of("c")))
        required = (SlotIs("k", "a", b"x"), SlotIs("k", "c", b"x"))

        async def take(number: int, op_id: str) -> Commit:
            slots = (
                put_of("c", mode="delete"),
                put_of("b", b"no", "if_absent"),
                put_of("a", mode="delete"),
                put_of(f"taken {number}"),
            )
            return await commit_of(face, at(), op_id=op_id, requires_slots=required, slots=slots)

        op_ids = [clock.new_id() for _ in range(8)]
        answers = await asyncio.gather(*map(take, range(8), op_ids), return_exceptions=True)
        (winner,) = [n for n, answer in enumerate(answers) if isinstance(answer, Commit)]
        assert sum(isinstance(answer, LeaseLostError) for answer in answers) == 7
        assert await slots_of(face, at()) == {"b": b"x", f"taken {winner}": b"x"}
        for commit in (answers[winner], await take(winner, op_ids[winner])):
            assert isinstance(commit, Commit)
            assert commit.slots == (True, False, True, True)

    async def test_p2_what_is_counted_in_a_slot_is_counted_once(self, face: Face) -> None:
        """By many at once, each writing only over what it read."""

        async def count() -> None:
            for _ in range(8):
                while True:
                    (found,) = (await slots_of(face, at())).values()
                    more = (put_of("a", b"%d" % (int(found) + 1)),)
                    was = (SlotIs("k", "a", found),)
                    try:
                        await commit_of(face, at(), requires_slots=was, slots=more)
                        break
                    except ConflictError:
                        continue

        await commit_of(face, at(), slots=(put_of("a", b"0"),))
        await asyncio.gather(*(count() for _ in range(8)))
        assert await slots_of(face, at()) == {"a": b"64"}

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
