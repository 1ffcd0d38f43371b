"""Fitted mixing weights, kept with a build: `mixing.json` in its folder.

The file names the digest of the weights that it was fitted for, so that it is not used for a model that has replaced
them, as by an update of the program. A file that is damaged is ignored with a warning.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cattrs
from attrs import frozen

from codegen_lsp.errors import ModelError
from codegen_lsp.file_replacement import replace_file
from codegen_lsp.inference.build import MIXING, BuildInfo
from codegen_lsp.inference.engines.native import ngram_segment, ngrams
from codegen_lsp.inference.engines.native.mixing_weights import (
    LARGE_MODEL,
    PROBABILITY_BOUNDS,
    SMALL_MODEL,
    MixingWeights,
)

logger = logging.getLogger(__name__)

FORMAT = 1
WEIGHTS_FILE = "model.bin"
LEAST, MOST = 1e-6, 1e9
"""Bounds of a weight."""


@frozen
class TunedWeights:
    """The content of `mixing.json`."""

    weights: MixingWeights
    model: str
    """SHA-256 of the build's `model.bin`."""
    tokens: int
    """Tokens that the weights were fitted on."""
    held_out_tokens: int
    before: float
    after: float
    """Nats per token of the held-out files, with the weights before and with these."""
    format: int = FORMAT


class DamagedWeightsError(Exception):
    """A file of weights that can't be used."""


def weights_for(directory: Path, info: BuildInfo, setting: str) -> MixingWeights | None:
    """Return the weights of a build by the setting `ngrams`: on, off or auto. None: nothing is mixed in.

    The weights are those fitted for the build; else those of small models, for small models and with `on`; else those
    of larger models.
    """
    if setting == "off":
        return None
    if (tuned := read_tuned(directory, info)) is not None:
        return tuned.weights
    return SMALL_MODEL if info.small or setting == "on" else LARGE_MODEL


def read_tuned(directory: Path, info: BuildInfo) -> TunedWeights | None:
    """Return the weights that were fitted for a build; None where there are none that can be used."""
    path = directory / MIXING
    try:
        tuned = _checked(cattrs.structure(json.loads(path.read_text(encoding="utf-8")), TunedWeights))
        if tuned.model != model_digest(info):
            raise DamagedWeightsError("it was fitted for other weights")
    except FileNotFoundError:
        return None
    except Exception as error:  # JSON, structure, values
        reason = "; ".join(cattrs.transform_error(error)) if isinstance(error, cattrs.BaseValidationError) else error
        logger.warning("%s is not used: %s. Run `codegen-lsp models tune` again.", path, reason)
        return None
    return tuned


def write_tuned(directory: Path, tuned: TunedWeights) -> Path:
    """Keep fitted weights with a build, in place of former ones. Raises ModelError when that can't be done."""
    target = directory / MIXING
    text = json.dumps(cattrs.unstructure(_checked(tuned)), indent=2) + "\n"
    _in_build(lambda: replace_file(target, text.encode()), target)
    return target


def remove_tuned(directory: Path) -> None:
    """Remove the fitted weights of a build, if there are any. Raises ModelError when that can't be done."""
    _in_build(lambda: (directory / MIXING).unlink(missing_ok=True), directory / MIXING)


def check_writable(directory: Path) -> None:
    """Raise ModelError unless files can be made in a build's folder."""

    def make() -> None:
        with tempfile.TemporaryFile(dir=directory):
            pass

    _in_build(make, directory)


def model_digest(info: BuildInfo) -> str:
    """Return the SHA-256 of a build's weights, by its description."""
    file = info.files.get(WEIGHTS_FILE)
    return file.sha256 if file else ""


def _checked(tuned: TunedWeights) -> TunedWeights:
    """Return the weights if all their numbers can be used. Raises DamagedWeightsError."""
    weights = tuned.weights
    if tuned.format != FORMAT:
        raise DamagedWeightsError(f"it has format {tuned.format}")
    classes = len(PROBABILITY_BOUNDS) + 1
    for name, values, sizes in (
        ("workspace", weights.workspace, (len(ngram_segment.ORDERS),)),
        ("document", weights.document, (0, len(ngrams.ORDERS))),
        ("document_alone", weights.document_alone, (0, len(ngrams.ORDERS))),
        ("workspace_factors", weights.workspace_factors, (classes,)),
        ("document_factors", weights.document_factors, (classes,)),
    ):
        if len(values) not in sizes:
            raise DamagedWeightsError(f"`{name}` has {len(values)} numbers")
        if not all(math.isfinite(value) and LEAST <= value <= MOST for value in values):
            raise DamagedWeightsError(f"`{name}` has a number outside {LEAST} to {MOST}")
    return tuned


def _in_build(work: Callable[[], Any], path: Path) -> None:
    try:
        work()
    except OSError as error:
        raise ModelError(
            f"{path} can't be written: {error.strerror or error}.",
            "Correct the permissions of the folder, or copy the build to one of your own and name that.",
        ) from error
