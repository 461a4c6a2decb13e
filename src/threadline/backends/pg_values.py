"""Single values, between the port and the columns of PostgreSQL: keys, ids, user ids, words, texts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from zlib import crc32

from threadline.backends.pg_sql import UserIds

_DEFAULT_NS = bytes(8)
#: A user id that is a number, in a column of texts: behind a character that no text id may hold.
_NUMBER = "\x1f"
_HEX = re.compile(r"[0-9a-f]{32}")
_INTS = {"int": 31, "bigint": 63}
#: No word of a language has more characters; what has more is not worth remembering.
_LONGEST_KNOWN = 64


def short(ns: bytes) -> bytes:
    """A namespace's key as it is stored."""
    return b"" if ns == _DEFAULT_NS else ns


def number_of(key: bytes) -> int:
    """What stands for a thread in the keys of all tables: the first 8 bytes of its key, in their order."""
    return int.from_bytes(key[:8], "big") - 2**63


def place(key: bytes, ns: bytes) -> dict[str, Any]:
    """The parameters that name a thread and a namespace."""
    return {"key": key, "thread": number_of(key), "ns": short(ns)}


def id_in(ext_id: str | None) -> bytes | None:
    """An id as it is stored: 32 hexadecimal digits, bare or as a UUID, as 16 bytes behind one that says which."""
    if ext_id is None:
        return None
    bare = ext_id.replace("-", "")
    if _HEX.fullmatch(bare):
        data = bytes.fromhex(bare)
        if ext_id == bare:
            return b"\x00" + data
        if ext_id == _uuid(bare):
            return b"\x01" + data
    data = ext_id.encode()
    return b"\x02" + data if data[:1] <= b"\x02" else data


def id_out(stored: bytes | None) -> str | None:
    """The id that is stored so."""
    if stored is None:
        return None
    if stored[:1] > b"\x02":
        return stored.decode()
    if stored[:1] == b"\x02":
        return stored[1:].decode()
    bare = stored[1:].hex()
    return _uuid(bare) if stored[:1] == b"\x01" else bare


def _uuid(bare: str) -> str:
    return f"{bare[:8]}-{bare[8:12]}-{bare[12:16]}-{bare[16:20]}-{bare[20:]}"


def owner_in(user: str | None, user_ids: UserIds) -> str | int | None:
    """The value of the owner column for a canonical user. Raises ValueError for one that does not fit it."""
    if user is None:
        return None
    number = int(user[2:]) if user.startswith("i:") else None
    if user_ids == "string":
        return user[2:] if number is None else _NUMBER + user[2:]
    bits = _INTS[user_ids]
    if number is None or not -(2**bits) <= number < 2**bits:
        raise ValueError(
            f"user_id {user[2:]!r} does not fit this store, whose user ids are of type {user_ids!r}"
        )
    return number


def owner_out(owner: str | int | None) -> str | None:
    """The canonical user of an owner column."""
    if owner is None:
        return None
    if isinstance(owner, int):
        return f"i:{owner}"
    return "i:" + owner[1:] if owner.startswith(_NUMBER) else "s:" + owner


def words_in(search: str | None) -> str | None:
    """The words of an entry as they are indexed: each once, as a number, in the text form of an array."""
    return "{" + ",".join(_numbers(search.split(" "))) + "}" if search else None


def match_of(words: Iterable[str]) -> list[int]:
    """The numbers of words, each once."""
    return list(map(int, _numbers(words)))


def _numbers(words: Iterable[str]) -> Iterable[str]:
    each = set(words)
    # Few words are most of any text (Zipf), and looking one up takes a fifth of making its number.
    known = max(map(len, each), default=0) <= _LONGEST_KNOWN
    return map(_known_number if known else _number, each)


def _number(word: str) -> str:
    """Its CRC-32, as PostgreSQL has numbers of 32 bits."""
    return str(crc32(word.encode()) - 2**31)


_known_number = lru_cache(maxsize=8192)(_number)


def cleaned(text: str | None) -> str | None:
    """A projection (a title, say) without what PostgreSQL cannot store as text."""
    if text is None:
        return None
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
