"""What is told to OpenTelemetry, what never is, and that nothing is without it."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from threadline import (
    AgentState,
    ConflictError,
    InMemoryCheckpointer,
    Message,
    PgCheckpointer,
    SqliteCheckpointer,
    telemetry,
)

CONFIG = {"thread_id": "t", "user_id": "secret-user"}
SECRET = "hunter2-password"
WORDS = "words-of-the-user"


class Told:
    """What was exported."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()

    def names(self) -> list[str]:
        return [span.name for span in self.spans.get_finished_spans()]

    def span(self, name: str) -> dict[str, Any]:
        found = [each for each in self.spans.get_finished_spans() if each.name == name]
        return {**found[-1].attributes}

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        data = self.reader.get_metrics_data()
        return {
            metric.name: [
                (dict(point.attributes), getattr(point, "value", getattr(point, "count", None)))
                for point in metric.data.data_points
            ]
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    made = Told()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(made.spans))
    meters = MeterProvider([made.reader], shutdown_on_exit=False)
    tracing = SimpleNamespace(
        SpanKind=trace.SpanKind, StatusCode=trace.StatusCode, get_tracer=tracers.get_tracer
    )
    metering = SimpleNamespace(Observation=metrics.Observation, get_meter=meters.get_meter)
    monkeypatch.setattr(telemetry, "_watch", telemetry.Watch(tracing, metering))
    yield made
    meters.shutdown()


async def test_every_operation_is_one_span(told: Told) -> None:
    async with InMemoryCheckpointer() as checkpointer:
        state = AgentState(context=[Message.text_message(WORDS)])
        await checkpointer.aput_state(CONFIG, state)
        assert told.names() == ["threadline.setup", "threadline.put_state"]
        put = told.span("threadline.put_state")
        assert put.pop("threadline.bytes") > 10
        assert put.pop("threadline.cache") == "miss"
        assert put == {
            "threadline.operation": "put_state",
            "threadline.backend": "memory",
            "gen_ai.conversation.id": "t",
        }
        await checkpointer.aget_state(CONFIG)
        assert told.span("threadline.get_state")["threadline.cache"] == "hit"
        checkpointer.get_state(CONFIG)
        assert told.names().count("threadline.get_state") == 2
        await checkpointer.alist_messages(CONFIG)
        assert told.span("threadline.list_messages")["gen_ai.conversation.id"] == "t"


async def test_what_a_copy_was_worth(told: Told, tmp_path: Path) -> None:
    one, two = SqliteCheckpointer(tmp_path / "s.db"), SqliteCheckpointer(tmp_path / "s.db")
    worth = []
    for put in (True, False, True):
        if put:
            await one.aput_state(CONFIG, AgentState())
        await two.aget_state(CONFIG)
        worth.append(told.span("threadline.get_state")["threadline.cache"])
    assert worth == ["miss", "hit", "stale"]
    reads = {
        key["threadline.cache"]: count for key, count in told.metrics()["threadline.cache.reads"]
    }
    assert reads == {"miss": 1, "hit": 1, "stale": 1}
    one.release()
    two.release()


async def test_conflicts_and_retries_are_counted(told: Told, tmp_path: Path) -> None:
    one, two = SqliteCheckpointer(tmp_path / "s.db"), SqliteCheckpointer(tmp_path / "s.db")
    first = AgentState()
    await one.aput_state(CONFIG, first)
    other = await two.aget_state(CONFIG)
    await one.aput_state(CONFIG, first)
    with pytest.raises(ConflictError):
        await two.aput_state(CONFIG, other)
    failed = told.span("threadline.put_state")
    assert (failed["error.type"], failed["threadline.conflict"]) == ("ConflictError", True)
    await one.aput_state(CONFIG, AgentState())
    await two.aget_state(CONFIG)
    await one.aput_state(CONFIG, AgentState())
    await two.aput_state(CONFIG, AgentState())  # On top, computed again.
    assert told.span("threadline.put_state")["threadline.retries"] == 1
    told_metrics = told.metrics()
    assert [count for _, count in told_metrics["threadline.conflicts"]] == [1]
    retried = {key.get("error.type"): count for key, count in told_metrics["threadline.retries"]}
    assert retried == {None: 1, "ConflictError": 1}
    assert sum(count for _, count in told_metrics["threadline.operation.duration"]) == len(
        told.names()
    )
    one.release()
    two.release()


async def test_nodes_and_tools_have_spans_around_their_puts(told: Told) -> None:
    async def node(state: AgentState, session: Any) -> None:
        await session.tool(lambda: 1)

    async with InMemoryCheckpointer() as checkpointer, checkpointer.session(CONFIG) as session:
        await session.run(node)
    spans = {span.name: span for span in told.spans.get_finished_spans()}
    run, put = spans["threadline.run"], spans["threadline.put_state"]
    assert put.parent.span_id == run.context.span_id
    assert spans["threadline.tool"].parent.span_id == run.context.span_id


async def test_the_counts_of_shared_caches_are_told(
    told: Told, empty_store: str, valkey_url: str
) -> None:
    async with PgCheckpointer(empty_store, redis_url=valkey_url) as one:
        await one.aput_state(CONFIG, AgentState())
        async with PgCheckpointer(empty_store, redis_url=valkey_url) as two:
            await two.aget_state(CONFIG)
            observed = told.metrics()["threadline.cache.events"]
            events = {key["threadline.event"]: count for key, count in observed}
    assert {"hits", "misses", "stale", "poison", "errors", "skipped"} <= set(events)
    assert events["hits"] >= 1
    assert told.metrics()["threadline.cache.breakers_open"] == [({}, 0)]


async def test_no_words_and_no_users_are_told(
    told: Told, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def failing(state: AgentState) -> None:
        state.context_summary = WORDS
        raise ValueError(WORDS)

    async with (
        SqliteCheckpointer(tmp_path / "s.db") as checkpointer,
        checkpointer.session(CONFIG, on_conflict="fork") as session,
    ):
        await session.append([Message.text_message(WORDS)])
        with pytest.raises(ValueError, match=WORDS):
            await session.run(failing)
        await checkpointer.aput_state(CONFIG, AgentState(context_summary=WORDS))
        await session.save(name="n", metadata={"k": WORDS})
        await checkpointer.alist_messages(CONFIG, search=WORDS)
    for text in (*(span.to_json() for span in told.spans.get_finished_spans()), caplog.text):
        assert WORDS not in text
        assert "secret-user" not in text
    assert "goes on in" in caplog.text


def test_nothing_is_loaded_without_it(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from threadline import AgentState, SqliteCheckpointer\n"
        "with SqliteCheckpointer('x.db') as c:\n"
        "    c.put_state({'thread_id': 't'}, AgentState())\n"
        "    with c.session(thread_id='t') as s:\n"
        "        s.run(lambda state: None)\n"
        "assert not [m for m in sys.modules if m.startswith(('opentelemetry', 'injectq'))]\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def test_nobody_is_told_before_a_provider_is_set() -> None:
    """The API may have been loaded by any library; a provider that is set later is found."""
    program = (
        "import opentelemetry.trace as trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from threadline import InMemoryCheckpointer, telemetry\n"
        "c = InMemoryCheckpointer()\n"
        "c.health()\n"
        "assert telemetry._watch is None\n"
        "trace.set_tracer_provider(TracerProvider())\n"
        "c.health()\n"
        "assert telemetry._watch is not None\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("dsn", "redis"),
    [
        (f"postgresql://user:{SECRET}@127.0.0.1:1/db", f"redis://:{SECRET}@127.0.0.1:1/0"),
        (f"postgresql+asyncpg://user:{SECRET}@127.0.0.1:1/db?connect_timeout=1", None),
        (f"mysql://user:{SECRET}@127.0.0.1:1/db", None),
        (f"postgresql://user:{SECRET}@127.0.0.1:port/db", None),
        (f"postgresql://user:{SECRET}@[::1/db", None),
    ],
)
async def test_a_password_is_in_no_log_no_error_and_no_repr(
    told: Told, dsn: str, redis: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen = []
    checkpointer = None
    try:
        checkpointer = PgCheckpointer(dsn, redis_url=redis)
        seen += [repr(checkpointer), repr(checkpointer._engine.backend)]
        seen += [repr(vars(checkpointer._engine)), repr(vars(checkpointer._engine.backend))]
        seen += [repr(vars(checkpointer._engine.backend._link)), str(await checkpointer.ahealth())]
        async with checkpointer.session(CONFIG) as session:
            await session.save()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
        seen += traceback.TracebackException.from_exception(error, capture_locals=False).format()
        seen += [repr(error), str(error), repr(error.__cause__), repr(error.__context__)]
    seen += [span.to_json() for span in told.spans.get_finished_spans()]
    if checkpointer is not None:
        await checkpointer.arelease()
    assert len(seen) > 3
    for text in (*seen, caplog.text):
        assert SECRET not in text
