"""The weights that an adaptation trains: all of a small model's, or adapters of a larger one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import attrs
from torch import Tensor

from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.adaptation.blending import blended
from codegen_lsp.training.adaptation.job import AdaptationJob
from codegen_lsp.training.adaptation.resources import check_disk, check_memory, needed_disk, needed_memory
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.data import EncodedCorpus, TokenTables
from codegen_lsp.training.export import export
from codegen_lsp.training.model import TrainableCodeGen
from codegen_lsp.training.state import TrainingState
from codegen_lsp.training.train import initial_state


class Trainee(Protocol):
    """The trained part of a model. It can be sent to another machine."""

    @property
    def positions(self) -> int:
        """The largest number of tokens that the model takes."""
        ...

    @property
    def float_checkpoint(self) -> str | None:
        """Path of the float checkpoint that is trained from, for the record; None for a build."""
        ...

    def check_resources(self, job: AdaptationJob, folder: Path) -> None:
        """Raise CorpusError where memory, or disk for the working files in `folder`, does not suffice."""
        ...

    def check_base(self, build: InstalledBuild) -> None:
        """Raise ModelError unless what is trained is the model of a build."""
        ...

    def tables(self, tokenizer_folder: Path) -> TokenTables:
        """Return the tables of the tokenizer in a folder."""
        ...

    def configured(self, config: TrainingConfig) -> TrainingConfig:
        """Return the configuration that suits, made from the one for all weights."""
        ...

    def begin(self, config: TrainingConfig, training: EncodedCorpus, tables: TokenTables) -> TrainingState:
        """Return the state before the first step."""
        ...

    def blend(self, weights: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        """Return weights at `share` of the way from the base to trained ones."""
        ...

    def write_checkpoint(self, weights: Mapping[str, Tensor], tokenizer_folder: Path, output: Path) -> None:
        """Write the folder of a float checkpoint with trained weights."""
        ...

    def keep(self, weights: Mapping[str, Tensor], build: Path) -> None:
        """Write into the folder of a finished build what `--refresh` needs beside it."""
        ...


@attrs.frozen(eq=False)
class AllWeights:
    """All weights of a model of CodeGen's architecture, from its build."""

    model: TrainableCodeGen

    @property
    def positions(self) -> int:
        """The largest number of tokens that the model takes."""
        positions: int = self.model.shape.positions
        return positions

    @property
    def float_checkpoint(self) -> None:
        """None: the build is enough."""

    def check_resources(self, job: AdaptationJob, folder: Path) -> None:
        """Raise CorpusError as `Trainee` says."""
        needed = job.processes_here * needed_memory(self.model.shape, job.threads_each)
        check_memory(needed, "Close other programs, or give --threads 1.")
        check_disk(needed_disk(self.model.shape), folder)

    def check_base(self, build: InstalledBuild) -> None:
        """Check nothing: the weights are those of the build."""

    def tables(self, tokenizer_folder: Path) -> TokenTables:
        """Return the tables of the tokenizer, with its marks for infilling."""
        return TokenTables.of(code_tokenizer.load(tokenizer_folder))

    def configured(self, config: TrainingConfig) -> TrainingConfig:
        """Return the configuration as it is."""
        return attrs.evolve(config, shape=self.model.shape)

    def begin(self, config: TrainingConfig, training: EncodedCorpus, tables: TokenTables) -> TrainingState:
        """Return the state before the first step, with a copy of the weights."""
        copy = TrainableCodeGen(self.model.shape)
        copy.load_state_dict(self.model.state_dict())
        return initial_state(config, training, tables, copy)

    def blend(self, weights: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        """Return weights at `share` of the way from the base to trained ones."""
        return blended(self.model.state_dict(), weights, share)

    def write_checkpoint(self, weights: Mapping[str, Tensor], tokenizer_folder: Path, output: Path) -> None:
        """Write the folder of a float checkpoint with trained weights."""
        model = TrainableCodeGen(self.model.shape)
        model.load_state_dict(weights)
        export(model, tokenizer_folder, output)

    def keep(self, weights: Mapping[str, Tensor], build: Path) -> None:
        """Keep nothing: the build itself is where a refresh begins."""
