"""A head as the fields of a hash, and back. Nothing of it is believed before its mark of authenticity is checked.

Fields: `s` the stamp (which head it is), `h` the head, `t` when it was confirmed, `r:<log>:<start>` a row of a log,
`b:<id>` a large field. Each of `h`, `t`, `r:` and `b:` begins with a keyed BLAKE2b (RFC 7693) over the thread, the
namespace, the life and `gc` of the thread, the field's name and the rest; `h` and `t` over the whole stamp. So bytes
that were forged, or belong to another thread, place, life or version, are not what is looked for.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import orjson

from threadline.backend import Blob, CheckpointRow, Head, Known, Range, Row, ThreadRow

#: The format of what is written here; part of the key and of every mark, so that another one is never met.
FORMAT: Final = b"1"
#: Most fields and most bytes of an entry; a larger one is neither written nor read.
MAX_FIELDS, MAX_BYTES = 4096, 8 * 1024 * 1024
_MARK: Final = 16
_STAMP = re.compile(rb"([0-9a-f]{32}):(\d{1,15}):(\d{1,15}):((?:[0-9a-f]{2}){0,64})")
_STAMPED = re.compile(rb"(\d{1,16}):([0-9a-f]{32})")
_ROW_NAME = re.compile(rb"r:(\d{1,9}):(\d{1,15})")
_HEAD: Final = struct.Struct(">III")
_ROW: Final = struct.Struct(">IIIHH")
_BLOB: Final = struct.Struct(">I")


class Poison(Exception):
    """What a cache returned is not what was put there."""


def write_stamp(known: Known) -> bytes:
    """The text by which an entry says which head it holds; scripts compare it and its numbers."""
    incarnation, version, gc, digest = known
    return b"%s:%d:%d:%s" % (incarnation.hex().encode(), gc, version, digest.hex().encode())


def read_stamp(stamp: bytes) -> Known:
    """The head that a stamp names. Raises Poison."""
    match = _STAMP.fullmatch(stamp)
    if match is None:
        raise Poison("the stamp is no stamp")
    incarnation, gc, version, digest = match.groups()
    return Known(
        bytes.fromhex(incarnation.decode()), int(version), int(gc), bytes.fromhex(digest.decode())
    )


class Packer:
    """Packs and unpacks heads under a key made from the store's salt, which no cache ever holds."""

    def __init__(self, salt: bytes) -> None:
        self._key = hashlib.blake2b(salt, digest_size=32, person=b"cache marks").digest()

    # Writing ------------------------------------------------------------------------------------------

    def pack(self, key: bytes, ns: bytes, head: Head) -> dict[bytes, bytes]:
        """The fields of a head: its own and those of the rows and blobs that it brings."""
        known, thread, row = known_of(head), head.thread, head.checkpoint
        if thread is None or row is None:
            raise ValueError("there is no state in this head")
        about = orjson.dumps(
            [
                [row.version, row.parent_version, row.base, row.kind, row.ext_id, row.name],
                [row.run_id, row.key_id, row.bytes, row.created_at],
                [[*each] for each in row.refs],
                [each.hex() for each in row.blob_refs],
                [thread.user, head.last_version],
            ]
        )
        body = _HEAD.pack(len(about), len(head.marks), len(row.payload))
        body += about + head.marks + row.payload
        stamp = write_stamp(known)
        fields = {b"s": stamp, b"h": self._marked(key, ns, stamp, b"h", body)}
        life = _life(known)
        for each in head.rows:
            body = _ROW.pack(each.count, each.kind, each.key_id, len(each.p_start), len(each.p_end))
            body += each.p_start + each.p_end + each.payload
            name = _row_name(each.log, each.start)
            fields[name] = self._marked(key, ns, life, name, body)
        for blob in head.blobs:
            name = blob_name(blob.id)
            body = _BLOB.pack(blob.key_id) + blob.payload
            fields[name] = self._marked(key, ns, life, name, body)
        return fields

    def confirmed(self, key: bytes, ns: bytes, known: Known, at: int) -> bytes:
        """The field that says when a head was confirmed, in microseconds of the cache's clock."""
        text = b"%d" % at
        mark = self._mark(key, ns, write_stamp(known), b"t", text)
        return text + b":" + mark.hex().encode()

    # Reading ------------------------------------------------------------------------------------------

    def unpack(self, key: bytes, ns: bytes, fields: Mapping[bytes, bytes]) -> Head:
        """The head of an entry, whole. Raises Poison for anything that was not packed for this very place."""
        stamp = fields.get(b"s", b"")
        known = read_stamp(stamp)
        body = self._checked(key, ns, stamp, b"h", fields.get(b"h", b""))
        try:
            row, marks, owner, last_version = _read_head(body, known)
        except (ValueError, TypeError, struct.error, orjson.JSONDecodeError) as error:
            raise Poison(f"the head is of another format: {type(error).__name__}") from None
        life = _life(known)
        kept = [self._row(key, ns, life, *each) for each in _needed(fields, row.refs)]
        rows = _covering(row.refs, kept)
        blobs = tuple(self._blob(key, ns, life, id, fields) for id in dict.fromkeys(row.blob_refs))
        thread = ThreadRow(
            key=key,
            tenant="",
            app="",
            thread_id="",
            user=owner,
            incarnation=known.incarnation,
            gc=known.gc,
        )
        return Head(
            thread=thread,
            head_version=row.version,
            last_version=last_version,
            marks=marks,
            checkpoint=row,
            rows=rows,
            blobs=blobs,
        )

    def confirmation(self, key: bytes, ns: bytes, fields: Mapping[bytes, bytes]) -> int | None:
        """When an entry was confirmed; None: never. Raises Poison."""
        value = fields.get(b"t")
        if value is None:
            return None
        match = _STAMPED.fullmatch(value)
        if match is None:
            raise Poison("the confirmation is none")
        text, mark = match[1], bytes.fromhex(match[2].decode())
        if not hmac.compare_digest(mark, self._mark(key, ns, fields.get(b"s", b""), b"t", text)):
            raise Poison("the confirmation is not ours")
        return int(text)

    def _row(
        self, key: bytes, ns: bytes, life: bytes, name: bytes, log: int, start: int, value: bytes
    ) -> Row:
        body = self._checked(key, ns, life, name, value)
        count, kind, key_id, first, last = _ROW.unpack_from(body)
        begin, middle = _ROW.size, _ROW.size + first
        end = middle + last
        return Row(
            log, start, count, body[end:], body[begin:middle], body[middle:end], kind, key_id
        )

    def _blob(
        self, key: bytes, ns: bytes, life: bytes, id: bytes, fields: Mapping[bytes, bytes]
    ) -> Blob:
        name = blob_name(id)
        body = self._checked(key, ns, life, name, fields.get(name, b""))
        return Blob(id, body[_BLOB.size :], *_BLOB.unpack_from(body))

    # Marks --------------------------------------------------------------------------------------------

    def _marked(self, key: bytes, ns: bytes, what: bytes, name: bytes, body: bytes) -> bytes:
        return self._mark(key, ns, what, name, body) + body

    def _checked(self, key: bytes, ns: bytes, what: bytes, name: bytes, value: bytes) -> bytes:
        mark, body = value[:_MARK], value[_MARK:]
        if not hmac.compare_digest(mark, self._mark(key, ns, what, name, body)):
            raise Poison("a field is missing, damaged or not ours")
        return body

    def _mark(self, key: bytes, ns: bytes, what: bytes, name: bytes, body: bytes) -> bytes:
        frame = b"".join(
            part
            for each in (FORMAT, key, ns, what, name)
            for part in (len(each).to_bytes(4, "big"), each)
        )
        digest = hashlib.blake2b(frame, digest_size=_MARK, key=self._key)
        digest.update(body)
        return digest.digest()


def known_of(head: Head) -> Known:
    """Which head this is. Raises ValueError when it has no state."""
    if head.thread is None or head.checkpoint is None:
        raise ValueError("there is no state in this head")
    row = head.checkpoint
    return Known(head.thread.incarnation, row.version, head.thread.gc, row.digest)


def is_whole(head: Head) -> bool:
    """Whether a head has every row and blob that it refers to."""
    if head.checkpoint is None:
        return False
    try:
        _covering(head.checkpoint.refs, head.rows)
    except Poison:
        return False
    return {blob.id for blob in head.blobs} >= set(head.checkpoint.blob_refs)


def covers(refs: Iterable[Range], others: Iterable[Range]) -> bool:
    """Whether each of the other ranges lies in one of these, so that no row that it needs goes out of use."""
    wide = list(refs)
    return all(
        any(log == each.log and each.start <= start and end <= each.end for each in wide)
        for log, start, end in others
    )


def blob_name(id: bytes) -> bytes:
    """The field of a large field."""
    return b"b:" + id.hex().encode()


def _row_name(log: int, start: int) -> bytes:
    return b"r:%d:%d" % (log, start)


def _life(known: Known) -> bytes:
    return known.incarnation + known.gc.to_bytes(8, "big")


def _read_head(body: bytes, known: Known) -> tuple[CheckpointRow, bytes, str | None, int]:
    lengths = _HEAD.unpack_from(body)
    ends = [_HEAD.size]
    for length in lengths:
        ends.append(ends[-1] + length)
    if ends[-1] != len(body):
        raise ValueError("lengths that do not add up")
    about, marks, payload = (body[a:b] for a, b in itertools.pairwise(ends))
    first, second, refs, blob_refs, (owner, last_version) = orjson.loads(about)
    version, parent_version, base, kind, ext_id, name = first
    run_id, key_id, size, created_at = second
    row = CheckpointRow(
        version=version,
        payload=payload,
        digest=known.digest,
        parent_version=parent_version,
        base=base,
        kind=kind,
        ext_id=ext_id,
        name=name,
        run_id=run_id,
        refs=tuple(Range(*each) for each in refs),
        blob_refs=tuple(bytes.fromhex(each) for each in blob_refs),
        key_id=key_id,
        bytes=size,
        created_at=created_at,
    )
    return row, marks, owner, last_version


def _needed(
    fields: Mapping[bytes, bytes], refs: Sequence[Range]
) -> Iterator[tuple[bytes, int, int, bytes]]:
    """The row fields that may hold items of these ranges: name, log, start and value."""
    ends: dict[int, int] = {}
    for log, _, end in refs:
        ends[log] = max(end, ends.get(log, 0))
    for name, value in fields.items():
        match = _ROW_NAME.fullmatch(name)
        if match and int(match[2]) < ends.get(int(match[1]), 0):
            yield name, int(match[1]), int(match[2]), value


def _covering(refs: Iterable[Range], rows: Iterable[Row]) -> tuple[Row, ...]:
    """Of the rows, in order, those that hold items of the ranges. Raises Poison unless they hold all of them, and
    each row goes on where the one before it ends."""
    logs: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.log, row.start)):
        logs.setdefault(row.log, []).append(row)
    needed: dict[tuple[int, int], Row] = {}
    for log, position, end in refs:
        there = logs.get(log, [])
        number = bisect_right(there, position, key=lambda row: row.start) - 1
        while position < end:
            if not 0 <= number < len(there) or not position < there[number].end:
                raise Poison("a row is missing")
            row = there[number]
            if row.start > position:
                raise Poison("a row is missing")
            needed[log, row.start] = row
            position, number = row.end, number + 1
    found = tuple(needed[each] for each in sorted(needed))
    for before, row in itertools.pairwise(found):
        if (before.log, before.end) == (row.log, row.start) and before.p_end != row.p_start:
            raise Poison("a row is not the one that follows")
    return found
