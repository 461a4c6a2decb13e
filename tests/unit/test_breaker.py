"""The breaker: when it opens, for how long, and who may try."""

from __future__ import annotations

import random

import pytest

from threadline.caches.breaker import FIRST, IN_A_ROW, LONGEST, WINDOW, Breaker, BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState


class Rig:
    """A breaker on a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.said: list[BreakerState] = []
        self.breaker = Breaker(now=lambda: self.now, changed=self.said.append)

    def call(self, *, ok: bool) -> bool:
        """Whether a call was let through; it is reported."""
        ticket = self.breaker.allow()
        if ticket is None:
            return False
        (self.breaker.ok if ok else self.breaker.failed)(ticket)
        return True

    def fail(self, times: int) -> None:
        for _ in range(times):
            assert self.call(ok=False)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_it_opens_after_failures_in_a_row(rig: Rig) -> None:
    rig.fail(IN_A_ROW - 1)
    assert rig.call(ok=True)
    rig.fail(IN_A_ROW - 1)
    assert rig.breaker.state is CLOSED
    rig.fail(1)
    assert rig.breaker.state is OPEN
    assert rig.said == [OPEN]
    assert not rig.call(ok=True)


def test_it_opens_when_half_of_the_last_calls_failed(rig: Rig) -> None:
    for _ in range(WINDOW // 4):
        assert rig.call(ok=True)
    for number in range(WINDOW - WINDOW // 4 - 1):
        assert rig.call(ok=number % 3 == 0)  # Never five failures in a row.
    assert rig.breaker.state is CLOSED
    assert rig.call(ok=False)
    assert rig.breaker.state is OPEN


def test_less_than_half_of_the_last_calls_does_not_open_it(rig: Rig) -> None:
    for number in range(10 * WINDOW):
        assert rig.call(ok=number % 2 == 0 or number % WINDOW == 1)
    assert rig.breaker.state is CLOSED


def test_after_a_second_one_call_may_try(rig: Rig) -> None:
    rig.fail(IN_A_ROW)
    rig.now += FIRST - 0.01
    assert rig.breaker.allow() is None
    rig.now += 0.01
    ticket = rig.breaker.allow()
    assert ticket is not None
    assert rig.breaker.state is HALF_OPEN
    assert rig.breaker.allow() is None
    rig.now += 1000
    assert rig.breaker.allow() is None
    rig.breaker.ok(ticket)
    assert rig.said == [OPEN, CLOSED]
    assert rig.call(ok=True)


def test_each_time_that_trying_fails_it_stays_open_twice_as_long(rig: Rig) -> None:
    rig.fail(IN_A_ROW)
    waited = []
    for _ in range(8):
        start = rig.now
        while not rig.call(ok=False):
            rig.now += 0.25
        waited.append(rig.now - start)
    assert waited == [1, 2, 4, 8, 16, 30, 30, 30]
    assert max(waited) == LONGEST
    assert rig.said == [OPEN]
    rig.now += LONGEST
    assert rig.call(ok=True)
    rig.fail(IN_A_ROW)
    rig.now += FIRST
    assert rig.call(ok=True)


def test_what_was_begun_before_it_opened_tells_nothing(rig: Rig) -> None:
    early = [rig.breaker.allow() for _ in range(20)]
    for ticket in early[:IN_A_ROW]:
        assert ticket is not None
        rig.breaker.failed(ticket)
    assert rig.breaker.state is OPEN
    for number, ticket in enumerate(early[IN_A_ROW:]):
        assert ticket is not None
        (rig.breaker.ok, rig.breaker.failed)[number % 2](ticket)
    assert (rig.breaker.state, rig.breaker.wait) == (OPEN, FIRST)
    rig.now += FIRST
    probe = rig.breaker.allow()
    assert early[0] is not None
    rig.breaker.failed(early[0])
    rig.breaker.ok(early[0])
    assert rig.breaker.state is HALF_OPEN
    assert probe is not None
    rig.breaker.ok(probe)
    assert rig.breaker.state is CLOSED


def test_a_call_that_was_cancelled_lets_the_next_one_try(rig: Rig) -> None:
    rig.fail(IN_A_ROW)
    rig.now += FIRST
    ticket = rig.breaker.allow()
    assert ticket is not None
    rig.breaker.abandoned(ticket)
    assert rig.call(ok=True)
    assert rig.breaker.state is CLOSED
    for _ in range(100):
        ticket = rig.breaker.allow()
        assert ticket is not None
        rig.breaker.abandoned(ticket)
    assert rig.breaker.state is CLOSED


def test_whatever_happens_it_asks_again_within_half_a_minute(rig: Rig) -> None:
    random.seed(4)
    for _ in range(20_000):
        rig.now += random.choice((0, 0.1, 1, 7))
        ticket = rig.breaker.allow()
        if ticket is None:
            continue
        random.choice(
            (rig.breaker.ok, rig.breaker.failed, rig.breaker.failed, rig.breaker.abandoned)
        )(ticket)
        if rig.breaker.state is OPEN:
            before = rig.now
            rig.now += LONGEST
            assert rig.call(ok=random.random() < 0.3)
            rig.now = before if rig.breaker.state is CLOSED else rig.now
    assert {OPEN, CLOSED} <= set(rig.said)
