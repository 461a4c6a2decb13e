"""Nodes of a real LangGraph graph get the checkpointer from an injectq container, beside LangGraph's own state.

LangGraph keeps the graph's state on the same store, through its adapter. A node writes to the message log, which people
read and search, without being handed anything.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, TypedDict

from injectq import Inject, InjectQ
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from threadline import Message, SqliteCheckpointer
from threadline.adapters.langgraph import ThreadlineSaver
from threadline.checkpointer import BaseCheckpointer
from threadline.injection import injected


class State(TypedDict):
    """What the graph passes on."""

    messages: Annotated[list, add_messages]


def answer(state: State) -> dict:
    """A node that knows nothing of memory."""
    return {"messages": [("ai", f"You said: {state['messages'][-1].content}")]}


async def audit(
    state: State,
    config: RunnableConfig,
    checkpointer: BaseCheckpointer = Inject[BaseCheckpointer],
) -> dict:
    """A node that writes what was said into the log of its thread."""
    thread_id = config["configurable"]["thread_id"]
    note = Message.text_message(f"answered: {state['messages'][-1].content}", role="system")
    await checkpointer.aput_messages({"thread_id": thread_id, "app": "audit"}, [note])
    return {}


async def main() -> None:
    """Two turns, and what is left of them."""
    async with SqliteCheckpointer("graph.db") as checkpointer:
        container = InjectQ()
        checkpointer.bind(container)

        builder = StateGraph(State)
        builder.add_node("answer", answer)
        builder.add_node("audit", injected(audit, container=container))
        builder.add_edge(START, "answer")
        builder.add_edge("answer", "audit")
        builder.add_edge("audit", END)
        graph = builder.compile(checkpointer=ThreadlineSaver(checkpointer))

        config = {"configurable": {"thread_id": "trip"}}
        for said in ("Where to?", "Oslo."):
            await graph.ainvoke({"messages": [("user", said)]}, config)
        state = await graph.aget_state(config)
        print("LangGraph's messages:", len(state.values["messages"]))
        for message in await checkpointer.alist_messages({"thread_id": "trip", "app": "audit"}):
            print("audit:", message.text())


if __name__ == "__main__":
    asyncio.run(main())
