"""What injection costs for each call of a node, and a span for each put, in microseconds.

    python benchmarks/injection.py

Each figure is the median of 9 rounds; in a round the ways take turns, so that a busy machine slows all alike. The spans
are measured around a coroutine that does nothing: a put itself takes a hundred times as long.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from injectq import Inject, InjectQ, inject
from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import TracerProvider

from threadline import AgentState, BaseCheckpointer, InMemoryCheckpointer, telemetry
from threadline.injection import call, using

ROUNDS, CALLS = 9, 5000


def node(
    state: AgentState, config: Any, checkpointer: BaseCheckpointer = Inject[BaseCheckpointer]
) -> AgentState:
    """A node that does nothing."""
    return state


def measure(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Microseconds a call, each way."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begun = time.perf_counter()
            for _ in range(CALLS):
                way()
            taken[name].append((time.perf_counter() - begun) / CALLS * 1e6)
    return {name: statistics.median(each) for name, each in taken.items()}


def injection() -> dict[str, float]:
    """Calls of a node."""
    checkpointer, container = InMemoryCheckpointer(), InjectQ()
    checkpointer.bind(container)
    state, config = AgentState(), {"thread_id": "t"}
    decorated = inject(container=container)(node)
    with using(container):
        return measure(
            {
                "a plain call, everything given": lambda: node(state, config, checkpointer),
                "threadline.injection.call": lambda: call(node, state, config, container=container),
                "threadline.injection.call, current container": lambda: call(node, state, config),
                "@inject of injectq": lambda: decorated(state, config),
            }
        )


class Owner:
    """Something with operations."""

    _engine = SimpleNamespace(backend=SimpleNamespace(name="memory"))

    async def aplain(self, config: Any) -> None:
        """Nothing."""

    aput_state = telemetry.operation(aplain)


def spans() -> dict[str, float]:
    """Operations around nothing."""
    owner, config = Owner(), {"thread_id": "t"}
    api = telemetry.Watch(trace, metrics)
    provider = TracerProvider(shutdown_on_exit=False)
    sdk = telemetry.Watch(
        SimpleNamespace(
            SpanKind=trace.SpanKind, StatusCode=trace.StatusCode, get_tracer=provider.get_tracer
        ),
        metrics,
    )

    def drive(method: Any) -> None:
        try:
            method(config).send(None)
        except StopIteration:
            return

    def watched(watch: telemetry.Watch | None) -> Callable[[], None]:
        def way() -> None:
            telemetry._watch = watch
            drive(owner.aput_state)

        return way

    find = telemetry._find

    def absent() -> None:
        telemetry._watch, telemetry._find = None, lambda: None
        drive(owner.aput_state)
        telemetry._find = find

    try:
        return measure(
            {
                "an operation without a span": lambda: drive(owner.aplain),
                "no OpenTelemetry": absent,
                "its API loaded, no provider set": watched(None),
                "a provider of no-op spans": watched(api),
                "an SDK that records and exports nothing": watched(sdk),
            }
        )
    finally:
        telemetry._watch, telemetry._find = None, find


def put() -> float:
    """A whole put in memory, for comparison, in microseconds."""

    async def run() -> float:
        checkpointer, state = InMemoryCheckpointer(), AgentState()
        config = {"thread_id": "t"}
        await checkpointer.aput_state(config, state)
        begun = time.perf_counter()
        for number in range(500):
            state.execution_meta.step = number
            await checkpointer.aput_state(config, state)
        return (time.perf_counter() - begun) / 500 * 1e6

    return asyncio.run(run())


def main() -> None:
    """Print the figures."""
    for title, figures in (("A call of a node", injection()), ("An operation", spans())):
        base = next(iter(figures.values()))
        print(f"{title}, microseconds:")
        for name, each in figures.items():
            print(f"  {name:45} {each:7.2f}  (+{each - base:.2f})")
    print(f"A put of an unchanged small state in memory: {put():.0f}")


if __name__ == "__main__":
    main()
