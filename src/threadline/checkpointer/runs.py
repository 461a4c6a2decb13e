"""`Session`: running nodes. Each leaves a checkpoint with its name and step, so that a run can be taken up behind the
last complete one; the tools that they call are recorded in a ledger.

First `run` and `run_all`, then how one node is run and what its result means.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, ClassVar, Self

from pydantic import BaseModel

from threadline import clock
from threadline.checkpointer import injection, tasks
from threadline.checkpointer.session import Progress
from threadline.checkpointer.signatures import name_of, plan_of
from threadline.checkpointer.tools import Running, ToolCalls, error_text
from threadline.errors import ConflictError, Interrupt, LeaseLostError, ThreadlineError
from threadline.model import AgentState, ExecutionStatus, Message
from threadline.telemetry import operation

Node = Callable[..., Any]
#: How often a node runs again on a state that was loaded anew because another writer was faster.
_RELOADS = 3


class Session(ToolCalls):
    """One state of one thread, and the running of nodes on it; made by `BaseCheckpointer.session`.

    A node is any callable. It gets what it names: `state`, `config`, `session`, else the state as its first argument;
    and what injection gives. It may change the state, return another one, or return messages (also a list, or as an
    async generator), which are added to the state's `context` and to the message log.
    """

    #: How injection knows this class, which stands above it.
    is_threadline_session: ClassVar[bool] = True
    #: The sync face of this session, for nodes that are not async.
    sync: Any = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def unfinished(self) -> list[str]:
        """The names of the nodes that an interrupted `run_all` has left to run; empty when there is none."""
        progress = self._progress
        return [] if progress is None else list(progress.plan[progress.done :])

    @operation
    async def run(
        self,
        node: Node,
        /,
        *args: Any,
        name: str | None = None,
        in_thread: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Run one node, wait for the tasks it started, and put the state as a checkpoint of the node's name; returns
        what the node returned.

        args, kwargs: given to the node as they are. name: default: the function's. in_thread: run a node that is not
        async in a worker thread, where it may block; else it runs on the loop, where it may start tasks.

        What the node raises is raised; a checkpoint named "error" then holds the state as the node left it. Raises
        ConflictError, LeaseLostError; with `on_conflict="reload"` the node runs again on the state that won.
        """
        done = self._progress.done if self._progress is not None else 0
        work = functools.partial(self._call, node, args, kwargs, in_thread)
        return await self._step(name or name_of(node), work, Progress(self.run_id, (), done + 1))

    @operation
    async def run_all(self, nodes: Sequence[Node | tuple[str, Node]]) -> bool:
        """Run nodes one after the other, each behind the checkpoint of the one before. True when all are complete,
        False when the run waits for an answer.

        A run that was interrupted, by an exception or by the end of the process, goes on behind its last complete node
        when the thread's session calls `run_all` again, in any process; what an incomplete node had changed is
        undone first. With a `run_id` in the config a run that is finished is not begun again.

        nodes: functions, or (name, function). Raises ValueError when the thread's unfinished run has other nodes.
        """
        named = [each if isinstance(each, tuple) else (name_of(each), each) for each in nodes]
        plan = tuple(name for name, _ in named)
        progress = await self._begin(plan)
        for index in range(progress.done, len(plan)):
            name, node = named[index]
            work = functools.partial(self._call, node, (), {}, False)
            try:
                await self._step(name, work, Progress(progress.run, plan, index + 1))
            except Interrupt:
                return False
        await self._ledger().forget(self.config)
        return True

    # One node -------------------------------------------------------------------------------------------------

    async def append(self, messages: Sequence[Message], *, log: bool = True) -> None:
        """See `SessionCore.append`."""
        if self._running is None:
            await super().append(messages, log=log)
            return
        items = list(messages)
        self._add(items)
        if log:
            self._unlogged += items

    async def _begin(self, plan: tuple[str, ...]) -> Progress:
        """The run that is to go on, at the state of its last complete node; or a new one, with a checkpoint."""
        run, progress = self._config.get("run_id"), self._progress
        if run is not None and (progress is None or progress.run != run):
            found = await self.checkpointer.alist_checkpoints(
                self.config, metadata={"run": run}, limit=1
            )
            progress = Progress.of(found[0]) if found else None
            progress = progress._replace(good=None) if progress else None
        if progress is not None and not progress.finished:
            if progress.plan != plan:
                raise ValueError(
                    f"thread {self.thread_id!r} has an unfinished run of {', '.join(progress.plan)}, not of "
                    f"{', '.join(plan)}: finish that one, or begin another with a run_id in the config"
                )
            self._own_run = progress.run
            if progress.good is not None:
                progress = progress._replace(good=None)
                await self._back_to(self._progress_good(), progress)
            return progress
        if progress is not None and run is not None:
            return progress
        self._own_run = run or clock.new_id()
        progress = Progress(self._own_run, plan)
        await self._save(None, progress.metadata())
        await self._ledger().forget_others(self.config)
        return progress

    def _progress_good(self) -> int:
        return (self._progress.good if self._progress else None) or 0

    async def _back_to(self, version: int, progress: Progress) -> None:
        await self.checkpointer.arollback(
            self.config, version, metadata=progress.metadata(), expected_version=self.checkpoint
        )
        await self.reload()

    async def _step(self, name: str, work: Callable[[], Any], after: Progress) -> Any:
        """Run a node's work and put what it left; `after`: how far the run has come then."""
        for again in range(_RELOADS + 1):
            before = self.checkpoint.version if self.checkpoint else None
            self._running = Running(name, after.done, before)
            failed = after._replace(done=after.done - 1, good=before)
            try:
                result = await work()
                logged = self._take(result)
            except Interrupt as waiting:
                await self._note(waiting, "waiting", failed.metadata(node=name))
                raise
            except Exception as error:
                said = failed.metadata(node=name, error=error_text(error))
                await self._note(error, "error", said)
                raise
            finally:
                self._running = None
            self._advance(after)
            try:
                await self._save(name, after.metadata(node=name), logged)
            except ConflictError as error:
                final = self.options.on_conflict != "reload" or isinstance(error, LeaseLostError)
                if final or again == _RELOADS:
                    raise
                continue
            return result
        raise ThreadlineError("a node ran too often")  # Never: the last time round raises.

    async def _call(
        self, node: Node, args: Sequence[Any], kwargs: dict[str, Any], in_thread: bool
    ) -> Any:
        """Call a node with what it names and wants, in this session's scope; wait for what it started."""
        plan, given = plan_of(node), dict(kwargs)
        own = {"state": self.state, "config": self.config, "session": self}
        wanted = {each.name for each in plan.wanted}
        if not args and plan.first not in {None, *own, *given, *wanted}:
            args = (self.state,)
        for name, value in own.items():
            taken = name in given or name in wanted or (args and plan.first == name)
            if name in plan.names and not taken:
                given[name] = value
        scope = injection.Scope(self.options.container, self.checkpointer, self)
        call = functools.partial(injection.call, node, *args, **given)
        with injection.entered(scope), tasks.noticing() as started:
            try:
                result = await asyncio.to_thread(call) if in_thread else call()
                result = await _awaited(result)
            finally:
                failed = await tasks.finished(started)
        if failed is not None:
            raise failed
        return result

    def _take(self, result: Any) -> list[Message]:
        """Make a node's result part of the state; the messages that are to be logged."""
        if isinstance(result, Message):
            return self._add([result])
        if isinstance(result, list | tuple) and all(isinstance(each, Message) for each in result):
            return self._add(list(result))
        same = isinstance(result, dict) and isinstance(self.state, dict)
        if same or (_is_record(result) and isinstance(result, type(self.state))):
            self.state = result
        return []

    def _add(self, messages: list[Message]) -> list[Message]:
        context = self._context()
        if context is not None:
            context.extend(messages)
        return messages

    def _advance(self, after: Progress) -> None:
        if not isinstance(self.state, AgentState):
            return
        self.state.clear_interrupt()
        meta = self.state.execution_meta
        if meta.status is ExecutionStatus.ERROR:
            meta.status = ExecutionStatus.RUNNING
        meta.advance_step()
        if after.plan:
            meta.set_current_node("__end__" if after.finished else after.plan[after.done])
            if after.finished:
                meta.complete()

    async def _note(self, error: Exception, name: str, metadata: dict[str, Any]) -> None:
        """Store what was there when a node stopped, as a checkpoint of its own."""
        state = self.state
        if isinstance(state, AgentState):
            state = state.model_copy(
                update={"execution_meta": state.execution_meta.model_copy(deep=True)}
            )
            if isinstance(error, Interrupt):
                data = {"call_id": error.call_id, "question": error.question}
                state.set_interrupt(metadata["node"], str(error), data)
            else:
                state.error(error_text(error))
        given = {"name": name, "metadata": metadata, "messages": list(self._unlogged)}
        try:
            await self._put(state, {key: value for key, value in given.items() if value})
        except (ThreadlineError, TypeError, ValueError, ConnectionError) as second:
            error.add_note(f"the {name} checkpoint could not be stored: {second}")
            return
        self._unlogged.clear()
        self._progress = Progress.of(self.checkpoint)


async def _awaited(result: Any) -> Any:
    if inspect.isawaitable(result):
        return await result
    if isinstance(result, AsyncIterator):
        async with contextlib.aclosing(result) as items:  # type: ignore[type-var]
            return [item async for item in items]
    return list(result) if inspect.isgenerator(result) else result


def _is_record(value: Any) -> bool:
    return isinstance(value, BaseModel) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )
