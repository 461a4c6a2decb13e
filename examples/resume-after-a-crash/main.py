"""An agent is killed in the middle of a run, and another process finishes it. The flight is booked once.

`python main.py` starts two processes. The first kills itself behind the booking, as if the machine had lost its power;
the second goes on behind the last complete node, and finds the booking in the ledger of tools.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

from threadline import AgentState, Message, Session, SqliteCheckpointer


def book_flight(city: str) -> dict[str, str]:
    """A tool that costs money."""
    print(f"  (the airline takes 120 EUR for a flight to {city})", flush=True)
    return {"city": city, "code": "XK7"}


def plan(state: AgentState) -> Message:
    """The first node."""
    print("  plan", flush=True)
    return Message.text_message("I will book a flight to Oslo.", role="assistant")


async def book(state: AgentState, session: Session) -> Message:
    """The second node, in which the first process dies."""
    print("  book", flush=True)
    flight = await session.tool(book_flight, "Oslo")
    if "--die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    return Message.text_message(f"Booked: {flight['code']}.", role="assistant")


def thank(state: AgentState) -> Message:
    """The third node."""
    print("  thank", flush=True)
    return Message.text_message("Have a good trip!", role="assistant")


async def agent() -> None:
    """What every process does: it need not know whether it is the first."""
    config = {"thread_id": "trip", "user_id": "alice", "run_id": "request-1"}
    async with SqliteCheckpointer("trip.db") as checkpointer:
        async with checkpointer.session(config, lease="wait", ttl=0.5) as session:
            await session.run_all([plan, book, thank])
            print("  " + " | ".join(message.text() for message in session.state.context))


def main() -> None:
    """Run the agent twice."""
    for arguments, said in ((["--die"], "The first process"), ([], "The second process")):
        print(said, flush=True)
        child = subprocess.run([sys.executable, __file__, "--child", *arguments], check=False)
        if child.returncode:
            print("  killed", flush=True)


if __name__ == "__main__":
    asyncio.run(agent()) if "--child" in sys.argv else main()
