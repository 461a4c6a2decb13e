"""LangChain messages as entries of the message log, where they are searched and listed beside all others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, convert_to_openai_messages

from threadline import Message
from threadline.store import EntryPut, Store

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


def projection(
    store: Store, channel: str
) -> Callable[[Mapping[str, list[Any]]], Sequence[EntryPut]]:
    """What makes entries of the messages that a put adds to a channel. One with the id of another replaces it."""

    def project(fresh: Mapping[str, list[Any]]) -> Sequence[EntryPut]:
        puts = {
            each.id: EntryPut(store.entry(as_message(each)))
            for each in fresh.get(channel, ())
            if isinstance(each, BaseMessage) and each.id
        }
        return list(puts.values())

    return project


def as_message(message: BaseMessage) -> Message:
    """A message of LangChain's as one of ours; what OpenAI's form cannot say is kept as its text."""
    try:
        told: Any = convert_to_openai_messages(message)
        return Message.from_openai(told, message_id=message.id)
    except (TypeError, ValueError, KeyError):
        role: Any = _ROLES.get(message.type, "user")
        return Message.text_message(str(message.text), role, message.id)
