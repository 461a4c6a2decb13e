"""`demo`: the main job, played through."""

from __future__ import annotations

from typing import Annotated

import typer

from threadline.cli.options import Db, Json, Refusal, asked_file
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
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Watch an agent being killed in the middle of a turn, and resume exactly where it stopped.

    No API key and no network: the model is a script, everything else is real. Takes a few seconds, on a new file.
    """
    # Here, not above: the other commands need nothing of it.
    from threadline.demo import DemoError, run

    common_json = as_json or bool(getattr(context.obj, "as_json", False))
    path = asked_file(context, db)
    if path is not None and path.exists():
        raise Refusal(f"{path} exists; the demo needs a file of its own, so name another with --db")
    try:
        facts = run(path, keep=keep, out=console(stderr=common_json))
    except DemoError as error:
        raise Refusal(str(error)) from None
    if common_json:
        print_json(facts)
