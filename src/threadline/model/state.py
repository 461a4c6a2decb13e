"""The state of an agent: what it is working on (`context`), and where it stands (`execution_meta`).

`ExecutionStatus` and `ExecutionState` come first, then `AgentState`, which users subclass to add fields.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from threadline.model.blocks import JsonObject, Text
from threadline.model.carry import Carrier
from threadline.model.message import Message


class ExecutionStatus(StrEnum):
    """Where an agent's run stands."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    STOPPED = "stopped"
    ERROR = "error"


class ExecutionState(BaseModel):
    """How far a run has come.

    `current_node`: the node to run next, "__start__" by default. `step`: completed steps, from 0. The
    `interrupt_...` fields and `interrupted_node` are set while the run waits for someone. `internal_data` belongs
    to the framework that runs the agent.
    """

    model_config = ConfigDict(defer_build=True)
    omit_empty: ClassVar[bool] = True

    current_node: Text = "__start__"
    step: int = 0
    status: ExecutionStatus = ExecutionStatus.RUNNING
    interrupted_node: Text | None = None
    interrupt_reason: Text | None = None
    interrupt_data: JsonObject | None = None
    internal_data: JsonObject = Field(default_factory=dict)

    @property
    def is_interrupted(self) -> bool:
        """Whether the run waits to be resumed."""
        return self.status == ExecutionStatus.INTERRUPTED

    def set_interrupt(self, node: str, reason: str, data: dict[str, Any] | None = None) -> None:
        """Stop before `node`, saying why; `data` is what whoever resumes needs to know."""
        self.status = ExecutionStatus.INTERRUPTED
        self.interrupted_node, self.interrupt_reason, self.interrupt_data = node, reason, data

    def clear_interrupt(self) -> None:
        """Run on: forget the interrupt. A run that is not interrupted keeps its status."""
        if self.is_interrupted:
            self.status = ExecutionStatus.RUNNING
        self.interrupted_node = self.interrupt_reason = self.interrupt_data = None

    def advance_step(self) -> int:
        """Count one more completed step; returns the new number."""
        self.step += 1
        return self.step

    def set_current_node(self, node: str) -> None:
        """Name the node that runs next."""
        self.current_node = node

    def complete(self) -> None:
        """The run has ended well."""
        self.clear_interrupt()
        self.status = ExecutionStatus.COMPLETED

    def error(self, message: str) -> None:
        """The run has failed; `message` is kept as `internal_data["error"]`."""
        self.clear_interrupt()
        self.status = ExecutionStatus.ERROR
        self.internal_data["error"] = message


class AgentState(Carrier):
    """What an agent works on. Subclass it to add fields.

    `context`: the messages the model sees, oldest first. `context_summary`: what stood before them, or None.

    Where the state was loaded from travels with it, outside its fields: it takes no part in `==`, repr, dumps,
    JSON and pickles, and `copy.copy`, `copy.deepcopy` and `model_copy` keep it (see `threadline.model.carry`).
    """

    model_config = ConfigDict(defer_build=True)
    omit_empty: ClassVar[bool] = True

    context: list[Message] = Field(default_factory=list)
    context_summary: Text | None = None
    execution_meta: ExecutionState = Field(default_factory=ExecutionState)

    def set_interrupt(self, node: str, reason: str, data: dict[str, Any] | None = None) -> None:
        """See `ExecutionState.set_interrupt`."""
        self.execution_meta.set_interrupt(node, reason, data)

    def clear_interrupt(self) -> None:
        """See `ExecutionState.clear_interrupt`."""
        self.execution_meta.clear_interrupt()

    def is_interrupted(self) -> bool:
        """Whether the run waits to be resumed."""
        return self.execution_meta.is_interrupted

    def advance_step(self) -> int:
        """Count one more completed step; returns the new number."""
        return self.execution_meta.advance_step()

    def set_current_node(self, node: str) -> None:
        """Name the node that runs next."""
        self.execution_meta.set_current_node(node)

    def complete(self) -> None:
        """The run has ended well."""
        self.execution_meta.complete()

    def error(self, message: str) -> None:
        """The run has failed; see `ExecutionState.error`."""
        self.execution_meta.error(message)
