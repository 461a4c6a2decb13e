"""Slots: keyed rows that are overwritten, written once, compared, deleted, and expire."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from threadline import clock
from threadline.errors import ConflictError, LeaseLostError, ThreadNotFoundError
from threadline.store import Commit, Expected, Slot, SlotIs, SlotPut, SlotQuery, ThreadPut
from threadline.testing.contract_store import commit_of, entry_of, put_of, slots_of
from threadline.testing.faces import Face, FaceTests, at


class SlotContract(FaceTests):
    """`Slot`, `SlotPut` and `SlotIs` of `checkpointer.store`."""

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

    async def test_p2_an_idempotent_batch_may_come_twice(self, face: Face) -> None:
        """It adds slots where there are none, also when it comes again; never to another life of the thread."""
        life = (await commit_of(face, at(), slots=(put_of("there", b"1"),))).incarnation
        slots = (put_of("a", b"1", "if_absent"), put_of("there", b"2", "if_absent"))
        once = {
            "op_id": clock.new_id(),
            "create": False,
            "requires": life,
            "slots": slots,
            "idempotent": True,
        }
        assert (await commit_of(face, at(), **once)).slots == (True, False)
        again = await commit_of(face, at(), **once)
        assert (again.slots, again.duplicate) == ((False, False), False)
        assert await slots_of(face, at()) == {"a": b"1", "there": b"1"}
        await commit_of(face, at(), slots=(put_of("a", mode="delete"),))
        assert (await commit_of(face, at(), **once)).slots == (True, False)
        with pytest.raises(ThreadNotFoundError):
            await commit_of(face, at(user_id="other"), **once)
        await face.store.aerase(at())
        with pytest.raises(ThreadNotFoundError):
            await commit_of(face, at(), **once)
        await commit_of(face, at())
        with pytest.raises(ThreadNotFoundError):
            await commit_of(face, at(), **once)
        assert await slots_of(face, at()) == {}

    async def test_p2_an_idempotent_batch_does_nothing_else(self, face: Face) -> None:
        """What else it holds could be done twice."""
        life = (await commit_of(face, at())).incarnation
        fine: dict[str, Any] = {"create": False, "requires": life, "idempotent": True}
        fine["slots"] = (put_of("a", mode="if_absent"),)
        more: tuple[dict[str, Any], ...] = (
            {"create": True},
            {"requires": None},
            {"slots": (put_of("a"),)},
            {"slots": (put_of("a", mode="delete"),)},
            {"entries": (entry_of(b"1"),)},
            {"clear_entries": True},
            {"frees": True},
            {"thread": ThreadPut()},
        )
        for each in more:
            with pytest.raises(ValueError, match="is idempotent"):
                await commit_of(face, at(), **fine | each)
        assert (await face.store.aread(at())).thread.rev == 1
        assert await slots_of(face, at()) == {}

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
