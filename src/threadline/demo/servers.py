"""The play on real servers, which are started for it, killed in the last scene, and gone afterwards."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from threadline import Message
from threadline.demo.ground import ServerGround
from threadline.demo.play import CONFIG, DemoError, hold, play
from threadline.demo.scenes import Stage
from threadline.testing.servers import Postgres, ServerError, Valkey, postgres, valkey


def run_on_servers(out: Console) -> dict[str, Any]:
    """Play it all on a PostgreSQL with a Valkey, and return the facts. Raises DemoError."""
    stage = Stage(out)
    try:
        with postgres() as database, valkey() as cache:
            stage.said(f"PostgreSQL listens on port {database.port}, Valkey on {cache.port}")
            ground = ServerGround(database.database(), cache.url)
            return play(ground, stage, last=lambda: _both_die(stage, ground, database, cache))
    except ServerError as error:
        raise DemoError(str(error)) from None


def _both_die(
    stage: Stage, ground: ServerGround, database: Postgres, cache: Valkey
) -> dict[str, Any]:
    """The cache is killed, then the database; what was stored is there."""
    stage.title("The servers are killed")
    with ground.open() as memory:
        before = memory.get_state_cache(CONFIG)
        cache.kill()
        stage.bad("Valkey was killed with SIGKILL")
        hold(memory.get_state(CONFIG) == before, "a read differs without the cache")
        stage.good("the next read is the same: the database is what decides")
        memory.put_messages(CONFIG, [Message.text_message("Thank you!")])
        stage.good("the next write is stored: a cache is never waited for")
        messages = memory.list_messages(CONFIG)
        if isinstance(database, Postgres):
            database.kill()
            stage.bad("PostgreSQL was killed with SIGKILL, and is started again")
            database.start()
            hold(memory.get_state(CONFIG) == before, "the database lost a state")
            hold(memory.list_messages(CONFIG) == messages, "the database lost a message")
            stage.good(f"the state and all {len(messages)} messages are there")
    return {"survived": {"cache": True, "database": isinstance(database, Postgres)}}
