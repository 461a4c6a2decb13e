"""What differs between two states: `Change`, one difference, and `StateDiff`, all of them. Pure records.

A path is a tuple of dict keys and list indexes. Its text, `context[3].content[0].text`, quotes keys that are no
names. Values are plain values as the codec reads them; in JSON, what JSON has no word for is written as the codec
writes it (`{"$tuple": [1]}`), so that `1`, `1.0` and `True` stay three values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from threadline.codec.values import encode

#: The dict keys and list indexes that lead to a value.
Path = tuple[Any, ...]
Kind = Literal["added", "removed", "changed", "moved"]

#: How much of a value is printed, in characters, and how much of a text before the place where it changed.
SHOWN, BEFORE = 72, 16
_SIGNS: Final[dict[Kind, str]] = {"added": "+", "removed": "-", "changed": "~", "moved": "~"}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    `kind`: "added" (only in b), "removed" (only in a), "changed" (another value), or "moved" (an item with an id that
    stands elsewhere among its neighbours; what changed inside it follows as changes of their own). `path`: where it
    stands in b, and for what was removed where it stood in a; `old_path`: where it stood in a, None for what was
    added. The two differ behind an item that was put into a list or taken out of it. `old`, `new`: the values, None
    where there is none, and for "moved". `id`: the id of the item (message) that it is or lies in, None outside.
    """

    kind: Kind
    path: Path
    old_path: Path | None
    old: Any = None
    new: Any = None
    id: str | int | None = None

    def __str__(self) -> str:
        place = path_text(self.path)
        if self.kind == "moved" and self.old_path is not None:
            place = f"{path_text(self.old_path)} -> {place}"
        if self.id is not None:
            place += f" ({printable(str(self.id))[:SHOWN]})"
        return f"{_SIGNS[self.kind]} {place}{self._values()}"

    def _values(self) -> str:
        match self.kind:
            case "added":
                return f": {brief(self.new)}"
            case "removed":
                return f": {brief(self.old)}"
            case "changed":
                at = _first_difference(self.old, self.new)
                return f": {brief(self.old, at)} -> {brief(self.new, at)}"
        return " moved"

    def to_dict(self) -> dict[str, Any]:
        """The change ready for JSON: `kind`, `path` as text, `old_path` where it is another, `id` where there is one,
        and `old` and `new` as far as the kind has them."""
        values: dict[str, Any] = {"kind": self.kind, "path": path_text(self.path)}
        if self.old_path is not None and (
            self.kind == "moved" or path_text(self.old_path) != values["path"]
        ):
            values["old_path"] = path_text(self.old_path)
        if self.id is not None:
            values["id"] = _plain(self.id)
        if self.kind in ("removed", "changed"):
            values["old"] = _plain(self.old)
        if self.kind in ("added", "changed"):
            values["new"] = _plain(self.new)
        return values


@dataclass(frozen=True, slots=True)
class StateDiff:
    """What differs between versions `a` and `b` of a thread and namespace.

    It is true when something differs, and can be iterated and counted. Printed, it has a line for each change: `+`
    for what was added, `-` removed, `~` changed or moved; long values are shortened. `changes` has them whole:
    field by field, in a list what was removed first, then what is there, in the order of b.

    Values are those that are stored: a field of a model that holds its empty default is not there, so a message that
    got a name shows as "added" at its `name`. The order of a dict's keys is no difference, NaN equals NaN.
    """

    thread_id: str
    namespace: str
    a: int
    b: int
    changes: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    @property
    def added(self) -> tuple[Change, ...]:
        """What is only in b."""
        return self._of("added")

    @property
    def removed(self) -> tuple[Change, ...]:
        """What is only in a."""
        return self._of("removed")

    @property
    def changed(self) -> tuple[Change, ...]:
        """What has another value in b than in a."""
        return self._of("changed")

    @property
    def moved(self) -> tuple[Change, ...]:
        """Items that stand elsewhere among their neighbours."""
        return self._of("moved")

    def _of(self, kind: Kind) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.kind == kind)

    def __str__(self) -> str:
        counts = Counter(change.kind for change in self.changes)
        kinds: tuple[Kind, ...] = ("added", "removed", "changed", "moved")
        said = ", ".join(f"{counts[kind]} {kind}" for kind in kinds if counts[kind])
        where = f"thread {quoted(self.thread_id)}"
        if self.namespace:
            where += f", namespace {quoted(self.namespace)}"
        head = f"{where}, version {self.a} -> {self.b}: {said or 'no difference'}"
        return "\n".join([head, *map(str, self.changes)])

    def to_dict(self) -> dict[str, Any]:
        """Everything ready for JSON: `thread_id`, `namespace`, `a`, `b` and `changes` (see `Change.to_dict`)."""
        changes = [change.to_dict() for change in self.changes]
        return {
            "thread_id": self.thread_id,
            "namespace": self.namespace,
            "a": self.a,
            "b": self.b,
            "changes": changes,
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return orjson.dumps(self.to_dict()).decode()


def path_text(path: Path) -> str:
    """A path as text: `a.b[3]["a key"]`; the state itself is `.`."""
    parts = []
    for key in path:
        if type(key) is str and key.isidentifier() and key.isprintable():
            parts.append(f".{key}")
        elif type(key) is str:
            parts.append(f"[{quoted(key)}]")
        else:
            parts.append(f"[{printable(repr(key))}]")
    return "".join(parts).removeprefix(".") or "."


def quoted(text: str) -> str:
    """A text in double quotes, without a character that moves a cursor or cannot be encoded."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'


def printable(text: str) -> str:
    """A text with every character that is not printable escaped."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def brief(value: Any, at: int = 0) -> str:
    """A value in one line: a text quoted, a message as its role and text, all else as JSON; long ones shortened to
    what stands around character `at`."""
    if type(value) is str:
        start = max(at - BEFORE, 0) if len(value) > SHOWN else 0
        cut = value[start : start + SHOWN]
        before, behind = "…" * (start > 0), "…" * (start + SHOWN < len(value))
        size = f" ({len(value)} characters)" if len(cut) < len(value) else ""
        return f"{before}{quoted(cut)}{behind}{size}"
    if isinstance(value, dict) and type(role := value.get("role")) is str:
        text = _message_text(value.get("content"))
        if text is not None:
            return f"{printable(role)[:SHOWN]} {brief(text)}"
    text = encode(value).decode()
    return printable(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def _message_text(content: Any) -> str | None:
    if type(content) is str:
        return content
    if not isinstance(content, list):
        return None
    texts = [block.get("text") for block in content if isinstance(block, dict)]
    found = [text for text in texts if type(text) is str]
    return "\n".join(found) if found else None


def _first_difference(old: Any, new: Any) -> int:
    if type(old) is not str or type(new) is not str:
        return 0
    pairs = enumerate(zip(old, new, strict=False))
    return next((at for at, (x, y) in pairs if x != y), min(len(old), len(new)))


def _plain(value: Any) -> Any:
    return orjson.loads(encode(value))
