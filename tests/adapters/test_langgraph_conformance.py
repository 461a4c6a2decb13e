"""LangGraph's own conformance suite, on every checkpointer, for the async methods and for the sync ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.report import ProgressCallbacks

from threadline import BaseCheckpointer
from threadline.adapters.langgraph import ThreadlineSaver

#: Version 0.0.2 of the suite.
CAPABILITIES, TESTS = 8, 81


class SyncMethods(BaseCheckpointSaver[Any]):
    """A saver whose async methods call the sync ones of another: the suite looks at async methods only."""

    def __init__(self, saver: ThreadlineSaver) -> None:
        super().__init__(serde=saver.serde)
        self.saver = saver

    async def aget_tuple(self, config: Any) -> CheckpointTuple | None:
        return self.saver.get_tuple(config)

    async def alist(self, config: Any, **how: Any) -> AsyncIterator[CheckpointTuple]:
        for found in self.saver.list(config, **how):
            yield found

    async def aput(self, config: Any, *parts: Any) -> Any:
        return self.saver.put(config, *parts)

    async def aput_writes(
        self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.saver.put_writes(config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        self.saver.delete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        self.saver.delete_for_runs(run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self.saver.copy_thread(source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self.saver.prune(thread_ids, strategy=strategy)


@pytest.mark.parametrize("face", [lambda saver: saver, SyncMethods], ids=["async", "sync"])
async def test_every_capability_in_full(
    make_checkpointer: Callable[[], BaseCheckpointer],
    face: Callable[[ThreadlineSaver], BaseCheckpointSaver[Any]],
) -> None:
    @checkpointer_test(name="ThreadlineSaver")
    async def savers() -> AsyncIterator[BaseCheckpointSaver[Any]]:
        yield face(ThreadlineSaver(make_checkpointer()))

    failures: list[str] = []

    def told(capability: str, test: str, passed: bool, trace: str | None) -> None:
        if not passed:
            failures.append(f"{capability}: {test}\n{trace}")

    report = await validate(savers, progress=ProgressCallbacks(on_test_result=told))
    assert not failures, "\n".join(failures)
    assert report.conformance_level() == "FULL"
    assert sum(each.detected for each in report.results.values()) == CAPABILITIES
    assert sum(each.tests_passed for each in report.results.values()) == TESTS
