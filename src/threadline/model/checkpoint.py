"""One class for a saved moment of a thread, whoever returns it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

_NONE: Final = type(None)
#: The types that each field of a dict may have; `state` is not part of it, since only the codec can write any.
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "id": (str,),
    "thread_id": (str,),
    "version": (int,),
    "timestamp": (str, datetime),
    "namespace": (str,),
    "parent_version": (int, _NONE),
    "name": (str, _NONE),
    "metadata": (dict,),
    "run_id": (str, _NONE),
    "base": (int, _NONE),
    "bytes": (int,),
    "incarnation": (str,),
}
#: The types of a state that is a plain value: such a one stands in a dict, as `data`.
_PLAIN: Final = (dict, list, tuple, str, bytes, bool, int, float)
_REQUIRED: Final = ("id", "thread_id", "version", "timestamp")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved state of one thread and namespace.

    `version` counts from 1. `parent_version`: the state it follows, None for the first. `timestamp`: aware, turned
    into UTC; a naive one is a ValueError. `base`: the version it was computed from, None when it was put without
    one. `bytes`: stored bytes of its row; 0 in the answer of a repeated call whose version was pruned since, which
    may not know its parent and base any more, either. `incarnation`: hexadecimal; which life of the thread it belongs
    to, so that `expected_version=checkpoint` cannot mean a thread deleted since. `state` (also `data`): the state
    itself where it was loaded with its content, else None; it takes no part in `==` and repr.
    """

    id: str
    thread_id: str
    version: int
    timestamp: datetime
    namespace: str = ""
    parent_version: int | None = None
    name: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)
    run_id: str | None = None
    base: int | None = None
    bytes: int = 0
    incarnation: str = ""
    state: Any = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.timestamp.utcoffset() is None:
            raise ValueError(f"timestamp {self.timestamp.isoformat()} has no time zone")
        if self.timestamp.tzinfo is not UTC:
            object.__setattr__(self, "timestamp", self.timestamp.astimezone(UTC))

    @property
    def data(self) -> Any:
        """The state, under the name that a manager's users know."""
        return self.state

    def to_dict(self) -> dict[str, Any]:
        """Every field, ready for JSON: the timestamp is ISO 8601 text in UTC. The state is left out, unless it is a
        plain value (a manager's data is): then a copy of it stands under `data`, as ready for JSON as it is itself."""
        values = {name: getattr(self, name) for name in _TYPES}
        values["timestamp"] = self.timestamp.isoformat()
        values["metadata"] = dict(self.metadata)
        if type(self.state) in _PLAIN:
            values["data"] = copy.deepcopy(self.state)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Checkpoint:
        """The checkpoint that `to_dict` wrote; `timestamp` may also be an aware datetime.

        Raises TypeError for a value of the wrong type, ValueError for a missing or unknown key, an unreadable or
        naive timestamp, and an incarnation that is not hexadecimal.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"a checkpoint is read from a dict, not from {type(values).__name__}")
        if missing := [name for name in _REQUIRED if name not in values]:
            raise ValueError(f"a checkpoint needs {', '.join(missing)}")
        if unknown := [str(name) for name in values if name not in _TYPES and name != "data"]:
            raise ValueError(f"a checkpoint has no {', '.join(unknown)}")
        fresh = dict(values)
        state = copy.deepcopy(fresh.pop("data", None))
        for name, value in fresh.items():
            if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
                raise TypeError(f"a checkpoint's {name} cannot be {type(value).__name__}")
            if isinstance(value, int) and value < 0:
                raise ValueError(f"a checkpoint's {name} cannot be negative")
        if isinstance(fresh["timestamp"], str):
            fresh["timestamp"] = datetime.fromisoformat(fresh["timestamp"])
        if "metadata" in fresh:
            fresh["metadata"] = dict(fresh["metadata"])
        bytes_of_hex = fresh.get("incarnation", "")
        try:
            _ = bytearray.fromhex(bytes_of_hex)
        except ValueError:
            raise ValueError(
                f"a checkpoint's incarnation is not hexadecimal: {bytes_of_hex!r}"
            ) from None
        return cls(**fresh, state=state)
