"""What is known about a thread."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from threadline.model import Lineage, ThreadInfo


def test_as_users_write_it() -> None:
    info = ThreadInfo(
        thread_id="conv_123",
        user_id="alice",
        thread_name="Weather Inquiry",
        metadata={"tags": ["weather"], "created_at": "2024-10-01T12:00:00Z"},
        updated_at="2024-10-01T12:30:00Z",
        run_id="run_456",
    )
    assert info.updated_at == datetime(2024, 10, 1, 12, 30, tzinfo=UTC)
    assert info.metadata["created_at"] == "2024-10-01T12:00:00Z"
    assert info.stop_requested is False
    assert (info.created_at, info.message_count, info.forked_from) == (None, None, None)
    assert ThreadInfo.model_validate(info.model_dump()) == info


def test_times_are_utc() -> None:
    naive = datetime(2024, 10, 1, 12, 30)  # noqa: DTZ001 - that it has no zone is the point
    east = datetime(2024, 10, 1, 14, 30, tzinfo=timezone(timedelta(hours=2)))
    for moment in (naive, east):
        info = ThreadInfo(thread_id="t", updated_at=moment)
        assert info.updated_at == datetime(2024, 10, 1, 12, 30, tzinfo=UTC)
        assert info.updated_at.tzinfo is UTC


@pytest.mark.parametrize("user_id", ["7", 7, "", None])
def test_a_user_id_keeps_its_type(user_id: Any) -> None:
    info = ThreadInfo(thread_id="t", user_id=user_id)
    assert type(info.user_id) is type(user_id)
    assert ThreadInfo.model_validate(info.model_dump()).user_id == user_id


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"thread_id": 5},
        {"thread_id": "t", "user_id": True},
        {"thread_id": "t", "user_id": 1.0},
        {"thread_id": "t", "updated_at": "yesterday"},
        {"thread_id": "t", "stop_requested": "no"},
        {"thread_id": "t", "titel": "x"},
    ],
)
def test_bad_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ThreadInfo(**fields)


def test_lineage_survives_json() -> None:
    info = ThreadInfo(thread_id="t", forked_from=Lineage("origin", "ns", 4), message_count=0)
    again = ThreadInfo.model_validate_json(info.model_dump_json())
    assert again == info
    assert again.forked_from == Lineage(thread_id="origin", namespace="ns", version=4)
