"""A chat server on Starlette: `POST /threads/{id}` says something, `GET /threads/{id}` tells what was said.

Any number of workers can serve one thread: a turn takes the thread's lease, so turns follow each other, and a worker
that dies in one is overtaken when its lease expires. A client that repeats a request gives it the same id, and it is
answered once.

    DATABASE_URL=postgresql://... uvicorn app:app --workers 2
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from threadline import AgentState, LeaseHeldError, Message, PgCheckpointer

checkpointer = PgCheckpointer()  # DATABASE_URL


def answer(state: AgentState) -> Message:
    """Instead of a model."""
    turn = sum(message.role == "user" for message in state.context)
    said = state.context[-1].text()
    return Message.text_message(f"{turn}. You said: {said}", role="assistant")


async def say(request: Request) -> JSONResponse:
    """One turn."""
    body = await request.json()
    question = Message.text_message(body["text"], message_id=body["id"])
    config = {"thread_id": request.path_params["thread_id"], "run_id": body["id"]}
    try:
        async with checkpointer.session(config, lease="wait", ttl=5, repair="close") as session:
            if question.message_id not in {each.message_id for each in session.state.context}:
                await session.append([question])
            await session.run_all([answer])
            asked = [each.message_id for each in session.state.context].index(body["id"])
            text = session.state.context[asked + 1].text()
    except LeaseHeldError:
        return JSONResponse({"error": "another turn is under way"}, status_code=409)
    return JSONResponse({"text": text, "worker": os.getpid()})


async def read(request: Request) -> JSONResponse:
    """The thread's messages."""
    state = await checkpointer.aget_state({"thread_id": request.path_params["thread_id"]})
    messages = state.context if state else []
    return JSONResponse([[message.role, message.text()] for message in messages])


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """The store is made ready before the first request, and released after the last."""
    async with checkpointer:
        yield


app = Starlette(
    routes=[
        Route("/threads/{thread_id}", say, methods=["POST"]),
        Route("/threads/{thread_id}", read, methods=["GET"]),
    ],
    lifespan=lifespan,
)
