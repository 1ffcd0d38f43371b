"""Verification finds faults of a build, with weak and strong weights."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import cattrs
import pytest
import torch

from codegen_lsp.checkpoints import agreement
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.checkpoint_source import read_source
from codegen_lsp.checkpoints.convert import build_logits, convert_checkpoint
from codegen_lsp.checkpoints.ct2_writer import write_model
from codegen_lsp.checkpoints.reference import Reading, float_logits
from codegen_lsp.checkpoints.snippet import SNIPPET
from codegen_lsp.checkpoints.verify import check_build, verify_build
from codegen_lsp.checkpoints.weights import Weights
from codegen_lsp.errors import ConversionError, ModelError
from codegen_lsp.inference.build import write_info


def miswritten(source: Path, build: Path, **changes: Any) -> None:
    """Replace a build's model by one made with another architecture than the checkpoint's."""
    read = read_source(source, "mine")
    wrong = attrs.evolve(read, architecture=attrs.evolve(read.architecture, **changes))
    shutil.rmtree(build.parent / "wrong", ignore_errors=True)
    with Weights(source) as weights:
        write_model(weights, wrong, build.parent / "wrong", lambda done: None)
    for name in ("model.bin", "config.json"):
        shutil.copyfile(build.parent / "wrong" / name, build / name)
    write_info(build, read_info_anyway(build))


@pytest.mark.parametrize("strength", [0.3, 1.0, 1.5])
@pytest.mark.parametrize("groups", [4, 8])
def test_a_wrong_grouping_is_found(
    groups: int, strength: float, make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path
) -> None:
    """With weak weights attention matters little, and the wrong arrangement is only slightly more distant."""
    shape = attrs.evolve(small.SHAPES["codegen2"], qkv_groups=groups)
    source = make_checkpoint("codegen2", shape=shape, state=small.random_state(shape, strength=strength))
    convert_checkpoint(source, tmp_path / "build", name="mine")
    verify_build(tmp_path / "build", source)
    miswritten(source, tmp_path / "build", qkv_groups=12 - groups)
    with pytest.raises(ConversionError, match=r"taken apart wrongly|does not compute") as caught:
        verify_build(tmp_path / "build", source)
    assert "Convert the checkpoint again" in caught.value.advice


@pytest.mark.parametrize(("strength", "layers"), [(0.3, 2), (1.0, 2), (1.5, 4), (1.0, 12)])
def test_measured_errors(
    strength: float, layers: int, make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path
) -> None:
    """Print the figures on which the limits are based, shown in docs/models.md."""
    shape = attrs.evolve(small.SHAPES["codegen2"], width=256, hidden=1024, layers=layers, rotary=32, qkv_groups=8)
    source = make_checkpoint("codegen2", shape=shape, state=small.random_state(shape, strength=strength))
    convert_checkpoint(source, tmp_path / "build", name="mine")
    alternatives = read_source(source, "mine").alternatives()
    readings = [one.reading(SNIPPET) for one in alternatives]
    with Weights(source) as weights:
        right, other = float_logits(weights, shape, readings)
    built = build_logits(tmp_path / "build", readings[0].ids)
    error, wrong = agreement.relative_error(built, right), agreement.relative_error(built, other)
    found = agreement.fit(right, readings[0].ids)
    print(f"| {strength} | {layers} | {error:.3f} | {wrong:.3f} | {found.loss - found.entropy:.2f} |")
    assert error < agreement.UNTRAINED_ERROR_LIMIT / 2
    assert error < agreement.CLOSER * wrong
    assert found.loss - found.entropy < agreement.SURPRISE_LIMIT


@pytest.mark.parametrize("changes", [{"rotary": 4}, {"rotary": 16}, {"epsilon": 1.0}])
def test_wrong_arithmetic_is_found(
    changes: dict[str, Any], make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path
) -> None:
    source = make_checkpoint(state=small.random_state(small.SHAPES["codegen"], strength=1.5))
    convert_checkpoint(source, tmp_path / "build", name="mine")
    miswritten(source, tmp_path / "build", **changes)
    with pytest.raises(ConversionError, match="does not compute"):
        verify_build(tmp_path / "build", source)


@pytest.mark.parametrize("family", ["codegen", "codegen2", "codegen25"])
def test_another_checkpoints_weights_are_found(
    family: str, make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path
) -> None:
    convert_checkpoint(make_checkpoint(family), tmp_path / "build", name="mine")
    other = make_checkpoint(family, name="other", state=small.random_state(small.SHAPES[family], seed=1))
    with pytest.raises(ConversionError, match="does not compute"):
        verify_build(tmp_path / "build", other)


def test_a_swapped_tokenizer_is_found(make_checkpoint: Any, tmp_path: Path) -> None:
    """Same size, preserves text, other ids: only a comparison notices."""
    source = make_checkpoint()
    build = tmp_path / "build"
    convert_checkpoint(source, build, name="mine")
    raw = json.loads((build / "tokenizer.json").read_text())
    vocabulary = raw["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (build / "tokenizer.json").write_text(json.dumps(raw))
    write_info(build, read_info_anyway(build))
    with pytest.raises(ConversionError, match="other tokens"):
        verify_build(build, source)
    damaged = build / "tokenizer.json"
    damaged.write_text(damaged.read_text() + " ")
    with pytest.raises(ModelError, match="truncated or was changed"):
        check_build(build)


def read_info_anyway(build: Path) -> Any:
    """Read build.json without checking sizes."""
    from codegen_lsp.inference.build import BuildInfo

    return cattrs.structure(json.loads((build / "build.json").read_text()), BuildInfo)


def test_merges_that_changed_are_found(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint()
    build = tmp_path / "build"
    convert_checkpoint(source, build, name="mine")
    raw = json.loads((build / "tokenizer.json").read_text())
    raw["model"]["merges"] = raw["model"]["merges"][:20]
    (build / "tokenizer.json").write_text(json.dumps(raw))
    write_info(build, read_info_anyway(build))
    with pytest.raises(ConversionError, match="other tokens"):
        verify_build(build, source)


def test_another_shape_is_named(make_checkpoint: Any, tmp_path: Path) -> None:
    convert_checkpoint(make_checkpoint("codegen"), tmp_path / "build", name="mine")
    with pytest.raises(ConversionError, match="was not made from this checkpoint"):
        verify_build(tmp_path / "build", make_checkpoint("codegen2", name="other"))


def test_a_build_is_checked_on_its_own(make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path) -> None:
    source, build = make_checkpoint(), tmp_path / "build"
    info = convert_checkpoint(source, build, name="mine")
    assert check_build(build) == info.verification
    changed = bytearray((build / "model.bin").read_bytes())
    changed[len(changed) // 2] ^= 0xFF
    (build / "model.bin").write_bytes(changed)
    with pytest.raises(ModelError, match=r"model\.bin was changed"):
        check_build(build)
    (build / "model.bin").write_bytes(changed[:-1])
    with pytest.raises(ModelError, match="truncated"):
        check_build(build)


def test_a_build_with_another_loss(
    learned: tuple[Architecture, Any], make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path
) -> None:
    """With correct digests, as on a processor with faulty int8 arithmetic."""
    shape, state = learned
    build = tmp_path / "build"
    convert_checkpoint(make_checkpoint("codegen2", shape=shape, state=state), build, name="mine")
    check_build(build)
    miswritten(make_checkpoint("codegen2", shape=shape, name="random"), build)
    with pytest.raises(ModelError, match="nats per token"):
        check_build(build)


def test_a_build_never_verified(make_checkpoint: Any, tmp_path: Path) -> None:
    build = tmp_path / "build"
    info = convert_checkpoint(make_checkpoint(), build, name="mine")
    write_info(build, attrs.evolve(info, verification=None))
    with pytest.raises(ModelError, match="never compared"):
        check_build(build)


def logits(seed: int, tokens: int = 50, rows: int = 300, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(tokens, rows, generator=torch.Generator().manual_seed(seed))


READING = Reading(tuple(torch.randint(300, (50,), generator=torch.Generator().manual_seed(9)).tolist()), 4)


def test_compare_accepts_rounding_and_refuses_larger_errors() -> None:
    right = logits(0)
    verified = agreement.compare(right + 0.03 * logits(1), [READING], [right], 0, "It")
    assert verified.tokens == 50
    assert verified.agreement > 0.5
    for wrong in (logits(1), right + logits(1), torch.zeros_like(right), right * float("nan")):
        with pytest.raises(ConversionError, match="does not compute"):
            agreement.compare(wrong, [READING], [right], 0, "It")


def test_compare_allows_a_trained_model_larger_errors() -> None:
    """Outlier activations cost large trained models more; their loss shows whether it matters."""
    right = logits(0)
    built = right + 0.25 * logits(1)
    with pytest.raises(ConversionError, match="does not compute"):
        agreement.compare(built, [READING], [right], 0, "It")
    targets = torch.tensor(READING.ids[1:])
    right[torch.arange(49), targets] += 8
    built = right + 0.25 * logits(1)
    agreement.compare(built, [READING], [right], 0, "It")


def test_compare_ignores_constants() -> None:
    right = logits(0)
    agreement.compare(right + 40 * logits(1)[:, :1], [READING], [right], 0, "It")


def test_compare_requires_the_right_arrangement_to_be_closer() -> None:
    """Both arrangements are within the bound; only their order differs."""
    right, other = logits(0), logits(0) + 0.1 * logits(1)
    readings = [READING, attrs.evolve(READING, groups=8)]
    agreement.compare(right + 0.01 * logits(2), readings, [right, other], 0, "It")
    with pytest.raises(ConversionError, match="taken apart wrongly"):
        agreement.compare(other, readings, [right, other], 0, "It")
    same = [right, right + 1e-9]
    agreement.compare(right + 0.01 * logits(2), readings, same, 0, "It")


def test_compare_refuses_a_build_that_predicts_worse() -> None:
    """A small error that lowers the logit of each right token."""
    right = logits(0, scale=0.1)
    targets = torch.tensor(READING.ids[1:])
    right[torch.arange(49), targets] += 4
    built = right.clone()
    built[torch.arange(49), targets] -= 1.0
    with pytest.raises(ConversionError, match="predicts code worse"):
        agreement.compare(built, [READING], [right], 0, "It")


def test_choose_reading_trusts_only_trained_models() -> None:
    random, other = logits(0), logits(1)
    knowing = logits(2)
    knowing[torch.arange(49), torch.tensor(READING.ids[1:])] += 12
    readings = [READING, attrs.evolve(READING, groups=8)]
    assert agreement.choose_reading(readings, [random, other]) == 0
    assert agreement.choose_reading(readings, [other, random]) == 0
    assert agreement.choose_reading(readings, [random, knowing]) == 1
    assert agreement.choose_reading(readings, [knowing, random]) == 0
    assert agreement.choose_reading(readings, [knowing, knowing + 0.001 * logits(3)]) == 0


def test_choose_reading_compares_other_tokens_by_the_whole_text() -> None:
    """Twice as many tokens, each slightly cheaper, cost more in total."""
    halves = Reading((*READING.ids, *READING.ids), 4)
    whole, split = logits(0), logits(1, tokens=100)
    whole[torch.arange(49), torch.tensor(READING.ids[1:])] += 7
    split[torch.arange(99), torch.tensor(halves.ids[1:])] += 7.5
    assert agreement.fit(split, halves.ids).loss < agreement.fit(whole, READING.ids).loss
    assert agreement.choose_reading([READING, halves], [whole, split]) == 0
    assert agreement.choose_reading([halves, READING], [split, whole]) == 1
