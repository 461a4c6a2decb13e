"""The public methods across threads: carrying them from one store to another, and counting them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

from threadline.checkpointer.calls import Calls
from threadline.checkpointer.sync import face
from threadline.config import Config, read_config
from threadline.telemetry import operation


class TransferCalls(Calls):
    """Exporting threads to JSON Lines, importing them, and counting what is stored."""

    @operation
    async def aexport(
        self, config: Config, file: str | os.PathLike[str] | IO[bytes]
    ) -> dict[str, int]:
        """Write the config's thread (without `thread_id`: every thread of its tenant, app and user) as JSON Lines: all
        namespaces, the whole history, messages, names, slots and lineage, with a digest at the end.

        file: a path, written anew and readable by its owner only, or an open binary file. Returns the counts of
        threads, checkpoints, messages and lines.
        """
        address = read_config(config, thread=False)
        if isinstance(file, str | os.PathLike):
            with _written(file) as opened:
                return await self._exporter.export(address, opened)
        return await self._exporter.export(address, file)

    @operation
    async def aimport(self, file: str | os.PathLike[str] | IO[bytes]) -> dict[str, int]:
        """Import every thread of a file that `aexport` wrote, into this store; each is verified when it is there.

        file: a path, or an open binary file that can be read twice (seekable). Returns the counts of threads,
        checkpoints and messages. Raises ValueError, with the line's number, for a file that is damaged or not whole,
        and for a thread that is there already: nothing is imported then.
        """
        if isinstance(file, str | os.PathLike):
            with _read(file) as opened:
                return await self._importer.load(opened)
        return await self._importer.load(file)

    @operation
    async def astats(self, config: Config) -> dict[str, Any]:
        """Count, in the store, what is stored of the config's thread (without `thread_id`: of every thread of its
        tenant, app and user).

        `threads`, `messages`, `checkpoints`, `bytes` (of payloads); `roles` and `names`: messages by role and
        checkpoints by name, the most frequent first; `tools`: for each tool its `calls`, `errors`, `error_rate` (of
        those that were answered), `unanswered`, `mean_seconds` (from the call's message to the result's; None where
        they do not say); `tokens`: what the messages' `usages` add up to; `days`: messages and checkpoints of each day,
        UTC, by the store's clock; `durations`: seconds from the beginning of threads to their last activity;
        `by_thread`: a dict of each thread, the largest first.

        Tools and tokens are those of the message log (not of states), put with version 0.2 or later.
        """
        return await self._counting.stats(read_config(config, thread=False))

    stats = face(astats)
    export = face(aexport)
    import_ = face(aimport)


def _written(path: str | os.PathLike[str]) -> IO[bytes]:
    Path(path).touch(mode=0o600)
    return Path(path).open("wb")


def _read(path: str | os.PathLike[str]) -> IO[bytes]:
    return Path(path).open("rb")
