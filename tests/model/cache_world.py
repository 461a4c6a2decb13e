"""A small world of a store, a shared cache and processes, in which every order of events can be tried.

One thread and namespace. Each process runs its operations in steps, in the order of `checkpointer/copies.py`; what a
step decides is decided by the functions of `threadline.cache_protocol` themselves, held in `Rules` so that a mutant can
replace one. What crosses the network to the cache is an `Op`: it may be lost, or arrive late (a fault each; lost is
late and never; a writer that dies after its commit is the same). The other faults: the cache loses everything, the
cache is restored to an earlier moment, the store is set back to an earlier moment.

Read `World`, then `Rules`, then the steps of each kind of operation; `explore` tries everything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from threadline.backend import CheckpointRow, Head, Known, ThreadRow
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

#: For how many ticks a copy may be trusted.
MAX_STALE = 1

Content = tuple[
    int, ...
]  # What a state is made of: each put adds a number, a redaction blanks the first.


class Fact(NamedTuple):
    """A head as the store has it."""

    known: Known
    content: Content


class Copied(NamedTuple):
    """A copy, in a process or in the shared cache: `content` None for a floor."""

    kept: Kept
    content: Content | None
    confirmed: int | None


class Op(NamedTuple):
    """What is sent to the shared cache."""

    kind: str
    write: Write | None = None
    content: Content = ()
    known: Known | None = None
    confirmed: int | None = None
    life: bytes = b""


class Process(NamedTuple):
    """A process: what it still does, where it is, and its own copy. `seen`: what the store had since the operation
    began."""

    script: tuple[str, ...]
    step: str = "start"
    local: Copied | None = None
    copy: Copied | None = None
    shared: bool = False
    now: int | None = None
    begun: int = 0
    base: Fact | None = None
    value: Content | None = None
    seen: frozenset[Content | None] = frozenset()
    op: Op | None = None


class World(NamedTuple):
    """Everything. `past`: what the store had, and the tick at which it had it no more."""

    db: Fact | None
    before: Fact | None
    lives: int
    serial: int
    past: frozenset[tuple[Content | None, int]]
    entry: Copied | None
    retired: frozenset[bytes]
    saved: tuple[Copied | None, frozenset[bytes]] | None
    processes: tuple[Process, ...]
    late: tuple[Op, ...]
    tick: int
    faults: int


@dataclass(frozen=True)
class Rules:
    """The functions under test, and the order of things around them where that is a rule too."""

    decide: Callable[[Kept | None, bool, Write], Rule] = decide
    decide_floor: Callable[[Kept | None, Known], Rule] = decide_floor
    confirms: Callable[[Kept | None, Known], bool] = confirms
    judge_copy: Callable[[Head], Verdict] = judge_copy
    trusted: Callable[[float | None, float, str | None, str | None], bool] = trusted
    same: Callable[[Known, Known], bool] = lambda copy, head: copy == head  # What a store compares.
    asks: bool = True
    clock_first: bool = True
    confirms_puts: bool = False
    floors: bool = True


class Violation(AssertionError):
    """A promise was broken."""


# The store and the cache ----------------------------------------------------------------------------------


def life(number: int) -> bytes:
    return b"life %011d" % number


def changed(world: World, db: Fact | None, **more: object) -> World:
    """The store has another head."""
    content = db.content if db else None
    old = world.db.content if world.db else None
    processes = tuple(
        each._replace(seen=each.seen | {content}) if each.step != "start" else each
        for each in world.processes
    )
    past = world.past | {(old, world.tick)}
    return world._replace(db=db, before=world.db, past=past, processes=processes, **more)


def applied(world: World, op: Op, rules: Rules) -> World:
    """The shared cache did what it was told."""
    entry = world.entry
    kept = entry.kept if entry else None
    match op.kind:
        case "write":
            assert op.write is not None
            rule = rules.decide(kept, op.write.known.incarnation in world.retired, op.write)
            return world._replace(entry=written(entry, rule, op))
        case "stamp":
            assert op.known is not None
            assert op.confirmed is not None
            if entry is None or not rules.confirms(kept, op.known):
                return world
            latest = max(op.confirmed, -1 if entry.confirmed is None else entry.confirmed)
            return world._replace(entry=entry._replace(confirmed=latest))
        case "floor":
            assert op.known is not None
            if not rules.floors:
                return world._replace(entry=None)
            if rules.decide_floor(kept, op.known) is Rule.IGNORE:
                return world
            return world._replace(entry=Copied(Kept(op.known, whole=False), None, None))
        case "erase":
            return world._replace(entry=None, retired=world.retired | {op.life})
        case _:
            return world._replace(entry=None)


def written(entry: Copied | None, rule: Rule, op: Op) -> Copied | None:
    """What a write makes of an entry."""
    assert op.write is not None
    known = op.write.known
    match rule:
        case Rule.REPLACE:
            return Copied(Kept(known), op.content, op.confirmed)
        case Rule.EXTEND:
            assert entry is not None
            return Copied(Kept(known), (*(entry.content or ()), *op.content), op.confirmed)
        case Rule.FLOOR:
            return Copied(Kept(known, whole=False), None, None)
        case Rule.TOUCH:
            assert entry is not None
            times = [each for each in (entry.confirmed, op.confirmed) if each is not None]
            return entry._replace(confirmed=max(times, default=None))
        case _:
            return entry


def keep(
    process: Process, fact: Fact, confirmed: int, refuted: Known | None, rules: Rules
) -> Process:
    """The process's own copy, by the same rule."""
    kept = process.local.kept if process.local else None
    rule = rules.decide(kept, False, Write(fact.known, refuted=refuted))
    op = Op("write", Write(fact.known), fact.content, confirmed=confirmed)
    return process._replace(local=written(process.local, rule, op))


@lru_cache
def answer(there: bool, same: bool) -> Head:
    """What a store says, as the judge sees it."""
    if not there:
        return Head()
    thread = ThreadRow(key=b"", tenant="", app="", thread_id="", user=None, incarnation=b"")
    row = None if same else CheckpointRow(version=1, payload=b"", digest=b"")
    return Head(thread=thread, checkpoint=row, unchanged=same)


# Steps ----------------------------------------------------------------------------------------------------


def begin(world: World, process: Process) -> Process:
    content = world.db.content if world.db else None
    return process._replace(seen=frozenset({content}), begun=world.tick)


def finish(world: World, process: Process) -> Process:
    """The operation returns: what it read must have been there while it ran, or a short time before."""
    kind, rest = process.script[0], process.script[1:]
    fine = process.seen
    if kind == "trust":
        young = {content for content, gone in world.past if world.tick - gone <= MAX_STALE}
        fine = fine | young
    if kind in ("read", "trust") and process.value not in fine:
        raise Violation(f"{kind} returned {process.value}; there was {set(fine)}")
    return Process(rest, local=process.local)


def start(world: World, process: Process, rules: Rules) -> Iterator[tuple[Process, int]]:
    """The first step, with what it costs in faults."""
    process = begin(world, process)
    match process.script[0]:
        case "read" | "trust":
            if process.local is not None:
                yield looked(world, process._replace(copy=process.local), rules), 0
                return
            found = world.entry if world.entry and world.entry.kept.whole else None
            answered = process._replace(copy=found, shared=found is not None, now=world.tick)
            yield looked(world, answered, rules), 0
            yield looked(world, process, rules), 1
        case "put":
            local = process.local
            known = local is not None and local.content is not None
            base = Fact(local.kept.known, local.content or ()) if local and known else world.db
            yield process._replace(step="commit", base=base), 0
        case _:
            yield process._replace(step="commit"), 0


def looked(world: World, process: Process, rules: Rules) -> Process:
    """A read has its copy, or none: it may be served, or the store is asked."""
    copy = process.copy
    if copy is not None:
        age = None if copy.confirmed is None else world.tick - copy.confirmed
        trusting = process.script[0] == "trust" and rules.trusted(age, MAX_STALE, None, None)
        if trusting or not rules.asks:
            if process.shared and copy.confirmed is not None:
                fact = Fact(copy.kept.known, copy.content or ())
                process = keep(process, fact, copy.confirmed, None, rules)
            return finish(world, process._replace(value=copy.content))
    return process._replace(step="ask")


def ask(world: World, process: Process, rules: Rules) -> Process:
    """The store is asked about the copy; what it says decides what is told to the cache."""
    db, copy = world.db, process.copy
    known = copy.kept.known if copy else None
    same = db is not None and known is not None and rules.same(known, db.known)
    verdict = rules.judge_copy(answer(db is not None, same))
    op: Op | None = None
    begun = process.begun if rules.clock_first else None  # None: the clock is read when it is told.
    now = process.now if rules.clock_first else -1
    told = process.now is not None
    if verdict is Verdict.SAME and copy is not None:
        process = process._replace(value=copy.content)
        fact = Fact(copy.kept.known, copy.content or ())
        process = keep(process, fact, world.tick if begun is None else begun, None, rules)
        if process.shared and told:
            op = Op("stamp", known=copy.kept.known, confirmed=now)
    elif verdict is Verdict.OTHER and db is not None:
        process = process._replace(value=db.content)
        process = keep(process, db, world.tick if begun is None else begun, known, rules)
        if told:
            refuted = known if process.shared else None
            op = Op("write", Write(db.known, refuted=refuted), db.content, confirmed=now)
    else:
        process = process._replace(value=None, local=None)
        op = Op("drop") if copy is not None else None
    return process._replace(step="tell", op=op)


def commit(world: World, process: Process, rules: Rules) -> World:
    """The store's part of a put, a deletion or a redaction, by compare-and-set where it has a base."""
    number, db = world.processes.index(process), world.db
    kind, base = process.script[0], process.base
    op: Op | None = None
    if kind == "delete":
        if db is not None:
            op = Op("erase", life=db.known.incarnation)
            process = process._replace(local=None)
            world = changed(world, None)
    elif kind == "redact":
        if db is not None:
            fact = Fact(db.known._replace(gc=db.known.gc + 1), (0, *db.content[1:]))
            op = Op("floor", known=Known(db.known.incarnation, 0, fact.known.gc, b""))
            process = process._replace(local=None)
            world = changed(world, fact)
    elif (base.known[:3] if base else None) != (db.known[:3] if db else None):
        if (
            process.local is not None
        ):  # Computed from what this process had: once more, from the store's.
            again = process._replace(step="start", local=None)
            return _with(world, number, again)
        return _with(world, number, finish(world, process))
    else:
        serial = world.serial + 1
        digest = b"put %d" % serial
        if base is None:
            fact = Fact(Known(life(world.lives + 1), 1, 0, digest), (serial,))
            news, write = fact.content, Write(fact.known)
        else:
            known = base.known._replace(version=base.known.version + 1, digest=digest)
            fact = Fact(known, (*base.content, serial))
            news, write = (serial,), Write(known, base=base.known)
        lives = world.lives + (base is None)
        process = keep(process, fact, process.begun, None, rules)
        op = Op("write", write, news, confirmed=-1 if rules.confirms_puts else None)
        world = changed(world, fact, serial=serial, lives=lives)
    process = process._replace(seen=world.processes[number].seen, step="tell", op=op)
    return _with(world, number, process)


def _with(world: World, number: int, process: Process) -> World:
    """The world with this process moved. Which of two equal processes does what makes no difference."""
    processes = list(world.processes)
    processes[number] = process
    return world._replace(processes=tuple(sorted(processes, key=hash)))


def successors(
    world: World, rules: Rules, most_faults: int, ticks: int
) -> Iterator[tuple[str, World]]:
    """Everything that can happen next."""
    for number, process in enumerate(world.processes):
        if not process.script:
            continue
        label = f"{number}.{process.script[0]}.{process.step}"
        if process.step == "start":
            for moved, cost in start(world, process, rules):
                if world.faults + cost <= most_faults:
                    after = world._replace(faults=world.faults + cost)
                    yield label + " lost" * cost, _with(after, number, moved)
        elif process.step == "ask":
            yield label, _with(world, number, ask(world, process, rules))
        elif process.step == "commit":
            yield label, commit(world, process, rules)
        else:
            yield from tell(label, world, number, process, rules, most_faults)
    for op in dict.fromkeys(world.late):
        rest = list(world.late)
        rest.remove(op)
        yield f"late {op.kind}", applied(world._replace(late=tuple(rest)), op, rules)
    if world.tick < ticks:
        yield "tick", world._replace(tick=world.tick + 1)
    if world.saved is None and most_faults and world.entry is not None:
        yield "save", world._replace(saved=(world.entry, world.retired))
    if world.faults < most_faults:
        yield from faults(world)


def tell(
    label: str, world: World, number: int, process: Process, rules: Rules, most_faults: int
) -> Iterator[tuple[str, World]]:
    """The last step: the cache is told, now or late, and the operation returns."""
    op = process.op
    done = _with(world, number, finish(world, process))
    if op is None:
        yield label, done
        return
    if op.confirmed == -1:  # A mutant's: the clock is read only now.
        op = op._replace(confirmed=world.tick)
    yield label, applied(done, op, rules)
    if world.faults < most_faults:
        late = tuple(sorted((*world.late, op), key=repr))
        yield label + " held up", done._replace(faults=world.faults + 1, late=late)


def faults(world: World) -> Iterator[tuple[str, World]]:
    """What goes wrong by itself."""
    worse = world._replace(faults=world.faults + 1)
    if world.entry is not None or world.retired:
        yield "flush", worse._replace(entry=None, retired=frozenset())
    if world.saved is not None and world.saved != (world.entry, world.retired):
        yield "restore", worse._replace(entry=world.saved[0], retired=world.saved[1])
    if world.before is not None and world.db is not None and _quiet(world):
        # The processes are started again after that: what they have at hand is no more.
        processes = tuple(each._replace(local=None) for each in world.processes)
        yield "set back", changed(worse._replace(processes=processes), world.before)


def _quiet(world: World) -> bool:
    """Whether the head can go back to the one before: in the same life, and no write is under way."""
    now, before = world.db, world.before
    assert now is not None
    assert before is not None
    writing = any(each.step == "commit" for each in world.processes)
    return (
        not writing
        and now.known.version == before.known.version + 1
        and now.known[:1] == before.known[:1]
    )


# Everything -----------------------------------------------------------------------------------------------


def world_of(*scripts: tuple[str, ...], cached: bool) -> World:
    """A live thread at version 1, which the shared cache has or not, and processes that begin."""
    first = Fact(Known(life(1), 1, 0, b"put 1"), (1,))
    entry = Copied(Kept(first.known), first.content, 0) if cached else None
    return World(
        db=first,
        before=None,
        lives=1,
        serial=1,
        past=frozenset(),
        entry=entry,
        retired=frozenset(),
        saved=None,
        processes=tuple(Process(script) for script in scripts),
        late=(),
        tick=0,
        faults=0,
    )


def check_rest(world: World) -> None:
    """When all is done and nothing went wrong, the cache holds nothing that was erased or redacted."""
    entry = world.entry
    if world.faults or entry is None or entry.content is None:
        return
    gone = world.db is None or entry.kept.known.incarnation != world.db.known.incarnation
    if gone or entry.kept.known.gc < world.db.known.gc:
        raise Violation(f"{entry} stays in the cache; the store has {world.db}")


def explore(world: World, rules: Rules, most_faults: int, ticks: int = 0) -> int:
    """Try everything; how many worlds there are. Raises Violation, with the way to it."""
    visited = {world}
    stack = [world]
    came: dict[World, tuple[World, str]] = {}
    while stack:
        here = stack.pop()
        try:
            moved = False
            for label, there in successors(here, rules, most_faults, ticks):
                moved = moved or "." in label
                if there not in visited:
                    visited.add(there)
                    stack.append(there)
                    came[there] = (here, label)
            if not moved:
                check_rest(here)
        except Violation as violation:
            raise Violation(f"{violation}; after {_way(here, came)}") from None
    return len(visited)


def _way(world: World, came: dict[World, tuple[World, str]]) -> list[str]:
    way: list[str] = []
    while world in came:
        world, label = came[world]
        way.append(label)
    return way[::-1]


def mutant(**changes: object) -> Rules:
    """Rules with something replaced."""
    return dataclasses.replace(Rules(), **changes)
