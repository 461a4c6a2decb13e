"""What is known about a thread: the fields that its users write, and those that the store fills in on reading."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StrictBool, StrictInt

from threadline.model.blocks import JsonObject, Record, Text


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


#: An aware moment in UTC. ISO 8601 texts are read; a moment without a zone is taken as UTC.
Moment = Annotated[datetime, AfterValidator(_in_utc)]


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which thread a fork was made from, and at which version of its state."""

    thread_id: str
    namespace: str = ""
    version: int = 0


class ThreadInfo(Record):
    """A thread as users describe it.

    Written by users: `thread_id`, `thread_name`, `user_id` (a str or an int, kept as it is), `metadata`,
    `updated_at` (see `Moment`), `run_id`, `stop_requested`. Filled in by the store on reading, None before:
    `created_at` and `activity_at` (the store's clock, UTC), `message_count`, `checkpoint_count`, `forked_from`.
    """

    thread_id: Text
    thread_name: Text | None = None
    user_id: Text | StrictInt | None = None
    metadata: JsonObject = Field(default_factory=dict)
    updated_at: Moment | None = None
    run_id: Text | None = None
    stop_requested: StrictBool = False
    created_at: Moment | None = None
    activity_at: Moment | None = None
    message_count: int | None = None
    checkpoint_count: int | None = None
    forked_from: Lineage | None = None
