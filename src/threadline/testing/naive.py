"""Search as naively as it can be said, and what a redaction leaves: what the model finds."""

from __future__ import annotations

import unicodedata

from threadline.codec.digest import item_digest
from threadline.codec.records import encode_message
from threadline.codec.rows import JSON
from threadline.model import Message


def folded(text: str) -> str:
    """Without regard to case, accents and compatibility forms."""
    spread = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    bare = "".join(each for each in spread if unicodedata.category(each) != "Mn")
    return unicodedata.normalize("NFC", bare)


def found_by(search: str, text: str) -> bool:
    """Whether a text holds each part of a search: letter for letter, and from word's edge to word's edge."""
    text = folded(text)
    return all(_holds(text, folded(part.strip("\"'`")) or folded(part)) for part in search.split())


def _holds(text: str, part: str) -> bool:
    if part not in text:
        return False
    wanted = _words(part)
    words = _words(text)
    return any(words[at : at + len(wanted)] == wanted for at in range(len(words) + 1))


def _words(text: str) -> list[str]:
    words, open_ = [], False
    for each in text:
        unspaced = "\u3000" < each < "\ua000" or "\uf900" <= each <= "\ufaff"
        if unspaced and each.isalnum():
            words.append(each)
            open_ = False
        elif each.isalnum():
            words[-1:] = [words[-1] + each] if open_ else [*words[-1:], each]
            open_ = True
        else:
            open_ = False
    return words


def tombstone(message: Message) -> Message:
    """What stands in the place of a redacted message; the digest of the first content stays."""
    digest = item_digest(JSON, encode_message(message)).hex()
    if not message.content and isinstance(message.metadata.get("redacted"), str):
        digest = message.metadata["redacted"]
    return Message(
        message_id=message.message_id,
        role=message.role,
        timestamp=None,
        metadata={"redacted": digest},
    )
