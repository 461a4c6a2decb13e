"""Two workers of the chat server on one PostgreSQL, and four clients that talk in one thread through both at once.

Needs nothing but the packages: PostgreSQL comes from a wheel (`threadline.testing.servers`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from threadline.testing.servers import postgres


@contextlib.asynccontextmanager
async def worker(dsn: str) -> AsyncIterator[str]:
    """A worker process; gives its address when it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "app:app",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]
    process = subprocess.Popen(
        command, cwd=Path(__file__).parent, env={**os.environ, "DATABASE_URL": dsn}
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient() as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    await client.get(f"{url}/threads/none")
                    break
                await asyncio.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


async def main(dsn: str) -> None:
    """Talk."""
    async with worker(dsn) as one, worker(dsn) as two, httpx.AsyncClient(timeout=30) as client:

        async def talk(name: str, url: str) -> list[str]:
            answers = []
            for number in range(3):
                body = {"id": f"{name}{number}", "text": f"{name}{number}"}
                first = (await client.post(f"{url}/threads/chat", json=body)).json()
                # The answer was lost, say: the same request again, to the other worker.
                other = two if url == one else one
                again = (await client.post(f"{other}/threads/chat", json=body)).json()
                assert again["text"] == first["text"]
                answers.append(first["text"])
            return answers

        clients = [talk(name, one if name < "c" else two) for name in "abcd"]
        answers = [text for each in await asyncio.gather(*clients) for text in each]
        messages = (await client.get(f"{one}/threads/chat")).json()

    turns = [text for role, text in messages if role == "assistant"]
    print("turns:", len(turns), "in order:", [int(text.split(".")[0]) for text in turns])
    print("every answer is there once:", sorted(answers) == sorted(turns))
    asked = [text for role, text in messages if role == "user"]
    print(
        "each behind its question:", all(a.endswith(q) for q, a in zip(asked, turns, strict=True))
    )


if __name__ == "__main__":
    with postgres() as server:
        asyncio.run(main(server.database()))
