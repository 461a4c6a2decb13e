"""What a callable wants to be given, read from its signature once: functions, methods, partials, objects with
`__call__`. A signature is kept by its function, weakly, and goes with it."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

from threadline.checkpointer.calls import Calls

Kind = Literal["plain", "async", "generator"]


class Wanted(NamedTuple):
    """A parameter to be given. `position`: None when it goes by keyword only; `by_name`: whether it may."""

    name: str
    service: Any
    position: int | None
    by_name: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """`wanted`: what injection gives. `names`: every parameter that may go by name. `first`: the first one that may
    go by position. `loose`: any keyword is taken. `kind`: what calling gives."""

    wanted: tuple[Wanted, ...]
    names: frozenset[str]
    first: str | None
    loose: bool
    kind: Kind
    signature: inspect.Signature | None = None

    def missing(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Wanted]:
        """What is wanted and was not given."""
        return [
            each
            for each in self.wanted
            if each.name not in kwargs and (each.position is None or each.position >= len(args))
        ]

    def filled(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], found: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments with what was found."""
        if self.signature is None:
            return args, {**kwargs, **found}
        bound = self.signature.bind_partial(*args, **kwargs)
        bound.arguments.update(found)
        return bound.args, bound.kwargs

    def rest(self, fn: Callable[..., Any]) -> inspect.Signature:
        """The signature of `fn` without what is wanted."""
        signature, wanted = _signature(fn), {each.name for each in self.wanted}
        kept = [each for each in signature.parameters.values() if each.name not in wanted]
        return signature.replace(parameters=kept)


_NOTHING = Plan((), frozenset(), None, True, "plain")
#: By function: as it is, and as the method of an object (the first parameter is taken then).
_plans: tuple[WeakKeyDictionary[Any, Plan], WeakKeyDictionary[Any, Plan]] = (
    WeakKeyDictionary(),
    WeakKeyDictionary(),
)


def plan_of(fn: Callable[..., Any]) -> Plan:
    """What a callable wants. What has no signature (some builtins) wants nothing."""
    key, bound = _key(fn)
    plans = _plans[bound]
    try:
        return plans[key]
    except KeyError:
        plan = plans[key] = _read(fn)
        return plan
    except TypeError:  # Nothing that can be kept weakly.
        return _read(fn)


def name_of(fn: Callable[..., Any] | None) -> str:
    """What to call a callable in a message or a checkpoint: its name, without where it was defined."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__name__", None) or type(fn).__name__


def _key(fn: Callable[..., Any]) -> tuple[Any, bool]:
    if inspect.ismethod(fn):
        return fn.__func__, True
    if inspect.isroutine(fn) or isinstance(fn, functools.partial | type):
        return fn, False
    return type(fn).__call__, True


def _read(fn: Callable[..., Any]) -> Plan:
    try:
        signature = _signature(fn)
    except (TypeError, ValueError):
        return _NOTHING
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = list(signature.parameters.values())
    places = [each for each in parameters if each.kind in positional]
    wanted = tuple(
        Wanted(
            each.name,
            service,
            places.index(each) if each.kind in positional else None,
            each.kind in by_name,
        )
        for each in parameters
        if (service := _service(each)) is not None
    )
    return Plan(
        wanted=wanted,
        names=frozenset(each.name for each in parameters if each.kind in by_name),
        first=places[0].name if places else None,
        loose=any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters),
        kind=_kind(fn),
        signature=None if all(each.by_name for each in wanted) else signature,
    )


def _signature(fn: Callable[..., Any]) -> inspect.Signature:
    """The signature; its annotations stay texts where one of them names what is not there at run time."""
    try:
        return inspect.signature(fn, eval_str=True)
    except (NameError, AttributeError, SyntaxError, TypeError):
        return inspect.signature(fn)


def _service(parameter: inspect.Parameter) -> Any:
    """What a parameter wants of injection; None for nothing."""
    default, annotation = parameter.default, parameter.annotation
    # By its type: asking the object itself would make injectq look.
    kind = type(default)
    if kind.__name__ == "Inject" and kind.__module__.partition(".")[0] == "injectq":
        return object.__getattribute__(default, "service_type")
    if default is not inspect.Parameter.empty or annotation is inspect.Parameter.empty:
        return None
    if isinstance(annotation, str):
        named = annotation.strip("'\" ").rpartition(".")[2]
        return base_class() if named == "BaseCheckpointer" else None
    candidates = getattr(annotation, "__args__", ()) if not isinstance(annotation, type) else ()
    return next((each for each in (annotation, *candidates) if is_served(each)), None)


def base_class() -> type[Calls]:
    """BaseCheckpointer, which stands above this module and is there whenever a checkpointer is."""
    base: type[Calls] = sys.modules["threadline.checkpointer.base"].BaseCheckpointer
    return base


def is_served(annotation: Any) -> bool:
    """Whether a parameter of this annotation is given without being asked for: a checkpointer, or a session."""
    return isinstance(annotation, type) and (
        issubclass(annotation, Calls) or getattr(annotation, "is_threadline_session", False) is True
    )


def _kind(fn: Callable[..., Any]) -> Kind:
    while isinstance(fn, functools.partial):
        fn = fn.func
    if not (inspect.isroutine(fn) or isinstance(fn, type)):
        fn = type(fn).__call__
    if inspect.isasyncgenfunction(fn):
        return "generator"
    return "async" if inspect.iscoroutinefunction(fn) else "plain"
