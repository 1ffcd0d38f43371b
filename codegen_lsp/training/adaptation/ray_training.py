"""A training on the nodes of a Ray cluster, by Ray Train: each worker computes a part of every batch (`parallel`).

The first worker's folder goes to a storage that all nodes share, whenever it writes a checkpoint, and at the end to
this machine. When a worker dies, all begin again from the last checkpoint; so does the same command, when this process
died. The texts' token ids and the weights travel through Ray's object store. The float checkpoint of a larger model
does not: it must lie in the same folder on every node.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from codegen_lsp.deploy.cluster import joined_cluster, local_cluster, node_cpus
from codegen_lsp.errors import ClusterError
from codegen_lsp.progress import ProgressReport
from codegen_lsp.temporary_folder import TemporaryFolder
from codegen_lsp.training.adaptation.best import BEST, BestWeights
from codegen_lsp.training.adaptation.job import ClusterOptions
from codegen_lsp.training.adaptation.trainee import Trainee
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.data import EncodedCorpus
from codegen_lsp.training.parallel import Processes
from codegen_lsp.training.state import TrainingState
from codegen_lsp.training.train import train_from
from codegen_lsp.version import __version__

MOST_FAILURES = 5
"""Deaths of workers after which a training is given up; the same command goes on with it."""
START_SECONDS = 900
"""Time for the workers to start. Ray Train's minute is too short where they have the lowest priority."""
ASK_SECONDS = 1.0
"""Seconds between two messages of the first worker, and between two looks at them."""


@attrs.frozen(eq=False)
class ClusterTask:
    """Everything that the workers need; it is sent to them."""

    trainee: Trainee
    config: TrainingConfig
    training: EncodedCorpus
    validation: EncodedCorpus
    tokenizer: dict[str, bytes]
    """The tokenizer's files, by name."""
    patience: int
    threads: int
    """Of each worker."""
    version: str = __version__


class RunBoard:
    """An actor on this machine through which the first worker tells its progress, and learns that it shall stop."""

    def __init__(self) -> None:
        self._message, self._share, self._stop = "starting the workers", 0.0, False

    def tell(self, message: str, share: float) -> bool:
        """Take a message; return true if the training shall stop."""
        self._message, self._share = message, share
        return self._stop

    def read(self) -> tuple[str, float]:
        """Return the last message, and the share of the training that is done."""
        return self._message, self._share

    def stop(self) -> None:
        """Have the training stop."""
        self._stop = True


@attrs.frozen
class RayProcesses(Processes):
    """The workers of Ray Train, which keeps the folder of the first one as a checkpoint."""

    folder: Path = Path()

    def saved(self) -> None:
        """Hand the folder to Ray Train; all workers wait for it."""
        self.hand_over({})

    def hand_over(self, metrics: dict[str, Any]) -> None:
        """Hand over the folder, with figures."""
        ray.train.report(metrics, checkpoint=Checkpoint.from_directory(self.folder) if self.first else None)


@contextmanager
def cluster(options: ClusterOptions, threads: int) -> Iterator[bool]:
    """Be in the cluster within the block; give whether its workers have CUDA. `threads` are those of a worker.

    Raises ClusterError when there is none, or it is too small.
    """
    opened = local_cluster(options.workers * threads) if options.local else joined_cluster(options.address)
    with opened:
        nodes = node_cpus()
        places = sum(int(cpus) // threads for cpus in nodes)
        if places < options.workers:
            raise ClusterError(
                f"The cluster has room for {places} workers of {threads} threads, not for {options.workers}.",
                "Give fewer --workers or --threads, or add nodes.",
            )
        if len(nodes) > 1 and options.storage is None:
            raise ClusterError(
                f"The cluster has {len(nodes)} nodes, which need a storage for checkpoints that they share.",
                "Name one with --storage: a folder that is on all of them, or an address such as s3://bucket/folder.",
            )
        yield ray.cluster_resources().get("GPU", 0) >= options.workers


def train_on_cluster(
    options: ClusterOptions,
    task: ClusterTask,
    run_folder: Path,
    name: str,
    report: ProgressReport,
    stop: Callable[[], bool],
    *,
    resumable: bool,
) -> bool:
    """Train on the cluster that this process is in, with the result in `run_folder`; return as `train_from` does.

    `name` tells trainings in one storage apart. What is stored there is deleted when the training is done; one that was
    stopped can go on with it if it is `resumable`, or has no best weights yet. Raises ClusterError when the workers
    fail again and again.
    """
    storage = options.storage or str(run_folder.parent / "ray")
    if "://" not in storage:
        storage = str(Path(storage).expanduser().resolve())
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_SECONDS))
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board: Any = ray.remote(RunBoard).options(num_cpus=0, scheduling_strategy=here).remote()
    cuda = task.config.device == "cuda"
    trainer = TorchTrainer(
        _train_on_worker,
        train_loop_config={"task": ray.put(task), "board": board},
        scaling_config=ScalingConfig(
            num_workers=options.workers,
            use_gpu=cuda,
            resources_per_worker={"CPU": task.threads} | ({"GPU": 1} if cuda else {}),
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage,
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=MOST_FAILURES),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    ended: list[Any] = []

    def fit() -> None:
        try:
            ended.append(trainer.fit())
        except Exception as error:
            ended.append(error)

    running = threading.Thread(target=fit, daemon=True)
    running.start()
    asked = False
    while running.is_alive():
        running.join(ASK_SECONDS)
        report(*ray.get(board.read.remote()))
        if stop() and not asked:
            asked = True
            board.stop.remote()
    result = ended[0]
    if isinstance(result, Exception):
        reason = str(result).strip().rpartition("\n")[2]
        raise ClusterError(
            f"The training failed on the cluster: {reason}",
            "See Ray's logs. The same command goes on from the last checkpoint.",
        ) from result
    result.checkpoint.to_directory(run_folder)
    done = bool(result.metrics["done"])
    if done or (not resumable and (run_folder / BEST).exists()):
        result.filesystem.delete_dir(str(result.path))
    return done


def _train_on_worker(given: dict[str, Any]) -> None:
    """Train in one worker of Ray Train."""
    task: ClusterTask = ray.get(given["task"])
    if task.version != __version__:
        raise ClusterError(f"A node has codegen-lsp {__version__}, not {task.version}.", "Install the same everywhere.")
    torch.set_num_threads(task.threads)
    context = ray.train.get_context()
    with TemporaryFolder("codegen-lsp-adapt-") as temporary:
        folder, tokenizer = temporary / "run", temporary / "tokenizer"
        tokenizer.mkdir()
        for name, content in task.tokenizer.items():
            (tokenizer / name).write_bytes(content)
        folder.mkdir()
        if (earlier := ray.train.get_checkpoint()) is not None:
            earlier.to_directory(folder)
        processes = RayProcesses(context.get_world_rank(), context.get_world_size(), folder)
        teller = _Teller(given["board"], task.config)
        done = train_from(
            task.config,
            task.trainee.begin(task.config, task.training, task.trainee.tables(tokenizer)),
            task.validation,
            folder,
            teller.validated,
            teller.interrupted,
            enough=BestWeights(folder, task.patience).enough,
            processes=processes,
        )
        processes.hand_over({"done": done})


class _Teller:
    """Tells the board how far the training is."""

    def __init__(self, board: Any, config: TrainingConfig) -> None:
        self._board, self._config = board, config
        self._last, self._told = "the first figure takes a while", float("-inf")

    def validated(self, line: str) -> None:
        """Take a line of the training."""
        self._last, self._told = line, float("-inf")

    def interrupted(self, run: TrainingState) -> bool:
        """Return true if the training shall stop; asked at most once in `ASK_SECONDS`."""
        now = time.monotonic()
        if now - self._told < ASK_SECONDS:
            return False
        self._told = now
        spent = run.spent(self._config.steps is not None) / self._config.budget
        message = f"{run.step:,} steps, {run.tokens:,} tokens; {self._last}"
        return bool(ray.get(self._board.tell.remote(message, min(spent, 1.0))))
