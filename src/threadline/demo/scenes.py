"""What the demo prints: the steps as they happen, then what the store knows of the past.

`Stage` has the forms of lines; `show_past` is the last scene; `commands` is what the spectator can try next.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from threadline import (
    Checkpoint,
    Message,
    ToolCallBlock,
)
from threadline.checkpointer import BaseCheckpointer
from threadline.demo.agent import TripState
from threadline.demo.story import THREAD

WANTED = "sandwiches"
_STYLES = {"user": "green", "assistant": "cyan", "tool": "magenta"}


class Stage:
    """Where lines appear."""

    def __init__(self, out: Console) -> None:
        self._out = out

    def title(self, text: str) -> None:
        """A new scene begins."""
        self._out.print()
        self._line(Text(text, style="bold"))

    def said(self, text: str) -> None:
        """Something by the way."""
        self._line(Text(f"  {text}", style="dim"))

    def good(self, text: str) -> None:
        """A claim that was checked."""
        self._beside(Text("  ok", style="bold green"), text)

    def bad(self, text: str) -> None:
        """A blow."""
        self._line(Text(f"  {text}", style="bold red"))

    def stored(self, version: int, message: Message) -> None:
        """A step that was stored."""
        self._step(str(version), message.role, _said(message))

    def calling(self, tool: str, arguments: Mapping[str, Any]) -> None:
        """A tool call that has begun."""
        self._step("", "tool", f"{call_text(tool, arguments)} is running ...")

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """A line of history."""
        at = f"{checkpoint.timestamp.astimezone():%H:%M:%S}"
        self._beside(Text(f"{checkpoint.version:>5}", style="dim"), f"{checkpoint.name:<18} {at}")

    def text(self, text: str) -> None:
        """A plain line."""
        self._beside(Text(""), text)

    def end(self, facts: Mapping[str, Any]) -> None:
        """The last words."""
        further = " Look further:" if facts["commands"] else ""
        self.title(f"Done in {facts['seconds']:.1f} s.{further}")
        for command in facts["commands"]:
            self._out.print(Text(f"  {command}", style="cyan"), soft_wrap=True)

    def _step(self, version: str, role: str, text: str) -> None:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(justify="right", width=5, style="dim")
        grid.add_column(width=9, style=_STYLES.get(role, ""))
        grid.add_column()
        grid.add_row(version, role, Text(text))
        self._out.print(grid)

    def _beside(self, left: Text, text: str) -> None:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column()
        grid.add_row(left, Text(text))
        self._out.print(grid)

    def _line(self, line: Text) -> None:
        self._out.print(line, soft_wrap=not self._out.is_terminal)


def _said(message: Message) -> str:
    calls = [block for block in message.content if isinstance(block, ToolCallBlock)]
    parts = [message.text()] if message.text() else []
    parts += [call_text(call.name, call.args) for call in calls]
    answer = " ".join(parts)
    return f"{message.name}: {answer}" if message.name else answer


def call_text(tool: str, arguments: Mapping[str, Any]) -> str:
    """A tool call as Python writes it."""
    return f"{tool}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def show_past(
    stage: Stage, memory: BaseCheckpointer, config: Mapping[str, Any], killed_at: int
) -> dict[str, Any]:
    """The history, a state of the past, a search, and the bytes; returns the figures."""
    history = memory.list_checkpoints(config)
    stage.title("The history, newest first")
    for checkpoint in history[:5]:
        stage.checkpoint(checkpoint)
    stage.said(f"... and {len(history) - 5} more")

    stage.title(f"The state as it was at version {killed_at}, before the kill")
    then: TripState = memory.get_state({**config, "version": killed_at})
    now: TripState = memory.get_state(config)
    stage.text(f"{len(then.context)} messages, notes: {then.notes or 'none'}")
    stage.text(f"now: {len(now.context)} messages, notes: {now.notes}")

    stage.title(f"A search for {WANTED!r}, over all threads")
    hits = memory.search_messages({"user_id": config["user_id"]}, WANTED)
    for thread_id, message in hits:
        stage.text(f"{thread_id}, {message.role}: {message.text()}")

    texts = [
        memory.get_state({**config, "version": each.version})
        .model_dump_json(exclude_defaults=True)
        .encode()
        for each in history
    ]
    snapshots, compressed = sum(map(len, texts)), sum(len(zlib.compress(text)) for text in texts)
    health = memory.health()
    stored = health["checkpoint_bytes"] + health["row_bytes"]
    stage.title(f"The bytes of {len(history)} checkpoints")
    stage.text(f"{snapshots:>8,}  as whole states in compact JSON, one a checkpoint")
    stage.text(f"{compressed:>8,}  the same, each compressed")
    stage.text(
        f"{stored:>8,}  as stored, each still readable: "
        f"{snapshots / stored:.0f} and {compressed / stored:.0f} times less"
    )
    stage.text(
        f"{health['store_bytes']:>8,}  all of the store: the log, its indexes and empty pages too"
    )
    return {
        "hits": len(hits),
        "snapshot_bytes": snapshots,
        "compressed_snapshot_bytes": compressed,
        "stored_bytes": stored,
    }


def commands(db: Path, version: int) -> list[str]:
    """What to type next, as it works in this shell."""
    here, found = Path(sys.argv[0]), shutil.which("threadline")
    if here.name == "threadline" and here.is_file():
        on_path = found is not None and Path(found).resolve() == here.resolve()
        program = "threadline" if on_path else shlex.quote(str(here))
    else:
        program = f"{shlex.quote(sys.executable)} -m threadline.cli"
    begin = f"{program} --db {shlex.quote(str(db))}"
    return [
        f"{begin} history {THREAD}",
        f"{begin} show {THREAD} --at {version}",
        f"{begin} search {WANTED}",
        f"{begin} stats",
    ]
