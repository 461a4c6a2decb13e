"""The exam for shared caches: override one fixture, `make_cache`.

    class TestMine(SharedCacheContract):
        @pytest.fixture
        def make_cache(self, my_server):
            return lambda: MyCache(my_server.url)

Each call makes another cache on the same, at first empty, server: what another process has. A cache may forget; these
tests ask what it has right after, of a server that is well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from threadline.backend import Blob, CheckpointRow, Head, Known, Range, Row, ThreadRow
from threadline.cache import SharedCache

SALT, OTHER_SALT = b"salt of a store.", b"another store's."
KEY, OTHER_KEY = b"key of a thread.", b"another thread's"
NS, OTHER_NS = bytes(8), b"another!"
LIFE, NEXT_LIFE = b"first incarnatio", b"second incarnati"

MakeCache = Callable[[], SharedCache]


def prefix(end: int) -> bytes:
    """The prefix digest of a log at a position."""
    return b"prefix %09d" % end


def row(start: int, end: int, log: int = 0) -> Row:
    """A row of a log."""
    text = b"items %d to %d of log %d" % (start, end, log)
    return Row(log, start, end - start, text, prefix(start), prefix(end))


def state(
    version: int,
    *rows: Row,
    refs: tuple[Range, ...] | None = None,
    blobs: tuple[Blob, ...] = (),
    life: bytes = LIFE,
    gc: int = 0,
    user: str | None = "s:alice",
    digest: bytes | None = None,
    **more: Any,
) -> Head:
    """A head of a version with these rows, which its ranges cover unless others are named."""
    ranges = tuple(Range(each.log, each.start, each.end) for each in rows)
    checkpoint = CheckpointRow(
        version=version,
        payload=b"payload of version %d" % version,
        digest=digest or b"digest %09d" % version,
        parent_version=version - 1 or None,
        base=version - 1 or None,
        name="a \N{SNOWMAN} name",
        run_id="run",
        refs=ranges if refs is None else refs,
        blob_refs=tuple(blob.id for blob in blobs),
        bytes=17,
        created_at=1_700_000_000_000_000,
        **more,
    )
    thread = ThreadRow(key=KEY, tenant="", app="", thread_id="", user=user, incarnation=life, gc=gc)
    return Head(
        thread=thread,
        head_version=version,
        last_version=version,
        marks=b"marks of version %d" % version,
        checkpoint=checkpoint,
        rows=rows,
        blobs=blobs,
    )


def known(head: Head) -> Known:
    """Which head this is."""
    assert head.thread
    assert head.checkpoint
    row = head.checkpoint
    return Known(head.thread.incarnation, row.version, head.thread.gc, row.digest)


V1 = state(1, row(0, 3))
V2 = state(2, row(0, 5))


class CacheTests:
    """The fixtures of the exam, and how its tests ask."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def make_cache(self) -> MakeCache:
        """Makes caches on one empty server: the one fixture to override."""
        raise NotImplementedError("override the fixture `make_cache`")

    @pytest.fixture
    async def cache(self, make_cache: MakeCache) -> AsyncIterator[SharedCache]:
        """A cache of a store."""
        made = make_cache()
        made.open(SALT)
        yield made
        await made.close()

    @pytest.fixture
    async def twin(self, make_cache: MakeCache) -> AsyncIterator[SharedCache]:
        """The same cache as another process has it."""
        made = make_cache()
        made.open(SALT)
        yield made
        await made.close()

    @staticmethod
    async def kept(cache: SharedCache, key: bytes = KEY, ns: bytes = NS) -> Head | None:
        """The head that is kept."""
        found = await cache.get(key, ns)
        assert found is not None, "the cache did not answer"
        return found.head

    @staticmethod
    async def now(cache: SharedCache) -> int:
        """The cache's clock."""
        found = await cache.get(KEY, NS)
        assert found is not None, "the cache did not answer"
        return found.now

    @staticmethod
    async def age(cache: SharedCache) -> float | None:
        """The age of what is kept."""
        found = await cache.get(KEY, NS)
        assert found is not None, "the cache did not answer"
        assert found.head is not None
        return found.age


class KeepingTests(CacheTests):
    """What is kept, and what takes whose place."""

    async def test_p3_what_is_published_comes_back_to_every_process(
        self, cache: SharedCache, twin: SharedCache
    ) -> None:
        """With all that a state is read from, byte for byte."""
        blob = Blob(b"i" * 16, b"\x00large\xff" * 1000, 3)
        rows = (row(0, 16), row(16, 17), row(4, 9, log=1))
        refs = (Range(0, 2, 17), Range(1, 5, 6))
        head = state(7, *rows, refs=refs, blobs=(blob,), kind="rollback", ext_id="x\N{BULLET}")
        await cache.publish(KEY, NS, head)
        assert await self.kept(cache) == head
        assert await self.kept(twin) == head

    async def test_p3_nothing_is_found_that_was_not_published(self, cache: SharedCache) -> None:
        """Neither in another thread nor in another namespace."""
        await cache.publish(KEY, NS, V1)
        assert await self.kept(cache, OTHER_KEY) is None
        assert await self.kept(cache, KEY, OTHER_NS) is None
        assert cache.counts.misses == 2

    async def test_p8_another_store_on_the_same_server_finds_nothing(
        self, cache: SharedCache, make_cache: MakeCache
    ) -> None:
        """Each store has a salt of its own."""
        await cache.publish(KEY, NS, V1)
        other = make_cache()
        other.open(OTHER_SALT)
        assert await self.kept(other) is None
        await other.close()

    async def test_p3_a_head_without_all_of_its_rows_is_not_kept(self, cache: SharedCache) -> None:
        """Half a state is none."""
        await cache.publish(KEY, NS, state(1, row(0, 3), refs=(Range(0, 0, 4),)))
        blob = Blob(b"i" * 16, b"large")
        await cache.publish(KEY, NS, dataclasses.replace(state(1, blobs=(blob,)), blobs=()))
        assert await self.kept(cache) is None

    async def test_p3_a_row_that_does_not_follow_the_one_before_is_not_used(
        self, cache: SharedCache
    ) -> None:
        """Rows of two histories of one thread, as after its store was set back."""
        other = dataclasses.replace(row(3, 5), p_start=b"another history!")
        await cache.publish(KEY, NS, state(1, row(0, 3), other))
        assert await self.kept(cache) is None
        await cache.publish(KEY, NS, V1)
        news = state(2, other, refs=(Range(0, 0, 5),))
        await cache.publish(KEY, NS, news, base=V1.checkpoint)
        assert await self.kept(cache) is None
        assert cache.counts.poison == 1

    # What is new is added --------------------------------------------------------------------------------

    async def test_p3_what_is_new_is_added_to_what_it_was_computed_from(
        self, cache: SharedCache
    ) -> None:
        """A row that grew, a row that is new, a large field that came and one that went."""
        old, new = Blob(b"o" * 16, b"old"), Blob(b"n" * 16, b"new")
        first = state(1, row(0, 3), blobs=(old,))
        await cache.publish(KEY, NS, first)
        ranges = (Range(0, 0, 9),)
        second = state(2, row(0, 7), row(7, 9), refs=ranges, blobs=(new,))
        await cache.publish(KEY, NS, second, base=first.checkpoint)
        assert await self.kept(cache) == second
        third = state(3, row(9, 10), refs=(Range(0, 2, 10),))
        await cache.publish(KEY, NS, third, base=second.checkpoint)
        whole = dataclasses.replace(third, rows=(row(0, 7), row(7, 9), row(9, 10)))
        assert await self.kept(cache) == whole

    async def test_p3_what_is_new_is_not_added_to_anything_else(self, cache: SharedCache) -> None:
        """Neither to nothing, nor to another version, digest, `gc` or life: a miss, and the next reader fills it."""
        third = state(3, row(5, 6), refs=(Range(0, 0, 6),))
        await cache.publish(KEY, NS, third, base=V2.checkpoint)
        assert await self.kept(cache) is None
        others = (
            V1,
            state(2, row(0, 5), life=NEXT_LIFE),
            state(2, row(0, 5), digest=b"x" * 16),
        )
        for number, other in enumerate(others):
            key = b"thread number %02d" % number
            await cache.publish(key, NS, other)
            assert await self.kept(cache, key) is not None
            await cache.publish(key, NS, third, base=V2.checkpoint)
            assert await self.kept(cache, key) is None

    async def test_p3_what_is_added_late_does_not_undo_what_is_newer(
        self, cache: SharedCache
    ) -> None:
        """Two puts whose news arrive in the wrong order."""
        newer = state(3, row(0, 6))
        await cache.publish(KEY, NS, newer)
        late = state(2, row(3, 5), refs=(Range(0, 0, 5),))
        await cache.publish(KEY, NS, late, base=V1.checkpoint)
        assert await self.kept(cache) == newer

    # Newer and older -------------------------------------------------------------------------------------

    async def test_p5_the_newer_one_stays(self, cache: SharedCache) -> None:
        """By `gc` first, which moves when a head goes back, then by version; whatever arrives last."""
        back = state(1, row(0, 2), gc=1)
        for head, expected in ((V2, V2), (V1, V2), (back, back), (V2, back)):
            await cache.publish(KEY, NS, head)
            assert await self.kept(cache) == expected

    async def test_p3_what_the_store_contradicted_gives_way_also_to_an_older_one(
        self, cache: SharedCache
    ) -> None:
        """A store that was set back to an earlier moment is right."""
        await cache.publish(KEY, NS, V2)
        await cache.publish(KEY, NS, V1, refuted=known(V2)._replace(digest=b"x" * 16))
        assert await self.kept(cache) == V2
        await cache.publish(KEY, NS, V1, refuted=known(V2))
        assert await self.kept(cache) == V1

    async def test_p7_a_thread_made_again_replaces_its_predecessor(
        self, cache: SharedCache
    ) -> None:
        """Its versions begin anew, so their numbers do not compare."""
        await cache.publish(KEY, NS, V2)
        again = state(1, row(0, 1), life=NEXT_LIFE)
        await cache.publish(KEY, NS, again)
        assert await self.kept(cache) == again


class ConfirmingTests(CacheTests):
    """When the store confirmed what is kept."""

    async def test_p4_a_copy_has_an_age_only_when_it_was_confirmed(
        self, cache: SharedCache
    ) -> None:
        """What a put publishes was not; what a reader brings was, before it asked."""
        await cache.publish(KEY, NS, V1)
        assert await self.age(cache) is None
        now = await self.now(cache)
        await cache.publish(KEY, NS, V2, confirmed=now - 10_000_000)
        age = await self.age(cache)
        assert age is not None
        assert 10 <= age < 60

    async def test_p4_the_latest_confirmation_of_this_very_head_counts(
        self, cache: SharedCache
    ) -> None:
        """Not an earlier one that comes late, and none of another head."""
        await cache.publish(KEY, NS, V2)
        now = await self.now(cache)
        for other in (V1, state(2, row(0, 5), gc=1), state(2, row(0, 5), life=NEXT_LIFE)):
            await cache.stamp(KEY, NS, known(other), now)
            assert await self.age(cache) is None
        for back in (20, 10, 30):
            await cache.stamp(KEY, NS, known(V2), now - back * 1_000_000)
        age = await self.age(cache)
        assert age is not None
        assert 10 <= age < 20
        await cache.publish(KEY, NS, V2, confirmed=now - 5_000_000)
        age = await self.age(cache)
        assert age is not None
        assert 5 <= age < 10

    async def test_p4_a_new_head_was_not_confirmed_with_the_old_one(
        self, cache: SharedCache
    ) -> None:
        """Neither as a whole nor as what is added."""
        now = await self.now(cache)
        for news in (V2, state(2, row(3, 5), refs=(Range(0, 0, 5),))):
            base = None if news is V2 else V1.checkpoint
            await cache.drop(KEY, NS)
            await cache.publish(KEY, NS, V1, confirmed=now)
            assert await self.age(cache) is not None
            await cache.publish(KEY, NS, news, base=base)
            assert await self.age(cache) is None


class ForgettingTests(CacheTests):
    """What goes, and does not come back."""

    async def test_p7_what_is_dropped_is_gone(self, cache: SharedCache) -> None:
        """And nothing else."""
        await cache.publish(KEY, NS, V1)
        await cache.publish(KEY, OTHER_NS, V1)
        await cache.drop(KEY, NS)
        assert await self.kept(cache) is None
        assert await self.kept(cache, KEY, OTHER_NS) == V1

    async def test_p7_below_a_floor_nothing_is_kept(self, cache: SharedCache) -> None:
        """What a slow reader brings after a redaction holds what was redacted."""
        floor = Known(LIFE, 0, 1, b"")
        for before in (None, V2, state(2, row(0, 5), life=NEXT_LIFE)):
            if before is not None:
                await cache.publish(KEY, NS, before)
            await cache.floor(KEY, NS, floor)
            assert await self.kept(cache) is None
            await cache.publish(KEY, NS, V2)
            assert await self.kept(cache) is None
            redacted = state(2, row(0, 5), gc=1)
            await cache.publish(KEY, NS, redacted)
            assert await self.kept(cache) == redacted
            await cache.floor(KEY, NS, floor)
            assert await self.kept(cache) == redacted
            await cache.drop(KEY, NS)

    async def test_p7_an_erased_thread_is_gone_and_does_not_come_back(
        self, cache: SharedCache, twin: SharedCache
    ) -> None:
        """Every namespace of it, whatever a slow reader or writer still brings; its successor is another thread."""
        await cache.publish(KEY, NS, V1)
        await cache.publish(KEY, OTHER_NS, V1)
        await cache.publish(OTHER_KEY, NS, V1)
        await twin.erase(KEY, LIFE)
        for ns in (NS, OTHER_NS, b"a third."):
            assert await self.kept(cache, KEY, ns) is None
            await cache.publish(KEY, ns, V2)
            assert await self.kept(cache, KEY, ns) is None
        assert await self.kept(cache, OTHER_KEY) is not None
        again = state(1, row(0, 1), life=NEXT_LIFE)
        await cache.publish(KEY, NS, again)
        assert await self.kept(cache) == again
        await cache.publish(KEY, NS, V2)
        assert await self.kept(cache) == again

    async def test_p11_what_is_rejected_is_gone_and_counted(self, cache: SharedCache) -> None:
        """What passed every check and yet could not be opened."""
        await cache.publish(KEY, NS, V1)
        await cache.reject(KEY, NS)
        assert await self.kept(cache) is None
        assert cache.counts.poison == 1

    async def test_p11_it_says_how_it_is(self, cache: SharedCache) -> None:
        """For `ahealth`."""
        facts = cache.facts()
        assert {"hits", "misses", "stale", "poison", "errors", "breaker"} <= facts.keys()
        assert (facts["breaker"], facts["errors"]) == ("closed", 0)


class SharedCacheContract(KeepingTests, ConfirmingTests, ForgettingTests):
    """What every shared cache must do."""
