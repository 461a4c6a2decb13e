"""The pure half of `CheckpointManager`: which checkpoints stay, and the JSON text they are exported as.

Read `kept` first; then `Record`, what a checkpoint is outside a store; then `write_export` and `read_export`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

import orjson

from threadline import clock
from threadline.codec.digest import framed
from threadline.codec.values import decode, encode
from threadline.config import SHORT, text_id
from threadline.errors import CorruptionError
from threadline.model import Checkpoint

#: How many of the newest checkpoints compression keeps, whatever their names.
NEWEST: Final = 20
FORMAT, FORMAT_VERSION = "threadline.checkpoints", 1
_UID = re.compile(r"[0-9a-f]{32}")


def kept(names: Sequence[str], compress_after: int, most: int) -> list[int]:
    """The positions that stay, in order, of checkpoints with these names (oldest first).

    With more than `compress_after`: the first, the latest of each name, and the newest 20. If these are more than
    `most` (1 or more): the first and the newest of them; of one, the newest.
    """
    count = len(names)
    stay = list(range(count))
    if count > compress_after:
        latest = {name: position for position, name in enumerate(names)}
        stay = sorted({0, *latest.values(), *range(max(0, count - NEWEST), count)})
    if len(stay) > most:
        stay = [*stay[: min(1, most - 1)], *stay[len(stay) - max(1, most - 1) :]]
    return stay


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A checkpoint outside a store. `uid` (32 hexadecimal digits) is given once and goes with it through exports and
    imports. `at`: microseconds; `data`, `metadata`: JSON bytes with types. `origin`: the id it had in the session it
    was imported from. `version`: its number where it stands, 0 when it has none yet."""

    uid: str
    name: str
    at: int
    data: bytes
    metadata: bytes
    origin: str | None = None
    version: int = 0


class Export(NamedTuple):
    """What an export says: the life of the thread it was made from (hexadecimal), and its checkpoints in order."""

    incarnation: str
    records: list[Record]


def write_export(session_id: str, incarnation: str, records: Iterable[Record]) -> str:
    """Checkpoints as a JSON text; equal checkpoints give the same text."""
    checkpoints = [
        {
            "id": f"{session_id}:{record.version}",
            "thread_id": session_id,
            "version": record.version,
            "name": record.name,
            "timestamp": clock.from_us(record.at).isoformat(),
            "uid": record.uid,
            "metadata": orjson.Fragment(record.metadata),
            "data": orjson.Fragment(record.data),
        }
        for record in records
    ]
    head = {"format": FORMAT, "version": FORMAT_VERSION, "session_id": session_id}
    return orjson.dumps({**head, "incarnation": incarnation, "checkpoints": checkpoints}).decode()


def read_export(text: str | bytes) -> Export:
    """The content of an exported text, every entry of it checked.

    Raises TypeError unless it is text, ValueError for text that is no export of a format this version knows, and for
    a bad entry, naming its position (from 0) and id.
    """
    if not isinstance(text, str | bytes):
        raise TypeError(f"an export is JSON text, not a {type(text).__name__}")
    try:
        whole = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is no JSON text: {error}; nothing was imported") from None
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise ValueError("this is no export of a CheckpointManager; nothing was imported")
    if whole.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"this export has format version {whole.get('version')!r}, and this Threadline reads "
            f"{FORMAT_VERSION}; nothing was imported"
        )
    entries, incarnation = whole.get("checkpoints"), whole.get("incarnation", "")
    if not isinstance(entries, list) or not isinstance(incarnation, str):
        raise ValueError(
            "this export is damaged: it has no list of checkpoints; nothing was imported"
        )
    records: list[Record] = []
    places: dict[str, int] = {}
    for position, entry in enumerate(entries):
        where = f"checkpoints[{position}]"
        if isinstance(entry, dict) and "id" in entry:
            where += f" (id {entry['id']!r})"
        try:
            record = _read(entry)
            if record.uid in places:
                raise ValueError(f"it repeats checkpoints[{places[record.uid]}]")
        except (CorruptionError, ValueError, TypeError, RecursionError, OverflowError) as error:
            raise ValueError(f"{where} cannot be imported: {error}; nothing was imported") from None
        places[record.uid] = position
        records.append(record)
    return Export(incarnation, records)


def _read(entry: Any) -> Record:
    if not isinstance(entry, dict):
        raise TypeError(f"it must be an object, not {type(entry).__name__}")
    if missing := [key for key in ("name", "data") if key not in entry]:
        raise ValueError(f"it needs {', '.join(missing)}")
    fields = dict(entry)
    data = encode(_typed(fields.pop("data")))
    uid = fields.pop("uid", None)
    fields["metadata"] = _typed(fields.get("metadata", {}))
    checkpoint = Checkpoint.from_dict(fields)
    name = text_id(checkpoint.name, "its name", SHORT)
    at, metadata = clock.to_us(checkpoint.timestamp), encode(checkpoint.metadata)
    if uid is None:  # Not written by `write_export`: what it says is all that tells it from others.
        content = framed(checkpoint.id, name, str(at), data, metadata)
        uid = hashlib.blake2b(content, digest_size=16, person=b"imported").hexdigest()
    if not isinstance(uid, str) or not _UID.fullmatch(uid):
        raise ValueError(f"its uid must be 32 hexadecimal digits, not {uid!r}")
    return Record(
        uid=uid,
        name=name,
        at=at,
        data=data,
        metadata=metadata,
        origin=text_id(checkpoint.id, "its id", 2 * SHORT + 1024),
        version=checkpoint.version,
    )


def _typed(value: Any) -> Any:
    return decode(orjson.dumps(value))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value")
