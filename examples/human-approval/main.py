"""A run that waits for a person for days: it costs nothing meanwhile, and goes on in whatever process is there then.

The node is run again from its beginning once there is an answer; what its tools did before is in the ledger.
"""

from __future__ import annotations

import asyncio

from threadline import AgentState, Message, Session, SqliteCheckpointer

ORDER = {"thread_id": "order-9", "user_id": "alice"}


def price_of(item: str) -> int:
    """A tool, called once."""
    print(f"  (asking the shop what a {item} costs)")
    return 1200


async def order(state: AgentState, session: Session) -> Message:
    """Asks before it spends."""
    price = await session.tool(price_of, "piano")
    if not await session.ask({"what": "piano", "price": price}):
        return Message.text_message("I did not buy it.", role="assistant")
    return Message.text_message(f"Bought for {price} EUR.", role="assistant")


async def monday() -> None:
    """The run begins, and stops at the question."""
    async with (
        SqliteCheckpointer("order.db") as checkpointer,
        checkpointer.session(ORDER) as session,
    ):
        await session.append([Message.text_message("Please buy a piano.")])
        print("Monday, complete:", await session.run_all([order]))


async def thursday() -> None:
    """Somebody looks at the open questions and answers."""
    async with (
        SqliteCheckpointer("order.db") as checkpointer,
        checkpointer.session(ORDER) as session,
    ):
        for call in await session.calls():
            if call.status == "asked":
                print("Thursday, the question:", call.question)
                await session.answer(call.call_id, True)


async def friday() -> None:
    """A worker finds the unfinished run."""
    async with (
        SqliteCheckpointer("order.db") as checkpointer,
        checkpointer.session(ORDER) as session,
    ):
        print("Friday, left to do:", session.unfinished)
        print("Friday, complete:", await session.run_all([order]))
        print(session.state.context[-1].text())


if __name__ == "__main__":
    for day in (monday, thursday, friday):
        asyncio.run(day())
