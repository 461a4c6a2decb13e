"""What reaches a terminal or a pipe.

First `plain`, the filter that every stored text goes through: what others wrote may hold escape sequences that move
the cursor or rename the window. Then JSON, then tables and times.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Columns of output that is not a terminal: wide enough that nothing is cut or wrapped.
PIPE_WIDTH = 100_000


# Text -------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    r"""A stored text as it may be shown: line breaks and tabs stay, every other control character, surrogate and
    mark that turns the direction of writing becomes visible (`\x1b`)."""
    text = text.replace("\r\n", "\n")
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    kind = unicodedata.category(character)
    if kind in ("Zs", "Co", "Cn") or character in "\u200c\u200d":
        return character
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def one_line(text: str, most: int | None = None) -> str:
    """A stored text on one line, white space collapsed, cut to `most` characters with an ellipsis."""
    line = plain(" ".join(text.split()))
    return line if most is None or len(line) <= most else line[: most - 1].rstrip() + "…"


# The streams ------------------------------------------------------------------------------------------


def ready_streams() -> None:
    """Let no character that the terminal's encoding lacks stop us."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def console(*, stderr: bool = False) -> Console:
    """A console that takes text as it is: no markup, no emoji names, no guessing at what to colour."""
    stream = sys.stderr if stderr else sys.stdout
    wide = not stream.isatty() and not os.environ.get("COLUMNS")
    return Console(
        file=stream,
        markup=False,
        emoji=False,
        highlight=False,
        width=PIPE_WIDTH if wide else None,
    )


def complain(message: str) -> None:
    """Say on stderr why something cannot be done."""
    say(f"threadline: {plain(message)}")


def say(message: str) -> None:
    """One line beside the result, on stderr."""
    console(stderr=True).print(Text(message), soft_wrap=True)


# JSON -------------------------------------------------------------------------------------------------


def print_json(value: Any) -> None:
    """One JSON document on one line. ASCII only, so no text in it can reach a terminal raw."""
    sys.stdout.write(json.dumps(jsonable(value), ensure_ascii=True, allow_nan=False) + "\n")


def print_json_lines(values: Iterable[Any]) -> None:
    """JSON Lines."""
    for value in values:
        print_json(value)


def jsonable(value: Any) -> Any:
    """A value as JSON can say it: records as objects, times as ISO 8601, bytes as base64, NaN and infinities as
    their names."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): jsonable(value[key]) for key in value}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, BaseModel):
        return jsonable(value.model_dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: jsonable(getattr(value, field.name)) for field in fields}
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def value_text(value: Any, most: int | None = None) -> str:
    """A value as a person reads it, on one line: a text as it is, anything else as JSON."""
    if isinstance(value, str):
        return one_line(value, most)
    return one_line(json.dumps(jsonable(value), ensure_ascii=False), most)


def pairs_text(values: Mapping[str, Any], most: int | None = None) -> str:
    """`key=value` pairs on one line."""
    line = " ".join(f"{one_line(str(key))}={value_text(values[key], 60)}" for key in values)
    return line if most is None or len(line) <= most else line[: most - 1] + "…"


def print_indented(out: Console, text: Text) -> None:
    """A text two columns to the right, wrapped where a terminal would wrap it."""
    lines = text.wrap(out, out.width - 2) if out.is_terminal else text.split(allow_blank=True)
    for line in lines:
        line.rstrip()
        out.print(Text("  ").append_text(line) if line else line, soft_wrap=True)


# Tables and times ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Column:
    """A column. `cut`: shortened with an ellipsis where room is short; `whole`: wrapped rather than cut, since people
    copy it; neither: always shown in full. `number`: to the right."""

    title: str
    cut: bool = False
    whole: bool = False
    number: bool = False
    style: str = ""


#: What a column keeps when room is short, and the space between two columns.
LEAST, GAP = 8, 2


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """A table as wide as it must be, at most as wide as the terminal."""
    out, rows = console(), list(rows)
    table = Table(
        box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", show_edge=False
    )
    for column, width in zip(columns, _widths(columns, rows, out.width), strict=True):
        table.add_column(
            Text(column.title),
            justify="right" if column.number else "left",
            overflow="fold" if column.whole else "ellipsis",
            no_wrap=not column.whole,
            width=width,
            style=column.style,
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    out.print(table)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """How wide each column is: all it needs, less what those give up that can, the widest first."""
    cells = [[column.title, *(row[at] for row in rows)] for at, column in enumerate(columns)]
    widths = [max(map(cell_len, column)) for column in cells]
    for gives in ([column.cut for column in columns], [column.whole for column in columns]):
        giving = [at for at, give in enumerate(gives) if give]
        while sum(widths) + GAP * (len(widths) - 1) > room:
            widest = max(giving, key=widths.__getitem__, default=None)
            if widest is None or widths[widest] <= LEAST:
                break
            widths[widest] -= 1
    return widths


def moment(value: datetime | None, *, seconds: bool = True) -> str:
    """A moment in the local time zone, to the second or the minute."""
    form = "%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M"
    return "" if value is None else value.astimezone().strftime(form)


def count_of(number: int, one: str, many: str | None = None) -> str:
    """`1 thread`, `2,000 threads`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
