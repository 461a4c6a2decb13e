"""A checkpoint: one class, frozen, strict when read from a dict."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from threadline.model import AgentState, Checkpoint
from threadline.model.checkpoint import _TYPES

MOMENT = datetime(2024, 10, 1, 12, 30, 0, 123456, tzinfo=UTC)
FULL = Checkpoint(
    id="7",
    thread_id="t",
    namespace="ns",
    version=7,
    parent_version=6,
    name="asked",
    timestamp=MOMENT,
    metadata={"a": [1]},
    run_id="r",
    base=6,
    bytes=120,
    incarnation="0aff",
    state=AgentState(),
)
LEAN = Checkpoint("1", "t", 1, MOMENT)


@pytest.mark.parametrize("checkpoint", [FULL, LEAN])
def test_a_dict_of_it_goes_through_json(checkpoint: Checkpoint) -> None:
    values = json.loads(json.dumps(checkpoint.to_dict()))
    assert Checkpoint.from_dict(values) == checkpoint
    assert values["timestamp"] == "2024-10-01T12:30:00.123456+00:00"
    assert "state" not in values


def test_the_table_of_types_is_complete() -> None:
    assert set(_TYPES) == {field.name for field in dataclasses.fields(Checkpoint)} - {"state"}


def test_state_and_data_are_one() -> None:
    assert FULL.data is FULL.state
    assert LEAN.state is None
    assert dataclasses.replace(FULL, state=None) == FULL
    assert hash(dataclasses.replace(FULL, metadata={})) == hash(FULL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.version = 8  # type: ignore[misc]


def test_times_are_aware_and_utc() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        Checkpoint("1", "t", 1, MOMENT.replace(tzinfo=None))
    east = Checkpoint("1", "t", 1, MOMENT.astimezone(timezone(timedelta(hours=2))))
    assert east.timestamp.tzinfo is UTC
    assert east == LEAN


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"id": None}, TypeError),
        ({"version": "1"}, TypeError),
        ({"version": True}, TypeError),
        ({"version": 1.0}, TypeError),
        ({"version": -1}, ValueError),
        ({"metadata": []}, TypeError),
        ({"timestamp": 5}, TypeError),
        ({"timestamp": "yesterday"}, ValueError),
        ({"timestamp": "2024-10-01T12:30:00"}, ValueError),
        ({"incarnation": "xyz"}, ValueError),
        ({"surprise": 1}, ValueError),
        ({"state": {}}, ValueError),
        ({3: 1}, ValueError),
    ],
    ids=str,
)
def test_bad_dicts_are_refused(change: dict[Any, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Checkpoint.from_dict({**LEAN.to_dict(), **change})


def test_missing_keys_and_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="needs version, timestamp"):
        Checkpoint.from_dict({"id": "1", "thread_id": "t"})
    with pytest.raises(TypeError):
        Checkpoint.from_dict([])  # type: ignore[arg-type]


def test_an_aware_datetime_may_stand_for_the_text() -> None:
    assert Checkpoint.from_dict({**LEAN.to_dict(), "timestamp": MOMENT}) == LEAN


def test_nothing_is_shared_with_the_dict() -> None:
    values = FULL.to_dict()
    values["metadata"]["b"] = 2
    again = Checkpoint.from_dict(values)
    values["metadata"]["c"] = 3
    assert FULL.metadata == {"a": [1]}
    assert again.metadata == {"a": [1], "b": 2}
