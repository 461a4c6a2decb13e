"""OpenAI chat messages to Messages and back, lossless both ways.

The work is done in `openai_fields` (a message) and `openai_parts` (its parts); these are the two doors.
"""

from __future__ import annotations

from typing import Any

from threadline.model.message import Message


def message_from_openai(message: dict[str, Any], message_id: str | None = None) -> Message:
    """See `Message.from_openai`."""
    return Message.from_openai(message, message_id=message_id)


def message_to_openai(message: Message) -> dict[str, Any]:
    """See `Message.to_openai`."""
    return message.to_openai()
