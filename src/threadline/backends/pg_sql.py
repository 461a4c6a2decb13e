"""The statements of the PostgreSQL backend: `queries.sql` made ready for one schema and one type of user ids.

Three things are filled in, all of them ours: `{{name}}` by the text of another query, `tl.` by the quoted schema and
the prefix of our tables, `owner_type` by the type of user ids. Parameters keep their names: a `Statement` knows in
which order it wants them. `Sql.put` joins the parts of a commit into one statement: which parts depends on what kinds
of things the batch holds and how many, never on their content.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
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
_NAMED = re.compile(r"(?<!:):([a-z_]+(?:\.\d)?)")
_ROWS = re.compile(
    r"unnest\((?P<columns>:(?P<of>[a-z]+)_\w+::\w+\[\](?:,\s*:\w+::\w+\[\])*)\)"
    r"(?P<numbered>\s+WITH ORDINALITY)?\s+AS (?P<name>\w+)"
)
_COLUMN = re.compile(r":(\w+)::(\w+)\[\]")
_TABLE = re.compile(r"\btl\.(\w+)")
_SCHEMA = re.compile(r"[^\x00-\x1f\x7f\"\\]{1,63}")


class Statement(NamedTuple):
    """A statement with numbered parameters, and the name of each; with it its place, where it is one of a list."""

    text: str
    names: tuple[tuple[str, int | None], ...]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The values of its parameters, in their order. Raises KeyError for one that is not given."""
        return [values[name] if at is None else values[name][at] for name, at in self.names]


class Part(NamedTuple):
    """A step of a put: its name in the statement, the query that it is, and how the parameters of its rows begin."""

    alias: str
    query: str
    rows: str = ""


#: What a batch may hold beside a head, each with its step; in this order.
PARTS: Mapping[str, Part] = {
    "checkpoint": Part("c", "add_checkpoint"),
    "rows": Part("l", "put_rows", "row"),
    "merged": Part("m", "delete_merged"),
    "blobs": Part("b", "add_blobs"),
    "entries": Part("e", "put_entries", "entry"),
    "slots": Part("s", "put_slots", "slot"),
    "gone_slots": Part("d", "delete_slots", "gone"),
    "info": Part("x", "drop_thread_terms"),
    "thread_terms": Part("y", "add_thread_terms"),
}
#: So many rows of a part, or fewer, are values of their own: an array for each column takes the driver and the server
#: longer.
FEW = 2


class Parts(NamedTuple):
    """What the statement of a put has to hold: names of `PARTS`, and "head" (there is one already), "said" (something
    of the thread), "fence", "relaxed", "absent" (some slots are written only then), "folded" (the checkpoint's row
    tells of the commit) and "forgotten" (nothing does); and of parts that are few rows, how many."""

    names: frozenset[str]
    few: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Parts:
        """From how many there are of each, 0 for none."""
        names = frozenset([name for name, count in counts.items() if count])
        few = [
            (part.rows, counts[name])
            for name, part in PARTS.items()
            if part.rows and 0 < counts[name] <= FEW
        ]
        return cls(names, tuple(few))


#: What stands for a part that is not there.
_NOTHING = {
    "folded": {"op": "NULL", "rev": "NULL", "op_seq": "NULL", "unless": ""},
    "entries": {"fresh": "0", "first_seq": "NULL", "seqs": "NULL", "op_seq": "NULL"},
    "absent": {"slots": "NULL"},
    "forgotten": {"looked": ""},
    "slots": {"slots": ":slots_done::boolean[]"},
    "fence": {"fence": "true"},
    "said": {"said": "", "active": "{{active_now}}"},
}
#: Parts of which a checkpoint's row does not always tell enough.
_TOLD = frozenset({"entries", "absent"})


class Sql:
    """Every statement, for one schema. Raises ValueError for a schema's name that is none, and an unknown type."""

    def __init__(self, schema: str = "public", user_ids: UserIds = "string") -> None:
        if user_ids not in OWNER_TYPES:
            raise ValueError(
                f"user_id_type must be one of {', '.join(OWNER_TYPES)}, not {user_ids!r}"
            )
        self.schema, self.user_ids = checked_schema(schema), user_ids
        self._puts: dict[tuple[bool, bool, Parts], Statement] = {}
        self._statements: dict[str, Statement] = {}

    def __getitem__(self, name: str) -> Statement:
        found = self._statements.get(name)
        if found is None:
            found = self._statements[name] = self._numbered(_expanded(_texts()[name]))
        return found

    def put(self, parts: Parts, *, create: bool = False, waits: bool = True) -> Statement:
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
        found = tuple(dict.fromkeys(_NAMED.findall(text)))
        numbers = {name: f"${number}" for number, name in enumerate(found, 1)}
        names = [name.partition(".") for name in found]
        return Statement(
            self._filled(_NAMED.sub(lambda m: numbers[m[1]], text)),
            tuple((name, int(at) if at else None) for name, _, at in names),
        )


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
    texts = _texts() | instead
    while _PART.search(text):
        text = _PART.sub(lambda match: texts[match[1]], text)
    return text


def _spelled(text: str, counts: Mapping[str, int]) -> str:
    """The text with the arrays of a few rows as that many rows of values, by how their parameters begin."""

    def values(rows: re.Match[str]) -> str:
        if rows["of"] not in counts:
            return rows[0]
        columns = _COLUMN.findall(rows["columns"])
        found = []
        for at in range(counts[rows["of"]]):
            each = [f":{name}.{at}::{type}" for name, type in columns]
            each += [f"{at + 1}::bigint"] if rows["numbered"] else []
            found.append(f"({', '.join(each)})")
        return f"(VALUES {', '.join(found)}) AS {rows['name']}"

    return _ROWS.sub(values, text)


def _is_journaled(names: Set[str]) -> bool:
    return "forgotten" not in names and ("folded" not in names or bool(names & _TOLD))


def _joined(parts: Parts, create: bool, waits: bool) -> str:
    names, ahead = parts.names, "head" in parts.names and not create
    instead: dict[str, str] = {} if waits else {"hold": _texts()["hold_free"]}
    if create:
        instead["rev"] = "t.rev"
    if ahead:
        instead["held"] = _texts()["held_ahead"]
    for part, nothing in _NOTHING.items():
        if part not in names:
            instead |= nothing
    steps = [
        Part("t", "create_thread" if create else "lock_row"),
        *([Part("z", "relax")] if "relaxed" in names else []),
        *([Part("f", "hold_slots")] if "fence" in names else []),
        Part("h", "create_head" if create else "advance_head" if ahead else "move_head"),
        *(step for name, step in PARTS.items() if name in names),
        Part("u", "created" if create else "move_thread"),
        Part("a", "told"),
        *([Part("j", "remember")] if _is_journaled(names) else []),
    ]
    told = ["a", *(["z"] if "relaxed" in names else [])]
    texts = [
        f"{step.alias} AS (\n{_expanded(_texts()[step.query], **instead)}\n)" for step in steps
    ]
    answer = _expanded(_texts()["answer"], **instead)
    text = "WITH " + ", ".join(texts) + f"\n{answer} FROM " + ", ".join(told)
    return _spelled(text, dict(parts.few))
