"""Committing: one batch is one statement, in one round trip; what needs more steps is a transaction.

`Commits.commit` is the way in. A statement that changed nothing was refused, or lost a race: a second look tells which.
What is refused, and why, is `judge`'s to say; the statement only sees to it that nothing is written onto anything
else than what was judged. `pg_steps` has the transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import asyncpg

from threadline import clock
from threadline.backend import (
    Batch,
    Commit,
    HeadFacts,
    Reason,
    Refused,
    judge,
    judge_again,
)
from threadline.backends import pg_rows as rows
from threadline.backends import pg_values
from threadline.backends.pg_link import Connection
from threadline.backends.pg_sql import Parts, Sql, Statement
from threadline.errors import UnavailableError

#: How often a statement is made again after it lost a race.
ATTEMPTS = 20
#: How long a commit can be repeated with its op_id, in microseconds; one commit in so many looks for older ones, and at
#: how many rows of the journal it looks.
JOURNAL_US = 24 * 3600 * 1_000_000
TRIM_EVERY, TRIM_MOST = 64, 512

#: A batch of more bytes is large.
LARGE = 32 * 1024

Row = Mapping[str, Any]


def is_plain(batch: Batch) -> bool:
    """Whether one statement can commit the batch as it is."""
    steps = (
        batch.erase,
        batch.copy,
        batch.drop,
        batch.renames,
        batch.remove_entries,
        batch.clear_entries,
        batch.pop_entries,
        batch.tail,
        batch.rewrite_entries,
        batch.forget,
    )
    return not any(steps) and rows.plain_slots(batch)


def is_folded(batch: Batch) -> bool:
    """Whether the checkpoint's row tells what a commit did, so that the journal need not: its op_id names the version,
    and there is nothing to tell but that it was written, when, and where its entries begin."""
    row, named = batch.checkpoint, clock.named_by(batch.op_id)
    if row is None or named is None or named[0] != row.version or row.created_at:
        return False
    return is_plain(batch)


def is_asked_first(batch: Batch) -> bool:
    """Whether a batch must be looked up before it is written: its op_id names a version and was sent before, so that it
    may be remembered where no unique index stands in its way. Enough, since whoever writes that version itself compares
    the same counter as the first did, and who writes a later one has read a counter that the first cannot meet any
    more."""
    row, named = batch.checkpoint, clock.named_by(batch.op_id)
    return named is not None and not (batch.fresh and row is not None and row.version == named[0])


def is_large(batch: Batch) -> bool:
    """Whether a batch is large: a question before it costs less than sending it in vain."""
    size = len(batch.marks) + (len(batch.checkpoint.payload) if batch.checkpoint else 0)
    size += sum(len(row.payload) for row in (*batch.rows, *batch.merged))
    size += sum(len(blob.payload) for blob in batch.blobs)
    size += sum(len(put.slot.payload) for put in batch.slots)
    return size + sum(len(put.entry.payload) for put in batch.entries) > LARGE


class Commits:
    """The commits of one store. `projected`: a projection makes derived words again, so that they are not stored.
    `relaxed`: a commit need not be on the disk when it returns. `now`: the time by the store's clock in microseconds,
    None for the server's."""

    def __init__(
        self, sql: Sql, *, projected: bool, relaxed: bool, now: Callable[[], int | None]
    ) -> None:
        self.sql, self.projected, self.relaxed, self.now = sql, projected, relaxed, now

    async def commit(self, connection: Connection, batch: Batch) -> Commit:
        """Commit a plain batch. Raises Refused."""
        if is_asked_first(batch) and (done := await self.done(connection, batch)) is not None:
            return done
        create = begins(batch)
        if batch.create and not create and is_large(batch):
            create = await self.facts(connection, batch) is None
        for _ in range(ATTEMPTS):
            row: Row | None = None
            try:
                row = await self.put(connection, batch, create=create)
            except asyncpg.UniqueViolationError as error:
                if (done := await self.done(connection, batch)) is not None:
                    return done
                if "_checkpoints" in (error.table_name or ""):
                    raise Refused(Reason.CONFLICT, batch.last_version) from None
            if row is not None:
                commit = self.told(batch, row)
                await self.trim(connection, batch, commit)
                return commit
            if (done := await self.done(connection, batch)) is not None:
                return done
            create = await self._look(connection, batch)
        raise UnavailableError("PostgreSQL was too busy to commit; nothing was written")

    async def put(
        self,
        connection: Connection,
        batch: Batch,
        *,
        create: bool = False,
        judged: bool = False,
        **steps: Any,
    ) -> Row | None:
        """The one statement; None when it changed nothing. `judged`: the row is locked and was judged. `steps`: what
        steps before it did."""
        statement = self.sql.put(self.parts(batch, judged=judged), create=create)
        row: Row | None = await connection.fetchrow(
            statement.text, *self.arguments(statement, batch, judged=judged, **steps)
        )
        return row

    def parts(self, batch: Batch, *, judged: bool = False) -> Parts:
        """What the statement of a batch has to hold; see `Sql.put`."""
        said, expected = batch.thread, batch.expected
        slots, gone = rows.parted_slots(batch) if rows.plain_slots(batch) else ([], [])
        info = said is not None and said.info is not None
        return Parts.of(
            {
                "relaxed": self.relaxed,
                "head": expected is not None and bool(expected.version or batch.last_version),
                "fence": bool(batch.requires_slots) and not judged,
                "said": said is not None,
                "checkpoint": batch.checkpoint is not None,
                "rows": len(batch.rows) + len(batch.merged),
                "merged": len(batch.merged),
                "blobs": len(batch.blobs),
                "entries": len(rows.folded(batch.entries)[0]),
                "slots": len(slots),
                "absent": sum(put.mode == "if_absent" for put in slots),
                "folded": is_folded(batch),
                "forgotten": batch.idempotent,
                "gone_slots": len(gone),
                "info": info,
                "thread_terms": len(said.terms) if said is not None and info else 0,
            }
        )

    def arguments(
        self, statement: Statement, batch: Batch, *, judged: bool = False, **steps: Any
    ) -> list[Any]:
        """What the statement of a batch is given; see `put`."""
        kept, _ = rows.folded(batch.entries)
        parameters = rows.thread_parameters(batch, self.sql.user_ids, self.now())
        parameters |= {"taken": 0, "messages": 0, "entry_count": len(kept)}
        parameters |= {"removed": None, "popped": None, "slots_done": None}
        parameters |= rows.checkpoint_parameters(batch)
        if batch.rows or batch.merged:
            parameters |= rows.row_parameters(batch)
        if batch.blobs:
            parameters |= rows.blob_parameters(batch)
        if kept:
            parameters |= rows.entry_parameters(kept, self.projected)
        if batch.slots:
            parameters |= rows.slot_parameters(batch)
        if batch.requires_slots:
            parameters |= rows.fence_parameters(batch)
        parameters |= steps
        if judged:
            parameters |= dict.fromkeys(("requires", "known", "assumes_gc", "assumes_rev"))
        return statement.arguments(parameters)

    def told(self, batch: Batch, row: Row) -> Commit:
        """The result of a put, from its row."""
        kept, where = rows.folded(batch.entries)
        return Commit(
            row["rev"],
            row["at"],
            row["incarnation"],
            batch.about,
            rows.seqs_of(row, len(kept), where),
            slots=rows.slots_of(row, batch),
        )

    async def done(self, connection: Connection, batch: Batch) -> Commit | None:
        """The result of this batch if it was committed before. Raises Refused for another user's."""
        place = pg_values.place(batch.key, batch.ns)
        named, op = clock.named_by(batch.op_id) or (None, None)
        place |= {"op_id": batch.op_id.hex(), "named": named, "op": op}
        row = await self.one(connection, "find_operation", **place)
        if row is None:
            return None
        facts = await self.facts(connection, batch)
        if facts is not None:
            judge_again(batch, rows.facts_of(facts)[0])
        return rows.told_again(batch, row)

    async def facts(self, connection: Connection, batch: Batch) -> Row | None:
        """What is there: the thread's row and the head's."""
        return await self.one(connection, "commit_facts", **pg_values.place(batch.key, batch.ns))

    async def judge(self, connection: Connection, batch: Batch, facts: Row | None) -> None:
        """Raise Refused unless the batch may be committed onto what is there."""
        fenced = False
        for each in batch.requires_slots:
            slot = {"kind": each.kind, "slot": each.key.encode(), "now": self.now()}
            there = await self.one(
                connection, "find_slot", **pg_values.place(batch.key, batch.ns), **slot
            )
            fenced = fenced or there is None or there["payload"] != each.payload
        if facts is None:
            judge(batch, None, HeadFacts(), fenced)
        else:
            judge(batch, *rows.facts_of(facts), fenced)

    async def trim(self, connection: Connection, batch: Batch, commit: Commit) -> None:
        """Now and then, forget results that nobody asks for again."""
        first = trimmed_from(batch)
        if first is None:
            return
        before = commit.at - JOURNAL_US
        found = await self.do(connection, "find_old", first=first, before=before, limit=TRIM_MOST)
        if found:
            threads, op_ids = zip(*found, strict=True)
            await self.do(connection, "trim_journal", threads=threads, op_ids=op_ids)

    async def one(self, connection: Connection, name: str, /, **parameters: Any) -> Row | None:
        """The first row of a query."""
        statement = self.sql[name]
        row: Row | None = await connection.fetchrow(
            statement.text, *statement.arguments(parameters)
        )
        return row

    async def do(self, connection: Connection, name: str, /, **parameters: Any) -> list[Row]:
        """All rows of a statement."""
        statement = self.sql[name]
        found: list[Row] = await connection.fetch(statement.text, *statement.arguments(parameters))
        return found

    async def _look(self, connection: Connection, batch: Batch) -> bool:
        """Why a statement changed nothing: Refused, or whether the next one has to create the thread."""
        facts = await self.facts(connection, batch)
        await self.judge(connection, batch, facts)
        if facts is not None and not facts["live"]:
            raise NeedsSteps()
        return facts is None


class NeedsSteps(Exception):
    """The thread was deleted, and comes into being again: the commit needs the transaction."""


class Raced(Refused):
    """Another commit created the thread meanwhile: look again."""

    def __init__(self) -> None:
        super().__init__(Reason.STALE)


def trimmed_from(batch: Batch) -> int | None:
    """The thread that this commit begins to trim the journal at, if it does: its own or, as often, any, so that threads
    to which nothing is committed again are reached too. Drawn from its op_id."""
    draw = int.from_bytes(hashlib.blake2b(batch.op_id, digest_size=8).digest(), "big")
    if draw % TRIM_EVERY:
        return None
    return pg_values.number_of(batch.key) if draw // TRIM_EVERY % 2 else draw - 2**63


def begins(batch: Batch) -> bool:
    """Whether the pipeline saw no such thread."""
    expected = batch.expected
    unseen = expected is not None and expected.incarnation is None and expected.version == 0
    return batch.create and unseen and not batch.requires_slots
