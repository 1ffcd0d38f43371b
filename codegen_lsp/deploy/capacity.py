"""Cores for the replicas: how many threads each has, and what of them Ray reserves."""

from __future__ import annotations

from attrs import frozen

from codegen_lsp.errors import ClusterError

MOST_THREADS = 8
"""Threads of a replica by default, at most. More gain little while one sequence is decoded: it is bound by memory."""
RESERVED = 0.5
"""Share of its threads that is reserved for a replica. The rest leaves room for the replica that takes its place in an
update, and a replica that nobody asks needs none."""
MOST_REPLICAS = 64


@frozen(kw_only=True)
class Capacity:
    """Replicas on a cluster, and the cores of each."""

    replicas: int | None
    """Fixed number; None to follow the load."""
    most_replicas: int
    """Limit of the number that follows the load."""
    threads: int
    """Threads of each replica's worker."""
    reserved_cpus: float
    """Of Ray's resource CPU, for each replica."""


def plan_capacity(node_cpus: list[float], replicas: int | None, threads: int = 0) -> Capacity:
    """Divide the cores of a cluster's nodes among replicas; `threads` is 0 to choose it. Raises: ClusterError.

    A replica runs on one node, so it has no more threads than the largest node has cores.
    """
    total, largest = sum(node_cpus), max(node_cpus, default=0.0)
    if largest <= 0:
        raise ClusterError("No node of the Ray cluster has CPUs.", "Start the nodes with --num-cpus.")
    if threads > largest:
        raise ClusterError(
            f"{threads} threads are more than the {largest:g} CPUs of the largest node.", "Choose fewer threads."
        )
    count = replicas or len(node_cpus)
    chosen = threads or max(1, min(MOST_THREADS, int(largest), int(total // count)))
    most = replicas or max(1, min(MOST_REPLICAS, int(total // chosen)))
    # `most` replicas and one that replaces another must find room together.
    reserved = min(RESERVED * chosen, total / (most + 1))
    return Capacity(
        replicas=replicas, most_replicas=most, threads=chosen, reserved_cpus=max(0.01, int(reserved * 100) / 100)
    )
