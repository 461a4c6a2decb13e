"""The demo: the kill is real, the resumption exact, every step as promised, and the commands at the end work."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from threadline import InMemoryCheckpointer, Message, SqliteCheckpointer
from threadline.demo import DemoError, play
from threadline.demo.agent import Agent, TripState, open_calls
from threadline.demo.story import FATAL_CALL, QUESTIONS, THREAD, USER, model
from threadline.demo.tools import TOOLS, calculate

CONFIG: dict[str, Any] = {"thread_id": THREAD, "user_id": USER, "state_class": TripState}


def demo(home: Path, *args: object) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONIOENCODING": "utf-8",
    }
    for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        env.pop(name, None)
    command = [sys.executable, "-m", "threadline.cli", "demo", *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=env, check=False, timeout=100
    )


def test_the_whole_demo(tmp_path: Path) -> None:
    path = tmp_path / "a demo.db"
    done = demo(tmp_path, "--db", path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for wanted in (
        "was killed with SIGKILL",
        "nothing lost",
        "nothing done twice",
        "word for word",
    ):
        assert wanted in done.stdout
    with SqliteCheckpointer(path) as memory:
        history = memory.list_checkpoints(CONFIG)
        state: TripState = memory.get_state(CONFIG)
        assert [each.version for each in history] == list(range(len(history), 0, -1))
        assert memory.list_messages(CONFIG) == state.context
        assert len(state.notes) == 2
    commands = [line.strip() for line in done.stdout.splitlines() if " --db " in line]
    assert len(commands) == 4
    for command in commands:
        shown = subprocess.run(
            shlex.split(command), capture_output=True, text=True, encoding="utf-8", check=False
        )
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout
    assert demo(tmp_path, "--db", path).returncode == 2


def test_the_facts_and_a_temporary_file(tmp_path: Path) -> None:
    done = demo(tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["killed_at"]["signal"] == "SIGKILL"
    assert facts["killed_at"]["open_call"] == FATAL_CALL
    assert facts["resumed"]["version"] == facts["killed_at"]["version"] + 1
    assert facts["resumed"]["pid"] != facts["killed_at"]["pid"]
    assert (facts["lost"], facts["repeated"]) == (0, 0)
    assert facts["snapshot_bytes"] > facts["compressed_snapshot_bytes"] > facts["stored_bytes"]
    assert Path(facts["db"]).is_file()
    gone = demo(tmp_path, "--json", "--no-keep")
    assert gone.returncode == 0, gone.stderr
    assert not Path(json.loads(gone.stdout)["db"]).parent.exists()


def test_the_same_on_servers(tmp_path: Path) -> None:
    done = demo(tmp_path, "--servers", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["checkpoints"], facts["lost"], facts["repeated"]) == (20, 0, 0)
    assert facts["resumed"]["version"] == facts["killed_at"]["version"] + 1
    own = "THREADLINE_TEST_PG_DSN" not in os.environ
    assert facts["survived"] == {"cache": True, "database": own}
    assert facts["commands"] == []
    assert "word for word" in done.stderr
    assert "postgresql://" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
    assert demo(tmp_path, "--servers", "--db", "x.db").returncode == 2


def test_the_first_process_really_dies_in_the_call(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    command = [sys.executable, "-m", "threadline.demo.worker", tmp_path / "memory.db", ledger]
    with subprocess.Popen(
        [*map(str, command), "--stall", FATAL_CALL], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["did"] == "stalled":
                assert process.poll() is None
                process.kill()
    assert process.returncode == play.KILLED
    assert FATAL_CALL not in ledger.read_text("utf-8")
    with SqliteCheckpointer(tmp_path / "memory.db") as memory:
        (call,) = open_calls(memory.get_state(CONFIG).context)
    assert call.id == FATAL_CALL
    subprocess.run(list(map(str, command)), capture_output=True, check=True, timeout=60)
    calls = [line.split()[1] for line in ledger.read_text("utf-8").splitlines()]
    assert len(calls) == len(set(calls))
    assert FATAL_CALL in calls


class Killed(Exception):
    pass


class Mortal(Agent):
    """An agent that dies before or after its n-th step was stored."""

    steps: int
    after: bool

    async def keep(self, state: TripState, message: Message, step: str) -> int:
        self.steps -= 1
        if self.steps < 0 and not self.after:
            raise Killed
        version = await super().keep(state, message, step)
        if self.steps < 0:
            raise Killed
        return version


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("steps", range(20))
async def test_killed_at_any_step_it_says_the_same(steps: int, after: bool) -> None:
    expected = await asyncio.to_thread(play._undisturbed)
    async with InMemoryCheckpointer() as memory:
        config = {"thread_id": THREAD, "user_id": USER}
        mortal = Mortal(memory, config, model, TOOLS)
        mortal.steps, mortal.after = steps, after
        with pytest.raises(Killed):
            await converse(mortal)
        await converse(Agent(memory, config, model, TOOLS))
        state = await memory.aget_state(CONFIG)
        assert play._told(state) == play._told(expected)
        assert await memory.alist_messages(config) == state.context


async def converse(agent: Agent) -> None:
    await agent.resume()
    asked = sum(message.role == "user" for message in (await agent.load()).context)
    for question in QUESTIONS[asked:]:
        await agent.ask(question)


async def test_the_calculator_is_no_door() -> None:
    state = TripState()
    assert await calculate(state, "400 - 78 - 2 * (100 + 5)") == "112"
    assert await calculate(state, "7 / 2") == "3.5"
    for bad in ("__import__('os')", "2 ** 9 ** 9", "x", "'a' * 9"):
        with pytest.raises(ValueError):
            await calculate(state, bad)


def test_a_worker_that_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "memory.db").write_text("no database " * 1000, "utf-8")
    from rich.console import Console

    with pytest.raises(DemoError, match="a worker process failed"):
        play.run(tmp_path / "memory.db", keep=True, out=Console(quiet=True))
