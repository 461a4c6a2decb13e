"""A real Redis Cluster for tests: nodes that share the 16,384 slots, joined with plain commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from threadline.testing.servers.process import ServerError, wait_until
from threadline.testing.servers.valkey import Option, Valkey, valkey

SLOTS = 16_384


@dataclass(frozen=True)
class Cluster:
    """The nodes of a cluster; each holds an equal share of the slots."""

    nodes: tuple[Valkey, ...]

    @property
    def url(self) -> str:
        """The address of the first node; a client that knows clusters finds the others from there."""
        return self.nodes[0].url

    def is_whole(self) -> bool:
        """Whether every node knows every other, and all slots are served."""
        return all(_is_whole(node, len(self.nodes)) for node in self.nodes)


@contextmanager
def valkey_cluster(count: int = 3, **options: Option) -> Iterator[Cluster]:
    """Run a cluster of `count` Valkey nodes, without replicas, while the block runs. Options as for `valkey`."""
    with ExitStack() as stack:
        cluster = Cluster(
            tuple(
                stack.enter_context(
                    valkey(cluster_enabled=True, cluster_node_timeout=15000, **options)
                )
                for _ in range(count)
            )
        )
        _join(cluster)
        yield cluster


def _join(cluster: Cluster) -> None:
    first, *others = cluster.nodes
    for number, node in enumerate(cluster.nodes):
        share = [SLOTS * each // len(cluster.nodes) for each in (number, number + 1)]
        node.ask("CLUSTER", "ADDSLOTSRANGE", str(share[0]), str(share[1] - 1))
        # Each its own, so that they need not settle a collision first.
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
    for node in others:
        first.ask("CLUSTER", "MEET", node.host, str(node.port))
    wait_until(cluster.is_whole, "the nodes to form a cluster")


def _is_whole(node: Valkey, count: int) -> bool:
    try:
        reply = node.ask("CLUSTER", "INFO")
    except (OSError, ServerError):
        return False
    lines = reply.decode().splitlines() if isinstance(reply, bytes) else []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    return (
        facts["cluster_state"] == "ok"
        and facts["cluster_slots_ok"] == str(SLOTS)
        and facts["cluster_known_nodes"] == str(count)
    )
