"""The `config` dict of a call, read into an `Address`.

Every public method takes a plain dict. It is read here once, checked here once, and never written to.
Keys that frameworks add are ignored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import NoneType
from typing import Any

from threadline.codec.digest import framed
from threadline.texts import KEY_BYTES, check_text

#: Longest `user_id`, `tenant` and `app`, and longest `thread_id` and `namespace`, in characters.
SHORT, LONG = 255, 1024
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a call points: who, which thread, which namespace, and which moment of its past.

    `user` is the canonical owner text (`"s:alice"`, `"i:42"`) or None when the caller named none.
    `version`, `checkpoint_id` and `name` are None unless the config addresses the past. A write with a `lease` (the
    token of a run) is refused unless that run holds the thread's lease.
    """

    tenant: str
    app: str
    thread_id: str
    namespace: str
    user: str | None
    version: int | None = None
    checkpoint_id: str | None = None
    name: str | None = None
    run_id: str | None = None
    lease: str | None = None
    state_class: type | None = None

    @property
    def user_id(self) -> str | int | None:
        """The owner as the caller wrote it."""
        return user_id_of(self.user)

    @property
    def past(self) -> bool:
        """Whether the config addresses the past rather than the head."""
        return not (self.version is None and self.checkpoint_id is None and self.name is None)

    def thread_key(self, salt: bytes) -> bytes:
        """The 16 bytes that every key of this thread begins with: keyed BLAKE2b of its framed names."""
        return _thread_key(self.tenant, self.app, self.thread_id, salt)

    @property
    def ns_key(self) -> bytes:
        """The 8 bytes that stand for the namespace in keys."""
        return namespace_key(self.namespace)


@lru_cache(maxsize=4096)
def _thread_key(tenant: str, app: str, thread_id: str, salt: bytes) -> bytes:
    names = framed(tenant, app, thread_id)
    return hashlib.blake2b(names, digest_size=16, key=salt, person=b"thread").digest()


def namespace_key(namespace: str) -> bytes:
    """The 8 bytes that stand for a namespace in keys; the default namespace is all zeros."""
    if not namespace:
        return bytes(8)
    return hashlib.blake2b(framed(namespace), digest_size=8, person=b"namespace").digest()


def read_config(config: Config, *, thread: bool = True, write: bool = False) -> Address:
    """Check a config and turn it into an Address.

    `thread`: a `thread_id` is required. `write`: addressing the past is refused.
    Raises TypeError for a value of the wrong type, ValueError for one that is missing or out of bounds.
    """
    if not isinstance(config, Mapping):
        raise TypeError(f"config must be a dict, not {type(config).__name__}")
    values = [config.get(key) for key in _KEYS]
    if thread and values[_THREAD_ID] is None:
        raise ValueError(_no_thread(config))
    # Whose types are exactly these, equal ones mean the same.
    read = _known if _EXACT.issuperset(map(type, values)) else _read
    address = read(*values)
    if (state_class := config.get("state_class")) is not None:
        if not isinstance(state_class, type):
            raise TypeError(f"config['state_class'] must be a class, not {state_class!r}")
        address = replace(address, state_class=state_class)
    if write and address.past:
        raise ValueError(
            f"config of thread {address.thread_id!r} addresses the past, which cannot be written to: "
            "leave out version, checkpoint_id and name, or fork from there"
        )
    return address


_KEYS = (
    "version",
    "tenant",
    "app",
    "thread_id",
    "namespace",
    "user_id",
    "checkpoint_id",
    "name",
    "run_id",
    "lease",
)
_THREAD_ID = _KEYS.index("thread_id")
_EXACT = frozenset({str, int, bool, NoneType})


def _no_thread(config: Config) -> str:
    if "configurable" in config:
        return "config has no thread_id: a config is flat here, so give what stands under 'configurable'"
    keys = ", ".join(f"{key!r:.40}" for key in list(config)[:10])
    return "config has no thread_id" + (f"; its keys are {keys}" if keys else "")


def _read(
    version: Any,
    tenant: Any,
    app: Any,
    thread_id: Any,
    namespace: Any,
    user_id: Any,
    checkpoint_id: Any,
    name: Any,
    run_id: Any,
    lease: Any,
) -> Address:
    if version is not None and (isinstance(version, bool) or not isinstance(version, int)):
        raise TypeError(f"config['version'] must be an int, not {type(version).__name__}")
    if version is not None and version < 1:
        raise ValueError(f"config['version'] must be 1 or more, not {version}")
    address = Address(
        tenant=_scope(tenant, "tenant", SHORT),
        app=_scope(app, "app", SHORT),
        thread_id="" if thread_id is None else text_id(thread_id, "thread_id", LONG),
        namespace=_scope(namespace, "namespace", LONG),
        user=canonical_user(user_id),
        version=version,
        checkpoint_id=_optional(checkpoint_id, "checkpoint_id"),
        name=_optional(name, "name"),
        run_id=_optional(run_id, "run_id"),
        lease=_optional(lease, "lease"),
    )
    if sum(part is not None for part in (address.version, address.checkpoint_id, address.name)) > 1:
        raise ValueError(
            "config addresses the past twice: give one of version, checkpoint_id and name"
        )
    return address


#: The addresses of the configs that are used again and again: reading one takes as long as a tenth of a put.
_known = lru_cache(maxsize=4096, typed=True)(_read)


def text_id(value: object, what: str, longest: int, *, empty: bool = False) -> str:
    """A checked identity. Raises TypeError unless it is a str, ValueError when it is out of bounds."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    if not value and not empty:
        raise ValueError(f"{what} must not be empty")
    if len(value) > longest:
        raise ValueError(f"{what} is {len(value)} characters long; at most {longest} are allowed")
    if (bad := _CONTROL.search(value)) is not None:
        raise ValueError(f"{what} contains the control character or surrogate {bad[0]!r}")
    return str(value)


def message_key(value: object) -> str:
    """A checked `message_id`. Raises TypeError, ValueError."""
    found = text_id(value, "message_id", LONG)
    check_text(found, "message_id", KEY_BYTES)
    return found


def canonical_user(user_id: object) -> str | None:
    """The owner as one text with a mark of its type, so that 42 and "42" are two users."""
    if user_id is None:
        return None
    if isinstance(user_id, bool) or not isinstance(user_id, str | int):
        raise TypeError(f"user_id must be a str or an int, not {type(user_id).__name__}")
    if isinstance(user_id, int):
        if not -(2**63) <= user_id < 2**63:
            raise ValueError(f"user_id {user_id} does not fit 64 bits")
        return f"i:{int(user_id)}"
    return "s:" + text_id(user_id, "user_id", SHORT)


def user_id_of(user: str | None) -> str | int | None:
    """The owner as the caller wrote it, from its canonical text."""
    if user is None:
        return None
    return int(user[2:]) if user.startswith("i:") else user[2:]


def _scope(value: object, key: str, longest: int) -> str:
    return "" if value is None else text_id(value, key, longest, empty=True)


def _optional(value: object, key: str) -> str | None:
    return None if value is None else text_id(value, f"config[{key!r}]", SHORT)
