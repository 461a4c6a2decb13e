"""P1 and P2 under SIGKILL: what a put returned is there, whole, whenever the process dies.

A child puts a state with its message and says so after each return; it is killed at a random moment. 100 times, and
1,000 with `make soak`.
"""

from __future__ import annotations

import itertools
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from threadline import AgentState, Message, SqliteCheckpointer

CYCLES = 1000 if os.environ.get("THREADLINE_SOAK") else 100
#: A thread is killed so often; then another one begins, so that a child has the time to put something.
KILLS_A_THREAD = 50

CHILD = """
import sys
from threadline import AgentState, Message, SqliteCheckpointer

path, first, thread = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with SqliteCheckpointer(path) as checkpointer:
    config = {"thread_id": thread}
    state = checkpointer.get_state(config) or AgentState()
    print("ready", flush=True)
    for number in range(first, first + 400):
        message = Message.text_message(f"message {number}", message_id=f"m{number}")
        state.context.append(message)
        state.execution_meta.step = number
        checkpoint = checkpointer.put_state(config, state, messages=[message])
        print(number, checkpoint.version, flush=True)
"""


def run_and_kill(path: Path, first: int, thread: str, after: float) -> int:
    """Start a child, kill it `after` seconds from its readiness; returns the last number it acknowledged, or -1."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(first), thread],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    deadline = time.monotonic() + after
    while (left := deadline - time.monotonic()) > 0:
        select.select([], [], [], left)
    child.send_signal(signal.SIGKILL)
    lines = child.stdout.read().splitlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    whole = [line for line in lines if len(line.split()) == 2]
    return int(whole[-1].split()[0]) if whole else -1


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_nothing_acknowledged_is_lost_and_nothing_is_half_there(tmp_path: Path) -> None:
    path, rng = tmp_path / "kill.db", random.Random(20)
    acknowledged = -1
    total = 0
    for cycle in itertools.count():
        if (
            cycle >= CYCLES and total > CYCLES
        ):  # On a busy machine many are killed before they did anything.
            break
        if cycle % KILLS_A_THREAD == 0:
            config, acknowledged = {"thread_id": f"t{cycle}"}, -1
        last = run_and_kill(path, acknowledged + 1, config["thread_id"], rng.uniform(0.0, 0.05))
        with SqliteCheckpointer(path) as checkpointer:
            state = checkpointer.get_state(config)
            messages = checkpointer.list_messages(config)
        there = state.execution_meta.step if state else -1
        assert there in (max(last, acknowledged), max(last, acknowledged) + 1), "a put was lost"
        expected = [f"m{number}" for number in range(there + 1)]
        assert [message.message_id for message in messages] == expected
        if state is not None:
            assert [message.message_id for message in state.context] == expected
        total += there - acknowledged
        acknowledged = there
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_retry_after_a_kill_is_one_put(tmp_path: Path) -> None:
    path, op_id = tmp_path / "retry.db", "ab" * 16
    program = (
        "import os, sys\n"
        "from threadline import AgentState, SqliteCheckpointer\n"
        "checkpointer = SqliteCheckpointer(sys.argv[1])\n"
        "checkpointer.put_state({'thread_id': 't'}, AgentState(context_summary='once'), op_id=sys.argv[2])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path), op_id], check=False)
    with SqliteCheckpointer(path) as checkpointer:
        state = AgentState(context_summary="once")
        again = checkpointer.put_state({"thread_id": "t"}, state, op_id=op_id)
        assert again.version == 1
        assert len(checkpointer.list_checkpoints({"thread_id": "t"})) == 1
        state.context.append(Message.text_message("on"))
        assert checkpointer.put_state({"thread_id": "t"}, state).version == 2
