"""The transaction: commits of several threads, and batches that take away, copy, name or erase.

Every thread is locked first, in the order of their keys, and those that are not there yet come into being in that
order too, so that two such transactions never wait for each other. So batch by batch: was it committed before, is it
refused, its steps, and last the one statement of every put.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg

from threadline.backend import (
    Batch,
    Commit,
    CopyFrom,
    Entry,
    HeadFacts,
    Reason,
    Refused,
    SlotPut,
    judge_copy,
)
from threadline.backends import pg_rows as rows
from threadline.backends import pg_values
from threadline.backends.journal import without_popped, write_popped
from threadline.backends.pg_commit import (
    ATTEMPTS,
    JOURNAL_US,
    Commits,
    Raced,
    Row,
)
from threadline.backends.pg_link import Connection
from threadline.errors import UnavailableError


async def commit_all(
    commits: Commits, connection: Connection, batches: Sequence[Batch]
) -> list[Commit]:
    """Commit batches of distinct threads in one transaction. Raises Refused."""
    ordered = sorted(batches, key=lambda batch: batch.key)
    for _ in range(ATTEMPTS):
        done: dict[bytes, Commit] = {}
        try:
            async with _transaction(connection):
                locked = await _lock(commits, connection, batches)
                for batch in ordered:
                    done[batch.key] = await _Steps(commits, connection, batch, locked).commit()
                    locked.add(batch.key)
        except Raced:
            continue
        for batch in ordered:
            await commits.trim(connection, batch, done[batch.key])
        return [done[batch.key] for batch in batches]
    raise UnavailableError("PostgreSQL was too busy to commit; nothing was written")


@contextlib.asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[None]:
    # Not the driver's: when time is up in its block, it waits for the answer to a ROLLBACK.
    await connection.execute("BEGIN")
    try:
        yield
    except Refused:
        await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")


async def _lock(commits: Commits, connection: Connection, batches: Sequence[Batch]) -> set[bytes]:
    """Lock the rows of all threads that are there; the keys of these."""
    wanted = {batch.key: "lock_thread" for batch in batches}
    for batch in batches:
        if batch.copy is not None:
            wanted.setdefault(batch.copy.key, "hold_source")
    return {
        key
        for key, how in sorted(wanted.items())
        if await commits.do(connection, how, thread=pg_values.number_of(key))
    }


class _Steps:
    """One batch inside the transaction. `locked`: the threads whose rows are locked; one that another commit created
    after that is not, and nothing may be done to it."""

    def __init__(
        self, commits: Commits, connection: Connection, batch: Batch, locked: set[bytes]
    ) -> None:
        self._commits, self._connection, self._batch = commits, connection, batch
        self._locked = locked
        self._place = pg_values.place(batch.key, batch.ns)

    async def commit(self) -> Commit:
        commits, connection, batch = self._commits, self._connection, self._batch
        if (done := await commits.done(connection, batch)) is not None:
            return done
        facts = await commits.facts(connection, batch)
        self._check_locked(batch.key, facts)
        await commits.judge(connection, batch, facts)
        if batch.copy is not None and batch.copy.whole:
            return await self._copy_thread(batch.copy, facts)
        if facts is not None and not facts["live"]:
            await self._revive()
        if batch.erase:
            return await self._erase()
        last_seq = facts["last_seq"] if facts else 0
        taken, messages = await self._copy(batch.copy, last_seq) if batch.copy else (0, 0)
        await self._rename(facts)
        dropped = await self._drop(facts)
        removed, popped = await self._remove()
        await self._rewrite()
        await self._forget()
        slots = None if rows.plain_slots(batch) else [await self._slot(put) for put in batch.slots]
        row = await self._put(
            create=facts is None,
            taken=taken,
            messages=messages - removed,
            checkpoints=int(batch.checkpoint is not None) - dropped,
            removed=removed or None,
            popped=write_popped(popped),
            slots_done=slots,
        )
        return dataclasses.replace(commits.told(batch, row), removed=removed, popped=popped)

    async def _put(self, **steps: Any) -> Row:
        try:
            row = await self._commits.put(self._connection, self._batch, judged=True, **steps)
        except asyncpg.UniqueViolationError:  # The version or the framework's own id is taken.
            raise Refused(Reason.CONFLICT, self._batch.last_version) from None
        if row is None:
            raise Raced()
        return row

    async def _do(self, name: str, /, **parameters: Any) -> list[Row]:
        return await self._commits.do(self._connection, name, **self._place, **parameters)

    def _check_locked(self, key: bytes, facts: Row | None) -> None:
        if facts is not None and key not in self._locked:
            raise Raced()

    async def _revive(self) -> None:
        user = pg_values.owner_in(self._batch.user, self._commits.sql.user_ids)
        born = {"incarnation": self._batch.incarnation, "now": self._commits.now()}
        await self._do("retire_journal")
        await self._do("revive_thread", **self._names(), user=user, **born)

    def _names(self) -> dict[str, str]:
        return dict(zip(("tenant", "app", "thread_id"), self._batch.names, strict=True))

    async def _erase(self) -> Commit:
        if self._commits.relaxed:
            await self._do("relax")
        await self._do("erase_content", **self._asked())
        (row,) = await self._do("erase_thread", now=self._commits.now())
        return await self._remember(row)

    async def _remember(self, row: Row, version: int | None = None) -> Commit:
        """Tell what was done without a put."""
        commit = Commit(row["rev"], row["at"], row["incarnation"], version)
        done = {"op_id": self._batch.op_id.hex(), "rev": commit.rev, "at": commit.at}
        done["version"] = version
        await self._do("add_journal", kind=self._batch.kind, **done)
        return commit

    async def _copy_thread(self, source: CopyFrom, facts: Row | None) -> Commit:
        """Let the thread come into being as a copy of another with all of its past."""
        if self._commits.relaxed:
            await self._do("relax")
        there = await self._source(source)
        if facts is not None:
            await self._do("retire_journal")
        adopted = await self._do(
            "adopt_thread",
            **self._names(),
            source=there["thread"],
            incarnation=self._batch.incarnation,
            lineage=self._batch.thread.lineage if self._batch.thread else None,
            revives=facts is not None,
            now=self._commits.now(),
        )
        if not adopted:
            raise Raced()
        ends = source.ends or ()
        (copied,) = await self._do(
            "copy_content",
            source=there["thread"],
            last_seq=facts["last_seq"] if facts else 0,
            until=source.until,
            every=source.ends is None,
            end_ns=[pg_values.short(ns) for ns, _ in ends],
            end_version=[version for _, version in ends],
        )
        return await self._remember(adopted[0], copied["version"])

    async def _source(self, source: CopyFrom) -> dict[str, Any]:
        """Where a thread lies that is copied from. Raises Refused."""
        there = pg_values.place(source.key, source.ns)
        row = await self._commits.one(self._connection, "commit_facts", **there)
        self._check_locked(source.key, row)
        facts, head = rows.facts_of(row) if row is not None else (None, HeadFacts())
        judge_copy(self._batch, source, facts, head)
        return there

    async def _copy(self, source: CopyFrom, last_seq: int) -> tuple[int, int]:
        """Copy from another thread: how many positions the entries took, and how many are new."""
        there = await self._source(source)
        origin = {"source": there["thread"], "source_ns": there["ns"]}
        log, start, stop = ([each[n] for each in source.ranges] for n in range(3))
        await self._do("copy_rows", **origin, log=log, start=start, stop=stop)
        await self._do("copy_blobs", **origin, ids=list(source.blobs))
        await self._do("copy_slots", **origin)
        found = await self._do("copy_entries", **origin, last_seq=last_seq, until=source.until)
        return len(found), sum(row["seq"] > last_seq for row in found)

    def _asked(self) -> dict[str, Any]:
        return {"now": self._commits.now(), "asked": JOURNAL_US}

    async def _rename(self, facts: Row | None) -> None:
        renames = dict(self._batch.renames)
        if not renames:
            return
        found = await self._do(
            "rename_checkpoints", versions=list(renames), names=list(renames.values())
        )
        if len(found) != len(renames):
            raise Refused(Reason.CONFLICT, facts["head_version"] if facts else 0)

    async def _drop(self, facts: Row | None) -> int:
        """Take checkpoints, rows and blobs away; how many checkpoints."""
        drop = self._batch.drop
        if drop is None:
            return 0
        head = facts["head_version"] if facts else 0
        versions = list(drop.versions)
        dropped = await self._do(
            "drop_checkpoints", versions=versions, head_version=head, **self._asked()
        )
        log, start = ([each[n] for each in drop.rows] for n in range(2))
        await self._do("drop_rows", log=log, start=start)
        await self._do("drop_blobs", ids=list(drop.blobs), seen=drop.seen)
        return len(dropped)

    async def _remove(self) -> tuple[int, tuple[Entry, ...]]:
        """Take entries away: how many, and those that were popped, oldest first."""
        batch = self._batch
        seqs: set[int] = set()
        if batch.remove_entries:
            named = await self._do(
                "find_named", ext_ids=list(map(pg_values.id_in, batch.remove_entries))
            )
            seqs.update(row["seq"] for row in named)
        if batch.clear_entries or batch.tail is not None:
            after = 0 if batch.clear_entries or batch.tail is None else batch.tail.after
            tail = [(row["seq"], row["digest"]) for row in await self._do("find_tail", after=after)]
            if batch.tail is not None:
                behind = [each for each in tail if each[0] > batch.tail.after]
                if behind != list(batch.tail.expected):
                    raise Refused(Reason.CONFLICT)
            seqs.update(seq for seq, _ in tail)
        last: list[int] = []
        if batch.pop_entries:
            last = [row["seq"] for row in await self._do("find_last", limit=batch.pop_entries)]
            seqs.update(last)
        if not seqs:
            return 0, ()
        gone = {
            row["seq"]: rows.entry_row(tuple(row))
            for row in await self._do("delete_entries", seqs=list(seqs))
        }
        return len(gone), tuple(gone[seq] for seq in sorted(last))

    async def _rewrite(self) -> None:
        entries = self._batch.rewrite_entries
        if not entries:
            return
        found = await self._do(
            "rewrite_entries",
            seqs=[each.seq for each in entries],
            **rows.entry_columns(entries, self._commits.projected),
        )
        if len(found) != len(entries):
            raise Refused(Reason.STALE)

    async def _forget(self) -> None:
        """Let entries leave what earlier commits answered."""
        for row in await self._do("find_popped") if self._batch.forget else ():
            kept = without_popped(row["popped"], self._batch.forget)
            if kept != row["popped"]:
                await self._do("change_popped", op_id=row["op_id"], popped=kept)

    async def _slot(self, put: SlotPut) -> bool:
        """Write, compare or delete one slot; whether it was."""
        slot, now = put.slot, self._commits.now()
        place = {"kind": slot.kind, "slot": slot.key.encode()}
        there = await self._do("find_slot", **place, now=now)
        if put.mode == "delete":
            await self._do("delete_slot", **place)
            return bool(there)
        if put.mode == "if_absent" and there:
            return False
        content = {"key_id": slot.key_id, "meta": slot.meta, "payload": slot.payload}
        expires = {"expires_at": slot.expires_at, "ttl": put.ttl, "now": now}
        await self._do("put_slot", **place, **content, **expires)
        return True
