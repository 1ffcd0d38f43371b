"""Make a 4-bit build from an int8 build, and compare both before it is installed.

The int8 build is the source, whichever checkpoint it came from: its rounding is a hundredth of that to 4 bits
(`docs/lab.md`), it has been verified against the float model, and it is there without another download.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import attrs
import numpy as np

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.adaptation_record import RECORD
from codegen_lsp.checkpoints.build_losses import Predictions, compared, comparison_ids, predictions
from codegen_lsp.checkpoints.four_bit_file import write_four_bit_file
from codegen_lsp.checkpoints.new_build import new_build, part_of
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.errors import ConversionError, OtherEngineError
from codegen_lsp.inference.build import (
    FORMAT,
    GROUPS,
    METADATA,
    MIXING,
    BuildInfo,
    Int8Comparison,
    Verification,
    WeightFormat,
    read_info,
    write_info,
)
from codegen_lsp.inference.engines.factory import default_threads
from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.weights import read_weights
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.progress import ProgressReport

GROUP = 32
"""The group by default: 64 saves 5 % of the bytes and costs nearly twice as much loss (`docs/lab.md`)."""

LOSS_LIMIT = 0.5
"""Nats per token by which the loss of a trained model on the snippet may exceed that of int8. Measured for the
embedded model: 0.04. Weights in a wrong order cost several nats (`tests/checkpoints/test_quantize.py`)."""
ERROR_LIMIT = 0.6
"""Largest relative error of the logits of an untrained model, whose loss tells nothing. Small random models stay below
0.45 (`tests/checkpoints/test_quantize.py`), weights in a wrong order were measured at 1.3."""
LEARNED = 2.0
"""Nats below the loss of a uniform guess from which a model counts as trained."""
KEPT_OUT = ("model.bin", METADATA, MIXING, RECORD)
"""Files of the int8 build that do not go over: n-gram weights and a record of adaptation are those of one build."""


def quantize_installed(
    name: str, *, group: int = GROUP, new_name: str | None = None, progress: ProgressReport | None = None
) -> InstalledBuild:
    """Make a 4-bit build from an installed int8 build, or a build's folder, and install it beside that.

    Raises: ModelError when there is no such build, it is damaged, or the store can't be written to, ConversionError as
    `quantize_build`.
    """
    source = store.find(name)
    chosen = store.checked_name(new_name or store.four_bit_name(source.name))
    if chosen == source.name:
        raise ConversionError(f"{chosen} is the int8 build itself.", "Choose another --name.")
    with store.workspace(chosen) as folder:
        quantize_build(source.path, folder / "build", name=chosen, group=group, progress=progress)
        return store.install(folder / "build", chosen)


def install_made(build: Path, name: str, group: int | None, progress: ProgressReport | None = None) -> InstalledBuild:
    """Install a new int8 build, or with `group` only the 4-bit build made from it, which gets a name of its own.

    Raises: as `quantize_installed`.
    """
    if group is None:
        return store.install(build, name)
    four_bits = build.with_name("four-bit")
    quantize_build(build, four_bits, name=store.four_bit_name(name), group=group, progress=progress)
    return store.install(four_bits, store.four_bit_name(name))


def quantize_build(
    source: Path, output: Path, *, name: str, group: int = GROUP, progress: ProgressReport | None = None
) -> BuildInfo:
    """Make a 4-bit build at `output` from an int8 build, and compare both.

    The build appears complete or not at all, and replaces an existing one. Raises: ModelError when the source is
    damaged, ConversionError when it has 4 bits already or was never verified, when no matrix can be divided into
    groups, when the disk is full, or when the result predicts code absurdly worse.
    """
    report = progress or (lambda message, fraction: None)
    info = read_info(source)
    if group not in GROUPS:
        raise ConversionError(f"Groups of {group} weights are not supported.", f"Choose one of {GROUPS}.")
    if info.bits != 8:
        raise ConversionError(f"{source} has {info.bits}-bit weights already.", "Give the int8 build of the model.")
    if info.verification is None:
        raise ConversionError(
            f"{source} was never compared with its checkpoint.", "Convert it with `codegen-lsp models convert`."
        )
    _check_native(source)
    with new_build(output) as partial:
        partial.mkdir()
        for file in sorted(source.iterdir()):
            if file.is_file() and file.name not in KEPT_OUT:
                shutil.copyfile(file, partial / file.name)
        quantizing = part_of(report, "quantizing to 4 bits", 0.0, 0.7)
        written = write_four_bit_file(source / "model.bin", partial / "model.bin", group, default_threads(), quantizing)
        if not written:
            raise ConversionError(f"No matrix of {source} has columns in groups of {group}.", "Use the int8 build.")
        comparison, verification = _compare(source, partial, info, info.verification, report)
        described = attrs.evolve(
            info,
            name=name,
            quantization="int4",
            weights=WeightFormat(4, group),
            verification=verification,
            int8_comparison=comparison,
            format=FORMAT,
        )
        _add_to_card(partial, described)
        write_info(partial, described)
    report("done", 1.0)
    return read_info(output)


def _check_native(source: Path) -> None:
    """Raise ConversionError unless the native engine runs the model: it alone runs 4-bit builds."""
    try:
        read_weights(source)
    except OtherEngineError as error:
        raise ConversionError(
            f"{source} can't have 4-bit weights, which only the native engine runs. {error.message}",
            "Use the int8 build.",
        ) from error


def check_loss(four_bits: Predictions, int8: Predictions, tokens: int, what: str) -> None:
    """Compare the predictions of a 4-bit build for the first text, of this many tokens, with those of the int8 build.

    Raises: ConversionError when they are so far off that the build must have been made or computed wrongly.
    """
    loss, int8_loss = (float(one.losses[: tokens - 1].mean()) for one in (four_bits, int8))
    error = relative_error(four_bits.logits, int8.logits)
    trained = int8_loss < math.log(int8.logits.shape[1]) - LEARNED
    advice = "Use the int8 build, and please report this."
    if trained and not loss - int8_loss <= LOSS_LIMIT:
        raise ConversionError(
            f"{what} predicts code far worse than in int8: {loss:.2f} nats per token instead of {int8_loss:.2f}.",
            advice,
        )
    if not trained and not error <= ERROR_LIMIT:
        raise ConversionError(
            f"{what} does not compute what the int8 build computes: its logits are off by {error:.0%} of their spread.",
            advice,
        )


def relative_error(found: Floats, expected: Floats) -> float:
    """Return the distance of two sets of logits (tokens, rows), relative to the norm of the expected ones.

    Each position is centred first, since a constant added to all its logits changes no prediction.
    """
    found, expected = (logits - logits.mean(-1, keepdims=True) for logits in (found, expected))
    return float(np.linalg.norm(found - expected) / max(float(np.linalg.norm(expected)), 1e-9))


def _compare(
    source: Path, build: Path, info: BuildInfo, recorded: Verification, report: ProgressReport
) -> tuple[Int8Comparison, Verification]:
    """Run both builds on the comparison texts; return the losses on all of them, and the figures of the first one."""
    ids = comparison_ids(Tokenizer.from_build(source, info).encode, info.context_length)
    int8 = predictions(source, ids, part_of(report, "running the int8 build", 0.7, 0.85))
    four_bits = predictions(build, ids, part_of(report, "running the 4-bit build", 0.85, 1.0))
    first = len(ids[0])
    check_loss(four_bits, int8, first, f"{info.name} in 4 bits")
    return compared(four_bits, int8), Verification(
        tokens=first,
        agreement=float((four_bits.likeliest[:first] == int8.likeliest[:first]).mean()),
        float_loss=recorded.float_loss,
        build_loss=float(four_bits.losses[: first - 1].mean()),
        int8_loss=float(int8.losses[: first - 1].mean()),
    )


def _add_to_card(build: Path, info: BuildInfo) -> None:
    """Say in the model card that this is a 4-bit build, and what that costs."""
    card = build / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else f"# {info.name}\n"
    found = info.int8_comparison
    assert found is not None
    assert info.weights is not None
    lines = (
        f"{text.rstrip()}\n\n## 4-bit weights\n",
        f"This build has 4-bit weights in groups of {info.weights.group}. It was made from the int8 build, to which",
        f"the figures above apply. Its loss on {found.tokens} tokens of code is {found.loss:.3f} nats per token, with",
        f"int8 {found.int8_loss:.3f}: {found.increase:+.1%} ± {found.increase_margin:.1%}.",
    )
    card.write_text("\n".join(lines) + "\n", encoding="utf-8")
