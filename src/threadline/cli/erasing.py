"""`delete` and `erase`: what goes for good, and only when it is said twice."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from threadline.cli.options import (
    App,
    Db,
    Json,
    Refusal,
    Tenant,
    ThreadArgument,
    User,
    known_thread,
    read_user,
    refusals,
    settle,
)
from threadline.cli.output import console, count_of, one_line, print_json

Yes = Annotated[
    bool, typer.Option("--yes", metavar="", help="Do it. Without this, say what would go.")
]


def delete(
    context: typer.Context,
    thread: ThreadArgument,
    yes: Yes = False,
    user: User = None,
    tenant: Tenant = "",
    app: App = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Delete a thread for good, with its messages and its past. Forks of it stay."""
    call = settle(context, db, as_json, user, tenant, app)
    with call.store() as memory, refusals():
        info = known_thread(memory, call, thread)
        checkpoints, messages = info.checkpoint_count or 0, info.message_count or 0
        held = f"{count_of(checkpoints, 'checkpoint')} and {count_of(messages, 'message')}"
        if not yes:
            raise Refusal(
                f"thread {thread!r} would be gone for good, with {held}: repeat with --yes"
            )
        gone = memory.delete_thread(call.thread(thread))
    if call.as_json:
        counts = {"checkpoints": checkpoints, "messages": messages}
        print_json({"thread_id": thread, "deleted": gone, **counts})
        return
    said = f"is gone, with {held}" if gone else "was gone already"
    console().print(Text(f"{one_line(thread)} {said}"), soft_wrap=True)


def erase(
    context: typer.Context,
    user: Annotated[
        str,
        typer.Argument(metavar="USER", help="Whose threads: an id, or int:42.", show_default=False),
    ],
    yes: Yes = False,
    tenant: Tenant = "",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Erase every thread of a user for good, in every app of the tenant. Can be repeated after a crash."""
    call = settle(context, db, as_json, tenant=tenant)
    if not yes:
        raise Refusal(
            f"every thread of user {read_user(user)!r} would be gone for good: repeat with --yes"
        )
    with call.store() as memory, refusals():
        receipt = memory.erase_user({"tenant": tenant, "user_id": read_user(user)})
    if call.as_json:
        print_json(receipt)
        return
    out = console()
    gone = count_of(len(receipt["threads"]), "thread")
    out.print(Text(f"{gone} of {one_line(user)} erased"), soft_wrap=True)
    if forks := receipt["forks_of_others"]:
        out.print(
            Text(f"forks that belong to others stay: {', '.join(map(one_line, forks))}"),
            soft_wrap=True,
        )
    if receipt["scrubbed"] is False:
        out.print(
            Text("a reader still holds the old bytes in the file: repeat this later"),
            soft_wrap=True,
        )
