"""What if she had asked for a museum? Two branches of one conversation, compared, and the better one taken on.

A fork copies the rows in the store, so it costs little; both sides go their own ways from there.
"""

from __future__ import annotations

import asyncio

from threadline import InMemoryCheckpointer, Message


async def main() -> None:
    """Talk, branch, compare, go on."""
    async with InMemoryCheckpointer() as checkpointer:
        trunk = {"thread_id": "day-in-oslo"}
        async with checkpointer.session(trunk) as session:
            await session.append([Message.text_message("Plan my day in Oslo.")])
            await session.save(name="before the choice")

        for choice in ("museum", "fjord"):
            await checkpointer.afork({**trunk, "name": "before the choice"}, choice)
            async with checkpointer.session(thread_id=choice) as session:
                session.state.context_summary = f"a day at the {choice}"
                await session.append([Message.text_message(f"We go to the {choice}.")])
                await session.save(name="chosen")

        for thread in await checkpointer.alist_threads({}, order="oldest"):
            state = await checkpointer.aget_state({"thread_id": thread.thread_id})
            origin = thread.forked_from
            whence = f"from {origin.thread_id}, version {origin.version}" if origin else "the trunk"
            said = " / ".join(message.text() for message in state.context)
            print(f"{thread.thread_id} ({whence}): {said}")

        # She likes the fjord: the trunk takes that branch's words.
        fjord = await checkpointer.aget_state({"thread_id": "fjord"})
        async with checkpointer.session(trunk) as session:
            await session.append(fjord.context[len(session.state.context) :])
        print("trunk:", [message.text() for message in session.state.context])


if __name__ == "__main__":
    asyncio.run(main())
