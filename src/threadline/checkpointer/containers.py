"""Looking into an injectq container (0.5), past what its own lookups do wrong when tasks interleave.

- `get` remembers the object of a service after another was bound: what is bound is read from the registry.
- `get` and `aget` of one container share a list of what is being resolved, so that two at the same time look like a
  circle: each lookup here has a resolver of its own.
- `aget` makes a new object of a class that is bound as a singleton: classes are resolved by their scope.
- The current container is marked on the task and on the thread, and the mark on the thread is seen by every task of
  its loop: only the task's is read.

injectq is not imported: a container can only be here if it was.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from threadline.checkpointer.calls import Calls

#: What `find` says when nothing is bound.
MISSING: Final = object()


class Later(NamedTuple):
    """A service whose factory is async: awaiting `make()` gives it."""

    make: Callable[[], Any]


def current_container(*, also_thread: bool = False) -> Any:
    """The container that injectq holds for current in this task, else its default one; None where there is none.

    also_thread: as injectq's default objects see it, with the mark that another task may have left on the thread.
    """
    core = sys.modules.get("injectq.core.context")
    if core is None:
        return None
    context = core.ContainerContext
    current = context.get_current() if also_thread else context._context_var.get()
    return (
        current if current is not None else sys.modules["injectq.core.container"].InjectQ._instance
    )


@contextlib.contextmanager
def marked(container: Any) -> Iterator[None]:
    """Let injectq hold this container for current in this task, and in this task only; None changes nothing."""
    if container is None:
        yield
        return
    current = sys.modules["injectq.core.context"].ContainerContext._context_var
    token = current.set(container)
    try:
        yield
    finally:
        current.reset(token)


def find(container: Any, service: Any) -> Any:
    """What a container has for a service, as it is bound at this moment; `Later` for an async factory, MISSING for
    nothing. What a factory raises is not wrapped."""
    registry = container._registry
    factory = registry.get_factory(service)
    if factory is not None and inspect.iscoroutinefunction(factory):
        return Later(lambda: _make(container, service))
    binding = registry.get_binding(service) if factory is None else None
    if binding is not None:
        made = binding.implementation
        if not isinstance(made, type):
            return made
        if (value := getattr(made, "threadline_value", None)) is not None:
            return value
    elif factory is None and isinstance(service, type) and issubclass(service, Calls):
        return MISSING  # injectq would make a new, empty one of a class that nobody bound.
    return _resolve(container, service, binding)


def _resolve(container: Any, service: Any, binding: Any) -> Any:
    errors = sys.modules["injectq.utils.exceptions"]
    try:
        value = _resolver(container).resolve(service)
        if binding is not None and binding.scope == "singleton" and _is_stale(value, binding):
            container._scope_manager.get_scope("singleton")._instances.pop(service, None)
            value = _resolver(container).resolve(service)
    except errors.DependencyNotFoundError:
        return MISSING
    except errors.InjectionError as error:
        raise error.__cause__ or error from None
    return value


async def _make(container: Any, service: Any) -> Any:
    try:
        return await _resolver(container).resolve_async(service)
    except sys.modules["injectq.utils.exceptions"].InjectionError as error:
        raise error.__cause__ or error from None


def _resolver(container: Any) -> Any:
    kind = sys.modules["injectq.core.resolver"].DependencyResolver
    return kind(container._registry, container._scope_manager)


def _is_stale(value: Any, binding: Any) -> bool:
    """Whether a remembered object was made of another class than the one that is bound."""
    return type(value) is not binding.implementation
