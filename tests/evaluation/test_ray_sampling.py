"""Sampling on a Ray cluster of two nodes, of which one is killed in mid-run, with the embedded model."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import needs

needs.extra("ray")

from ray.cluster_utils import Cluster

from codegen_lsp.deploy.environment import prepare
from codegen_lsp.errors import ClusterError
from codegen_lsp.evaluation import ray_sampling
from codegen_lsp.evaluation.mtpb import Conversation
from codegen_lsp.evaluation.program_measurements import Mtpb, measure_programs
from codegen_lsp.evaluation.programs import ProgramSample
from codegen_lsp.evaluation.ray_sampling import ClusterSampling, measure_programs_on_cluster
from codegen_lsp.evaluation.runtime import Runtime, open_runtime

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
CONVERSATIONS = [
    Conversation(f"{number}/0", "n", "math", [f"Set x to {number}.", "Print x."], number, 8) for number in range(1, 13)
]
OPTIONS: dict[str, Any] = {"temperature": 1.0, "top_p": 0.95, "seed": 3, "log": None}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, os.environ.get(name, "0" if name != "RAY_AUTH_MODE" else "disabled"))
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def runtime(embedded_build: Path, sandbox: None) -> Runtime:
    return open_runtime(str(embedded_build), "cpu", 1, "auto")


def test_a_lost_nodes_work_is_done_again_and_programs_are_those_of_one_machine(
    cluster: Cluster, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = Mtpb(CONVERSATIONS)
    _, alone = measure_programs(runtime, benchmark, 2, **OPTIONS, report=lambda *_: None)

    second = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    cluster.wait_for_nodes()
    lost: list[str] = []
    end, load = ClusterSampling._end, ClusterSampling._load

    def ending(self: ClusterSampling, lane: ray_sampling._Lane) -> None:
        lost.append(lane.node)
        end(self, lane)

    removed = asyncio.Event()

    async def loading(self: ClusterSampling, lane: ray_sampling._Lane) -> None:
        if lane.node != second.node_id:
            await removed.wait()  # the other node must not have written everything before
            await load(self, lane)
            return
        await load(self, lane)
        await asyncio.sleep(0)  # the next turn of the loop gives it all the work that it takes
        await asyncio.to_thread(cluster.remove_node, second, allow_graceful=False)
        removed.set()

    monkeypatch.setattr(ClusterSampling, "_end", ending)
    monkeypatch.setattr(ClusterSampling, "_load", loading)
    prepare(cluster.address)
    _, found = measure_programs_on_cluster(cluster.address, runtime, benchmark, 2, **OPTIONS, report=lambda *_: None)

    def ordered(samples: list[ProgramSample]) -> list[ProgramSample]:
        return sorted(samples, key=lambda one: (one.task, one.number))

    # Lost once with each of its programs; the other actor is ended when all is done.
    assert lost.count(second.node_id) > 1
    assert set(lost) > {second.node_id}
    assert ordered(found) == ordered(alone)
    assert len(found) == 24


def test_an_address_where_nothing_listens_is_named(runtime: Runtime) -> None:
    with pytest.raises(ClusterError, match="No Ray cluster can be joined"):
        measure_programs_on_cluster("127.0.0.1:1", runtime, Mtpb(CONVERSATIONS), 1, **OPTIONS, report=lambda *_: None)
