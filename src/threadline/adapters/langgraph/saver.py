"""`ThreadlineSaver`: LangGraph's checkpointer on any Threadline checkpointer."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import (
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)

from threadline import BaseCheckpointer
from threadline.adapters.langgraph.carrying import Advance, Carried, Carrier
from threadline.adapters.langgraph.history import History, Query
from threadline.adapters.langgraph.projection import projection
from threadline.adapters.langgraph.putting import Puts
from threadline.adapters.langgraph.reading import Given, Reader
from threadline.adapters.langgraph.serde import Allowed, StrictSerializer
from threadline.adapters.langgraph.sources import open_source
from threadline.adapters.langgraph.spans import Place, config_of
from threadline.adapters.langgraph.threads import ThreadCalls
from threadline.adapters.langgraph.upkeep import Upkeep


class ThreadlineSaver(ThreadCalls):
    """Keeps the checkpoints of LangGraph graphs in a Threadline store, a step by what is new in it.

    checkpointer: any Threadline checkpointer; it stays yours to release. serde: the codec; default: LangGraph's msgpack
    with a closed list of types. allowed_msgpack_modules: types of yours that it may build, classes or (module, name)
    pairs. app: what keeps LangGraph's threads apart from those of other frameworks in the store; tenant: from those
    of other tenants. user_key: the key in `configurable` that names the owner of a thread (e.g. "user_id"); default
    None: threads have no owner. index: a channel of messages that are also put into the message log, in the same
    commit, where they are listed and searched (e.g. "messages"); default None.

    Every method has its async twin. Raises NotStorableError for a value that could not be read back, before anything
    is written; ThreadNotFoundError for a put on a thread that was deleted; CorruptionError for damaged content.
    """

    def __init__(
        self,
        checkpointer: BaseCheckpointer,
        *,
        serde: Any = None,
        allowed_msgpack_modules: Allowed = (),
        app: str = "langgraph",
        tenant: str = "",
        user_key: str | None = None,
        index: str | None = None,
    ) -> None:
        if not isinstance(checkpointer, BaseCheckpointer):
            raise TypeError(
                "a ThreadlineSaver stands on a checkpointer of Threadline's, such as "
                f"SqliteCheckpointer('memory.db'), not on a {type(checkpointer).__name__}"
            )
        if serde is not None and tuple(allowed_msgpack_modules):
            raise ValueError("give either a serde or allowed_msgpack_modules, not both")
        super().__init__(serde=serde or StrictSerializer(allowed_msgpack_modules))
        self.checkpointer, self._user_key = checkpointer, user_key
        self.app, self.tenant = app, tenant
        self._store = checkpointer.store
        self._reader = Reader(self._store)
        self._history = History(self._reader)
        self._puts = Puts(self._store, self._reader)
        self._upkeep = Upkeep(self._reader, self._history, self._puts)
        self._project = projection(self._store, index) if index else None

    # Reading ------------------------------------------------------------------------------------------------

    async def aget_tuple(self, config: Any) -> CheckpointTuple | None:
        """The checkpoint that a config names, or the thread's latest; None when there is none."""
        place, id, given = self._place(config), get_checkpoint_id(config), Given()
        known = self._puts.grounds.get(place)
        found = await self._reader.get(place, id, self.serde, given)
        if given.head is not None:
            self._puts.grounds.read(place, given.head, known)
        if given.lists:
            self._puts.grounds.sights.put(place, given.digest, given.lists)
        return found

    async def alist(
        self,
        config: Any,
        *,
        filter: dict[str, Any] | None = None,
        before: Any = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, greatest id first. config: of one thread (without `checkpoint_ns`: of all its namespaces), or
        None for all threads of this app; filter: metadata that must be equal; before: only smaller ids."""
        query = Query(
            get_checkpoint_id(config) if config else None,
            get_checkpoint_id(before) if before else None,
            filter,
            limit,
        )
        async for found in self._history.tuples(await self._places(config), query, self.serde):
            yield found

    async def aget_delta_channel_history(
        self, *, config: Any, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        """What delta channels are rebuilt from; see `BaseCheckpointSaver.get_delta_channel_history`."""
        if not channels:
            return {}
        return await self._history.deltas(
            self._place(config), get_checkpoint_id(config), channels, self.serde
        )

    # Writing ------------------------------------------------------------------------------------------------

    async def aput(
        self, config: Any, checkpoint: Any, metadata: Any, new_versions: Mapping[str, Any]
    ) -> Any:
        """Store a checkpoint; one with the same id is replaced. Returns its config."""
        place = self._place(config)
        merged = get_checkpoint_metadata(config, metadata)
        parent = get_checkpoint_id(config)
        await self._puts.checkpoint(
            place, self.serde, checkpoint, merged, new_versions, parent, self._project
        )
        return config_of(place, checkpoint["id"])

    async def aput_writes(
        self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote on a checkpoint, which may come later."""
        id = config["configurable"]["checkpoint_id"]
        await self._puts.writes(self._place(config), self.serde, id, writes, task_id, task_path)

    # Whole threads ------------------------------------------------------------------------------------------

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete a thread: every namespace, checkpoints, writes, messages."""
        place = self._thread(str(thread_id))
        await self._store.aerase(place.config)
        self._puts.grounds.deleted(place)
        if patterns := getattr(self.serde, "patterns", None):
            patterns.clear()

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of these runs, in every thread of this app."""
        wanted = frozenset(map(str, run_ids))
        if wanted:
            for place in await self._places(None):
                await self._upkeep.delete_runs(place, wanted, self.serde)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with its whole history into one that does not exist: in the store, in one commit.

        The copy has the owner of the thread, its title and the messages of its log. Raises ValueError when the target
        exists, ThreadNotFoundError when the source does not; nothing is written then.
        """
        source, target = str(source_thread_id), str(target_thread_id)
        await self._upkeep.copy(self._thread(source), self._thread(target))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Prune threads. strategy: "keep_latest" (of each namespace, and what its delta channels need) or "delete"."""
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f'strategy must be "keep_latest" or "delete", not {strategy!r}')
        for thread_id in thread_ids:
            if strategy == "delete":
                await self.adelete_thread(thread_id)
                continue
            for place in await self._places({"configurable": {"thread_id": thread_id}}):
                await self._upkeep.keep_latest(place, self.serde)
                await self._collect(place)

    async def aimport(self, kind: str, where: str, advance: Advance | None = None) -> Carried:
        """Import the checkpoints of an official saver, which is only read: "langgraph-sqlite" and its file, or
        "langgraph-postgres" and its DSN. Again: adds what is new. advance: told how many checkpoints were
        looked at, of how many.

        Values stay the bytes that they are: nothing of them is built, imported or unpickled. Each checkpoint is
        compared with its source afterwards; what was not brought over is told in `bad`.

        Raises ValueError, FileNotFoundError, ConnectionError.
        """
        carrier = Carrier(self._thread, self._reader, self._history, self._puts)
        async with open_source(kind, where) as source:
            return await carrier.bring(source, advance or (lambda done, total: None))

    def get_next_version(self, current: Any, channel: None) -> Any:
        """The next version of a channel: the next number, or in threads that began with another saver a text like
        theirs."""
        if current is None:
            return 1
        if isinstance(current, str):
            return f"{int(current.split('.')[0]) + 1:032}.{secrets.randbelow(10**16) / 10**16:016}"
        return current + 1

    # Where --------------------------------------------------------------------------------------------------

    def _place(self, config: Any) -> Place:
        configurable = config["configurable"]
        user = configurable.get(self._user_key) if self._user_key else None
        namespace = configurable.get("checkpoint_ns") or ""
        return self._thread(str(configurable["thread_id"]), namespace, user)

    def _thread(self, thread_id: str, namespace: str = "", user: str | int | None = None) -> Place:
        return Place(self.app, thread_id, namespace, user, self.tenant)

    async def _places(self, config: Any) -> list[Place]:
        """The namespaces that a config means."""
        if config is None:
            found = [
                self._thread(each.thread_id)
                async for each in self._store.ascan({"app": self.app, "tenant": self.tenant})
            ]
        else:
            place = self._place(config)
            if config["configurable"].get("checkpoint_ns") is not None:
                return [place]
            found = [place]
        return [
            place._replace(namespace=name)
            for place in found
            for name in await self._store.anamespaces(place.config)
        ]
