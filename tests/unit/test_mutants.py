"""The contract finds what it is there to find: each mutant breaks one promise, and the named test fails on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from _pytest.outcomes import Failed

from threadline import InMemoryCheckpointer
from threadline.backends import memory, memory_thread
from threadline.backends.memory import MemoryBackend
from threadline.batch import Batch
from threadline.checkpointer import reads, states
from threadline.codec import searchtext
from threadline.judging import Reason, Refused, judge
from threadline.testing import CheckpointerContract, contract_retry, contract_values
from threadline.testing.faces import Face

Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]


def judging(change: Callable[[Batch], Batch]) -> Mutant:
    """A backend that judges another batch than the one it applies."""

    def mutate(patch: Patch) -> None:
        patch.setattr(memory, "judge", lambda batch, *facts: judge(change(batch), *facts))

    return mutate


def without(*reasons: Reason) -> Mutant:
    """A backend that lets pass what is refused for these reasons."""

    def lenient(batch: Batch, *facts: Any) -> None:
        try:
            judge(batch, *facts)
        except Refused as refused:
            if refused.reason not in reasons:
                raise

    return lambda patch: patch.setattr(memory, "judge", lenient)


def ignores_expected(patch: Patch) -> None:
    without(Reason.CONFLICT)(patch)
    patch.setattr(states, "_meets", lambda expected, ground: True)


def applying(change: Callable[[Batch], Batch]) -> Mutant:
    """A backend that writes another batch than the one it was given."""
    apply = MemoryBackend._apply
    return lambda patch: patch.setattr(
        MemoryBackend, "_apply", lambda self, b: apply(self, change(b))
    )


def no_journal(patch: Patch) -> None:
    patch.setattr(memory, "_committed", lambda thread, batch: None)


def readers_see_all(patch: Patch) -> None:
    live = MemoryBackend._live
    patch.setattr(MemoryBackend, "_live", lambda self, key, user: live(self, key, None))


def resurrects(patch: Patch) -> None:
    def lenient(batch: Batch, thread: Any, *facts: Any) -> None:
        if thread is not None or batch.expected is None:
            judge(batch, thread, *facts)

    patch.setattr(memory, "judge", lenient)
    patch.setattr(states, "_meets", lambda expected, ground: True)


def versions_begin_anew(patch: Patch) -> None:
    erase = memory_thread.erase

    def forgetful(thread: Any) -> None:
        erase(thread)
        thread.spaces = {}

    patch.setattr(memory, "erase", forgetful)


def upsert_moves(patch: Patch) -> None:
    put = memory_thread.put_entry

    def moving(thread: Any, space: Any, entry_put: Any, at: int) -> int:
        seq = space.by_id.pop(entry_put.entry.ext_id, None)
        if seq is not None:
            del space.entries[seq]
        return put(thread, space, entry_put, at)

    patch.setattr(memory, "put_entry", moving)


def upsert_loses_meta(patch: Patch) -> None:
    put = memory_thread.put_entry

    def losing(thread: Any, space: Any, entry_put: Any, at: int) -> int:
        seq = put(thread, space, entry_put, at)
        space.entries[seq] = dataclasses.replace(space.entries[seq], meta=entry_put.entry.meta)
        return seq

    patch.setattr(memory, "put_entry", losing)


def ignore_replaces(patch: Patch) -> None:
    put = memory_thread.put_entry
    replace = dataclasses.replace
    patch.setattr(
        memory, "put_entry", lambda t, s, p, at: put(t, s, replace(p, on_duplicate="replace"), at)
    )


def half_a_commit(patch: Patch) -> None:
    """Each batch is checked and applied before the next one is looked at."""

    async def commit(self: MemoryBackend, batches: Any) -> Any:
        commits = []
        for batch in batches:
            known = memory._committed(self._threads.get(batch.key), batch)
            if known is None:
                self._check(batch)
            commits.append(known or self._apply(batch))
        return commits

    patch.setattr(MemoryBackend, "commit", commit)


def stale_cache(patch: Patch) -> None:
    """The process believes what it has at hand instead of asking the store."""
    read = reads.Reads._read

    async def trusting(self: Any, address: Any, place: Any, copy: Any) -> Any:
        if copy.snapshot is not None:
            return copy.snapshot, memory.Head(head_version=copy.snapshot.version)
        return await read(self, address, place, copy)

    patch.setattr(reads.Reads, "_read", trusting)


def slots_in_order_of_writing(patch: Patch) -> None:
    def unsorted_(items: Any, **_: Any) -> Any:
        return list(items)

    patch.setattr(memory, "sorted", unsorted_, raising=False)


def slots_never_expire(patch: Patch) -> None:
    put_slot = memory_thread.put_slot
    replace = dataclasses.replace

    def lasting(space: Any, put: Any, at: int) -> bool:
        return put_slot(space, replace(put, slot=replace(put.slot, expires_at=None)), at)

    patch.setattr(memory, "put_slot", lasting)


def answers_are_kept(patch: Patch) -> None:
    patch.setattr(memory, "forget", lambda thread, ids: None)


def searching_as_patterns(patch: Patch) -> None:
    """A query of which only the words are looked at, and not the letters."""
    patch.setattr(
        searchtext.Query,
        "matches",
        lambda self, text: all(p in searchtext.words(text) for p in self.phrases),
    )


def shared_values(patch: Patch) -> None:
    """A reader that hands out the object that it handed out before."""
    build, kept = reads.Reads.build, {}

    def sharing(self: Any, address: Any, key: bytes, snapshot: Any) -> Any:
        at = (key, address.ns_key, snapshot.version, address.state_class)
        return kept.setdefault(at, build(self, address, key, snapshot))

    patch.setattr(reads.Reads, "build", sharing)


C = CheckpointerContract
VALUE = contract_values.VALUES
MUTANTS: dict[str, tuple[Mutant, Callable[..., Any], dict[str, Any]]] = {
    "skips the owner check of writes": (
        judging(lambda b: dataclasses.replace(b, user=None)),
        C.test_p8_another_user_finds_nothing,
        {"owner": "alice", "user": "bob"},
    ),
    "skips the owner check of reads": (
        readers_see_all,
        C.test_p8_another_user_finds_nothing,
        {"owner": "alice", "user": "bob"},
    ),
    "ignores what is expected": (ignores_expected, C.test_p6_expected_version, {}),
    "resurrects on a put with a base": (resurrects, C.test_p7_a_late_writer_cannot_resurrect, {}),
    "begins versions anew": (versions_begin_anew, C.test_p7_a_new_life_is_another_thread, {}),
    "moves what is put again": (upsert_moves, C.test_p5_putting_again_replaces_in_place, {}),
    "loses metadata of what is put again": (
        upsert_loses_meta,
        C.test_p5_putting_again_replaces_in_place,
        {},
    ),
    "replaces what should be ignored": (ignore_replaces, C.test_p5_duplicates_may_be_ignored, {}),
    "drops the messages of a put": (
        applying(lambda b: dataclasses.replace(b, entries=()) if b.checkpoint else b),
        C.test_p2_state_and_messages_are_one_commit,
        {},
    ),
    "drops the name of a put": (
        applying(
            lambda b: (
                dataclasses.replace(b, checkpoint=dataclasses.replace(b.checkpoint, name=None))
                if b.checkpoint
                else b
            )
        ),
        C.test_p2_run_id_name_and_metadata_are_kept,
        {},
    ),
    "forgets lineage": (
        applying(lambda b: dataclasses.replace(b, thread=None) if b.checkpoint else b),
        C.test_p6_a_fork_knows_where_it_came_from,
        {},
    ),
    "ignores op_id on put": (
        no_journal,
        C.test_p1_a_retry_never_does_it_twice,
        {"write": contract_retry.WRITES["aput_messages"]},
    ),
    "ignores op_id on pop": (
        no_journal,
        C.test_p1_a_retry_answers_the_same,
        {"write": contract_retry.WRITES["apop_messages"]},
    ),
    "commits half": (half_a_commit, C.test_p2_several_threads_are_one_commit, {}),
    "trusts what it has at hand": (stale_cache, C.test_p3_a_put_is_seen_by_every_reader, {}),
    "reads slots as they were written": (
        slots_in_order_of_writing,
        C.test_p5_slots_are_read_by_prefix_in_byte_order,
        {},
    ),
    "writes without its lease": (
        without(Reason.FENCED),
        C.test_p2_a_batch_may_require_a_slot,
        {},
    ),
    "keeps what has expired": (slots_never_expire, C.test_p5_slots_expire, {}),
    "assumes no rev": (
        judging(lambda b: dataclasses.replace(b, assumes_rev=None)),
        C.test_p2_a_batch_can_assume_that_nothing_was_committed_since,
        {},
    ),
    "remembers what was redacted": (
        answers_are_kept,
        C.test_p7_what_was_popped_is_forgotten_too,
        {},
    ),
    "finds parts of words": (searching_as_patterns, C.test_p9_words_are_found, {}),
    "hands out the same object twice": (
        shared_values,
        C.test_p9_a_state_is_put_by_value,
        {"make": lambda: {"a": [1]}},
    ),
}


async def take(test: Callable[..., Any], arguments: dict[str, Any]) -> None:
    await test(CheckpointerContract(), face=Face(InMemoryCheckpointer()), **arguments)


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_mutant_fails_the_contract(name: str, monkeypatch: Patch) -> None:
    mutate, test, arguments = MUTANTS[name]
    await take(test, arguments)
    mutate(monkeypatch)
    with pytest.raises((Exception, Failed)) as caught:
        await take(test, arguments)
    assert not isinstance(caught.value, TypeError | AttributeError | NameError)


async def test_a_value_that_changes_its_type_is_noticed(monkeypatch: Patch) -> None:
    take_values = CheckpointerContract.test_p9_a_value_beside_comes_back
    arguments = {"value": VALUE["one three times"]}
    await take(take_values, arguments)
    monkeypatch.setattr("threadline.checkpointer.engine.encode", _as_plain_json)
    with pytest.raises(AssertionError):
        await take(take_values, arguments)


def _as_plain_json(value: Any) -> bytes:
    """An encoder for which 1.0 is 1."""
    from threadline.codec.values import encode

    return encode(value).replace(b"1.0", b"1")


def test_no_part_of_the_contract_hides_another() -> None:
    """A name that two parts use would run only one of the tests."""
    seen: dict[str, type] = {}
    for part in CheckpointerContract.__mro__[1:]:
        for name in vars(part):
            if name.startswith("test_"):
                assert name not in seen, (name, part, seen[name])
                seen[name] = part
    assert len(seen) > 100
    promised = {name.split("_")[1] for name in seen}
    assert promised >= {"p1", "p2", "p3", "p5", "p6", "p7", "p8", "p9", "p12"}
