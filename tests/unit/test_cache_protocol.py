"""The Lua scripts follow the rules of `cache_protocol`, in every case of a small world, on real servers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from importlib import resources

import pytest
import redis

from threadline.backend import Head, Known
from threadline.cache_protocol import (
    Kept,
    Rule,
    Verdict,
    Write,
    confirms,
    decide,
    decide_floor,
    judge_copy,
    trusted,
)
from threadline.caches.packing import read_stamp, write_stamp
from threadline.testing.contract_cache import V1

A, B = b"a life of 16 byte", b"another life 16 b"
LIVES = (A[:16], B[:16])
#: Numbers that compare otherwise as texts.
NUMBERS = (9, 10)
HEADS = [
    Known(life, version, gc, digest)
    for life, version, gc, digest in itertools.product(LIVES, NUMBERS, NUMBERS, (b"x", b""))
]
KEPT = [None, *(Kept(known, whole) for known in HEADS for whole in (True, False))]
NEW = [known for known in HEADS if known.incarnation == LIVES[0]]
KEYS = (b"{t}:entry", b"{t}:n", b"{t}:x")
LIVE, FLOOR_LIVE = 1_000_000, 500_000


@pytest.fixture(params=["valkey_url", "redis8_url"])
def server(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(request.getfixturevalue(request.param))
    yield client
    client.close()


def source(name: str) -> bytes:
    return resources.files("threadline.caches").joinpath("lua", f"{name}.lua").read_bytes()


def entry(kept: Kept | None) -> dict[bytes, bytes]:
    """The fields of what is kept: a head with a row and a confirmation, or a floor."""
    if kept is None:
        return {}
    fields = {b"s": write_stamp(kept.known)}
    if kept.whole:
        fields |= {b"h": b"old", b"r:0:0": b"old", b"b:00": b"old", b"t": b"5:old"}
    return fields


def after(kept: Kept | None, rule: Rule, write: Write) -> dict[bytes, bytes]:
    """What is kept after a write of one row, which takes a blob away and was confirmed at 7."""
    new = {b"s": write_stamp(write.known), b"h": b"new", b"r:0:9": b"new"}
    match rule:
        case Rule.IGNORE:
            return entry(kept)
        case Rule.TOUCH:
            return entry(kept) | {b"t": b"7:new"}
        case Rule.EXTEND:
            return {b"r:0:0": b"old"} | new
        case Rule.REPLACE:
            return new | {b"t": b"7:new"}
        case Rule.FLOOR:
            return {b"s": write_stamp(write.known)}


def writes(kept: Kept | None) -> Iterator[Write]:
    """Every kind of write: whole, refuting what is kept or something else, and added to each head."""
    for known in NEW:
        yield Write(known)
        for refuted in {kept.known if kept else HEADS[0], HEADS[1]}:
            yield Write(known, refuted=refuted)
        for base in HEADS:
            yield Write(known, base=base)


def test_the_script_of_writes_follows_the_rule_in_every_case(server: redis.Redis) -> None:
    """About 10,000 cases: every entry, erased or not, and every write."""
    sha = server.script_load(source("write"))
    cases = [
        (kept, retired, write)
        for kept in KEPT
        for retired in (False, True)
        for write in writes(kept)
    ]
    pipe = server.pipeline(transaction=False)
    for kept, retired, write in cases:
        pipe.delete(*KEYS)
        if kept is not None:
            pipe.hset(KEYS[0], mapping=entry(kept))
        if retired:
            pipe.set(KEYS[2], b"")
        base = write_stamp(write.base) if write.base else b""
        refuted = write_stamp(write.refuted) if write.refuted else b""
        fields = (b"s", write_stamp(write.known), b"h", b"new", b"r:0:9", b"new")
        gone = (b"b:00",) if write.base else ()
        pipe.evalsha(
            sha, 3, *KEYS, write_stamp(write.known), base, refuted, LIVE, FLOOR_LIVE,
            b"" if write.base else b"7:new", b"ns", b"", len(gone), *gone, *fields,
        )  # fmt: skip
        pipe.hgetall(KEYS[0])
        pipe.pttl(KEYS[0])
    replies = iter(pipe.execute())
    seen = set()
    for kept, retired, write in cases:
        skip = 1 + (kept is not None) + retired
        rule, fields, live = (
            next(itertools.islice(replies, skip, None)),
            next(replies),
            next(replies),
        )
        expected = decide(kept, retired, write)
        assert rule.decode() == expected, (kept, retired, write)
        assert fields == after(kept, expected, write), (kept, retired, write)
        bounds = {Rule.IGNORE: -1, Rule.FLOOR: FLOOR_LIVE}.get(expected, LIVE)
        assert live <= bounds, (kept, retired, write)
        assert (live > 0) == (expected is not Rule.IGNORE)
        seen.add(expected)
    assert seen == set(Rule)
    assert len(cases) >= 10_000


def test_the_script_of_floors_follows_the_rule(server: redis.Redis) -> None:
    """Of every entry and every floor."""
    sha = server.script_load(source("floor"))
    for kept, floor in itertools.product(KEPT, NEW):
        server.delete(*KEYS)
        if kept is not None:
            server.hset(KEYS[0], mapping=entry(kept))
        rule = server.evalsha(sha, 2, *KEYS[:2], write_stamp(floor), FLOOR_LIVE, b"ns")
        assert rule.decode() == decide_floor(kept, floor), (kept, floor)
        left = {b"s": write_stamp(floor)} if rule == b"floor" else entry(kept)
        assert server.hgetall(KEYS[0]) == left


def test_the_script_of_confirmations_follows_the_rule(server: redis.Redis) -> None:
    """Of every entry and every head; an earlier confirmation changes nothing."""
    sha = server.script_load(source("stamp"))
    for kept, known in itertools.product(KEPT, NEW):
        for value, later in ((b"7:new", True), (b"4:new", False)):
            server.delete(*KEYS)
            if kept is not None:
                server.hset(KEYS[0], mapping=entry(kept))
            said = server.evalsha(sha, 2, *KEYS[:2], write_stamp(known), value, LIVE)
            assert said == confirms(kept, known), (kept, known)
            changed = {b"t": b"7:new"} if said and later else {}
            assert server.hgetall(KEYS[0]) == entry(kept) | changed


@pytest.mark.parametrize("stamp", [b"", b"nonsense", b"00:1:", b"x" * 100_000, b"\xff\x00"])
def test_what_is_no_stamp_counts_as_no_entry(server: redis.Redis, stamp: bytes) -> None:
    sha = server.script_load(source("write"))
    rest = (LIVE, FLOOR_LIVE, b"", b"ns", b"", 0, b"s", write_stamp(NEW[0]), b"h", b"new")
    for base, rule in ((b"", b"replace"), (write_stamp(NEW[1]), b"ignore")):
        server.hset(KEYS[0], mapping={b"s": stamp, b"h": b"old"})
        said = server.evalsha(sha, 3, *KEYS, write_stamp(NEW[0]), base, b"", *rest)
        assert said == rule


def test_rows_out_of_use_leave_the_entry(server: redis.Redis) -> None:
    """A row ends where the next begins; one that any range touches stays, and so do other fields."""
    sha = server.script_load(source("write"))
    base, new = write_stamp(NEW[0]), write_stamp(NEW[0]._replace(version=11))
    rows = [b"r:0:0", b"r:0:5", b"r:0:9", b"r:0:100", b"r:1:0", b"r:2:0", b"r:2:7"]
    server.hset(
        KEYS[0], mapping={b"s": base, b"h": b"old", b"b:00": b"blob"} | dict.fromkeys(rows, b"row")
    )
    rest = (LIVE, FLOOR_LIVE, b"", b"ns", b"0:6:7,0:120:130,2:0:7", 0, b"s", new, b"h", b"new")
    assert server.evalsha(sha, 3, *KEYS, new, base, b"", *rest) == b"extend"
    left = {b"s", b"h", b"b:00", b"r:0:5", b"r:0:100", b"r:2:0"}
    assert set(server.hkeys(KEYS[0])) == left


def test_a_stamp_comes_back() -> None:
    for known in HEADS:
        assert read_stamp(write_stamp(known)) == known


@pytest.mark.parametrize(
    ("age", "max_stale", "owner", "user", "expected"),
    [
        (1.0, 2.0, None, None, True),
        (2.0, 2.0, "s:a", None, True),
        (1.0, 2.0, "s:a", "s:a", True),
        (1.0, 2.0, "s:a", "s:b", False),
        (1.0, 2.0, None, "s:a", False),
        (2.01, 2.0, None, None, False),
        (-0.01, 2.0, None, None, False),
        (0.0, 0.0, None, None, False),
        (None, 2.0, None, None, False),
    ],
)
def test_p4_p8_what_may_be_served_without_the_store(
    age: float | None, max_stale: float, owner: str | None, user: str | None, expected: bool
) -> None:
    assert trusted(age, max_stale, owner, user) is expected


def test_what_the_store_answered_about_a_copy() -> None:
    thread = V1.thread
    assert judge_copy(Head(thread=thread, head_version=1, unchanged=True)) is Verdict.SAME
    assert judge_copy(V1) is Verdict.OTHER
    assert judge_copy(Head(thread=thread)) is Verdict.GONE
    assert judge_copy(Head(last_version=4)) is Verdict.GONE
