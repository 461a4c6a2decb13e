"""`show`: a thread as a person reads it, now or at a moment of its past."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from threadline import (
    Checkpoint,
    DataBlock,
    Message,
    TextBlock,
    ThreadInfo,
    ToolCallBlock,
    ToolResultBlock,
)
from threadline.checkpointer import BaseCheckpointer
from threadline.cli.bringing import langgraph_checkpoint
from threadline.cli.options import (
    LANGGRAPH,
    App,
    At,
    Call,
    Db,
    Json,
    Namespace,
    Refusal,
    Tenant,
    ThreadArgument,
    User,
    known_checkpoint,
    known_thread,
    settle,
)
from threadline.cli.output import (
    console,
    count_of,
    jsonable,
    moment,
    one_line,
    pairs_text,
    plain,
    print_indented,
    print_json,
)

_STYLES = {"user": "green", "assistant": "cyan", "tool": "magenta", "system": "dim"}


def show(
    context: typer.Context,
    thread: ThreadArgument,
    at: At = None,
    messages: Annotated[
        bool, typer.Option("--messages", metavar="", help="The message log instead of the state.")
    ] = False,
    last: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Only the newest N messages.", show_default=False),
    ] = None,
    namespace: Namespace = "",
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Show a thread: its state, or its messages where it has no state."""
    if messages and at is not None:
        raise Refusal("--at shows a state of the past, --messages the log: give one of them")
    call = settle(context, db, as_json, user, tenant, app)
    with call.store() as memory:
        info = known_thread(memory, call, thread)
        try:
            checkpoint = None if messages else _checkpoint(memory, call, thread, namespace, at)
            log: list[Message] = []
            if checkpoint is None:
                config = call.thread(thread, namespace=namespace)
                log = memory.list_messages(config, last=last)
        except (TypeError, ValueError) as error:
            raise Refusal(str(error)) from None
    if call.as_json:
        print_json(_facts(info, checkpoint, log, last))
        return
    out = console()
    _print_thread(out, info)
    if checkpoint is not None:
        _print_state(out, checkpoint, last)
    else:
        _print_messages(out, log, (info.message_count or len(log)) - len(log))


def _checkpoint(
    memory: BaseCheckpointer, call: Call, thread: str, namespace: str, at: str | None
) -> Checkpoint | None:
    """The checkpoint that is meant, with its state as a plain dict. Raises Refusal when there is none."""
    config = call.thread(thread, namespace=namespace, state_class=dict)
    if call.config["app"] == LANGGRAPH:
        return langgraph_checkpoint(memory, config, at)
    return memory.get_checkpoint(config) if at is None else known_checkpoint(memory, config, at)


def _facts(
    info: ThreadInfo, checkpoint: Checkpoint | None, log: list[Message], last: int | None
) -> dict[str, Any]:
    if checkpoint is None:
        return {"thread": info, "checkpoint": None, "messages": log}
    state = jsonable(checkpoint.state)
    if last is not None and isinstance(state, dict) and isinstance(state.get("context"), list):
        state["context"] = state["context"][-last:]
    return {"thread": info, "checkpoint": checkpoint.to_dict(), "state": state}


# For people -------------------------------------------------------------------------------------------


def _print_thread(out: Console, info: ThreadInfo) -> None:
    title = Text(one_line(info.thread_id), style="bold")
    if info.thread_name:
        title.append(f"  {one_line(info.thread_name)}", style="not bold")
    out.print(title, soft_wrap=True)
    facts = [] if info.user_id is None else [f"user {one_line(str(info.user_id))}"]
    facts.append(count_of(info.message_count or 0, "message"))
    facts.append(count_of(info.checkpoint_count or 0, "checkpoint"))
    facts.append(f"last used {moment(info.activity_at)}")
    if info.forked_from is not None:
        origin = info.forked_from
        facts.append(f"forked from {one_line(origin.thread_id)} at version {origin.version}")
    out.print(Text(", ".join(facts), style="dim"), soft_wrap=True)
    if info.metadata:
        out.print(Text(pairs_text(info.metadata), style="dim"), soft_wrap=True)


def _print_state(out: Console, checkpoint: Checkpoint, last: int | None) -> None:
    said = f"version {checkpoint.version}"
    said += f" ({one_line(checkpoint.name)})" if checkpoint.name else ""
    out.print(Text(f"{said}, {moment(checkpoint.timestamp)}", style="bold"), soft_wrap=True)
    state = checkpoint.state
    if state is None:
        out.print(Text("the state was cleared here", style="dim"))
        return
    fields = dict(state) if isinstance(state, Mapping) else {"value": state}
    context = _as_messages(fields.get("context"))
    if context is not None:
        del fields["context"]
    for name, value in fields.items():
        if value is not None and value not in ({}, []):
            line = Text(f"{one_line(str(name))}: ", style="bold").append(
                plain(_value(value)), style="not bold"
            )
            out.print(line, soft_wrap=True)
    if context is not None:
        shown = context if last is None else context[-last:]
        _print_messages(out, shown, len(context) - len(shown))


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(jsonable(value), ensure_ascii=False)


def _as_messages(value: Any) -> list[Message] | None:
    """The messages in a state that was read as a plain dict; None when they are something else."""
    if not isinstance(value, list):
        return None
    try:
        return [Message.model_validate(item) for item in value]
    except ValidationError:
        return None


def _print_messages(out: Console, messages: Sequence[Message], left_out: int) -> None:
    if left_out > 0:
        out.print(Text(f"… {count_of(left_out, 'earlier message')}", style="dim"))
    for message in messages:
        head = Text(message.role, style=f"bold {_STYLES.get(message.role, 'white')}")
        if message.name:
            head.append(f" {one_line(message.name)}", style="not bold")
        head.append(f"  {one_line(message.message_id)}", style="dim not bold")
        out.print(head, soft_wrap=True)
        for line in _lines(message):
            print_indented(out, line)


def _lines(message: Message) -> Iterable[Text]:
    if message.reasoning:
        yield Text(plain(message.reasoning), style="dim italic")
    for block in message.content:
        match block:
            case TextBlock():
                yield Text(plain(block.text))
            case ToolCallBlock():
                arguments = json.dumps(jsonable(block.args), ensure_ascii=False)
                call = Text(f"{one_line(block.name)}({plain(arguments)})", style="yellow")
                yield call.append(f"  {one_line(block.id)}", style="dim")
            case ToolResultBlock():
                yield Text(plain(block.readable() or _value(block.output)))
            case DataBlock():
                yield Text("(data)", style="dim")
            case _:
                kind = block.type.replace("_", " ")
                yield Text(plain(block.readable()) or f"({kind})")
