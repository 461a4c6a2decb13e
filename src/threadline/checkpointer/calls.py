"""What the groups of public methods share: the pipelines they hand on to, and the checks of common arguments."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar, get_args

from threadline.checkpointer.checkpoints import Checkpoints
from threadline.checkpointer.copying import Copying
from threadline.checkpointer.counting import Counting
from threadline.checkpointer.diffs import Diffs
from threadline.checkpointer.engine import Engine
from threadline.checkpointer.erasure import Erasure
from threadline.checkpointer.exporting import Exporter
from threadline.checkpointer.importing import Importer
from threadline.checkpointer.messages import Messages
from threadline.checkpointer.past import Past
from threadline.checkpointer.prune import Prunes
from threadline.checkpointer.reads import Reads
from threadline.checkpointer.redact import Redaction
from threadline.checkpointer.states import States
from threadline.checkpointer.threads import Threads
from threadline.checkpointer.verify import Verifier
from threadline.config import SHORT, text_id
from threadline.history.retention import RetentionPolicy
from threadline.model import Role

T = TypeVar("T")
ROLES: Final[tuple[str, ...]] = get_args(Role)


class Calls:
    """A group of public methods over the pipelines of one engine."""

    _engine: Engine
    _reads: Reads
    _states: States
    _checkpoints: Checkpoints
    _diffs: Diffs
    _messages: Messages
    _threads: Threads
    _erasure: Erasure
    _redaction: Redaction
    _past: Past
    _copying: Copying
    _prunes: Prunes
    _retention: RetentionPolicy | None
    _verifier: Verifier
    _exporter: Exporter
    _importer: Importer
    _counting: Counting

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._engine.run(coroutine)


def read_name(name: str | None) -> str | None:
    """A checkpoint's name, checked."""
    return None if name is None else text_id(name, "name", SHORT)


def read_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata as a dict of its own. Raises TypeError."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a dict, not {type(metadata).__name__}")
    return dict(metadata)


def read_role(role: str | None) -> str | None:
    """The role that messages are to have (None: any), checked."""
    if role is not None and not isinstance(role, str):
        raise TypeError(f"role must be a str, not {type(role).__name__}")
    if role is not None and role not in ROLES:
        raise ValueError(f"no message has the role {role!r}; the roles are {', '.join(ROLES)}")
    return role


def read_limit(limit: int | None, what: str = "limit") -> int | None:
    """A number of rows, checked: 1 or more, or None for all. Raises TypeError, ValueError."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"{what} must be an int, not {type(limit).__name__}")
    if limit < 1:
        raise ValueError(f"{what} must be 1 or more, not {limit}")
    return limit


def read_offset(offset: int | None) -> int:
    """How many rows to leave out, checked. Raises TypeError, ValueError."""
    if offset is None:
        return 0
    if isinstance(offset, bool) or not isinstance(offset, int):
        raise TypeError(f"offset must be an int, not {type(offset).__name__}")
    if offset < 0:
        raise ValueError(f"offset must be 0 or more, not {offset}")
    return offset
