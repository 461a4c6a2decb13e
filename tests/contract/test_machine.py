"""The state machine, on every backend: 2,000 steps each, 20,000 with `make soak`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from threadline import InMemoryCheckpointer, SqliteCheckpointer
from threadline.checkpointer import BaseCheckpointer
from threadline.testing.machine import CheckpointerMachine, play

# A long form takes minutes, and a failure is made small before it is shown.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


class MemoryMachine(CheckpointerMachine):
    def open(self) -> BaseCheckpointer:
        return InMemoryCheckpointer()


class SqliteMachine(CheckpointerMachine):
    durable = True

    def open(self) -> BaseCheckpointer:
        self.folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        return self.reopen()

    def reopen(self) -> BaseCheckpointer:
        return SqliteCheckpointer(Path(self.folder) / "memory.db", durability="relaxed")


@pytest.mark.parametrize("machine", [MemoryMachine, SqliteMachine])
def test_a_checkpointer_is_what_the_model_says(machine: type[CheckpointerMachine]) -> None:
    # Runs may end a little early; a machine that stops at once would prove nothing.
    assert play(machine) >= 1_900
