"""The commands by name, and what may stand before them."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

from threadline import __version__
from threadline.cli import (
    carrying,
    erasing,
    importing,
    migrating,
    past,
    reading,
    rehearsal,
    searching,
    showing,
    upkeep,
)
from threadline.cli.options import Common, Db, Json, Schema, UserIds, UserIdType

app = typer.Typer(
    name="threadline",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"threadline {__version__}")
        raise typer.Exit


def _flowing(text: str) -> str:
    """Help that is wrapped where the terminal ends, not where its lines end in the source."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


@app.callback()
def before(
    context: typer.Context,
    db: Db = None,
    as_json: Json = False,
    schema: Schema = None,
    user_id_type: UserIdType = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            callback=_say_version,
            is_eager=True,
            help="Say the version and exit.",
            show_default=False,
        ),
    ] = False,
) -> None:
    """The session memory of AI agents: look into a store, work with the past of its threads, and carry them."""
    context.obj = Common(db, as_json, schema or "public", user_id_type or UserIds.STRING)


app.command("demo")(rehearsal.demo)
app.command("import")(importing.import_)
app.command("threads")(reading.threads)
app.command("search")(searching.search)
app.command("show")(showing.show)
app.command("history")(past.history)
app.command("diff")(past.diff)
app.command("name")(past.name)
app.command("rollback")(past.rollback)
app.command("fork")(past.fork)
app.command("export")(carrying.export)
app.command("prune")(upkeep.prune)
app.command("delete")(erasing.delete)
app.command("erase")(erasing.erase)
app.command("verify")(upkeep.verify)
app.command("stats")(upkeep.stats)
app.command("migrate")(migrating.migrate)

for _command in app.registered_commands:
    _command.help = _flowing(inspect.getdoc(_command.callback) or "")
