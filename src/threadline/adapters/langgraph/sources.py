"""The official savers' tables, read only: every checkpoint of a store, thread by thread, oldest first, undecoded.

Values stay the bytes that they are. What has to be looked into (where a checkpoint's channels begin) is read as plain
msgpack in which extensions stay closed, so that nothing is imported, called or unpickled.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import ormsgpack
from langgraph.checkpoint.serde.types import TASKS

from threadline import CorruptionError
from threadline.adapters.langgraph.document import Typed


class Closed(NamedTuple):
    """A msgpack extension that nobody opens."""

    code: int
    data: bytes


class Sealed:
    """The codec of an import: plain values, and extensions as they are. A form that is no msgpack (a pickle, the JSON
    of old versions) is refused."""

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The plain value. Raises CorruptionError."""
        form, content = data
        if form == "null":
            return None
        if form in ("bytes", "bytearray"):
            return content
        if form != "msgpack":
            raise CorruptionError(f"a value is stored in the form {form!r}, which is not read")
        try:
            return ormsgpack.unpackb(content, ext_hook=Closed, option=ormsgpack.OPT_NON_STR_KEYS)
        except ormsgpack.MsgpackDecodeError as error:
            raise CorruptionError(f"a value is no msgpack: {error}") from None

    def dumps_typed(self, value: Any) -> tuple[str, bytes]:
        """The bytes of a plain value, or of one that was read here."""
        if value is None:
            return "null", b""
        if isinstance(value, bytes):
            return "bytes", value
        return "msgpack", ormsgpack.packb(value, default=_open, option=ormsgpack.OPT_NON_STR_KEYS)


def opened(value: Any) -> Any:
    """A value with every closed extension as the plain parts that are stored of it: a message is its fields."""
    if isinstance(value, Closed):
        told = ormsgpack.unpackb(value.data, ext_hook=Closed, option=ormsgpack.OPT_NON_STR_KEYS)
        return opened(
            told[2] if isinstance(told, list) and len(told) > 2 and value.code < 6 else told
        )
    if isinstance(value, dict):
        return {opened(key): opened(each) for key, each in value.items()}
    if isinstance(value, list):
        return [opened(each) for each in value]
    return value.hex() if isinstance(value, bytes) else value


def _open(value: Any) -> ormsgpack.Ext:
    if isinstance(value, Closed):
        return ormsgpack.Ext(value.code, value.data)
    raise TypeError(f"{type(value).__name__} is no plain value")


@dataclass(frozen=True, slots=True)
class Found:
    """One checkpoint of a source, and its writes: (task_id, task_path, idx, channel, value)."""

    thread_id: str
    namespace: str
    id: str
    parent: str | None
    checkpoint: Mapping[str, Any]
    metadata: Mapping[str, Any]
    writes: list[tuple[str, str, int, str, Any]] = field(default_factory=list)


class Source(Protocol):
    """A store to import from."""

    async def count(self) -> int:
        """How many checkpoints there are."""

    def threads(self) -> AsyncIterator[str]:
        """Every thread's id."""

    def checkpoints(self, thread_id: str) -> AsyncIterator[Found]:
        """A thread's checkpoints, by namespace and id. Raises CorruptionError for what cannot be read."""


SEALED = Sealed()
_SQLITE_WRITES = (
    "SELECT task_id, task_path, idx, channel, type, value FROM writes WHERE thread_id = ? "
    "AND checkpoint_ns = ? AND checkpoint_id = ? ORDER BY task_path, task_id, idx"
)


@asynccontextmanager
async def sqlite_file(path: str) -> AsyncIterator[Source]:
    """The file of a `SqliteSaver`, opened read-only. Raises FileNotFoundError, ValueError."""
    connection = _open_file(path)
    try:
        yield _Sqlite(connection)
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{path} holds no checkpoints of LangGraph: {error}") from None
    finally:
        connection.close()


def _open_file(path: str) -> sqlite3.Connection:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    where = f"file:{quote(path)}?mode=ro"
    return sqlite3.connect(where, uri=True, check_same_thread=False)


class _Sqlite:
    def __init__(self, connection: Any) -> None:
        self._all = connection.execute
        columns = {row[1] for row in self._all("PRAGMA table_info(writes)")}
        self._writes = _SQLITE_WRITES
        if "task_path" not in columns:  # Files of versions before it.
            self._writes = _SQLITE_WRITES.replace("task_path, idx", "'', idx").replace(
                "BY task_path, ", "BY "
            )

    async def count(self) -> int:
        return int(self._all("SELECT count(*) FROM checkpoints").fetchone()[0])

    async def threads(self) -> AsyncIterator[str]:
        for (thread_id,) in self._all(
            "SELECT DISTINCT thread_id FROM checkpoints ORDER BY 1"
        ).fetchall():
            yield thread_id

    async def checkpoints(self, thread_id: str) -> AsyncIterator[Found]:
        rows = self._all(
            "SELECT checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata FROM checkpoints "
            "WHERE thread_id = ? ORDER BY checkpoint_ns, checkpoint_id",
            (thread_id,),
        )
        for namespace, id, parent, form, checkpoint, metadata in rows:
            writes = self._all(self._writes, (thread_id, namespace, id)).fetchall()
            yield Found(
                thread_id,
                namespace,
                id,
                parent or None,
                SEALED.loads_typed((form, checkpoint)),
                json.loads(metadata) if metadata else {},
                [
                    (task, way, idx, c, _value(form, value))
                    for task, way, idx, c, form, value in writes
                ],
            )


@asynccontextmanager
async def postgres_database(dsn: str) -> AsyncIterator[Source]:
    """The database of a `PostgresSaver`, in one read-only transaction. Raises ConnectionError, ValueError."""
    import asyncpg

    try:
        connection = await asyncpg.connect(dsn)
    except (OSError, asyncpg.PostgresError) as error:
        raise ConnectionError(f"the database cannot be reached: {error}") from error
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield _Postgres(connection)
    except asyncpg.UndefinedTableError as error:
        raise ValueError(f"the database holds no checkpoints of LangGraph: {error}") from None
    finally:
        await connection.close()


class _Postgres:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def count(self) -> int:
        return int(await self._connection.fetchval("SELECT count(*) FROM checkpoints"))

    async def threads(self) -> AsyncIterator[str]:
        rows = await self._connection.fetch("SELECT DISTINCT thread_id FROM checkpoints ORDER BY 1")
        for row in rows:
            yield row["thread_id"]

    async def checkpoints(self, thread_id: str) -> AsyncIterator[Found]:
        blobs = {
            (row["checkpoint_ns"], row["channel"], row["version"]): (row["type"], row["blob"])
            for row in await self._connection.fetch(
                "SELECT checkpoint_ns, channel, version, type, blob FROM checkpoint_blobs WHERE thread_id = $1",
                thread_id,
            )
        }
        writes: dict[tuple[str, str], list[Any]] = {}
        for row in await self._connection.fetch(
            "SELECT checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob FROM checkpoint_writes "
            "WHERE thread_id = $1 ORDER BY task_path, task_id, idx",
            thread_id,
        ):
            namespace, id, *write, form, value = row.values()
            writes.setdefault((namespace, id), []).append((*write, _value(form, value)))
        cursor = self._connection.cursor(
            "SELECT checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata FROM checkpoints "
            'WHERE thread_id = $1 ORDER BY checkpoint_ns, checkpoint_id COLLATE "C"',
            thread_id,
        )
        async for namespace, id, parent, checkpoint, metadata in cursor:
            whole = json.loads(checkpoint)
            values = dict(whole.get("channel_values") or {})
            for channel, version in whole.get("channel_versions", {}).items():
                form, data = blobs.get((namespace, channel, str(version)), ("empty", None))
                if form != "empty":
                    values[channel] = _value(form, data)
            if parent and whole.get("v", 1) < 4:
                _move_sends(whole, values, writes.get((namespace, parent), []))
            yield Found(
                thread_id,
                namespace,
                id,
                parent or None,
                {**whole, "channel_values": values},
                json.loads(metadata),
                [tuple(each) for each in writes.get((namespace, id), [])],
            )


def _move_sends(whole: dict[str, Any], values: dict[str, Any], writes: list[Any]) -> None:
    """Before version 4 what a step sent to tasks was left in the writes on its parent; now it is a channel. As
    `PostgresSaver` reads it."""
    if sends := [value for *_, channel, value in writes if channel == TASKS]:
        versions = whole.setdefault("channel_versions", {})
        values[TASKS] = sends
        versions[TASKS] = max(versions.values(), default=f"{1:032}.{0:016}")


def _value(form: str | None, data: bytes | None) -> Any:
    return SEALED.loads_typed(Typed(form or "null", data or b""))


SOURCES: Mapping[str, Any] = {
    "langgraph-sqlite": sqlite_file,
    "langgraph-postgres": postgres_database,
}


def open_source(kind: str, where: str) -> AbstractAsyncContextManager[Source]:
    """A source by the name of its kind. Raises ValueError."""
    if kind not in SOURCES:
        raise ValueError(f"nothing is imported from {kind!r}; known are {', '.join(SOURCES)}")
    opened: AbstractAsyncContextManager[Source] = SOURCES[kind](where)
    return opened
