"""P1 and P2 of a thread that is copied with all of its past: whole and once, or not at all, whatever dies."""

from __future__ import annotations

import asyncio
import random
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from threadline import Message, PgCheckpointer, SqliteCheckpointer, clock
from threadline.checkpointer import BaseCheckpointer
from threadline.testing.faults import PASS, FaultProxy, drop_reply

SOURCE = {"thread_id": "t"}
VERSIONS, KILLS = 60, 12

CHILD = """
import sys
from threadline import SqliteCheckpointer

with SqliteCheckpointer(sys.argv[1]) as checkpointer:
    for number in range(100_000):
        checkpointer.fork({"thread_id": "t"}, f"{sys.argv[2]}.{number}", history=True)
        print(f"{sys.argv[2]}.{number}", flush=True)
"""


async def fill(checkpointer: BaseCheckpointer) -> None:
    """A thread of two namespaces, with messages."""
    for number in range(VERSIONS):
        message = Message.text_message(f"message {number} " * 20, message_id=f"m{number}")
        state = {"n": number, "blob": f"{number % 3}" * 9000}
        await checkpointer.aput_state({**SOURCE}, state, messages=[message])
        await checkpointer.aput_state({**SOURCE, "namespace": "inner"}, state)


async def check_whole(checkpointer: BaseCheckpointer, thread_id: str) -> None:
    """Fail unless a copy is all of the thread."""
    config = {"thread_id": thread_id}
    report = await checkpointer.averify(config)
    assert (report.problems, report.checkpoints, report.messages) == ([], 2 * VERSIONS, VERSIONS)
    assert await checkpointer.aget_state(config) == await checkpointer.aget_state(SOURCE)
    found = await checkpointer.alist_messages(config, search=f"message {VERSIONS - 1}")
    assert [each.message_id for each in found] == [f"m{VERSIONS - 1}"]


async def test_a_killed_process_leaves_no_half_of_a_copy(tmp_path: Path) -> None:
    path, dice = tmp_path / "kill.db", random.Random(3)
    async with SqliteCheckpointer(path) as checkpointer:
        await fill(checkpointer)
    for cycle in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), f"c{cycle}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == f"c{cycle}.0\n"
        select.select([], [], [], dice.uniform(0.0, 0.03))
        child.send_signal(signal.SIGKILL)
        said = {f"c{cycle}.0", *child.stdout.read().split("\n")[:-1]}
        child.stdout.close()
        child.wait()
        async with SqliteCheckpointer(path) as checkpointer:
            there = {each.thread_id for each in await checkpointer.alist_threads({})} - {"t"}
            assert there >= said
            for thread_id in there:
                await check_whole(checkpointer, thread_id)
                await checkpointer.adelete_thread({"thread_id": thread_id})


@pytest.mark.parametrize("lost", ["the journal's", "the commit's"])
async def test_a_copy_whose_reply_is_lost_is_made_once(pg_dsn: str, lost: str) -> None:
    with FaultProxy.before(pg_dsn) as proxy:
        async with PgCheckpointer(proxy.address(pg_dsn)) as checkpointer:
            await fill(checkpointer)
            for number in range(8):
                op_id = clock.new_id()
                needle = bytes.fromhex(op_id) if lost == "the journal's" else b"COMMIT"
                proxy.set(drop_reply(needle, times=1))
                made = await copied(checkpointer, f"copy{number}", op_id)
                assert made.version == VERSIONS
                assert proxy.counts.dropped == number + 1
                proxy.set(PASS)
                await check_whole(checkpointer, f"copy{number}")
            assert len(await checkpointer.alist_threads({})) == 9


async def copied(checkpointer: BaseCheckpointer, thread_id: str, op_id: str) -> Any:
    """A copy; asked for again with its `op_id` while nobody knows whether it was made."""
    while True:
        try:
            return await checkpointer.afork(SOURCE, thread_id, history=True, op_id=op_id)
        except ConnectionError:
            continue


async def test_a_cancelled_copy_is_there_whole_or_not_at_all(pg_dsn: str) -> None:
    async with PgCheckpointer(pg_dsn) as checkpointer:
        await fill(checkpointer)
        begun = clock.monotonic()
        await checkpointer.store.acopy(SOURCE, "first")
        takes, there = clock.monotonic() - begun, 0
        for number in range(12):
            thread_id, op_id = f"copy{number}", clock.new_id()
            call = checkpointer.store.acopy(SOURCE, thread_id, op_id=op_id)
            task = asyncio.create_task(call)
            await asyncio.sleep(takes * number / 11)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if await checkpointer.aget_thread({"thread_id": thread_id}):
                there += 1
                await check_whole(checkpointer, thread_id)
            await copied(checkpointer, thread_id, op_id)
            await check_whole(checkpointer, thread_id)
        assert there < 12
