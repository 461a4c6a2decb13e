"""Where a loaded state came from, carried by the state itself.

`Base` is an immutable value: each put replaces it and never changes it, so that copies of a state cannot move
each other on. Then the two functions, `base_of` and `carry`, and the three ways to hold a base: `Carrier`, a
pydantic model with a private attribute (AgentState); a table by identity for other objects; `StateDict`.

What keeps a base: `copy.copy`, `copy.deepcopy` and `model_copy` of an AgentState, and `copy.copy`, `deepcopy` and
`.copy()` of a StateDict. What has none: anything rebuilt from a dump or a pickle, copies of other models and
of dataclasses, `StateDict(x)`, and what cannot hold one at all (plain dicts, slotted classes).
"""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, PrivateAttr

K = TypeVar("K")
V = TypeVar("V")


class Loaded(NamedTuple):
    """What was loaded or last put: the thread's incarnation and the version of the state."""

    incarnation: bytes
    version: int


class Base:
    """Immutable: for each address key (thread and namespace), what was `Loaded`, ordered by the last touch.

    A base says nothing about the content: any two are equal and hash alike, a copy is the object itself, and a
    pickle restores an empty one.
    """

    __slots__ = ("_entries",)
    _entries: dict[bytes, Loaded]

    def __init__(self) -> None:
        object.__setattr__(self, "_entries", {})

    def at(self, key: bytes) -> Loaded | None:
        """What was loaded from this address, or None."""
        return self._entries.get(key)

    def moved(self, key: bytes, incarnation: bytes, version: int) -> Base:
        """A new base in which `key` is at `version` and is the last touched."""
        entries = {other: loaded for other, loaded in self._entries.items() if other != key}
        entries[key] = Loaded(incarnation, version)
        base = Base()
        object.__setattr__(base, "_entries", entries)
        return base

    def latest(self) -> tuple[bytes, Loaded] | None:
        """The address touched last and what was loaded there; None when the base is empty."""
        key = next(reversed(self._entries), None)
        return None if key is None else (key, self._entries[key])

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Base is immutable; `moved` makes a new one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Base is immutable; `moved` makes a new one")

    def __eq__(self, other: object) -> bool:
        return True if isinstance(other, Base) else NotImplemented

    def __hash__(self) -> int:
        return hash(Base)

    def __copy__(self) -> Base:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Base:
        return self

    def __reduce__(self) -> tuple[type[Base], tuple[()]]:
        return Base, ()

    def __repr__(self) -> str:
        at = ", ".join(f"{key.hex()}: {loaded.version}" for key, loaded in self._entries.items())
        return f"Base({{{at}}})"


#: The base of whatever was never loaded nor put.
NO_BASE = Base()


class Carrier(BaseModel):
    """A pydantic model that holds its base outside its fields, its repr and its dumps; see `AgentState`."""

    model_config = ConfigDict(defer_build=True)
    _threadline_base: Base = PrivateAttr(default_factory=lambda: NO_BASE)


class StateDict(dict[K, V]):
    """A dict that holds its base.

    It compares, prints and pickles as a plain dict. `copy.copy`, `copy.deepcopy` and `.copy()` keep the base;
    `StateDict(x)`, `dict(x)` and `x | y` build anew and have none, even when `x` is a StateDict.
    """

    __slots__ = ("__weakref__", "_threadline_base")
    _threadline_base: Base
    #: How the codec, which imports no record, knows that this is to be stored as a plain dict.
    is_state_dict: ClassVar[bool] = True

    def copy(self) -> StateDict[K, V]:
        """A shallow copy with the same base."""
        return self._with_base_of(StateDict(self))

    def __copy__(self) -> StateDict[K, V]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> StateDict[K, V]:
        twin: StateDict[K, V] = StateDict()
        memo[id(self)] = twin  # First, so that a dict that holds itself comes out right.
        for key, value in self.items():
            twin[copy.deepcopy(key, memo)] = copy.deepcopy(value, memo)
        return self._with_base_of(twin)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, (), None, None, iter(self.items())

    def _with_base_of(self, twin: StateDict[K, V]) -> StateDict[K, V]:
        carry(twin, base_of(self))
        return twin


class _Table:
    """Bases by identity. An entry goes with its object, so a later object at the same address has none."""

    def __init__(self) -> None:
        # Re-entrant: a collection inside the lock may end another state's life, and so call `gone` here.
        self._lock = threading.RLock()
        self._entries: dict[int, tuple[weakref.ref[Any], Base]] = {}

    def get(self, state: object) -> Base:
        with self._lock:
            entry = self._entries.get(id(state))
        return entry[1] if entry is not None and entry[0]() is state else NO_BASE

    def put(self, state: object, base: Base) -> bool:
        key = id(state)

        def gone(dead: weakref.ref[Any]) -> None:
            with self._lock:
                entry = self._entries.get(key)
                if entry is not None and entry[0] is dead:
                    del self._entries[key]

        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry[0]() is state:
                self._entries[key] = (entry[0], base)
                return True
            try:
                self._entries[key] = (weakref.ref(state, gone), base)
            except TypeError:  # A slotted class without `__weakref__`, a plain dict, a number.
                return False
        return True

    def __len__(self) -> int:
        return len(self._entries)


_table = _Table()


def base_of(state: object) -> Base:
    """Where this state was loaded from or last put; an empty Base when it carries none."""
    if isinstance(state, Carrier):
        held = (state.__pydantic_private__ or {}).get("_threadline_base")
    elif isinstance(state, StateDict):
        held = getattr(state, "_threadline_base", None)
    else:
        return _table.get(state)
    return held if isinstance(held, Base) else NO_BASE


def carry(state: object, base: Base) -> bool:
    """Let this very object carry `base`, replacing what it carried. False when it can hold none.

    The object's fields, `==`, repr, dumps and pickles do not change. Other pydantic models and dataclasses are
    held by identity: their copies carry nothing.
    """
    if isinstance(state, Carrier):
        private = state.__pydantic_private__ or {}
        private["_threadline_base"] = base
        object.__setattr__(state, "__pydantic_private__", private)
        return True
    if isinstance(state, StateDict):
        state._threadline_base = base
        return True
    return not isinstance(state, type) and _table.put(state, base)
