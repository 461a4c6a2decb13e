"""Calling functions that want a checkpointer, without wiring: `call`, `using`, and what `checkpointer.bind` does.

What a function wants is read from its signature once (`Plan`); what it gets is looked up at every call, and is given
as an argument: nothing is kept in a default object. The lookup goes to the container that the caller names, else to the
session that runs, else to `using`, else to the container that injectq holds for current or for default. injectq is not
imported here: a function can want something from it only where it was imported already.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, cast
from weakref import WeakSet, ref

from threadline.checkpointer.calls import Calls
from threadline.checkpointer.containers import MISSING, Later, current_container, find, marked
from threadline.checkpointer.signatures import Plan, base_class, name_of, plan_of
from threadline.errors import InjectionError


class Scope(NamedTuple):
    """What is current in a context: the container of `using`, or a session with its checkpointer and container."""

    container: Any = None
    checkpointer: Any = None
    session: Any = None


_scope: ContextVar[Scope | None] = ContextVar("threadline_scope", default=None)
#: Checkpointers that were bound to a container and are alive.
_bound: WeakSet[Calls] = WeakSet()


def call(fn: Callable[..., Any], /, *args: Any, container: Any = None, **kwargs: Any) -> Any:
    """Call `fn`, giving it what it wants and was not given: parameters with `Inject[...]` as their default, and those
    annotated as a checkpointer (or a Session, inside one) that have no default.

    fn: anything that can be called; what it returns comes back as it is (for an async function an awaitable, for an
    async generator function the generator). container: an injectq container to look into; default: the current
    session's, else that of `using`, else injectq's own. Each call looks anew. What `fn` raises is not wrapped.

    Raises InjectionError when something that is wanted cannot be found; `fn` is not called then.
    """
    plan = plan_of(fn)
    if not plan.wanted:
        return fn(*args, **kwargs)
    given = plan.missing(args, kwargs)
    found = {each.name: resolve(each.service, container, fn) for each in given}
    if not any(isinstance(value, Later) for value in found.values()):
        positional, named = plan.filled(args, kwargs, found)
        return fn(*positional, **named)
    if plan.kind == "async":
        return _call_later(fn, plan, args, kwargs, found)
    if plan.kind == "generator":
        return _iterate_later(fn, plan, args, kwargs, found)
    raise InjectionError(
        f"{name_of(fn)} is not async, and what it wants is made by an async factory: make it async, or bind the object"
    )


def injected(fn: Callable[..., Any], *, container: Any = None) -> Callable[..., Any]:
    """A function that calls `fn` through `call`; its signature does not show what is given, so that a framework that
    reads signatures, LangGraph for one, does not try to. It is async, or an async generator, where `fn` is."""
    plan = plan_of(fn)

    def plain(*args: Any, **kwargs: Any) -> Any:
        return call(fn, *args, container=container, **kwargs)

    async def later(*args: Any, **kwargs: Any) -> Any:
        return await call(fn, *args, container=container, **kwargs)

    async def items(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async with contextlib.aclosing(call(fn, *args, container=container, **kwargs)) as made:
            async for item in made:
                yield item

    made: Any = {"plain": plain, "async": later, "generator": items}[plan.kind]
    made.__name__, made.__doc__ = name_of(fn), getattr(fn, "__doc__", None)
    made.__signature__ = plan.rest(fn)
    return cast("Callable[..., Any]", made)


@contextlib.contextmanager
def using(container: Any) -> Iterator[None]:
    """Let `call` and plain calls in this block look into this container. It holds for this task and what it starts,
    never for others that run beside it; injectq's own `context()` keeps a second mark on the thread, which they see."""
    with entered(Scope(container)):
        yield


@contextlib.contextmanager
def entered(scope: Scope) -> Iterator[None]:
    """Let this scope be the current one of this context."""
    token = _scope.set(scope)
    try:
        with marked(scope.container):
            yield
    finally:
        _scope.reset(token)


def resolve(service: Any, container: Any = None, fn: Callable[..., Any] | None = None) -> Any:
    """What is bound for a service; a `Later` where an async factory makes it. Raises InjectionError."""
    found = _look(service, container)
    if found is MISSING:
        wanted = getattr(service, "__name__", repr(service))
        whose = f"{name_of(fn)} wants {wanted}, but" if fn else f"{wanted}:"
        raise InjectionError(
            f"{whose} nothing is bound for it: checkpointer.bind(container), call(..., container=container), or run "
            "it in a session"
        )
    return found


def _look(service: Any, container: Any) -> Any:
    if container is not None:
        return find(container, service)
    scope = _scope.get()
    if scope is not None and isinstance(service, type):
        for value in (scope.checkpointer, scope.session, getattr(scope.session, "sync", None)):
            if value is not None and isinstance(value, service) and service is not object:
                return value
    if scope is not None and scope.container is not None:
        return find(scope.container, service)
    current = current_container()
    return find(current, service) if current is not None else MISSING


async def _call_later(
    fn: Callable[..., Any],
    plan: Plan,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    found: Mapping[str, Any],
) -> Any:
    args, kwargs = plan.filled(args, kwargs, await _made(found))
    return await fn(*args, **kwargs)


async def _iterate_later(
    fn: Callable[..., Any],
    plan: Plan,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    found: Mapping[str, Any],
) -> AsyncIterator[Any]:
    args, kwargs = plan.filled(args, kwargs, await _made(found))
    async with contextlib.aclosing(fn(*args, **kwargs)) as items:
        async for item in items:
            yield item


async def _made(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: await value.make() if isinstance(value, Later) else value
        for name, value in found.items()
    }


# What is bound -----------------------------------------------------------------------------------------------


def bind(checkpointer: Calls, container: Any) -> None:
    """Bind a checkpointer in a container, for its class and those above it; see `BaseCheckpointer.bind`."""
    for kind in type(checkpointer).__mro__:
        if issubclass(kind, base_class()):
            container.bind(kind, _door(checkpointer, container, kind), scope="transient")
    _bound.add(checkpointer)


def _door(checkpointer: Calls, container: Any, kind: type) -> type:
    """A class that injectq "makes an object of" at every lookup: the checkpointer, or what follows the context."""
    home = ref(container)

    class Door:
        threadline_value = checkpointer

        def __new__(cls) -> Any:
            # injectq's default objects look into the current container and keep what they find for the life of the
            # process; whoever looks into another one holds it in his hands, and means this checkpointer.
            if current_container(also_thread=True) is not home():
                return checkpointer
            return Following(checkpointer, kind)

    return Door


class Following:
    """A checkpointer by the context of each use: that of the session that runs, or of the current container."""

    __slots__ = ("_kind", "_own")

    def __init__(self, own: Calls, kind: type) -> None:
        object.__setattr__(self, "_own", ref(own))
        object.__setattr__(self, "_kind", kind)

    def __getattribute__(self, name: str) -> Any:
        return getattr(_followed(self), name)

    def __repr__(self) -> str:
        return repr(_followed(self))

    def __eq__(self, other: object) -> bool:
        return _followed(self) is (_followed(other) if type(other) is Following else other)

    def __hash__(self) -> int:
        return hash(_followed(self))


def _followed(following: Following) -> Any:
    kind: type = object.__getattribute__(following, "_kind")
    found = _look(kind, None)
    if found is not MISSING and type(found) is not Following:
        return found
    own = object.__getattribute__(following, "_own")()
    alive = {id(each) for each in _bound if not each._engine.released}
    if own is None or (alive - {id(own)}):
        raise InjectionError(
            f"which {kind.__name__}? Several are bound in this process, and none is current here: call it through "
            "threadline.injection.call(..., container=container), under using(container), or in a session"
        )
    return own
