"""Verify a build: against its float checkpoint or, without it, against the figures recorded at its conversion."""

from __future__ import annotations

from pathlib import Path

import attrs
from tokenizers import Tokenizer

from codegen_lsp.checkpoints import agreement
from codegen_lsp.checkpoints.checkpoint_source import read_source
from codegen_lsp.checkpoints.convert import build_logits
from codegen_lsp.checkpoints.opening import DescribedSource, describe_source
from codegen_lsp.checkpoints.reference import float_logits
from codegen_lsp.checkpoints.snippet import SNIPPET
from codegen_lsp.checkpoints.store import int8_name
from codegen_lsp.checkpoints.vocabulary import PROBES, load_tokenizer
from codegen_lsp.checkpoints.weights import check_shapes
from codegen_lsp.errors import ConversionError, ModelError
from codegen_lsp.inference.build import BuildInfo, Verification, digest, read_info
from codegen_lsp.progress import ProgressReport

DRIFT_LIMIT = 0.1
"""Nats by which the loss may differ from the recorded loss: processors differ in how they round int8 products."""


def verify_build(build: Path, source: Path, *, progress: ProgressReport | None = None) -> Verification:
    """Compare a build with the checkpoint's folder, or GGUF file, that it was made from: tokenizer, logits, and loss.

    Raises ConversionError when they disagree or the source is another checkpoint's, ModelError when the build is
    damaged.
    """
    report = progress or (lambda message, fraction: None)
    info = read_info(build)
    with describe_source(source) as described:
        return _verify(build, info, described, report)


def _verify(build: Path, info: BuildInfo, source: DescribedSource, report: ProgressReport) -> Verification:
    read = read_source(source.folder, info.name if info.bits == 8 else int8_name(info.name))
    _check_same_model(info, build, read.architecture.layers, read.architecture.heads, read.architecture.width)
    alternatives = read.alternatives()
    readings = [one.reading(SNIPPET) for one in alternatives]
    with source.open_weights(read.architecture) as weights:
        check_shapes(weights, read.architecture.shapes())
        logits = float_logits(
            weights, read.architecture, readings, lambda done: report("running the float model", 0.9 * done)
        )
    chosen = agreement.choose_reading(readings, logits)
    _check_same_tokenizer(load_tokenizer(build / "tokenizer.json"), alternatives[chosen].tokenizer, build)
    report("running the build", 0.9)
    limits = agreement.INT8_LIMITS if info.bits == 8 else agreement.FOUR_BIT_LIMITS
    built = build_logits(build, readings[chosen].ids)
    figures = agreement.compare(built, readings, logits, chosen, str(build), limits)
    report("done", 1.0)
    return figures


def check_build(build: Path, *, progress: ProgressReport | None = None) -> Verification:
    """Check a build on its own: the digests of all files, and its loss on the snippet against the recorded loss.

    Returns the recorded figures with the loss measured now. Raises ModelError when a file was changed or the loss
    differs by more than `DRIFT_LIMIT`.
    """
    report = progress or (lambda message, fraction: None)
    info = read_info(build)
    for done, (name, expected) in enumerate(info.files.items()):
        report(f"checking {name}", 0.8 * done / len(info.files))
        if digest(build / name) != expected.sha256:
            raise ModelError(f"{build / name} was changed since it was converted.", "Pull or convert the model again.")
    report("running the build", 0.8)
    tokenizer = load_tokenizer(build / "tokenizer.json")
    ids = _ids(tokenizer, SNIPPET)
    loss = agreement.fit(build_logits(build, ids), ids).loss
    report("done", 1.0)
    if info.verification is None:
        raise ModelError(
            f"{build} was never compared with its checkpoint.",
            "Convert the checkpoint again with `codegen-lsp models convert`.",
        )
    if not abs(loss - info.verification.build_loss) <= DRIFT_LIMIT:
        raise ModelError(
            f"{build} predicts code at {loss:.2f} nats per token; when it was converted it was "
            f"{info.verification.build_loss:.2f}.",
            "Pull or convert the model again.",
        )
    return attrs.evolve(info.verification, build_loss=loss)


def _check_same_model(info: BuildInfo, build: Path, layers: int, heads: int, width: int) -> None:
    found, expected = (info.layers, info.heads, info.width), (layers, heads, width)
    if found != expected:
        raise ConversionError(
            f"{build} was not made from this checkpoint: layers, heads and width are {found} instead of {expected}.",
            f"Give the folder of {info.source}.",
        )


def _check_same_tokenizer(found: Tokenizer, expected: Tokenizer, build: Path) -> None:
    texts = (SNIPPET, *PROBES)
    same = found.get_vocab(with_added_tokens=True) == expected.get_vocab(with_added_tokens=True)
    if not same or any(_ids(found, text) != _ids(expected, text) for text in texts):
        raise ConversionError(
            f"{build} cuts text into other tokens than its checkpoint.", "Convert the checkpoint again."
        )


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids
