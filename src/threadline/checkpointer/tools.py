"""What a run calls but must not call twice: tools, by the ledger, and people, whose answers the ledger keeps."""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from threadline import clock
from threadline.checkpointer import injection
from threadline.checkpointer.ledger import Ledger, ToolRecord, call_digest
from threadline.checkpointer.session import SessionCore
from threadline.checkpointer.signatures import name_of
from threadline.errors import Interrupt, ToolOutcomeUnknownError
from threadline.telemetry import operation

OnUnknown = Literal["retry", "raise"]
#: How much of an error's text is kept, in characters.
_ERROR_TEXT = 500


@dataclass(slots=True)
class Running:
    """The node that runs: its name, which step it is, the version before it, and how often it called which tool."""

    name: str
    step: int
    good: int | None
    calls: Counter[str] = field(default_factory=Counter)


class ToolCalls(SessionCore):
    """The calls of a session's run that are recorded."""

    _running: Running | None = None
    _own_run: str | None = None

    @property
    def run_id(self) -> str:
        """The run that the next node belongs to: the config's `run_id`, else the one that is not finished, else a new
        one."""
        if self._own_run is None:
            self._own_run = self._config.get("run_id")
        if self._own_run is None:
            progress = self._progress
            open_run = progress is not None and not progress.finished
            self._own_run = progress.run if progress and open_run else clock.new_id()
        return self._own_run

    @operation
    async def tool(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        call_id: str | None = None,
        on_unknown: OnUnknown = "retry",
        **kwargs: Any,
    ) -> Any:
        """Call a tool once: what is recorded as finished in this run is not called again, its result is returned.

        call_id: names the call in its run; default: the step, the tool, its arguments, and which such call it is.
        on_unknown: what to do when it was started before and did not say how it ended: "retry", or "raise" for one
        that must not happen twice. Its result must be storable (see `aput_state`), so that it comes back equal.

        Raises what the tool raises, ToolOutcomeUnknownError, NotStorableError, LeaseLostError before it is called.
        """
        name, ledger = name_of(fn), self._ledger()
        call_id = call_id or self._call_id(name, args, kwargs)
        record = await ledger.read(self.config, call_id)
        if record is not None and record.status == "finished":
            return record.result
        if record is not None and record.status == "started" and on_unknown == "raise":
            raise ToolOutcomeUnknownError(
                f"tool {name!r} of thread {self.thread_id!r} was started before and did not say how it ended: find "
                f"out, and tell with session.answer({call_id!r}, result)",
                thread_id=self.thread_id,
                tool=name,
                call_id=call_id,
            )
        attempts = record.attempts + 1 if record is not None else 1
        started = ToolRecord(call_id, name, "started", attempts)
        await ledger.write(self.config, started)
        try:
            result = injection.call(fn, *args, **kwargs)
            result = await result if inspect.isawaitable(result) else result
        except Exception as error:
            said = dataclasses.replace(started, status="failed", error=error_text(error))
            await ledger.write(self.config, said)
            raise
        await ledger.write(
            self.config, dataclasses.replace(started, status="finished", result=result)
        )
        return result

    @operation
    async def ask(self, question: Any, *, call_id: str | None = None) -> Any:
        """The answer of a person; where there is none yet, the run stops here (Interrupt) and runs the node again from
        its beginning once `answer` was called. question: what the person must know, storable."""
        call_id = call_id or self._call_id("ask", (question,), {})
        record = await self._ledger().read(self.config, call_id)
        if record is not None and record.status == "finished":
            return record.result
        if record is None:
            asked = ToolRecord(call_id, "ask", "asked", question=question)
            await self._ledger().write(self.config, asked)
        raise Interrupt(
            f"thread {self.thread_id!r} waits for an answer to {call_id!r}",
            thread_id=self.thread_id,
            call_id=call_id,
            question=question,
        )

    async def answer(self, call_id: str, result: Any) -> None:
        """Say what a question's answer is, or how a tool ended that did not say so itself. Raises LookupError when the
        run has no such open call."""
        record = await self._ledger().read(self.config, call_id)
        if record is None or record.status == "finished":
            raise LookupError(f"thread {self.thread_id!r} has no open call {call_id!r}")
        said = dataclasses.replace(record, status="finished", result=result)
        await self._ledger().write(self.config, said)

    async def calls(self) -> list[ToolRecord]:
        """What the ledger says of the calls of this run; those with the status "asked" wait for `answer`."""
        return await self._ledger().records(self.config)

    def _said(self) -> dict[str, Any]:
        said = super()._said()
        if said and self._running is not None:
            said["good"] = (
                self._running.good
            )  # A run that is taken up goes back behind what half a node saved.
        return said

    def _ledger(self) -> Ledger:
        return Ledger(self._engine, self.checkpointer.store, self.run_id)

    def _call_id(self, tool: str, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
        running = self._running or Running("", 0, None)
        call = f"{running.step}-{running.name}/{tool}-{call_digest(args, kwargs)}"
        running.calls[call] += 1
        return f"{call}-{running.calls[call]}"


def error_text(error: BaseException) -> str:
    """What is kept of an error: its type, and the beginning of its text."""
    return f"{type(error).__name__}: {error}"[:_ERROR_TEXT]
