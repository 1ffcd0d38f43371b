"""Load a build: read it, open its engine, measure its speed."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from codegen_lsp.inference import heap
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.engines.factory import open_engine
from codegen_lsp.inference.engines.native.mixing_file import weights_for
from codegen_lsp.inference.engines.native.mixing_weights import MixingWeights
from codegen_lsp.inference.engines.native.ngram_segment import GAP, library
from codegen_lsp.inference.rpc.messages import LoadParams, ModelDescription
from codegen_lsp.inference.text_model import TextModel
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.inference.workspace_indexes import WorkspaceIndexes, index_folder
from codegen_lsp.progress import ProgressReport


def load_model(params: LoadParams, progress: ProgressReport) -> tuple[TextModel, ModelDescription]:
    """Read a build, open its engine and measure how fast it prefills.

    Raises: ModelError when the build can't be read, or can't be run as the parameters ask.
    """
    started = time.perf_counter()
    directory = Path(params.build)
    info = read_info(directory)
    progress(f"Reading the tokenizer of {info.name}", 0.1)
    tokenizer = Tokenizer.from_build(directory, info)
    progress(f"Loading {info.name}", 0.3)
    engine = open_engine(params, directory, info, tokenizer)
    weights = weights_for(directory, info, params.ngrams) if engine.mixes_ngrams else None
    workspaces = _workspaces(directory, tokenizer, weights) if weights is not None and library() is not None else None
    model = TextModel(info, tokenizer, engine, weights=weights, workspaces=workspaces)
    progress(f"Measuring {info.name}", 0.9)
    rate = model.prefill_rate()
    heap.trim()
    progress(f"{info.name} is ready", 1.0)
    return model, ModelDescription(
        name=info.name,
        family=info.family,
        engine=engine.name,
        device=engine.device,
        compute_type=engine.compute_type,
        threads=engine.threads,
        context_length=info.context_length,
        infill=info.infill != "none",
        takes_files=info.file_marks is not None,
        languages=list(info.languages),
        characters_per_token=model.characters_per_token,
        load_seconds=time.perf_counter() - started,
        prefill_tokens_per_second=rate,
        ngrams=weights is not None,
        parameters=info.parameters,
        small=info.small,
        slots=min(params.slots or engine.slots, engine.most_slots),
        engine_note=engine.note,
    )


def _workspaces(directory: Path, tokenizer: Tokenizer, weights: MixingWeights) -> WorkspaceIndexes | None:
    """Return the n-gram indexes for a tokenizer; None for one with more ids than they hold."""
    if len(tokenizer.all_bytes) >= GAP:
        return None
    digest = hashlib.sha256((directory / "tokenizer.json").read_bytes()).hexdigest()
    return WorkspaceIndexes(tokenizer.encode, digest, weights.workspace, index_folder())
