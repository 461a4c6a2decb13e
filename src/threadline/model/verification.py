"""What verifying a thread found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Verification:
    """Counts of what was read, and a sentence for each thing that does not fit; true when nothing is wrong."""

    thread_id: str
    checkpoints: int = 0
    rows: int = 0
    messages: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok

    def say(self, problem: str) -> None:
        """Note something that does not fit."""
        self.problems.append(problem)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "thread_id": self.thread_id,
            "ok": self.ok,
            "checkpoints": self.checkpoints,
            "rows": self.rows,
            "messages": self.messages,
            "problems": list(self.problems),
        }
