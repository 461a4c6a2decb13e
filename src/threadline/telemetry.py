"""Watching: a span for each operation, and metrics, through OpenTelemetry.

Nothing is imported, and nothing is done, unless the program uses OpenTelemetry itself: it has set a provider.
Spans and metrics hold names, counts and kinds of errors; never a text that a user wrote, and never an error's message.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakSet

from threadline import clock
from threadline.errors import ConflictError

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

#: What the operation that runs has to say of itself; None while nobody watches.
_facts: ContextVar[dict[str, Any] | None] = ContextVar("threadline_facts", default=None)
#: Shared caches, whose counts are told.
_caches: WeakSet[Any] = WeakSet()


def note(name: str, value: Any) -> None:
    """Say something of the operation that runs: it stands at its span as `threadline.<name>`."""
    facts = _facts.get()
    if facts is not None:
        facts[name] = value


def retried() -> None:
    """The operation that runs had to try again."""
    facts = _facts.get()
    if facts is not None:
        facts["retries"] = facts.get("retries", 0) + 1


def watch_cache(cache: Any) -> None:
    """Tell the counts of this shared cache, for as long as it lives."""
    _caches.add(cache)


def operation(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """A public async method with a span around it. Its object has an `_engine`."""
    name = method.__name__.removeprefix("a")

    @functools.wraps(method)
    async def watched(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        watch = _watch or _find()
        if watch is None:
            return await method(self, *args, **kwargs)
        return await watch.run(name, self, args, method(self, *args, **kwargs))

    return watched


class Watch:
    """The instruments. The providers are the program's, looked up when they are there, also later."""

    def __init__(self, trace: Any, metrics: Any) -> None:
        self._kind, self._status = trace.SpanKind.CLIENT, trace.StatusCode.ERROR
        self._tracer = trace.get_tracer("threadline")
        meter = metrics.get_meter("threadline")
        self._duration = meter.create_histogram(
            "threadline.operation.duration", unit="s", description="How long operations took."
        )
        self._written = meter.create_histogram(
            "threadline.written", unit="By", description="Bytes that a put added to the store."
        )
        self._conflicts = meter.create_counter(
            "threadline.conflicts", description="Writes that were refused since the head had moved."
        )
        self._retries = meter.create_counter(
            "threadline.retries", description="Writes that were computed again on a newer head."
        )
        self._reads = meter.create_counter(
            "threadline.cache.reads", description="Reads by what the copy at hand was worth."
        )
        meter.create_observable_counter(
            "threadline.cache.events",
            [lambda options: _observed(metrics.Observation)],
            description="What shared caches counted: hits, misses, stale, poison, errors, skipped.",
        )
        meter.create_observable_gauge(
            "threadline.cache.breakers_open",
            [lambda options: _opened(metrics.Observation)],
            description="Shared caches that are not asked, since they did not answer.",
        )

    async def run(
        self, name: str, owner: Any, args: tuple[Any, ...], work: Coroutine[Any, Any, T]
    ) -> T:
        """Do the work of an operation, watched."""
        told = {"threadline.operation": name, "threadline.backend": owner._engine.backend.name}
        facts: dict[str, Any] = {}
        with self._tracer.start_as_current_span(
            f"threadline.{name}",
            kind=self._kind,
            attributes={**told, **_conversation(owner, args)},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            token, begun = _facts.set(facts), clock.monotonic()
            try:
                return await work
            except BaseException as error:
                facts["conflict"] = isinstance(error, ConflictError)
                told["error.type"] = type(error).__name__
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(self._status)
                raise
            finally:
                _facts.reset(token)
                self._count(span, told, facts, clock.monotonic() - begun)

    def _count(
        self, span: Any, told: dict[str, Any], facts: dict[str, Any], seconds: float
    ) -> None:
        for name, value in facts.items():
            span.set_attribute(f"threadline.{name}", value)
        self._duration.record(seconds, told)
        if "cache" in facts:
            self._reads.add(1, {**told, "threadline.cache": facts["cache"]})
        if "bytes" in facts:
            self._written.record(facts["bytes"], told)
        if facts.get("conflict"):
            self._conflicts.add(1, told)
        if "retries" in facts:
            self._retries.add(facts["retries"], told)


_watch: Watch | None = None


def _find() -> Watch | None:
    global _watch
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry import metrics, trace

    # Some library loaded the API: nobody listens before the program has set a provider.
    traced = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    if traced or "Proxy" not in type(metrics.get_meter_provider()).__name__:
        _watch = Watch(trace, metrics)
    return _watch


def _conversation(owner: Any, args: tuple[Any, ...]) -> dict[str, str]:
    config = args[0] if args else None
    thread_id = config.get("thread_id") if isinstance(config, Mapping) else None
    thread_id = thread_id or getattr(owner, "thread_id", None)
    return {"gen_ai.conversation.id": thread_id} if isinstance(thread_id, str) else {}


def _observed(observation: Callable[..., Any]) -> Iterable[Any]:
    totals: Counter[str] = Counter()
    for cache in list(_caches):
        counts = {k: v for k, v in cache.facts().items() if isinstance(v, int)}
        totals.update(counts)
    return [observation(count, {"threadline.event": name}) for name, count in totals.items()]


def _opened(observation: Callable[..., Any]) -> Iterable[Any]:
    states = [str(cache.facts().get("breaker", "closed")) for cache in list(_caches)]
    return [observation(sum(state != "closed" for state in states))]
