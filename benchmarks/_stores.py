"""The stores that are compared, each behind the same few calls, used as its own documentation shows it.

`grow` remembers a question and an answer at the end of a thread, durably; `load` is the whole conversation again, by
how many messages it is. Stores that keep states are given the whole state each time, as a framework would give it;
stores that keep a log are given what is new. What cannot be imported is named, with the reason.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import asyncpg

Said = tuple[str, str]
SYSTEM_TABLES = ("pg_catalog", "information_schema")


class Store:
    """A contender. `place`: a folder for SQLite, a DSN for PostgreSQL. `keeps`: what of the past it can give back."""

    name: ClassVar[str]
    on: ClassVar[str]
    keeps: ClassVar[str] = "every version"
    packages: ClassVar[tuple[str, ...]] = ("threadline",)

    def __init__(self, place: str, cache_url: str) -> None:
        self.place, self.cache_url = place, cache_url

    @property
    def file(self) -> str:
        """The file of a store on SQLite."""
        return str(Path(self.place) / "store.db")

    async def open(self) -> None:
        """Be ready."""
        raise NotImplementedError

    async def grow(self, thread: str, said: Sequence[Said]) -> None:
        """Two messages more."""
        raise NotImplementedError

    async def load(self, thread: str) -> int:
        """How many messages the thread holds, each of them decoded."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let go."""

    async def bytes(self) -> int:
        """What it occupies: the file, or every table with its indexes after an ordinary VACUUM."""
        if self.on == "SQLite":
            connection = sqlite3.connect(self.file, timeout=30)
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            connection.close()
            return Path(self.file).stat().st_size
        connection = await asyncpg.connect(self.place)
        try:
            await connection.execute("VACUUM")
            return int(
                await connection.fetchval(
                    "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c "
                    "JOIN pg_namespace n ON n.oid = c.relnamespace "
                    "WHERE c.relkind = 'r' AND n.nspname <> ALL($1::text[])",
                    list(SYSTEM_TABLES),
                )
            )
        finally:
            await connection.close()


# Threadline ---------------------------------------------------------------------------------------------------------


class Threadline(Store):
    """Whole states."""

    name, on = "Threadline", "SQLite"

    async def open(self) -> None:
        from threadline import AgentState, Message, PgCheckpointer, SqliteCheckpointer

        self.state, self.message = AgentState, Message.text_message
        self.states: dict[str, Any] = {}
        if self.on == "SQLite":
            self.checkpointer: Any = SqliteCheckpointer(self.file)
        else:
            self.checkpointer = PgCheckpointer(self.place)
        await self.checkpointer.asetup()

    async def grow(self, thread: str, said: Sequence[Said]) -> None:
        state = self.states.get(thread)
        if state is None:
            state = self.states[thread] = self.state()
        state.context += [self.message(text, role=role) for role, text in said]
        state.execution_meta.step += 1
        await self.checkpointer.aput_state({"thread_id": thread}, state)

    async def load(self, thread: str) -> int:
        return len((await self.checkpointer.aget_state({"thread_id": thread})).context)

    async def close(self) -> None:
        await self.checkpointer.arelease()


class ThreadlineAppend(Threadline):
    """What is new only."""

    name = "Threadline, append"

    async def grow(self, thread: str, said: Sequence[Said]) -> None:
        new = [self.message(text, role=role) for role, text in said]
        await self.checkpointer.aappend({"thread_id": thread}, new)


class ThreadlinePg(Threadline):
    """Whole states."""

    on = "PostgreSQL"


class ThreadlineAppendPg(ThreadlineAppend):
    """What is new only."""

    on = "PostgreSQL"


# LangGraph's savers --------------------------------------------------------------------------------------------------


class LangGraph(Store):
    """A checkpoint a turn, with the list of messages as a channel."""

    name, on = "langgraph-checkpoint-sqlite", "SQLite"
    packages = ("langgraph-checkpoint-sqlite", "langgraph-checkpoint")

    async def open(self) -> None:
        import aiosqlite
        from langchain_core.messages import AIMessage, HumanMessage
        from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        self.kinds: Any = {"user": HumanMessage, "assistant": AIMessage}
        self.serde = JsonPlusSerializer(allowed_msgpack_modules=None)
        self.threads: dict[str, tuple[list[Any], str | None]] = {}
        self.connection: Any = await aiosqlite.connect(self.file)
        self.saver: Any = AsyncSqliteSaver(self.connection, serde=self.serde)
        await self.saver.setup()

    async def grow(self, thread: str, said: Sequence[Said]) -> None:
        messages, parent = self.threads.get(thread, ([], None))
        messages = messages + [
            self.kinds.get(role, self.kinds["user"])(text, id=str(uuid.uuid4()))
            for role, text in said
        ]
        number = len(messages)
        checkpoint = {
            "v": 4,
            "id": f"1f000000-0000-6000-8000-{number:012x}",
            "ts": "2026-01-01T00:00:00+00:00",
            "channel_values": {"messages": messages},
            "channel_versions": {"messages": f"{number:032}"},
            "versions_seen": {},
            "updated_channels": ["messages"],
        }
        where = {"thread_id": thread, "checkpoint_ns": ""}
        if parent is not None:
            where["checkpoint_id"] = parent
        about = {"source": "loop", "step": number, "parents": {}}
        versions = checkpoint["channel_versions"]
        await self.saver.aput({"configurable": where}, checkpoint, about, versions)
        self.threads[thread] = messages, str(checkpoint["id"])

    async def load(self, thread: str) -> int:
        where = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
        found = await self.saver.aget_tuple(where)
        return len(found.checkpoint["channel_values"]["messages"])

    async def close(self) -> None:
        await self.connection.close()


class LangGraphPg(LangGraph):
    """The same on PostgreSQL, with a pool."""

    name, on = "langgraph-checkpoint-postgres", "PostgreSQL"
    packages = ("langgraph-checkpoint-postgres", "langgraph-checkpoint")

    async def open(self) -> None:
        from langchain_core.messages import AIMessage, HumanMessage
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool

        self.kinds = {"user": HumanMessage, "assistant": AIMessage}
        self.threads = {}
        settings: Any = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        self.connection = AsyncConnectionPool(
            self.place, min_size=16, max_size=16, kwargs=settings, open=False
        )
        await self.connection.open()
        serde = JsonPlusSerializer(allowed_msgpack_modules=None)
        self.saver = AsyncPostgresSaver(self.connection, serde=serde)
        await self.saver.setup()


# Sessions of other frameworks ----------------------------------------------------------------------------------------


class OpenAIAgents(Store):
    """A log of items in SQLAlchemy."""

    name, on, keeps = "openai-agents SQLAlchemySession", "SQLite", "the log"
    packages = ("openai-agents", "SQLAlchemy")

    async def open(self) -> None:
        from agents.extensions.memory import SQLAlchemySession
        from sqlalchemy.ext.asyncio import create_async_engine

        self.kind: Any = SQLAlchemySession
        self.engine = create_async_engine(_sqlalchemy(self))
        self.sessions: dict[str, Any] = {}
        await self.session("first").get_items()

    def session(self, thread: str) -> Any:
        """The session of a thread."""
        if thread not in self.sessions:
            self.sessions[thread] = self.kind(thread, engine=self.engine, create_tables=True)
        return self.sessions[thread]

    async def grow(self, thread: str, said: Sequence[Said]) -> None:
        items = [{"role": role, "content": text} for role, text in said]
        await self.session(thread).add_items(items)

    async def load(self, thread: str) -> int:
        return len(await self.session(thread).get_items())

    async def close(self) -> None:
        await self.engine.dispose()


class OpenAIAgentsPg(OpenAIAgents):
    """The same on PostgreSQL."""

    on = "PostgreSQL"


class GoogleAdk(Store):
    """A log of events, one commit each: it has no call for two."""

    name, on, keeps = "google-adk DatabaseSessionService", "SQLite", "the log"
    packages = ("google-adk", "SQLAlchemy")

    async def open(self) -> None:
        from google.adk.events import Event
        from google.adk.sessions import DatabaseSessionService
        from google.genai import types

        self.event, self.types = Event, types
        self.service: Any = DatabaseSessionService(_sqlalchemy(self))
        self.sessions: dict[str, Any] = {}
        await self.service.list_sessions(app_name="bench", user_id="alice")

    async def grow(self, thread: str, said: Sequence[Said]) -> None:
        session = self.sessions.get(thread)
        if session is None:
            session = self.sessions[thread] = await self.service.create_session(
                app_name="bench", user_id="alice", session_id=thread
            )
        for role, text in said:
            content = self.types.Content(
                role="user" if role == "user" else "model", parts=[self.types.Part(text=text)]
            )
            event = self.event(author=role, content=content, invocation_id="turn")
            await self.service.append_event(session, event)

    async def load(self, thread: str) -> int:
        session = await self.service.get_session(
            app_name="bench", user_id="alice", session_id=thread
        )
        return len(session.events)

    async def close(self) -> None:
        await self.service.close()


class GoogleAdkPg(GoogleAdk):
    """The same on PostgreSQL."""

    on = "PostgreSQL"


class TenXGraph(Store):
    """Whole states, a row each; without its cache, which another call fills."""

    name, on = "10xgraph PgCheckpointer", "PostgreSQL"
    packages = ("10xgraph",)

    async def open(self) -> None:
        if sys.version_info < (3, 12):
            raise ImportError("10xgraph, and pyagenity before it, need Python 3.12")
        from tenxgraph.core.state import AgentState, Message
        from tenxgraph.storage.checkpointer import PgCheckpointer

        logging.getLogger("tenxgraph").setLevel(logging.ERROR)
        self.state, self.message = AgentState, Message.text_message
        self.states: dict[str, Any] = {}
        self.checkpointer: Any = PgCheckpointer(
            postgres_dsn=self.place, redis_url=self.cache_url, release_resources=True
        )
        await self.checkpointer.asetup()

    async def grow(self, thread: str, said: Sequence[Said]) -> None:
        state = self.states.setdefault(thread, self.state())
        state.context = [*state.context, *(self.message(text, role=role) for role, text in said)]
        await self.checkpointer.aput_state({"thread_id": thread, "user_id": "alice"}, state)

    async def load(self, thread: str) -> int:
        config = {"thread_id": thread, "user_id": "alice"}
        return len((await self.checkpointer.aget_state(config)).context)

    async def close(self) -> None:
        await self.checkpointer.arelease()


# What the driver can do ----------------------------------------------------------------------------------------------


class BareSqlite(Store):
    """A row a message, one commit for two, nothing else: the limit."""

    name, on, keeps, packages = "bare sqlite3", "SQLite", "the log", ()

    async def open(self) -> None:
        self.connection = sqlite3.connect(self.file, isolation_level=None, timeout=30)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS said (thread TEXT, number INTEGER, body TEXT, "
            "PRIMARY KEY (thread, number)) WITHOUT ROWID"
        )
        self.counts: dict[str, int] = {}

    async def grow(self, thread: str, said: Sequence[Said]) -> None:
        at = self.counts.get(thread, 0)
        rows = [(thread, at + more, json.dumps(each)) for more, each in enumerate(said)]
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany("INSERT INTO said VALUES (?, ?, ?)", rows)
        self.connection.execute("COMMIT")
        self.counts[thread] = at + len(said)

    async def load(self, thread: str) -> int:
        rows = self.connection.execute(
            "SELECT body FROM said WHERE thread = ? ORDER BY number", (thread,)
        )
        return len([json.loads(body) for (body,) in rows])

    async def close(self) -> None:
        self.connection.close()


class BarePostgres(Store):
    """A row a message, one statement for two, nothing else: the limit."""

    name, on, keeps, packages = "bare asyncpg", "PostgreSQL", "the log", ("asyncpg",)

    async def open(self) -> None:
        self.pool = await asyncpg.create_pool(self.place, min_size=1, max_size=16, reset=_nothing)
        await self.pool.execute(
            "CREATE TABLE IF NOT EXISTS said (thread text, number integer, body text, "
            "PRIMARY KEY (thread, number))"
        )
        self.counts: dict[str, int] = {}

    async def grow(self, thread: str, said: Sequence[Said]) -> None:
        at = self.counts.get(thread, 0)
        numbers = list(range(at, at + len(said)))
        await self.pool.execute(
            "INSERT INTO said SELECT $1, n, b FROM unnest($2::integer[], $3::text[]) AS x (n, b)",
            thread,
            numbers,
            [json.dumps(each) for each in said],
        )
        self.counts[thread] = at + len(said)

    async def load(self, thread: str) -> int:
        rows = await self.pool.fetch(
            "SELECT body FROM said WHERE thread = $1 ORDER BY number", thread
        )
        return len([json.loads(row["body"]) for row in rows])

    async def close(self) -> None:
        await self.pool.close()


async def _nothing(_: Any) -> None:
    """No reset query."""


def _sqlalchemy(store: Store) -> str:
    if store.on == "SQLite":
        return f"sqlite+aiosqlite:///{store.file}"
    return "postgresql+asyncpg://" + store.place.partition("://")[2]


STORES: tuple[type[Store], ...] = (
    Threadline,
    ThreadlineAppend,
    LangGraph,
    OpenAIAgents,
    GoogleAdk,
    BareSqlite,
    ThreadlinePg,
    ThreadlineAppendPg,
    LangGraphPg,
    OpenAIAgentsPg,
    GoogleAdkPg,
    TenXGraph,
    BarePostgres,
)


def label(store: type[Store] | Store) -> str:
    """Its name with what it stands on."""
    return f"{store.name} ({store.on})"
