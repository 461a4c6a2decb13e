"""What a store counts of some threads: plain numbers by name and day, no rows and no payloads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class ToolCounts(NamedTuple):
    """The calls of one tool. `results`: how many were answered, `errors`: with an error; `timed` of them say how long
    they took, `milliseconds` together."""

    name: str
    calls: int
    results: int = 0
    errors: int = 0
    timed: int = 0
    milliseconds: int = 0


class Tokens(NamedTuple):
    """Tokens, as the messages' `usages` say."""

    prompt: int = 0
    completion: int = 0
    total: int = 0
    reasoning: int = 0
    cached: int = 0


class Dated(NamedTuple):
    """How many on one day (days since the epoch, UTC, by the store's clock): messages of a role, or checkpoints of a
    name."""

    day: int
    name: str | None
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What was counted. `seconds`: from the beginning to the last activity, of all threads together; `longest`: of
    one. The lists are ordered by their fields."""

    threads: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    messages: tuple[Dated, ...] = ()
    checkpoints: tuple[Dated, ...] = ()
    tools: tuple[ToolCounts, ...] = ()
    tokens: Tokens = field(default_factory=Tokens)
