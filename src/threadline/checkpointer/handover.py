"""Keywords of a put that reach `BaseCheckpointer.aput_state` around an override that does not know them.

A subclass may override `aput_state(self, config, state)` and call `super()`. A session puts through that override, with
the keywords it takes; the others wait in the context, and the put to this very thread takes them. The session learns
there, too, which checkpoint was made, should the override not return it.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from threadline.config import Address
from threadline.model import Checkpoint


@dataclass(slots=True)
class Handed:
    """What waits for the put to an address; `checkpoint`: what that put made."""

    address: Address
    keywords: dict[str, Any]
    taken: bool = False
    checkpoint: Checkpoint | None = None


_waiting: ContextVar[Handed | None] = ContextVar("threadline_handover", default=None)


@contextlib.contextmanager
def handing(address: Address, keywords: dict[str, Any]) -> Iterator[Handed]:
    """Let these keywords wait for a put to the address in this block."""
    handed = Handed(address, keywords)
    token = _waiting.set(handed)
    try:
        yield handed
    finally:
        _waiting.reset(token)


def take(address: Address) -> Handed | None:
    """What waits for this put, once."""
    handed = _waiting.get()
    if handed is None or handed.taken:
        return None
    # An override may add to the config (a tenant, a run); it is the same put as long as the thread is.
    here, there = handed.address, address
    if (here.thread_id, here.namespace) != (there.thread_id, there.namespace):
        return None
    handed.taken = True
    return handed


def split(method: Any, keywords: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keywords that a bound method takes, and the others."""
    known = _keywords(getattr(method, "__func__", method))
    direct = {name: value for name, value in keywords.items() if known is None or name in known}
    return direct, {name: value for name, value in keywords.items() if name not in direct}


@lru_cache(maxsize=256)
def _keywords(function: Any) -> frozenset[str] | None:
    """The names that a function takes as keywords; None: any."""
    parameters = inspect.signature(function).parameters.values()
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return None
    return frozenset(
        each.name for each in parameters if each.kind is not inspect.Parameter.POSITIONAL_ONLY
    )
