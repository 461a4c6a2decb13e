"""Everything Threadline raises, under one root.

A message says what happened, to which thread, and what to do. `retryable` tells whether the same call may
succeed when it is made again. What is raised when a store cannot be reached is a builtin
`ConnectionError` as well, and what is raised for bad input a builtin `ValueError` or `TypeError`.
"""

from __future__ import annotations


class ThreadlineError(Exception):
    """Something went wrong in Threadline."""

    retryable = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])


class ConflictError(ThreadlineError):
    """Another writer moved the head of this thread; load the state again, or fork.

    Attributes: `thread_id`; `expected`, the version this write was computed from (0: must not exist);
    `current`, the version the thread has now (0: no state).
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        thread_id: str = "",
        expected: int | None = None,
        current: int | None = None,
    ) -> None:
        super().__init__(message)
        self.thread_id, self.expected, self.current = thread_id, expected, current


class LeaseLostError(ConflictError):
    """Another run holds this thread's lease now; nothing was written. Stop, or open a new session."""


class LeaseHeldError(ConflictError):
    """Another run holds this thread's lease; wait for it, or come back later."""

    retryable = True


class ToolOutcomeUnknownError(ThreadlineError):
    """A tool was started and did not say how it ended; find out, and tell the session with `answer`.

    Attributes: `thread_id`, `tool`, `call_id`.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        thread_id: str = "",
        tool: str = "",
        call_id: str = "",
    ) -> None:
        super().__init__(message)
        self.thread_id, self.tool, self.call_id = thread_id, tool, call_id


class Interrupt(ThreadlineError):
    """The run waits for a person: answer the question, and run again.

    Attributes: `thread_id`, `call_id` (what `Session.answer` takes), `question`.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        thread_id: str = "",
        call_id: str = "",
        question: object = None,
    ) -> None:
        super().__init__(message)
        self.thread_id, self.call_id, self.question = thread_id, call_id, question


class InjectionError(ThreadlineError, LookupError):
    """What a function wants to be given is bound nowhere; the function was not called."""


class ThreadNotFoundError(ThreadlineError, LookupError):
    """This thread does not exist, was deleted, or belongs to another user."""


class NotStorableError(ThreadlineError, TypeError, ValueError):
    """A value cannot be stored so that it would come back equal; nothing was written."""


class LimitError(ThreadlineError, ValueError):
    """A value is larger or deeper than the store accepts; nothing was written."""


class CorruptionError(ThreadlineError):
    """Stored bytes are damaged: their content does not match what was committed."""


class UnavailableError(ThreadlineError, ConnectionError):
    """The store could not be reached; nothing is known to be wrong with the data."""

    retryable = True


class DeadlineError(UnavailableError, TimeoutError):
    """The store did not answer before the deadline; nothing was written."""


class OutcomeUnknownError(UnavailableError):
    """The store did not say whether it committed; repeat the call with `op_id=error.op_id` to find out: the one that it
    was given, else the one that was made for it."""

    def __init__(self, message: str | None = None, *, op_id: str = "") -> None:
        super().__init__(message)
        self.op_id = op_id


class StorageFullError(ThreadlineError):
    """The store has no room left; nothing was written."""

    retryable = True


class SchemaError(ThreadlineError):
    """The store was written by a newer Threadline; upgrade this one before it is opened."""


class ReleasedError(ThreadlineError, RuntimeError):
    """This checkpointer was released; open a new one."""
