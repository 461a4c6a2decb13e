"""`export`, and the import of what it wrote: threads with all of their past, as JSON Lines."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, BinaryIO

import typer

from threadline.cli.options import (
    App,
    Db,
    Json,
    Refusal,
    Tenant,
    User,
    known_thread,
    refusals,
    settle,
)
from threadline.cli.output import count_of, plain, print_json, say

STDIO = "-"
#: The first line of an export is not longer than this, in bytes.
_FIRST = 4096


def export(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE.jsonl",
            help="The file to write; - is standard output.",
            show_default=False,
        ),
    ],
    thread: Annotated[
        str | None,
        typer.Argument(metavar="[THREAD]", help="Default: every thread.", show_default=False),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Write over a file that is there.")
    ] = False,
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Write threads with all of their past to a file that `threadline import` reads, here or elsewhere."""
    call = settle(context, db, as_json, user, tenant, app)
    if file != STDIO and not force and Path(file).exists():
        raise Refusal(f"{file} exists; name another file, or give --force to write over it")
    with call.store() as memory, refusals():
        if thread is not None:
            known_thread(memory, call, thread)
        config = call.config if thread is None else call.thread(thread)
        counts = memory.export(config, sys.stdout.buffer if file == STDIO else file)
    if call.as_json and file != STDIO:
        print_json({"file": file, **counts})
        return
    parts = [count_of(counts[what], what[:-1]) for what in ("threads", "checkpoints", "messages")]
    say(f"{', '.join(parts)} written to {'standard output' if file == STDIO else plain(file)}")


def is_export(stream: BinaryIO) -> bool:
    """Whether a stream, of which nothing is consumed, begins as an export does."""
    peek = getattr(stream, "peek", None)
    line = bytes(peek(_FIRST))[:_FIRST].split(b"\n", 1)[0] if peek is not None else b""
    try:
        head = json.loads(line)
    except ValueError:
        return False
    return isinstance(head, dict) and head.get("is") == "threadline"


@contextmanager
def seekable(stream: BinaryIO) -> Iterator[IO[bytes]]:
    """The same bytes, to be read twice: what comes through a pipe is kept in a file without a name."""
    if stream.seekable():
        yield stream
        return
    with tempfile.TemporaryFile() as kept:
        shutil.copyfileobj(stream, kept)
        kept.seek(0)
        yield kept
