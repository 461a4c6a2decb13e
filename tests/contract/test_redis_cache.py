"""Redis, Valkey and a cluster take the exam for shared caches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio.cluster import RedisCluster

from threadline.caches.redis import RedisCache
from threadline.testing import SharedCacheContract
from threadline.testing.contract_cache import MakeCache
from threadline.testing.servers import Cluster, valkey_cluster

#: Seconds: a loaded machine is no fault of the cache.
PATIENT = 5.0


class TestValkey(SharedCacheContract):
    @pytest.fixture
    def make_cache(self, valkey_url: str) -> MakeCache:
        return lambda: RedisCache(valkey_url, timeout=PATIENT)


class TestRedis8(SharedCacheContract):
    @pytest.fixture
    def make_cache(self, redis8_url: str) -> MakeCache:
        return lambda: RedisCache(redis8_url, timeout=PATIENT, max_threads=1000)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with valkey_cluster() as made:
        yield made


@pytest.mark.xdist_group("redis cluster")
class TestCluster(SharedCacheContract):
    """Three nodes; the caller's client, which knows the way to each."""

    @pytest.fixture
    async def make_cache(self, cluster: Cluster) -> AsyncIterator[MakeCache]:
        for node in cluster.nodes:
            node.flush()
        client = RedisCluster.from_url(cluster.url)
        yield lambda: RedisCache(client=client, timeout=PATIENT, max_threads=1000)
        await client.aclose()
