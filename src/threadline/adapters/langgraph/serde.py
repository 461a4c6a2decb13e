"""The codec of the adapter: LangGraph's msgpack with a closed list of types.

What a stored value may become is decided by the program, never by the stored bytes: the standard types that LangGraph
lists as safe (messages, dates, `Send`, `Interrupt` and the like) and the types that the saver was given. A value of
another type is refused when it is put, with its name; bytes that name another type are refused when they are read.
Names are looked up among what the program has imported already: nothing is imported for them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import langchain_core.messages
import ormsgpack
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from threadline import CorruptionError, NotStorableError
from threadline.adapters.langgraph.copies import Patterns, Read
from threadline.adapters.langgraph.document import list_of

# LangGraph's extension codes, as `JsonPlusSerializer` writes them.
_ONE_ARGUMENT, _ARGUMENTS, _KEYWORDS, _METHOD, _PYDANTIC_1, _PYDANTIC_2, _NUMPY, _SNAPSHOT = range(
    8
)
_PLAIN = ("null", "bytes", "bytearray")
_OPTION = ormsgpack.OPT_NON_STR_KEYS

Allowed = Iterable[type | tuple[str, ...]]

#: So that every safe type of it is there to be found by name.
_LOADED = langchain_core.messages


class StrictSerializer(JsonPlusSerializer):
    """`JsonPlusSerializer` that reads msgpack only, and of the types that are safe or `allowed` only.

    allowed: classes, or (module, name) pairs. Raises NotStorableError in `check_typed`, CorruptionError in
    `loads_typed`.
    """

    def __init__(self, allowed: Allowed = (), patterns: Patterns | None = None) -> None:
        self._classes = {_name(each): each for each in allowed}
        self.patterns = patterns or Patterns()
        super().__init__(allowed_msgpack_modules=tuple(self._classes) or None)

    def with_msgpack_allowlist(self, extra_allowlist: Allowed) -> JsonPlusSerializer:
        """A serializer that also allows these."""
        extra = {_name(each): each for each in extra_allowlist}
        if extra.keys() <= self._classes.keys():
            return self
        return StrictSerializer((extra | self._classes).values(), self.patterns)

    def check_typed(self, data: tuple[str, bytes], what: str) -> None:
        """Raise NotStorableError unless these bytes, which were just written, can be read again."""
        if data[0] == "msgpack" and (
            refused := _Reader(self._classes, build=False).read(data[1])[1]
        ):
            raise NotStorableError(
                f"{what} holds a {refused}, which is not among the types that this saver reads back; nothing was "
                f"written. Allow it with ThreadlineSaver(..., allowed_msgpack_modules=[...]), or store plain data."
            )

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value of some bytes. Raises CorruptionError when they name a type that is not allowed."""
        kind, content = data
        if kind == "msgpack":
            value, refused = _Reader(self._classes).read(content)
            if refused:
                raise CorruptionError(
                    f"a stored value names {refused}, which is not among the types that this saver reads; if it is "
                    "yours, pass it in allowed_msgpack_modules"
                )
            return value
        if kind not in _PLAIN:
            raise CorruptionError(f"a stored value is of the form {kind!r}, which is never read")
        return super().loads_typed(data)

    def loads_items(self, items: Sequence[bytes]) -> Read:
        """The objects of the items of a list, as `loads_typed` would build them."""
        return self.patterns.read(
            items,
            lambda item: self.loads_typed(("msgpack", item)),
            lambda: self.loads_typed(list_of(items)),
        )


class _Reader:
    """One reading of some msgpack; with `build` False only to see which types it names."""

    def __init__(
        self, classes: dict[tuple[str, ...], type | tuple[str, ...]], *, build: bool = True
    ) -> None:
        self._classes, self._build = classes, build
        self._refused = ""

    def read(self, data: bytes) -> tuple[Any, str]:
        """The value, and what was refused (then there is no value). Raises CorruptionError."""
        try:
            return ormsgpack.unpackb(data, ext_hook=self._extension, option=_OPTION), ""
        except ormsgpack.MsgpackDecodeError as error:
            if self._refused:
                return None, self._refused
            raise CorruptionError(f"a stored value is no msgpack: {error}") from None

    def _extension(self, code: int, data: bytes) -> Any:
        told = ormsgpack.unpackb(data, ext_hook=self._extension, option=_OPTION)
        if code == _SNAPSHOT:
            return _DeltaSnapshot(told)
        if code == _NUMPY:
            return self._array(*told)
        try:
            module, name, content = told[:3]
        except (TypeError, ValueError):
            module, name, content = "extension", str(code), None
        if code == _METHOD:
            if (module, name, told[3]) != ("datetime", "datetime", "fromisoformat"):
                self._refuse(f"{module}.{name}.{told[3]}")
            return datetime.fromisoformat(content)
        found = self._class(code, module, name)
        return _made(found, code, content) if self._build else None

    def _class(self, code: int, module: Any, name: Any) -> Any:
        key = (module, name)
        known = type(module) is str and type(name) is str and 0 <= code <= _PYDANTIC_2
        if not known or (key not in self._classes and key not in SAFE_MSGPACK_TYPES):
            self._refuse(f"{module}.{name}")
        given = self._classes.get(key)
        if isinstance(given, type):
            return given
        found = getattr(sys.modules.get(module), name, None)
        if found is None:
            self._refuse(f"{module}.{name} (not imported)")
        return found

    def _array(self, kind: str, shape: list[int], order: Any, content: bytes) -> Any:
        if not self._build:
            return None
        numpy = sys.modules.get("numpy")
        if numpy is None:
            self._refuse("a numpy array (numpy is not imported)")
        array: Any = numpy.frombuffer(content, dtype=numpy.dtype(kind))  # type: ignore[union-attr]
        return array.reshape(shape, order=order)

    def _refuse(self, what: str) -> None:
        self._refused = self._refused or what
        raise ValueError(what)


def _made(found: Any, code: int, content: Any) -> Any:
    """The object; what its class refuses comes back as it was written, as LangGraph's own codec has it."""
    try:
        if code == _ONE_ARGUMENT:
            return found(content)
        if code == _ARGUMENTS:
            if len(content) == 3 and found.__name__ == "Send":
                return found(content[0], content[1], timeout=content[2])
            return found(*content)
        return found(**content)
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything
        if code not in (_PYDANTIC_1, _PYDANTIC_2):
            return content
        try:
            construct = found.construct if code == _PYDANTIC_1 else found.model_construct
            return construct(**content)
        except Exception:  # noqa: BLE001
            return content


def _name(allowed: type | tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(allowed, type):
        return allowed.__module__, allowed.__name__
    return tuple(allowed)
