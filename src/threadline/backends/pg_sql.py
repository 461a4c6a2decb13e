"""The statements of the PostgreSQL backend: `queries.sql` made ready for one schema and one type of user ids.

Three things are filled in, all of them ours: `{{name}}` by the text of another query, `tl.` by the quoted schema and
the prefix of our tables, `owner_type` by the type of user ids. Parameters keep their names: a `Statement` knows in
which order it wants them. `Sql.put` joins the parts of a commit into one statement: which parts depends on what kinds
of things the batch holds, never on their content.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from threadline.backends import sqlfile

UserIds = Literal["string", "int", "bigint"]
#: The column type of each kind of user ids.
OWNER_TYPES: Mapping[str, str] = {
    "string": 'text COLLATE "C"',
    "int": "integer",
    "bigint": "bigint",
}

_PART = re.compile(r"\{\{(\w+)\}\}")
_NAMED = re.compile(r"(?<!:):([a-z_]+)")
_TABLE = re.compile(r"\btl\.(\w+)")
_SCHEMA = re.compile(r"[^\x00-\x1f\x7f\"\\]{1,63}")


class Statement(NamedTuple):
    """A statement with numbered parameters, and the name of each."""

    text: str
    names: tuple[str, ...]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The values of its parameters, in their order. Raises KeyError for one that is not given."""
        return [values[name] for name in self.names]


class Part(NamedTuple):
    """A step of a put: its name in the statement, and the query that it is."""

    alias: str
    query: str


#: What a batch may hold beside a head, each with its step; in this order.
PARTS: Mapping[str, Part] = {
    "checkpoint": Part("c", "add_checkpoint"),
    "rows": Part("l", "put_rows"),
    "merged": Part("m", "delete_merged"),
    "blobs": Part("b", "add_blobs"),
    "entries": Part("e", "put_entries"),
    "slots": Part("s", "put_slots"),
    "info": Part("x", "drop_thread_terms"),
    "thread_terms": Part("y", "add_thread_terms"),
}
#: What stands for a part that is not there.
_NOTHING = {
    "entries": {"fresh": "0", "first_seq": "NULL", "seqs": "NULL"},
    "slots": {"slots": ":slots_done::boolean[]"},
    "fence": {"fence": "true"},
}


class Sql:
    """Every statement, for one schema. Raises ValueError for a schema's name that is none, and an unknown type."""

    def __init__(self, schema: str = "public", user_ids: UserIds = "string") -> None:
        if user_ids not in OWNER_TYPES:
            raise ValueError(
                f"user_id_type must be one of {', '.join(OWNER_TYPES)}, not {user_ids!r}"
            )
        self.schema, self.user_ids = checked_schema(schema), user_ids
        self._puts: dict[tuple[bool, bool, frozenset[str]], Statement] = {}
        self._statements: dict[str, Statement] = {}

    def __getitem__(self, name: str) -> Statement:
        found = self._statements.get(name)
        if found is None:
            found = self._statements[name] = self._numbered(_expanded(_texts()[name]))
        return found

    def put(self, parts: frozenset[str], *, create: bool = False, waits: bool = True) -> Statement:
        """The one statement that commits a batch holding these parts (of `PARTS`) onto a thread that is there, or
        (`create`) into one that comes into being. `waits`: for a row that another transaction holds; else it does
        nothing then."""
        found = self._puts.get((create, waits, parts))
        if found is None:
            text = _joined(parts, create, waits)
            found = self._puts[create, waits, parts] = self._numbered(text)
        return found

    def ddl(self, text: str) -> str:
        """The text of a migration's statement for this schema."""
        return self._filled(text)

    def table(self, name: str) -> str:
        """The full name of a table, quoted."""
        return f'"{self.schema}".threadline_{name}'

    def _filled(self, text: str) -> str:
        text = text.replace("owner_type", OWNER_TYPES[self.user_ids])
        return _TABLE.sub(lambda match: self.table(match[1]), text)

    def _numbered(self, text: str) -> Statement:
        # A cast of a parameter takes no collation.
        text = text.replace("::owner_type", "::" + OWNER_TYPES[self.user_ids].split()[0])
        names = tuple(dict.fromkeys(_NAMED.findall(text)))
        numbers = {name: f"${number}" for number, name in enumerate(names, 1)}
        return Statement(self._filled(_NAMED.sub(lambda m: numbers[m[1]], text)), names)


def checked_schema(schema: str) -> str:
    """A schema's name that can be quoted. Raises TypeError, ValueError."""
    if not isinstance(schema, str):
        raise TypeError(f"schema must be a str, not {type(schema).__name__}")
    if not _SCHEMA.fullmatch(schema) or len(schema.encode()) > 63 or schema.startswith("pg_"):
        raise ValueError(
            f"schema {schema!r} is no name of a schema: 1 to 63 bytes, without quotation marks, backslashes and "
            "control characters, and not beginning with pg_"
        )
    return schema


@cache
def _texts() -> dict[str, str]:
    return sqlfile.statements("postgres")


def _expanded(text: str, **instead: str) -> str:
    """The text with every `{{name}}` in it replaced, inside out."""
    while _PART.search(text):
        text = _PART.sub(lambda match: instead.get(match[1]) or _texts()[match[1]], text)
    return text


def _joined(parts: frozenset[str], create: bool, waits: bool) -> str:
    instead: dict[str, str] = {} if waits else {"hold": _texts()["hold_free"]}
    for part, nothing in _NOTHING.items():
        if part not in parts:
            instead |= nothing
    steps = [
        Part("t", "create_thread" if create else "lock_row"),
        *([Part("z", "relax")] if "relaxed" in parts else []),
        *([Part("f", "hold_slots")] if "fence" in parts else []),
        Part("h", "create_head" if create else "move_head"),
        *(step for name, step in PARTS.items() if name in parts),
        Part("u", "created" if create else "move_thread"),
        Part("j", "remember"),
    ]
    told = ["j", "u", *(["z"] if "relaxed" in parts else [])]
    texts = [f"{alias} AS (\n{_expanded(_texts()[name], **instead)}\n)" for alias, name in steps]
    return "WITH " + ", ".join(texts) + "\nSELECT j.*, u.incarnation FROM " + ", ".join(told)
