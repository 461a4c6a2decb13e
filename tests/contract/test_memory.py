"""The in-memory checkpointer takes the contract."""

from __future__ import annotations

import pytest

from threadline import InMemoryCheckpointer
from threadline.testing import CheckpointerContract


class TestInMemory(CheckpointerContract):
    @pytest.fixture
    def checkpointer(self) -> InMemoryCheckpointer:
        return InMemoryCheckpointer()
