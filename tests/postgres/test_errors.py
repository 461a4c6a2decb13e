"""What PostgreSQL and its driver say becomes an error of ours, with no value of the statement in it."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from threadline.backends.pg_link import driver_errors
from threadline.errors import NotStorableError

SECRET = "canary-5e1f"


@pytest.mark.parametrize(
    ("statement", "value", "reason"),
    [
        ("SELECT $1::text", SECRET + "\ud800", "surrogates"),
        ("SELECT $1::text[]", [SECRET + "\ud800"], "surrogates"),
        ("SELECT $1::bigint", 2**70, "int64"),
        ("SELECT $1::bigint", SECRET, "int"),
        ("SELECT $1::text::bigint", SECRET, "22P02"),
        ("SELECT $1::text", SECRET + "\0", "character"),
    ],
)
async def test_a_value_that_cannot_be_taken_is_not_repeated(
    pg_dsn: str, statement: str, value: Any, reason: str
) -> None:
    connection = await asyncpg.connect(pg_dsn)
    with pytest.raises(NotStorableError, match=reason) as caught, driver_errors():
        await connection.fetch(statement, value)
    await connection.close()
    assert SECRET not in str(caught.value)
    assert str(2**70) not in str(caught.value)
