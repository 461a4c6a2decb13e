"""The sync faces of the saver: one line each over its async methods, driven as the store drives its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from threadline.store import Store


class Faces(BaseCheckpointSaver[Any]):
    """The methods of a saver that are called from sync code, inside a running loop as well."""

    _store: Store

    def get_tuple(self, config: Any) -> CheckpointTuple | None:
        """`aget_tuple` for sync code."""
        return self._store.run(self.aget_tuple(config))

    def list(
        self,
        config: Any,
        *,
        filter: dict[str, Any] | None = None,
        before: Any = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """`alist` for sync code."""
        return self._store.iterate(self.alist(config, filter=filter, before=before, limit=limit))

    def get_delta_channel_history(
        self, *, config: Any, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        """`aget_delta_channel_history` for sync code."""
        return self._store.run(self.aget_delta_channel_history(config=config, channels=channels))

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        """`aput` for sync code."""
        return self._store.run(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """`aput_writes` for sync code."""
        self._store.run(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """`adelete_thread` for sync code."""
        self._store.run(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """`adelete_for_runs` for sync code."""
        self._store.run(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """`acopy_thread` for sync code."""
        self._store.run(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`aprune` for sync code."""
        self._store.run(self.aprune(thread_ids, strategy=strategy))
