"""Programs that are written and judged on the nodes of a Ray cluster, one actor with a model of its own on each node.

A program depends on the seed, its problem and its number alone, so it matters not where it is written. The work of a
node that is lost is done again on another one; nodes that join the cluster get work, too. Every node needs
codegen-lsp in the same version, and the model: under the same name, or in the same folder.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import ray
from attrs import define, frozen
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from codegen_lsp.checkpoints.store import find
from codegen_lsp.deploy.cluster import joined_cluster, local_cluster
from codegen_lsp.errors import ClusterError, ModelError
from codegen_lsp.evaluation.program_measurements import (
    PROMPTS_AT_ONCE,
    Benchmark,
    judges,
    measurement_of,
    setup_of,
    writing,
)
from codegen_lsp.evaluation.programs import ProgramSample, SampleLog, Sampler, SamplingSetup, judging
from codegen_lsp.evaluation.runtime import Measurement, Runtime, gather, running
from codegen_lsp.inference.rpc.messages import ModelDescription
from codegen_lsp.progress import ProgressReport
from codegen_lsp.version import __version__

LOOK_SECONDS = 1.0
"""Seconds between two looks for nodes that have no actor."""
MOST_STARTS = 3
"""Starts of an actor on a node without a program in between, after which the node is given up."""
MOST_CALLS = 512
"""Concurrent calls of an actor; fewer are made."""
LOCAL = "local"


@frozen
class NodeReport:
    """The answer of an actor whose model is loaded."""

    model: ModelDescription
    places: int
    """Programs that it writes and judges at once."""


class SamplingActor:
    """Writes and judges programs on one node."""

    def __init__(self, runtime: Runtime, benchmark: Benchmark, setup: SamplingSetup, version: str) -> None:
        self._runtime, self._benchmark, self._setup, self._version = runtime, benchmark, setup, version
        self._open = contextlib.AsyncExitStack()

    async def start(self) -> NodeReport:
        """Load the model. Raises: ModelError and WorkerError."""
        if self._version != __version__:
            raise ModelError(
                f"A node has codegen-lsp {__version__}, not {self._version}.", "Install the same everywhere."
            )
        path = self._runtime.build.path
        build = find(str(path) if path.is_dir() else self._runtime.build.name)
        runtime = Runtime(
            build, self._runtime.device, self._runtime.threads, self._runtime.engine, self._runtime.ngrams
        )
        if runtime.weights != self._setup.weights:
            raise ModelError(f"A node has other weights of {runtime.build.name}.", "Install one build on every node.")
        client, model = await self._open.enter_async_context(
            running(runtime, cache_memory_mb=None, at_once=PROMPTS_AT_ONCE)
        )
        write = writing(self._benchmark, client, self._setup)
        self._sample = judging(write, self._benchmark.judge, judges())
        return NodeReport(model, model.slots + judges())

    async def sample(self, task: str, number: int) -> ProgramSample:
        """Write and judge a program."""
        return await self._sample(task, number)


@define(eq=False)
class _Lane:
    """A running actor."""

    actor: Any
    node: str
    running: bool = True


class ClusterSampling:
    """The actors of a cluster. Made inside the event loop."""

    def __init__(self, runtime: Runtime, benchmark: Benchmark, setup: SamplingSetup) -> None:
        self._arguments = (runtime, ray.put(benchmark), setup, __version__)
        self._lanes: dict[str, _Lane] = {}
        """By node."""
        self._starts: dict[str, int] = {}
        """By node, without a program in between."""
        self._free: asyncio.Queue[_Lane] = asyncio.Queue()
        """An actor for each program more that it can take."""
        loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = loop.create_future()
        self._model: asyncio.Future[ModelDescription] = loop.create_future()
        self._starting: set[asyncio.Task[None]] = set()

    async def sample(self, task: str, number: int) -> ProgramSample:
        """Have a node write and judge a program. Raises: what the nodes raise, and ClusterError without nodes."""
        while True:
            lane = await self._next()
            try:
                found: ProgramSample = await lane.actor.sample.remote(task, number)
            except RayActorError:
                self._end(lane)
                continue
            except RayTaskError as error:
                raise error.cause from None
            self._starts[lane.node] = 0
            self._free.put_nowait(lane)
            return found

    async def supervise(self) -> None:
        """Keep an actor on every node, until this is cancelled."""
        while True:
            nodes = await asyncio.to_thread(ray.nodes)
            for id in [one["NodeID"] for one in nodes if one["Alive"] and one["Resources"].get("CPU", 0) >= 1]:
                if id not in self._lanes and self._starts.get(id, 0) < MOST_STARTS:
                    self._start(id)
            if not self._lanes and not self._failed.done():
                self._failed.set_exception(
                    ClusterError("No node of the cluster can run the evaluation.", "See Ray's logs, and start nodes.")
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def model(self) -> ModelDescription:
        """Return the model of the first node that has loaded it. Raises: as `sample`."""
        waited: set[asyncio.Future[Any]] = {self._model, self._failed}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not self._model.done():
            self._failed.result()
        return self._model.result()

    def close(self) -> None:
        """End the actors."""
        for starting in self._starting:
            starting.cancel()
        for lane in list(self._lanes.values()):
            self._end(lane)

    async def _next(self) -> _Lane:
        """Return a running actor with a free place. Raises: ClusterError when there will be none."""
        while True:
            getting = asyncio.ensure_future(self._free.get())
            waited: set[asyncio.Future[Any]] = {getting, self._failed}
            try:
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    self._failed.result()
            finally:
                if not getting.done():
                    getting.cancel()
            if (lane := getting.result()).running:
                return lane

    def _start(self, node: str) -> None:
        where = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        options = {"num_cpus": 1, "max_concurrency": MOST_CALLS, "scheduling_strategy": where}
        lane = _Lane(ray.remote(SamplingActor).options(**options).remote(*self._arguments), node)
        self._lanes[node] = lane
        self._starts[node] = self._starts.get(node, 0) + 1
        starting = asyncio.ensure_future(self._load(lane))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)

    async def _load(self, lane: _Lane) -> None:
        try:
            report: NodeReport = await lane.actor.start.remote()
        except RayActorError:
            self._end(lane)
            return
        except RayTaskError as error:
            if not self._failed.done():
                self._failed.set_exception(error.cause)
            return
        if not self._model.done():
            self._model.set_result(report.model)
        for _ in range(report.places):
            self._free.put_nowait(lane)

    def _end(self, lane: _Lane) -> None:
        """End an actor, or note that it has ended."""
        lane.running = False
        if self._lanes.get(lane.node) is lane:
            del self._lanes[lane.node]
        with contextlib.suppress(Exception):
            ray.kill(lane.actor)


def measure_programs_on_cluster(
    address: str,
    runtime: Runtime,
    benchmark: Benchmark,
    samples: int,
    *,
    temperature: float,
    top_p: float,
    seed: int,
    log: Path | None,
    report: ProgressReport,
) -> tuple[Measurement, list[ProgramSample]]:
    """Do what `measure_programs` does on the nodes of a Ray cluster: at an address, or of this machine for `local`.

    `deploy.environment.prepare` must have been called. Raises: ClusterError, and what `measure_programs` raises.
    """
    setup = setup_of(runtime, benchmark, temperature, top_p, seed)
    record = SampleLog(log, setup)
    tasks = [problem.id for problem in benchmark.problems()]

    async def run() -> tuple[ModelDescription, list[ProgramSample]]:
        sampling = ClusterSampling(runtime, benchmark, setup)
        supervising = asyncio.ensure_future(sampling.supervise())
        try:
            model = await sampling.model()
            sampler = Sampler(sampling.sample, record, MOST_CALLS)
            return model, await gather(sampler.sample(tasks, samples), report, total=len(tasks) * samples)
        finally:
            supervising.cancel()
            sampling.close()

    with local_cluster() if address == LOCAL else joined_cluster(address):
        model, found = asyncio.run(run())
    return measurement_of(runtime, benchmark, samples, model, found), found
