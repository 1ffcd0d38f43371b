"""Cores for the replicas."""

from __future__ import annotations

import pytest

from codegen_lsp.deploy.capacity import Capacity, plan_capacity
from codegen_lsp.errors import ClusterError


@pytest.mark.parametrize(
    ("node_cpus", "replicas", "threads"),
    [([2], 2, 1), ([2], 4, 1), ([16], 2, 8), ([16], 4, 4), ([8, 8, 8, 8], 4, 8), ([4, 64], None, 8), ([4, 4], None, 4)],
)
def test_cores_are_divided(node_cpus: list[float], replicas: int | None, threads: int) -> None:
    assert plan_capacity(node_cpus, replicas).threads == threads


@pytest.mark.parametrize("node_cpus", [[1], [2], [8], [8, 8], [64], [2, 4, 8]])
@pytest.mark.parametrize("replicas", [None, 1, 2, 3, 9])
@pytest.mark.parametrize("threads", [0, 1])
def test_an_update_has_room_for_one_replica_more(node_cpus: list[float], replicas: int | None, threads: int) -> None:
    capacity = plan_capacity(node_cpus, replicas, threads)
    assert capacity.reserved_cpus * (capacity.most_replicas + 1) <= sum(node_cpus)
    assert capacity.reserved_cpus > 0


def test_the_load_may_bring_as_many_replicas_as_have_cores() -> None:
    assert plan_capacity([8, 8], None, 2) == Capacity(replicas=None, most_replicas=8, threads=2, reserved_cpus=1.0)


@pytest.mark.parametrize(("node_cpus", "threads"), [([], 0), ([0], 0), ([4, 8], 9)])
def test_what_no_node_can_hold_is_refused(node_cpus: list[float], threads: int) -> None:
    with pytest.raises(ClusterError):
        plan_capacity(node_cpus, 1, threads)
