"""The process that the agent runs in: `python -m threadline.demo.worker`, started by `play`.

It finishes what a process before it left unfinished, asks what was not asked yet, and says each step on stdout as a
line of JSON, after the step was stored. Each tool call that ended is written down in a file beside the store, the
ledger: what the tools did in the world, whether or not anything was stored of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from threadline import Message, ToolCallBlock
from threadline.demo.agent import Agent, TripState, turns
from threadline.demo.ground import Ground, ground_of
from threadline.demo.story import QUESTIONS, THREAD, USER, model
from threadline.demo.tools import TOOLS

#: A rest after each step, in seconds, so that a person can follow.
PACE = 0.1


class ReportingAgent(Agent):
    """The agent, saying what it does; it never comes back from the call `stall`."""

    ledger: Path
    stall: str | None = None

    async def use(self, state: TripState, call: ToolCallBlock) -> Message:
        """Run a tool and write it down."""
        if call.id == self.stall:
            report(did="stalled", call=call.id, tool=call.name, arguments=call.args)
            await asyncio.Event().wait()
        result = await super().use(state, call)
        with self.ledger.open("a", encoding="utf-8") as ledger:
            ledger.write(f"{os.getpid()} {call.id}\n")
        return result

    async def keep(self, state: TripState, message: Message, step: str) -> int:
        """Store a step and say so."""
        version = await super().keep(state, message, step)
        report(did="stored", version=version, message=message.model_dump(mode="json"))
        await asyncio.sleep(PACE)
        return version


def report(**fact: Any) -> None:
    """One line of JSON, out at once."""
    print(json.dumps(fact), flush=True)


async def work(ground: Ground, ledger: Path, stall: str | None) -> None:
    """Bring the conversation to its end, wherever it stands."""
    async with ground.open() as memory:
        agent = ReportingAgent(memory, {"thread_id": THREAD, "user_id": USER}, model, TOOLS)
        agent.ledger, agent.stall = ledger, stall
        await agent.resume()
        asked = turns((await agent.load()).context)
        for question in QUESTIONS[asked:]:
            await agent.ask(question)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and work."""
    parser = argparse.ArgumentParser(prog="threadline.demo.worker")
    parser.add_argument("ground", help="a file, or - for the servers in the environment")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--stall", help="the tool call to never come back from")
    given = parser.parse_args(arguments)
    asyncio.run(work(ground_of(given.ground), given.ledger, given.stall))


if __name__ == "__main__":
    main()
