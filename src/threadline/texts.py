"""Which texts every store can hold: what PostgreSQL, SQLite and a dict all give back as it was."""

from __future__ import annotations

from typing import Final

from threadline.errors import NotStorableError

#: The longest text that stands in a key (an id, the kind and key of a slot), in bytes of UTF-8.
KEY_BYTES: Final = 2048


def check_text(text: object, what: str, most: int | None = None) -> None:
    """Raise NotStorableError for a text that some store cannot hold: with a NUL or a lone surrogate, or longer than
    `most` bytes (None: any length). Raises TypeError unless it is a str."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str, not {type(text).__name__}")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        bad = text[error.start]
        raise NotStorableError(
            f"{what} holds the lone surrogate {bad!r}: no text of a key, a name or a filter can"
        ) from None
    if "\0" in text:
        raise NotStorableError(f"{what} holds a NUL: no text of a key, a name or a filter can")
    if most is not None and size > most:
        raise NotStorableError(f"{what} is {size} bytes long; at most {most} are allowed")
