"""Conversations in JSON Lines, one a line, and what is wrong with the lines that hold none.

A line: `{"thread_id": "…", "user_id": "…", "messages": [OpenAI chat messages], …}`; `user_id` may be missing, and
any other key is metadata of the thread. `read_lines` cuts a stream into lines, `read_conversation` makes sense of one.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

from threadline import Message
from threadline.cli.output import one_line

#: Longest line that is read, in bytes.
MAX_LINE = 256 * 1024 * 1024
#: Longest name that a thread is given, in characters.
NAME_LENGTH = 60

_OURS = re.compile(r"(\d+)-[0-9a-f]{16}")


class BadLine(ValueError):
    """This line holds no conversation; the message is the reason."""


@dataclass(frozen=True)
class Conversation:
    """One line, understood."""

    thread_id: str
    user_id: Any
    messages: list[Message]
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str | None:
        """What to call the thread: what its user says first."""
        texts = (message.text() for message in self.messages if message.role == "user")
        return next((name for text in texts if (name := one_line(text, NAME_LENGTH))), None)


def read_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """The lines that are not blank with their numbers, counted from 1; None stands for one that is too long."""
    number = 0
    while line := stream.readline(MAX_LINE):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif line.strip():
            yield number, line


def read_conversation(line: bytes | None) -> Conversation:
    """The conversation in a line. Raises BadLine."""
    if line is None:
        raise BadLine(f"longer than {MAX_LINE:,} bytes")
    record = _record(line)
    thread_id = record.pop("thread_id", None)
    if not isinstance(thread_id, str):
        raise BadLine(_wrong("thread_id", "a text", thread_id))
    messages = record.pop("messages", None)
    if not isinstance(messages, list):
        raise BadLine(_wrong("messages", "a list", messages))
    user_id = record.pop("user_id", None)
    read = [_message(thread_id, index, message) for index, message in enumerate(messages, 1)]
    return Conversation(thread_id, user_id, read, record)


def position_of(message_id: str) -> int | None:
    """Which message of its conversation an imported one is, counted from 1; None for an id of another kind."""
    match = _OURS.fullmatch(message_id)
    return int(match[1]) if match else None


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise BadLine(f"not UTF-8 (byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        raise BadLine(f"not JSON: {error.msg} (character {error.pos + 1})") from None
    except RecursionError:
        raise BadLine("nested too deeply") from None
    except ValueError as error:
        raise BadLine(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise BadLine(f"not a JSON object, but {_kind(record)}")
    return record


def _message(thread_id: str, index: int, wire: Any) -> Message:
    try:
        return Message.from_openai(wire, message_id=_message_id(thread_id, index, wire))
    except RecursionError:
        raise BadLine(f"message {index}: nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise BadLine(f"message {index}: {one_line(str(error), 200)}") from None


def _message_id(thread_id: str, index: int, wire: Any) -> str:
    # The same message at the same place of the same conversation always has the same id: importing it again finds it.
    content = json.dumps([thread_id, index, wire], sort_keys=True).encode()
    return f"{index}-{hashlib.blake2b(content, digest_size=8).hexdigest()}"


def _no_constant(name: str) -> NoReturn:
    raise BadLine(f"not JSON: {name} is no number")


def _wrong(key: str, wanted: str, value: Any) -> str:
    return f"no {key}" if value is None else f"{key} is not {wanted}, but {_kind(value)}"


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
    return names[type(value)]
