"""What must be true of the store floor, and of repeating any write with its `op_id` (P1, P2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from threadline import clock
from threadline.errors import ConflictError, LeaseLostError, ThreadNotFoundError
from threadline.model import AgentState, Checkpoint, ThreadInfo
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
    Where,
    item_digest,
)
from threadline.testing.faces import Face, FaceTests, at, ids_of, picture, said


def _put(key: str, payload: bytes = b"x", mode: Any = "overwrite", **more: Any) -> SlotPut:
    return SlotPut(Slot(kind=more.pop("kind", "k"), key=key, payload=payload, **more), mode)


def _entry(text: bytes, **more: Any) -> EntryPut:
    return EntryPut(Entry(kind="item", payload=text, digest=item_digest(0, text), **more))


async def _commit(face: Face, config: Any, **parts: Any) -> Commit:
    batch = await face.store.abatch(config, "test", **{"create": True, **parts})
    commit: Commit = await face.store.acommit(batch)
    return commit


async def _slots(face: Face, config: Any, **query: Any) -> dict[str, bytes]:
    found = await face.store.aread(config, SlotQuery(query.pop("kind", "k"), **query))
    return {slot.key: slot.payload for slot in found}


class StoreContract(FaceTests):
    """`checkpointer.store`: batches of rows in, rows out."""

    async def test_p2_slots_are_overwritten_kept_or_deleted(self, face: Face) -> None:
        """And each says whether it was written."""
        one = await _commit(face, at(), slots=(_put("a", b"1"), _put("b", b"1", "if_absent")))
        assert one.slots == (True, True)
        modes = (_put("a", b"2"), _put("b", b"2", "if_absent"), _put("c", b"2", "if_absent"))
        assert (await _commit(face, at(), slots=modes)).slots == (True, False, True)
        assert await _slots(face, at()) == {"a": b"2", "b": b"1", "c": b"2"}
        gone = (_put("a", mode="delete"), _put("none", mode="delete"))
        assert (await _commit(face, at(), slots=gone)).slots == (True, False)
        assert await _slots(face, at()) == {"b": b"1", "c": b"2"}
        assert await _slots(face, at(), kind="other") == {}
        assert await _slots(face, at(namespace="other")) == {}
        full = Slot(kind="k", key="d", payload=b"\x00", meta=b"m", key_id=3)
        await _commit(face, at(), slots=(SlotPut(full),))
        (found,) = await face.store.aread(at(), SlotQuery("k", prefix="d"))
        assert found == full

    async def test_p5_slots_are_read_by_prefix_in_byte_order(self, face: Face) -> None:
        """Of their UTF-8 keys; a prefix is no pattern; with after and limit."""
        keys = ["a", "a%", "a_", "ab", "aé", "a日", "a🎉", "a\uffff", "A", "b", "", "a\x7f", "a*"]
        await _commit(face, at(), slots=tuple(_put(key) for key in keys))
        ordered = sorted(keys, key=str.encode)
        assert list(await _slots(face, at())) == ordered
        for prefix in ("a", "a%", "a_", "a🎉", "a\uffff", "A", "a*", "none"):
            wanted = [key for key in ordered if key.startswith(prefix)]
            assert list(await _slots(face, at(), prefix=prefix)) == wanted
        assert list(await _slots(face, at(), after="ab", limit=2)) == ["a\x7f", "aé"]
        assert list(await _slots(face, at(), prefix="a", after="a%")) == [
            key for key in ordered if key.startswith("a") and key.encode() > b"a%"
        ]

    async def test_p5_slots_expire(self, face: Face) -> None:
        """By the store's clock; an expired one is absent, also to "if_absent"."""
        now = 2_000_000_000_000_000
        with clock.use(wall_us=lambda: now):
            puts = (_put("lease", b"1", expires_at=now + 10), _put("stays", b"1"))
            await _commit(face, at(), slots=puts)
            assert await _slots(face, at()) == {"lease": b"1", "stays": b"1"}
        with clock.use(wall_us=lambda: now + 9):
            taken = _put("lease", b"2", "if_absent", expires_at=now + 30)
            assert (await _commit(face, at(), slots=(taken,))).slots == (False,)
        with clock.use(wall_us=lambda: now + 11):
            assert await _slots(face, at()) == {"stays": b"1"}
            assert (await _commit(face, at(), slots=(taken,))).slots == (True,)
            assert await _slots(face, at()) == {"lease": b"2", "stays": b"1"}

    async def test_p5_a_slot_lives_as_long_as_the_store_says(self, face: Face) -> None:
        """A `ttl` counts from the commit, by the store's clock; what expires is not copied into a fork."""
        now = 2_000_000_000_000_000
        with clock.use(wall_us=lambda: now):
            short = SlotPut(Slot(kind="k", key="s", payload=b"1", expires_at=1), ttl=10)
            await _commit(face, at(), slots=(short, _put("stays")))
            await face.aput_state(at(), {"n": 1})
        with clock.use(wall_us=lambda: now + 9):
            assert await _slots(face, at()) == {"s": b"1", "stays": b"x"}
            await face.afork(at(), "fork")
            assert await _slots(face, at("fork")) == {"stays": b"x"}
        with clock.use(wall_us=lambda: now + 10):
            assert await _slots(face, at()) == {"stays": b"x"}

    async def test_p2_a_batch_may_require_a_slot(self, face: Face) -> None:
        """Exactly these bytes and not expired, judged in the commit: what a lease is fenced with. An operation that
        was committed before is answered whatever the slot is now."""
        now = 2_000_000_000_000_000
        mine = {"create": False, "requires_slots": (SlotIs("lease", "run", b"mine"),)}

        async def refused(config: Any = None, **parts: Any) -> None:
            with pytest.raises(LeaseLostError):
                await _commit(face, config or at(), slots=(_put("x"),), **{**mine, **parts})
            assert "x" not in await _slots(face, at())

        with clock.use(wall_us=lambda: now):
            await refused(at("none"), create=True)
            await _commit(face, at(), slots=(_put("a"),))
            await refused()
            lease = Slot(kind="lease", key="run", payload=b"mine")
            await _commit(face, at(), slots=(SlotPut(lease, "if_absent", ttl=100),))
            await refused(at(namespace="other"))
            for wrong in (b"", b"min", b"minE", b"mine\0"):
                await refused(requires_slots=(SlotIs("lease", "run", wrong),))
            await refused(requires_slots=(SlotIs("lease", "run", b"mine"), SlotIs("k", "b", b"x")))
            op_id = clock.new_id()
            await _commit(face, at(), op_id=op_id, slots=(_put("done"),), **mine)
            renewed = (SlotPut(lease, ttl=300),)
        with clock.use(wall_us=lambda: now + 99):
            await _commit(face, at(), slots=renewed, **mine)
        with clock.use(wall_us=lambda: now + 398):
            await _commit(face, at(), slots=(_put("late"),), **mine)
        with clock.use(wall_us=lambda: now + 399):
            await refused()
            assert (await _commit(face, at(), op_id=op_id, **mine)).duplicate
            other = (SlotPut(Slot(kind="lease", key="run", payload=b"other"), "if_absent", ttl=9),)
            assert (await _commit(face, at(), slots=other)).slots == (True,)
            await refused()
            await refused(expected=Expected(None, 7))
        assert await _slots(face, at()) == {"a": b"x", "done": b"x", "late": b"x"}

    async def test_p2_a_slot_has_one_first_writer(self, face: Face) -> None:
        """Of 16 that write if absent, one is told that it did."""
        puts = [
            _commit(face, at(), slots=(_put("lock", b"%d" % n, "if_absent"),)) for n in range(16)
        ]
        commits = await asyncio.gather(*puts)
        (winner,) = [n for n, commit in enumerate(commits) if commit.slots == (True,)]
        assert await _slots(face, at()) == {"lock": b"%d" % winner}
        assert sorted(commit.rev for commit in commits) == list(range(1, 17))

    async def test_p2_several_threads_are_one_commit(self, face: Face) -> None:
        """All of it or nothing, whichever of them is refused."""
        store = face.store
        await face.aput_state(at("b", user_id="bob"), {"n": 1})
        good = await store.abatch(at("a"), "x", create=True, slots=(_put("s"),))
        third = await store.abatch(at("c"), "x", create=True, entries=(_entry(b"e"),))
        bad: list[tuple[Batch, type[Exception]]] = [
            (await store.abatch(at("none"), "x", slots=(_put("s"),)), ThreadNotFoundError),
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
        assert await _slots(face, at("a")) == {"s": b"x"}
        assert len(await store.aread(at("c"), EntryQuery())) == 1
        assert await store.acommit([]) == []

    async def test_p5_entries_are_read_by_position(self, face: Face) -> None:
        """after, before, newest, ids, role, words and terms; put in place by id."""
        puts = [_entry(b"%d" % n, ext_id=f"e{n}" if n % 2 else None, role="r") for n in range(6)]
        words = EntryPut(
            Entry(kind="item", payload=b"w", digest=b"d", search="two words"), terms=(7,)
        )
        seqs = (await _commit(face, at(), entries=(*puts, words))).seqs
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
        again = await _commit(face, at(), entries=(_entry(b"new", ext_id="e1"),))
        assert again.seqs == (seqs[1],)
        assert await read(limit=2) == [b"0", b"new"]

    async def test_p6_a_tail_is_compared_and_replaced(self, face: Face) -> None:
        """The floor of a branch that several write to."""
        first = await _commit(face, at(), entries=(_entry(b"1"), _entry(b"2")))
        tail = ((first.seqs[1], item_digest(0, b"2")),)
        with pytest.raises(ConflictError):
            await _commit(face, at(), tail=TailIs(0, tail), entries=(_entry(b"3"),))
        commit = await _commit(
            face, at(), tail=TailIs(first.seqs[0], tail), entries=(_entry(b"3"),)
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
        await _commit(face, at(), slots=(_put("s"),), entries=(_entry(b"e"),))
        assert await face.store.aerase(at()) is True
        assert await face.store.aerase(at()) is False
        await _commit(face, at())
        assert await _slots(face, at()) == {}
        assert await face.store.aread(at(), EntryQuery()) == []

    async def test_p9_payloads_are_sealed_and_opened(self, face: Face) -> None:
        """Bytes come back as they are, whether they are written or not."""
        store = face.target.store
        for data in (b"", b"\x00\xff" * 9, b"text " * 100_000):
            payload = store.seal(data, Where("slot"))
            assert store.open(payload.data, Where("slot"), payload.key_id) == data
            await _commit(face, at(), slots=(_put("s", payload.data),))
            assert store.open((await _slots(face, at()))["s"], Where("slot")) == data


#: Every mutating call, what stands before it, and what another writer does before it is repeated.
WRITES: dict[str, Callable[[Face, str], Any]] = {
    "aput_state": lambda f, op: f.aput_state(at(), {"n": 2}, name="x", metadata={"k": 1}, op_id=op),
    "aput_state expected": lambda f, op: f.aput_state(at(), {}, expected_version=1, op_id=op),
    "aput_state messages": lambda f, op: f.aput_state(
        at(), {}, messages=said("new", ids="p"), op_id=op
    ),
    "aappend": lambda f, op: f.aappend(at(), [1], field="log", op_id=op),
    "aclear_state": lambda f, op: f.aclear_state(at(), op_id=op),
    "aput_messages": lambda f, op: f.aput_messages(at(), said("NEW", "x", "y"), op_id=op),
    "adelete_message": lambda f, op: f.adelete_message(at(), "m2", op_id=op),
    "apop_messages": lambda f, op: f.apop_messages(at(), op_id=op),
    "areplace_messages": lambda f, op: f.areplace_messages(
        at(), after="m1", expected_tail=["m2"], messages=said("r", ids="r"), op_id=op
    ),
    "aclear_messages": lambda f, op: f.aclear_messages(at(), op_id=op),
    "aput_thread": lambda f, op: f.aput_thread(
        at(), ThreadInfo(thread_id="t", thread_name="new"), op_id=op
    ),
    "adelete_thread": lambda f, op: f.adelete_thread(at(), op_id=op),
    "aerase": lambda f, op: f.store.aerase(at(), op_id=op),
    "acommit": lambda f, op: _commit(f, at(), op_id=op, slots=(_put("s", b"1"),), entries=(_entry(b"e"),)),
}  # fmt: skip
each_write = pytest.mark.parametrize("write", [pytest.param(w, id=n) for n, w in WRITES.items()])


async def _prepare(face: Face) -> None:
    await face.aput_state(at(), {"n": 1}, messages=said("one", "two"))


async def _meanwhile(face: Face) -> None:
    """Another writer moves everything on, so that doing anything twice would show."""
    await face.aput_state(at(), {"n": 7}, messages=said("one", "two", "three"))
    await face.aput_thread(at(), ThreadInfo(thread_id="t", thread_name="meanwhile"))
    await _commit(face, at(), slots=(_put("s", b"meanwhile"),))


class RetryContract(FaceTests):
    """A call repeated with its `op_id` after its answer was lost does nothing more, and answers the same (P1)."""

    @each_write
    async def test_p1_a_retry_answers_the_same(
        self, face: Face, write: Callable[[Face, str], Any]
    ) -> None:
        """At once, and through another checkpointer."""
        await _prepare(face)
        op_id = clock.new_id()
        first = await write(face, op_id)
        before = await picture(face, at()), await face.store.aread(at())
        for other in (face, face.twin()):
            again = await write(other, op_id)
            assert _result(again) == _result(first)
            assert (await picture(face, at()), await face.store.aread(at())) == before

    @each_write
    async def test_p1_a_retry_never_does_it_twice(
        self, face: Face, write: Callable[[Face, str], Any]
    ) -> None:
        """However late: what others wrote meanwhile stays."""
        await _prepare(face)
        op_id = clock.new_id()
        first = await write(face, op_id)
        await _meanwhile(face)
        before = await picture(face, at()), await _slots(face, at())
        again = await write(face, op_id)
        assert _result(again) == _result(first)
        assert (await picture(face, at()), await _slots(face, at())) == before
        assert await face.aget_state(at()) == {"n": 7}

    async def test_p1_retries_at_the_same_time_are_one(self, face: Face) -> None:
        """Eight calls with one op_id make one version, and all are told of it."""
        op_id = clock.new_id()
        puts = (face.aput_state(at(), {"n": 1}, op_id=op_id) for _ in range(8))
        checkpoints = await asyncio.gather(*puts)
        assert {checkpoint.version for checkpoint in checkpoints} == {1}
        appends = (face.aappend(at(), [1], field="log", op_id=clock.new_id()) for _ in range(8))
        assert len({checkpoint.version for checkpoint in await asyncio.gather(*appends)}) == 8
        assert len(await face.alist_checkpoints(at())) == 9

    async def test_p1_a_retry_of_a_loaded_state(self, face: Face) -> None:
        """A state that carries a base, put twice with one op_id, is put once; then it goes on."""
        await _prepare(face)
        state = await face.aget_state(at())
        twin = state.copy()
        op_id = clock.new_id()
        first = await face.aput_state(at(), state, op_id=op_id)
        assert _result(await face.aput_state(at(), twin, op_id=op_id)) == _result(first)
        assert (await face.aput_state(at(), twin)).version == 3

    async def test_p1_an_op_id_belongs_to_its_thread(self, face: Face) -> None:
        """The same one in another thread is another operation."""
        op_id = clock.new_id()
        for name in ("a", "b"):
            await face.aput_messages(at(name), said("one"), op_id=op_id)
            assert ids_of(await face.alist_messages(at(name))) == ["m1"]

    async def test_p1_an_op_id_is_checked(self, face: Face) -> None:
        """32 hexadecimal digits, with or without dashes."""
        for wrong, error in (
            ("x", ValueError),
            ("", ValueError),
            (7, TypeError),
            (b"0" * 32, TypeError),
        ):
            with pytest.raises(error):
                await face.aput_state(at(), {}, op_id=wrong)
            with pytest.raises(error):
                await face.aput_messages(at(), said("one"), op_id=wrong)
        assert await face.aget_thread(at()) is None
        dashed = "01234567-89ab-cdef-0123-456789ABCDEF"
        await face.aput_state(at(), {}, op_id=dashed)
        again = await face.aput_state(at(), {}, op_id=dashed.replace("-", "").lower())
        assert again.version == 1


def _result(answer: Any) -> Any:
    """What a caller is told; a commit may say that it is a duplicate."""
    if isinstance(answer, Commit):
        return answer.rev, answer.at, answer.seqs, answer.slots, answer.removed
    if isinstance(answer, Checkpoint):
        return answer.to_dict()
    return answer
