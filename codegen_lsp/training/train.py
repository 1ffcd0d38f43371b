"""Training on a time budget.

The schedule is fitted to minutes, not steps: warm-up, a plateau, and a decay to zero that ends when the time does, as
a function of the training time already spent, which is saved with every checkpoint. So the same script trains the best
model that two cores allow in an hour and that a GPU allows in twenty minutes, and an interrupted run resumes as if
nothing had happened. Matrices of the blocks learn with Muon, everything else with AdamW.
"""

from __future__ import annotations

import copy
import json
import math
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from codegen_lsp.errors import CorpusError
from codegen_lsp.training.data import Encoded, Position, Rows, Vocabulary
from codegen_lsp.training.model import Shape, TrainableCodeGen

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"


@attrs.frozen
class Plan:
    """How to train. Exactly one of `minutes` and `steps` is the budget."""

    shape: Shape
    minutes: float | None = None
    steps: int | None = None
    length: int = 1024
    rows: int = 8
    """Rows per optimiser step."""
    rows_at_once: int = 2
    """Rows per forward pass; gradients of a step's passes are summed."""
    workers: int = 1
    """Forward passes at the same time, each on one processor thread, on a CPU. They meet once a step, so a busy machine
    slows them in proportion, while threads that share each small operation wait for the slowest one every time. With
    more than one the order in which gradients are summed, so the last bits, may differ between runs."""
    infill: float = 0.7
    """Share of samples that are infilling samples; they are shorter than plain ones, so this is half of the tokens."""
    muon_rate: float = 0.02
    adam_rate: float = 0.003
    weight_decay: float = 0.01
    warm_up: float = 0.01
    decay: float = 0.6
    """Shares of the budget."""
    clip: float = 1.0
    seed: int = 0
    checkpoint_seconds: float = 240.0
    validate_seconds: float = 300.0
    validation_rows: int = 48
    device: str = "auto"
    bfloat16: bool = True

    def __attrs_post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps")
        if self.rows % self.rows_at_once:
            raise ValueError("rows must be a multiple of rows_at_once")


def rate(progress: float, warm_up: float, decay: float) -> float:
    """The learning rate's factor at `progress` (0 to 1): linear warm-up, plateau, linear decay to zero."""
    if progress < warm_up:
        return max(progress / warm_up, 0.02)
    return max(min(1.0, (1.0 - progress) / decay), 0.0)


def choose_device(wanted: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU."""
    if wanted != "auto":
        return torch.device(wanted)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def optimisers(model: TrainableCodeGen, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for embedding, output layer, norms and biases."""
    matrices = [p for name, p in model.named_parameters() if name.startswith("blocks") and p.ndim == 2]
    chosen = set(map(id, matrices))
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=plan.muon_rate, momentum=0.95, weight_decay=plan.weight_decay),
        torch.optim.AdamW(
            [
                {"params": [p for p in others if p.ndim == 2], "weight_decay": plan.weight_decay},
                {"params": [p for p in others if p.ndim == 1], "weight_decay": 0.0},
            ],
            lr=plan.adam_rate,
            betas=(0.9, 0.95),
            fused=True,
        ),
    ]


@attrs.define
class Run:
    """A training run's state: all of it is in the checkpoint."""

    model: TrainableCodeGen
    optimisers: list[torch.optim.Optimizer]
    rows: Rows
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write the checkpoint; the one before stays until the new one is complete."""
        state = {
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "position": attrs.asdict(self.rows.position),
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "shape": attrs.asdict(self.model.shape),
        }
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def load(self, path: Path) -> None:
        """Go back to a checkpoint. Raises CorpusError when it belongs to a model of another shape."""
        state = torch.load(path, map_location=next(self.model.parameters()).device, weights_only=True)
        if state["shape"] != attrs.asdict(self.model.shape):
            raise CorpusError(f"{path} holds a model of another shape.", "Choose another folder or delete this one.")
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.rows.position = Position(**state["position"])
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]


class Passes:
    """Forward and backward passes of a step, several at a time: each on a replica that shares the model's weights and
    has gradients of its own."""

    def __init__(self, model: TrainableCodeGen, plan: Plan, device: torch.device) -> None:
        self.workers = plan.workers if device.type == "cpu" else 1
        self.plan = plan
        self.device = device
        self.model = model
        self.replicas = [model, *(copy.deepcopy(model) for _ in range(self.workers - 1))]
        for replica in self.replicas[1:]:
            for mine, shared in zip(replica.parameters(), model.parameters(), strict=True):
                mine.data = shared.data
        self._free: queue.SimpleQueue[TrainableCodeGen] = queue.SimpleQueue()
        for replica in self.replicas:
            self._free.put(replica)
        if self.workers > 1:
            torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))

    def __call__(self, inputs: Tensor, targets: Tensor) -> float:
        """Leave the mean loss's gradient over all rows in the model's parameters; the result is that loss in nats."""
        counted = int((targets >= 0).sum())
        size = self.plan.rows_at_once
        parts = [(inputs[i : i + size], targets[i : i + size], counted) for i in range(0, len(inputs), size)]
        run = self._pool.map if self.workers > 1 else map
        total = sum(loss.item() for loss in list(run(self._pass, parts)))
        for replica in self.replicas[1:]:
            for mine, shared in zip(replica.parameters(), self.model.parameters(), strict=True):
                if mine.grad is not None:
                    shared.grad = mine.grad if shared.grad is None else shared.grad.add_(mine.grad)
                    mine.grad = None
        return total

    def _pass(self, part: tuple[Tensor, Tensor, int]) -> Tensor:
        inputs, targets, counted = part
        replica = self._free.get()
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.bfloat16):
                loss: Tensor = replica.loss(inputs.to(self.device), targets.to(self.device)) / counted
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        finally:
            self._free.put(replica)


def load_model(folder: Path) -> TrainableCodeGen:
    """The model in a run's last checkpoint, on the CPU."""
    state = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    model = TrainableCodeGen(Shape(**state["shape"]))
    model.load_state_dict(state["model"])
    return model


@torch.no_grad()
def validate(
    model: TrainableCodeGen, encoded: Encoded, vocabulary: Vocabulary, plan: Plan, infill: float, rows: int
) -> dict[str, float]:
    """Loss in nats per token and bits per byte over the first `rows` rows of held-out documents.

    `infill` is 0 for plain text, 1 for infilling samples only. The bytes are those of the counted targets, so the end
    marks' cost is included and their (no) bytes are not.
    """
    device = next(model.parameters()).device
    supply = Rows(encoded, vocabulary, plan.length, infill, seed=1)
    nats = counted = size = 0.0
    for _ in range(rows):
        if supply.position.epoch:
            break
        inputs, targets = supply.batch(1)
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.bfloat16):
            loss = model.loss(torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device))
        nats += float(loss)
        counted += int((targets >= 0).sum())
        size += int(vocabulary.sizes[targets[targets >= 0]].sum())
    return {"nats_per_token": nats / counted, "bits_per_byte": nats / math.log(2) / size}


def train(
    plan: Plan,
    training: Encoded,
    validation: Encoded,
    vocabulary: Vocabulary,
    folder: Path,
    report: Callable[[str], None],
    interrupted: Callable[[Run], bool] = lambda run: False,
) -> bool:
    """Train until the budget is spent, resuming from `folder`'s checkpoint when there is one.

    `interrupted` is asked before every step; when it says yes the call ends early, with a checkpoint. The result tells
    whether the budget is spent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = choose_device(plan.device)
    torch.manual_seed(plan.seed)
    model = TrainableCodeGen(plan.shape)
    model.initialise(torch.Generator().manual_seed(plan.seed))
    model.to(device)
    run = Run(model, optimisers(model, plan), Rows(training, vocabulary, plan.length, plan.infill, plan.seed))
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        run.load(checkpoint)
        report(f"resuming after {run.step} steps and {run.seconds / 60:.1f} minutes")
    if _progress(plan, run) >= 1.0:
        report("the budget is spent")
        return True
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        for block in model.blocks:
            block.compile()
    passes = Passes(model, plan, device)
    spent_before, began = run.seconds, time.monotonic()
    saved = validated = run.seconds
    while (progress := _progress(plan, run)) < 1.0 and not interrupted(run):
        loss = _step(plan, run, passes, progress)
        run.seconds = spent_before + time.monotonic() - began
        if run.step % 10 == 0:
            _log(folder, run, kind="train", nats_per_token=loss, rate=rate(progress, plan.warm_up, plan.decay))
        if run.seconds - validated >= plan.validate_seconds:
            validated = run.seconds
            _log_validation(plan, run, validation, vocabulary, folder, report, plan.validation_rows)
        if run.seconds - saved >= plan.checkpoint_seconds:
            saved = run.seconds
            run.save(checkpoint)
        run.seconds = spent_before + time.monotonic() - began
    if progress >= 1.0:
        _log_validation(plan, run, validation, vocabulary, folder, report, 4 * plan.validation_rows)
    run.save(checkpoint)
    return progress >= 1.0


def _progress(plan: Plan, run: Run) -> float:
    if plan.steps is not None:
        return run.step / plan.steps
    return run.seconds / (60 * plan.minutes)  # type: ignore[operator]


def _step(plan: Plan, run: Run, passes: Passes, progress: float) -> float:
    """One optimiser step; the result is the mean loss in nats per token."""
    factor = rate(progress, plan.warm_up, plan.decay)
    for optimiser, base in zip(run.optimisers, (plan.muon_rate, plan.adam_rate), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = base * factor
    inputs, targets = (torch.from_numpy(array) for array in run.rows.batch(plan.rows))
    loss = passes(inputs, targets)
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), plan.clip)
    for optimiser in run.optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    run.step += 1
    run.tokens += inputs.numel()
    return loss


def _log_validation(
    plan: Plan,
    run: Run,
    validation: Encoded,
    vocabulary: Vocabulary,
    folder: Path,
    report: Callable[[str], None],
    rows: int,
) -> None:
    plain = validate(run.model, validation, vocabulary, plan, 0.0, rows)
    filled = validate(run.model, validation, vocabulary, plan, 1.0, rows)
    _log(folder, run, kind="validation", rows=rows, **plain, infill_nats_per_token=filled["nats_per_token"])
    report(
        f"{run.seconds / 60:.1f} min, {run.tokens / 1e6:.2f}M tokens: {plain['nats_per_token']:.3f} nats per token, "
        f"{plain['bits_per_byte']:.3f} bits per byte; infilling {filled['nats_per_token']:.3f}"
    )


def _log(folder: Path, run: Run, **values: Any) -> None:
    entry = {"step": run.step, "tokens": run.tokens, "seconds": round(run.seconds, 1)} | values
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in entry.items()}) + "\n")
