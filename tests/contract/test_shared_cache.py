"""The whole contract through a shared cache: every read of a state goes by the bytes in it, where they hold."""

from __future__ import annotations

from typing import Any

import pytest

from threadline.backends.memory import MemoryBackend
from threadline.caches.redis import RedisCache
from threadline.checkpointer import BaseCheckpointer
from threadline.testing import CheckpointerContract
from threadline.testing.faces import Face


class TestSharedCacheAlone(CheckpointerContract):
    """No copies in the process: whatever is read again comes from the shared cache."""

    @pytest.fixture
    def checkpointer(self, valkey_url: str) -> BaseCheckpointer:
        shared = RedisCache(valkey_url, timeout=5.0)
        return BaseCheckpointer(MemoryBackend(), None, shared=shared)

    @pytest.fixture
    async def face(self, checkpointer: Any) -> Any:
        yield Face(checkpointer)
        shared = checkpointer._engine.shared
        await checkpointer.arelease()
        assert (shared.counts.poison, shared.counts.errors) == (0, 0)
