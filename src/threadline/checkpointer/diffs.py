"""The difference of two states of a thread: find both heads, read what differs between them, compare.

Heads are read without content. A field that stands in the same place in both is the same, and so is an item of a
list at the same position of its log; only rows that hold other items are read. So a diff costs what differs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from threadline.backend import At, Head, Range
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.snapshot import WHOLE, open_doc
from threadline.codec.digest import blob_id
from threadline.codec.envelope import Where
from threadline.codec.records import VALUE
from threadline.codec.values import decode
from threadline.config import SHORT, Address, text_id
from threadline.errors import ConflictError, CorruptionError
from threadline.history.changes import Change, StateDiff
from threadline.history.delta import positions
from threadline.history.diff import Middle, Place, compare, compare_dicts
from threadline.history.head import FIELDS, BlobAt, HeadDoc, Inline, Item, Pieces
from threadline.history.head import Place as Stored
from threadline.history.logs import open_row
from threadline.model import Checkpoint

#: What a caller may name a state by; None: the head.
Moment = int | str | Checkpoint | None

#: Items wanted of one log this near to each other are read as one range.
NEAR: Final = 16
#: How often a diff is read again because rows were taken away meanwhile.
ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two states: its head, and its decoded document."""

    head: Head
    version: int
    doc: HeadDoc


@dataclass(slots=True)
class _Found:
    """What was read: decoded items by log and position, and large fields by address."""

    items: dict[int, dict[int, Any]] = field(default_factory=lambda: defaultdict(dict))
    blobs: dict[bytes, Any] = field(default_factory=dict)

    def value(self, place: Stored) -> Any:
        """The value of a field whose parts were read."""
        match place:
            case Inline(data):
                return decode(data)
            case Item(position):
                return self.items[FIELDS][position]
            case BlobAt(address):
                return self.blobs[address]
            case Pieces(log, pieces):
                return [self.items[log][position] for position in positions(pieces)]


class _Moved(Exception):
    """What was read is not of one moment: something was taken away between two reads."""


class Diffs:
    """Comparing states, for any backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def diff(self, address: Address, a: Moment, b: Moment) -> StateDiff:
        """What differs between two states; see `BaseCheckpointer.adiff`."""
        key = await self._engine.key(address)
        for _ in range(ATTEMPTS):
            old = await self._side(address, key, a)
            new = await self._side(address, key, b)
            try:
                changes = await _Comparison(self._engine, address, key, old, new).changes()
            except _Moved:
                continue
            where = address.thread_id, address.namespace
            return StateDiff(*where, old.version, new.version, tuple(changes))
        raise ConflictError(
            f"thread {address.thread_id!r} changed too often while its states were being compared",
            thread_id=address.thread_id,
        )

    async def _side(self, address: Address, key: bytes, moment: Moment) -> _Side:
        head = await self._find(address, key, moment)
        row = head.checkpoint
        if row is None or head.thread is None:
            raise _unknown(address, moment)
        life = head.thread.incarnation.hex()
        if isinstance(moment, Checkpoint) and moment.incarnation not in ("", life):
            raise _unknown(address, moment)
        try:
            return _Side(head, row.version, open_doc(row, self._engine.codec))
        except CorruptionError as error:
            raise _damaged(address, row.version, error) from None

    async def _find(self, address: Address, key: bytes, moment: Moment) -> Head:
        head = Head()
        for at in _candidates(address, moment):
            head = await self._engine.backend.read_head(
                key, address.ns_key, address.user, at=at, content=False
            )
            if head.checkpoint is not None:
                break
        return head


def _candidates(address: Address, moment: object) -> Iterator[At | None]:
    """Where to look for a moment, in this order. Raises TypeError, ValueError."""
    match moment:
        case None:
            yield None
        case bool():
            raise TypeError(
                "a state is named by a version, a Checkpoint, its id or its name, not by a bool"
            )
        case int(version):
            if version < 1:
                raise _unknown(address, moment)
            yield At(version=version)
        case Checkpoint():
            if (moment.thread_id, moment.namespace) != (address.thread_id, address.namespace):
                raise ValueError(
                    f"checkpoint {moment.id!r} is of thread {moment.thread_id!r}, namespace "
                    f"{moment.namespace!r}, not of thread {address.thread_id!r}, namespace {address.namespace!r}"
                )
            yield At(version=moment.version)
        case str():
            text_id(moment, "a checkpoint's id or name", SHORT)
            yield At(ext_id=moment)
            if moment.isascii() and moment.isdigit() and len(moment) < 19:
                yield At(version=int(moment))
            yield At(name=moment)
        case _:
            kind = type(moment).__name__
            raise TypeError(
                f"a state is named by a version, a Checkpoint, its id or its name, not by a {kind}"
            )


class _Comparison:
    """One attempt at comparing two states."""

    def __init__(
        self, engine: Engine, address: Address, key: bytes, old: _Side, new: _Side
    ) -> None:
        self._engine, self._address, self._key = engine, address, key
        self._old, self._new, self._found = old, new, _Found()

    async def changes(self) -> list[Change]:
        """The changes. Raises _Moved, CorruptionError."""
        if _life(self._old.head) != _life(self._new.head):
            raise _Moved
        if VALUE in (self._old.doc.shape, self._new.doc.shape):
            return await self._whole()
        ours, theirs = _differing(self._old.doc, self._new.doc)
        middles: dict[str, Middle] = {}
        wanted: dict[int, set[int]] = defaultdict(set)
        blobs: set[bytes] = set()
        for name in {**theirs, **ours}:
            match ours.get(name), theirs.get(name):
                case Pieces(log, old), Pieces(other, new) if log == other:
                    middles[name] = Middle.of(old, new)
                    wanted[log] |= middles[name].wanted()
                case places:
                    _want(places, wanted, blobs)
        await self._read(wanted, blobs)
        again: dict[int, set[int]] = defaultdict(set)
        for name, middle in middles.items():
            log = _log(ours[name])
            if middle.doubtful(self._found.items[log]):
                again[log] |= middle.everything()
        await self._read(again, set())
        return list(self._fields(ours, theirs, middles))

    def _fields(
        self,
        ours: Mapping[str, Stored],
        theirs: Mapping[str, Stored],
        middles: Mapping[str, Middle],
    ) -> Iterator[Change]:
        value = self._found.value
        for name, place in theirs.items():
            at = Place((name,), (name,))
            if name in middles:
                yield from middles[name].changes(self._found.items[_log(place)], at)
            elif name in ours:
                yield from compare(value(ours[name]), value(place), at)
            else:
                yield at.added(value(place))
        for name, place in ours.items():
            if name not in theirs:
                yield Place((name,), (name,)).removed(value(place))

    async def _whole(self) -> list[Change]:
        """The changes of states of which one is no record: a dict with other keys than plain texts."""
        old, new = self._old.doc, self._new.doc
        if dict(old.fields) == dict(new.fields) and old.shape == new.shape:
            return []
        wanted: dict[int, set[int]] = defaultdict(set)
        blobs: set[bytes] = set()
        _want([*old.fields.values(), *new.fields.values()], wanted, blobs)
        await self._read(wanted, blobs)
        a, b = (
            {name: self._found.value(place) for name, place in doc.fields.items()}
            for doc in (old, new)
        )
        a = a[WHOLE] if old.shape == VALUE else a
        b = b[WHOLE] if new.shape == VALUE else b
        return list(compare_dicts(a, b, Place()))

    async def _read(self, wanted: Mapping[int, set[int]], blobs: set[bytes]) -> None:
        """Read items and large fields. Raises _Moved when they are not of the moment at which the heads were read."""
        missing = {
            log: places - self._found.items[log].keys()
            for log, places in wanted.items()
            if places - self._found.items[log].keys()
        }
        if not missing and not blobs:
            return
        backend, ns, user = self._engine.backend, self._address.ns_key, self._address.user
        ranges = list(_ranges(missing))
        rows = await backend.read_rows(self._key, ns, user, ranges) if ranges else []
        if blobs:
            await self._read_blobs(sorted(blobs))
        check = await backend.read_head(self._key, ns, user, content=False)
        if _life(check) != _life(self._old.head):
            raise _Moved
        try:
            for row in rows:
                places = missing[row.log]
                items = self._found.items[row.log]
                for position, data in enumerate(open_row(row, self._engine.codec).cut(), row.start):
                    if position in places:
                        items[position] = decode(data)
            for log, places in missing.items():
                if lost := places - self._found.items[log].keys():
                    raise CorruptionError(f"item {min(lost)} of log {log} is missing")
        except CorruptionError as error:
            raise _damaged(self._address, self._new.version, error) from None

    async def _read_blobs(self, addresses: list[bytes]) -> None:
        blobs = await self._engine.backend.read_blobs(
            self._key, self._address.ns_key, self._address.user, addresses
        )
        if len(blobs) < len(addresses):
            raise _Moved
        for blob in blobs:
            try:
                data = self._engine.codec.open(blob.payload, blob.key_id, Where("blob"))
                if blob_id(data) != blob.id:
                    raise CorruptionError(f"the blob {blob.id.hex()} has another content")
                self._found.blobs[blob.id] = decode(data)
            except CorruptionError as error:
                sides = [side for side in (self._old, self._new) if blob.id in side.doc.blobs]
                raise _damaged(self._address, sides[0].version, error) from None


def _differing(old: HeadDoc, new: HeadDoc) -> tuple[dict[str, Stored], dict[str, Stored]]:
    """The fields that do not stand in the same place."""
    return (
        {name: place for name, place in old.fields.items() if new.fields.get(name) != place},
        {name: place for name, place in new.fields.items() if old.fields.get(name) != place},
    )


def _want(places: Iterable[Stored | None], wanted: dict[int, set[int]], blobs: set[bytes]) -> None:
    """Note what the values of these places are made of."""
    for place in places:
        match place:
            case Item(position):
                wanted[FIELDS].add(position)
            case BlobAt(address):
                blobs.add(address)
            case Pieces(log, pieces):
                wanted[log].update(positions(pieces))


def _log(place: Stored) -> int:
    return place.log if isinstance(place, Pieces) else FIELDS


def _ranges(wanted: Mapping[int, set[int]]) -> Iterator[Range]:
    for log, places in sorted(wanted.items()):
        start = end = -NEAR - 1
        for place in sorted(places):
            if place - end > NEAR:
                if end >= 0:
                    yield Range(log, start, end)
                start = place
            end = place + 1
        yield Range(log, start, end)


def _life(head: Head) -> tuple[bytes, int] | None:
    """What changes when content is taken away: the thread's life, and its gc counter."""
    return None if head.thread is None else (head.thread.incarnation, head.thread.gc)


def _unknown(address: Address, moment: object) -> ValueError:
    where = f"thread {address.thread_id!r}"
    if address.namespace:
        where += f", namespace {address.namespace!r},"
    match moment:
        case None:
            return ValueError(f"{where} has no state")
        case Checkpoint(version=version):
            return ValueError(f"{where} has no version {version} of that checkpoint")
        case int(version):
            return ValueError(f"{where} has no version {version}")
    return ValueError(f"{where} has no checkpoint with the version, id or name {moment!r}")


def _damaged(address: Address, version: int, error: CorruptionError) -> CorruptionError:
    return CorruptionError(f"thread {address.thread_id!r}, version {version}: {error}")
