"""The SQLite checkpointer takes the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from threadline import SqliteCheckpointer
from threadline.testing import CheckpointerContract


class TestSqlite(CheckpointerContract):
    @pytest.fixture
    def checkpointer(self, tmp_path: Path) -> SqliteCheckpointer:
        return SqliteCheckpointer(tmp_path / "memory.db")
