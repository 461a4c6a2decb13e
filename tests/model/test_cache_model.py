"""The cache protocol in every order of events, with up to two faults: no promise is broken; and with any of its rules
broken, one is.

The worlds are those in which other protocols failed: two puts and two reads at once; a put, a deletion and two reads
(a put after the deletion makes a new thread); and a redaction beside reads; reads that trust a copy for a while.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.model.cache_world import MAX_STALE, Rules, Violation, explore, mutant, world_of
from threadline.backend import Head, Known
from threadline.cache_protocol import Kept, Rule, Verdict, Write, decide

Scripts = tuple[tuple[str, ...], ...]
PUT, READ, TRUST, DELETE, REDACT = (("put",), ("read",), ("trust",), ("delete",), ("redact",))
AGAIN = {
    op[0]: (op[0], op[0]) for op in (PUT, READ, TRUST)
}  # One process, which has a copy at the second time.
WORLDS: dict[str, tuple[Scripts, int]] = {
    "two puts, two reads": ((PUT, PUT, READ, READ), 0),
    "a put, a deletion, two reads": ((PUT, DELETE, READ, READ), 0),
    "puts and reads of processes with copies": ((AGAIN["put"], AGAIN["read"]), 0),
    "a redaction and reads": ((REDACT, READ, AGAIN["read"]), 0),
    "a redaction, a put, a read": ((REDACT, PUT, READ), 0),
    "a put, reads that trust": ((PUT, TRUST, TRUST), 2),
    "a put, reads that trust what they have": ((PUT, AGAIN["trust"]), 3),
    "a deletion, reads that trust": ((DELETE, TRUST, AGAIN["trust"]), 2),
}
#: Too many for every day: some millions of worlds.
LARGE: dict[str, tuple[Scripts, int]] = {
    "a redaction, a put, reads": ((REDACT, PUT, READ, AGAIN["read"]), 0),
    "a put, many reads that trust": ((PUT, TRUST, AGAIN["trust"]), 2),
}
if os.environ.get("THREADLINE_SOAK"):
    WORLDS |= LARGE


@pytest.mark.soak
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "empty"])
@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.timeout(0 if os.environ.get("THREADLINE_SOAK") else 120)
def test_p3_p4_p7_no_promise_is_broken_by_two_faults(name: str, cached: bool) -> None:
    scripts, ticks = WORLDS[name]
    worlds = explore(world_of(*scripts, cached=cached), Rules(), 2, ticks)
    assert (
        worlds > 4_000
    )  # It did look. How many there are depends a little on the order of sets (about 2 %).


def answers_without_asking() -> Rules:
    return mutant(asks=False)


def adds_to_any_entry() -> Rules:
    def rule(kept: Kept | None, retired: bool, write: Write) -> Rule:
        if write.base is not None and kept is not None and kept.whole and not retired:
            return Rule.EXTEND
        return decide(kept, retired, write)

    return mutant(decide=rule)


def adds_to_nothing() -> Rules:
    def rule(kept: Kept | None, retired: bool, write: Write) -> Rule:
        if write.base is not None and kept is None and not retired:
            return Rule.REPLACE
        return decide(kept, retired, write)

    return mutant(decide=rule)


def forgets_who_was_erased() -> Rules:
    return mutant(decide=lambda kept, retired, write: decide(kept, False, write))


def keeps_no_floor() -> Rules:
    return mutant(floors=False)


def confirms_any_entry() -> Rules:
    def rule(kept: Kept | None, known: Known) -> bool:
        return kept is not None and kept.whole

    return mutant(confirms=rule)


def reads_the_clock_after_the_store() -> Rules:
    return mutant(clock_first=False)


def confirms_what_it_puts() -> Rules:
    return mutant(confirms_puts=True)


def trusts_for_ever() -> Rules:
    return mutant(trusted=lambda age, max_stale, owner, user: age is not None)


def compares_no_digest() -> Rules:
    return mutant(same=lambda copy, head: copy[:3] == head[:3])


def compares_no_life() -> Rules:
    return mutant(same=lambda copy, head: copy[1:3] == head[1:3])


def compares_no_gc() -> Rules:
    return mutant(same=lambda copy, head: copy._replace(gc=0) == head._replace(gc=0))


def takes_gone_for_same() -> Rules:
    def judge(head: Head) -> Verdict:
        return Verdict.OTHER if head.checkpoint is not None else Verdict.SAME

    return mutant(judge_copy=judge)


MUTANTS: dict[Callable[[], Rules], str] = {
    answers_without_asking: "two puts, two reads",
    adds_to_any_entry: "two puts, two reads",
    adds_to_nothing: "two puts, two reads",
    compares_no_digest: "two puts, two reads",
    compares_no_life: "a put, a deletion, two reads",
    takes_gone_for_same: "a put, a deletion, two reads",
    forgets_who_was_erased: "a put, a deletion, two reads",
    compares_no_gc: "a redaction and reads",
    keeps_no_floor: "a redaction and reads",
    confirms_any_entry: "a put, reads that trust",
    reads_the_clock_after_the_store: "a put, reads that trust",
    confirms_what_it_puts: "a put, reads that trust",
    trusts_for_ever: "a put, reads that trust",
}


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__)
def test_a_protocol_without_one_of_its_rules_breaks_a_promise(mutate: Callable[[], Rules]) -> None:
    """Within the two faults, and for some within one or none."""
    scripts, ticks = WORLDS[MUTANTS[mutate]]
    rules = mutate()
    tries = [(faults, cached) for faults in range(3) for cached in (True, False)]
    with pytest.raises(Violation):
        _ = [
            explore(world_of(*scripts, cached=cached), rules, faults, ticks)
            for faults, cached in tries
        ]


def test_a_copy_is_trusted_as_long_as_it_may_be() -> None:
    """The bound is not kept by never trusting: one tick is served, two are not."""
    served = mutant(
        trusted=lambda age, max_stale, owner, user: age is not None and age <= MAX_STALE + 1
    )
    with pytest.raises(Violation, match="trust returned"):
        explore(world_of(PUT, AGAIN["trust"], cached=True), served, 0, 3)
