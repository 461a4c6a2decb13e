"""`search`: messages of all threads that hold some words, each with its match in sight.

The store folds case and accents away when it compares; `find_parts` does the same to find where, in the text as it
was written, the match stands.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any

import typer
from rich.text import Text

from threadline import Message
from threadline.cli.options import (
    App,
    Call,
    Db,
    Json,
    Refusal,
    Tenant,
    User,
    known_thread,
    settle,
)
from threadline.cli.output import console, count_of, one_line, print_indented, print_json_lines, say

#: How much of a message is shown around its match, in characters.
BEFORE, AROUND = 40, 160
ROLES = ("user", "assistant", "system", "tool", "developer", "function")
_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb\u300c\u300d"
Span = tuple[int, int]


def search(
    context: typer.Context,
    text: Annotated[
        str,
        typer.Argument(
            metavar="TEXT",
            help="What to look for: all of these words, in any order.",
            show_default=False,
        ),
    ],
    role: Annotated[
        str | None,
        typer.Option(metavar="ROLE", help=f"Only messages of this role: {', '.join(ROLES)}."),
    ] = None,
    thread: Annotated[
        str | None, typer.Option(metavar="THREAD", help="Only in this thread.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many hits.")
    ] = 20,
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Search the messages of all threads, the newest hits first.

    Case and accents do not matter, words are whole words, and nothing in TEXT is syntax.
    """
    call = settle(context, db, as_json, user, tenant, app)
    if not text.strip():
        raise Refusal("there is nothing to look for; give some text")
    if role is not None and role not in ROLES:
        raise Refusal(f"--role {role!r}: it is one of {', '.join(ROLES)}")
    hits = _hits(call, text, role, thread, limit)
    if call.as_json:
        print_json_lines(_facts(thread_id, message, text) for thread_id, message in hits)
        return
    out = console()
    for thread_id, message in hits:
        head = Text()
        head.append(one_line(thread_id), style="cyan")
        head.append(f"  {message.role}", style="dim")
        head.append(f"  {one_line(message.message_id)}", style="dim")
        out.print(head, soft_wrap=True)
        print_indented(out, _highlighted(message.text(), text))
    if not hits:
        say("nothing found")
    elif len(hits) == limit:
        say(f"the newest {count_of(limit, 'hit')}; --limit N shows more")


def _hits(
    call: Call, text: str, role: str | None, thread: str | None, limit: int
) -> list[tuple[str, Message]]:
    with call.store() as memory:
        try:
            if thread is None:
                return memory.search_messages(call.config, text, role=role, limit=limit)
            known_thread(memory, call, thread)
            found = memory.list_messages(call.thread(thread), search=text, role=role, last=limit)
        except (TypeError, ValueError) as error:
            raise Refusal(str(error)) from None
    return [(thread, message) for message in reversed(found)]


def _facts(thread_id: str, message: Message, query: str) -> dict[str, Any]:
    text = message.text()
    return {
        "thread_id": thread_id,
        "message_id": message.message_id,
        "role": message.role,
        "text": text,
        "matches": find_parts(text, query),
    }


def _highlighted(text: str, query: str) -> Text:
    """The surroundings of the best match on one line, every match in it standing out."""
    text = " ".join(text.split())
    spans = find_parts(text, query)
    start = max(0, _richest(text, spans) - BEFORE)
    stop = min(len(text), start + AROUND)
    shown = Text("…" if start else "")
    at = start
    for begin, end in spans:
        begin, end = max(begin, at), min(end, stop)
        if begin < end:
            shown.append(_piece(text[at:begin]))
            shown.append(_piece(text[begin:end]), style="bold yellow")
            at = end
    shown.append(_piece(text[at:stop]))
    return shown.append("…" if stop < len(text) else "")


def _richest(text: str, spans: list[Span]) -> int:
    """Where the match begins that has the most different ones behind it within sight."""

    def different(begin: int) -> int:
        near = [span for span in spans if begin <= span[0] < begin + AROUND - BEFORE]
        return len({text[start:stop].lower() for start, stop in near})

    return max((begin for begin, _ in spans[:200]), key=different, default=0)


def _piece(piece: str) -> str:
    """A piece of a line, safe to show, with the spaces at its ends."""
    left = " " if piece[:1].isspace() else ""
    right = " " if piece[-1:].isspace() and piece.strip() else ""
    return f"{left}{one_line(piece)}{right}"


def find_parts(text: str, query: str) -> list[Span]:
    """Where the parts of a query stand in a text, as (start, end) in its characters, in order, apart."""
    folded, origin = _fold(text)
    spans: list[Span] = []
    for part in query.split():
        wanted = _fold(part.strip(_QUOTES))[0] or _fold(part)[0]
        at = folded.find(wanted) if wanted else -1
        while at >= 0:
            end = at + len(wanted)
            if _whole(folded, at, end):
                spans.append((origin[at], origin[end - 1] + 1))
            at = folded.find(wanted, end)
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _fold(text: str) -> tuple[str, list[int]]:
    """A text without case and accents, and for each of its characters the place it came from."""
    if text.isascii():
        return text.lower(), list(range(len(text)))
    folded: list[str] = []
    origin: list[int] = []
    for index, character in enumerate(text):
        spread = unicodedata.normalize("NFKD", character).casefold()
        kept = [each for each in spread if unicodedata.combining(each) < 200]
        folded += kept
        origin += [index] * len(kept)
    return "".join(folded), origin


def _whole(text: str, start: int, end: int) -> bool:
    """Whether a match begins and ends where a word does; scripts without spaces have no such places."""
    return not (_joins(text, start) or _joins(text, end))


def _joins(text: str, at: int) -> bool:
    if not 0 < at < len(text):
        return False
    left, right = text[at - 1], text[at]
    return left.isalnum() and right.isalnum() and left < "\u0e00" and right < "\u0e00"
