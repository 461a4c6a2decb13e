"""What do users talk about, and which tools fail them? Counted in the store, however long the conversations are.

The same counts in a terminal, with small plots: `threadline stats --db analytics.db --plot charts`.
"""

from __future__ import annotations

import asyncio

from threadline import Message, SqliteCheckpointer, TokenUsages, ToolCallBlock, ToolResultBlock


def turn(question: str, tool: str, *, fails: bool, seconds: float) -> list[Message]:
    """A question, a call of a tool, its result, and an answer."""
    usages = TokenUsages(prompt_tokens=200, completion_tokens=20, total_tokens=220)
    call = Message(
        role="assistant",
        content=[ToolCallBlock(id="call", name=tool)],
        usages=usages,
        timestamp=1_700_000_000.0,
    )
    result = Message.tool_message(ToolResultBlock(call_id="call", output="...", is_error=fails))
    result.timestamp = 1_700_000_000.0 + seconds
    answer = Message.text_message("Here you are.", role="assistant")
    return [Message.text_message(question), call, result, answer]


async def main() -> None:
    """Fill a store, then count."""
    async with SqliteCheckpointer("analytics.db") as checkpointer:
        for number in range(12):
            user = "alice" if number % 3 else "bob"
            tool = "find_flights" if number % 2 else "find_hotels"
            config = {"thread_id": f"trip-{number}", "user_id": user}
            async with checkpointer.session(config) as session:
                fails = number % 4 == 0
                messages = turn("Where to?", tool, fails=fails, seconds=0.5 + number / 10)
                await session.append(messages)
                await session.save(name="answered")

        everything = await checkpointer.astats({})
        print("messages by role:", everything["roles"])
        print("checkpoints by name:", everything["names"])
        print("tokens:", everything["tokens"]["total"])
        for name, tool in everything["tools"].items():
            print(
                f"{name}: {tool['calls']} calls, {tool['error_rate']:.0%} errors, "
                f"{tool['mean_seconds']:.2f} s"
            )
        for user in ("alice", "bob"):
            told = await checkpointer.astats({"user_id": user})
            print(f"{user}: {told['threads']} threads, {told['messages']} messages")


if __name__ == "__main__":
    asyncio.run(main())
