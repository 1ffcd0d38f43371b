"""4-bit builds: of all families, in both implementations of the native engine, and those that must be refused."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from codegen_lsp.checkpoints import four_bit, four_bit_file
from codegen_lsp.checkpoints import store as installed_builds
from codegen_lsp.checkpoints.build_losses import native_logits
from codegen_lsp.checkpoints.convert import convert_checkpoint, convert_into_store
from codegen_lsp.checkpoints.export.build_weights import BuildWeights
from codegen_lsp.checkpoints.pull import check_memory
from codegen_lsp.checkpoints.quantize import quantize_build, quantize_installed, relative_error
from codegen_lsp.checkpoints.reference import Reading, float_logits
from codegen_lsp.checkpoints.verify import check_build, verify_build
from codegen_lsp.cli.models import app
from codegen_lsp.errors import ConversionError, DownloadError, ModelError
from codegen_lsp.inference.build import FORMAT, WeightFormat, read_info, write_info
from codegen_lsp.inference.engines.native import c_forward
from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.c_forward import CForwardPass
from codegen_lsp.inference.engines.native.engine import check_description
from codegen_lsp.inference.engines.native.forward import ForwardPass
from codegen_lsp.inference.engines.native.matrices import FourBitMatrix, Matrix
from codegen_lsp.inference.engines.native.torch_forward import TorchForwardPass
from codegen_lsp.inference.engines.native.torch_kernels import choose_kernel
from codegen_lsp.inference.engines.native.weights import ModelWeights, read_weights

FAMILIES = ["codegen", "codegen2", "codegen25", "qwen2", "deepseek", "granite", "wide heads"]
NEAR_TIE = 0.02
"""Difference of two logits, in standard deviations, that the order of float32 sums may turn around."""


def make(make_checkpoint: Any, folder: Path, family: str = "codegen", group: int = 32, **given: Any) -> Path:
    """Return a 4-bit build; the int8 build lies beside it."""
    convert_checkpoint(make_checkpoint(family, **given), folder / "int8", name="mine")
    quantize_build(folder / "int8", folder / "four", name="mine-4bit", group=group)
    return folder / "four"


def implementations(weights: ModelWeights) -> dict[str, ForwardPass]:
    """Return the torch pass and those in C that run here."""
    found: dict[str, ForwardPass] = {"torch": TorchForwardPass(weights, choose_kernel())}
    for variant in c_forward.VARIANTS:
        library = c_forward.library((variant,))
        if library is not None and c_forward.suits(weights):
            found[variant] = CForwardPass(weights, library, 2)
    return found


def logits_of(forward_pass: ForwardPass, ids: list[int]) -> Floats:
    """Return the logits of a prompt that is read in two parts, of many tokens and of few."""
    cache = forward_pass.new_cache(len(ids))
    hidden = [forward_pass.forward(ids[:-5], cache, 0), forward_pass.forward(ids[-5:], cache, len(ids) - 5)]
    return forward_pass.logits(np.concatenate(hidden))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_quantized_and_run_by_both_implementations(
    family: str, make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path
) -> None:
    shape = (small.SHAPES | small.OTHER_SHAPES)[family]
    state = small.random_state(shape, seed=3)
    build = make(make_checkpoint, tmp_path, family, state=state)
    info, weights = read_info(build), read_weights(build)
    assert (info.bits, info.weights, info.format) == (4, WeightFormat(4, 32), FORMAT)
    check_description(build, info, weights)
    layer = weights.layers[0]
    kinds = {name: type(matrix) for name, matrix in attrs.asdict(layer, recurse=False).items() if "proj" in name}
    assert kinds["qkv_proj"] is FourBitMatrix
    assert kinds["down_proj"] is (FourBitMatrix if shape.hidden % 32 == 0 else Matrix)
    assert isinstance(weights.lm_head, FourBitMatrix)
    assert isinstance(weights.embedding, FourBitMatrix if shape.tied else Matrix)
    ids = torch.randint(0, 380, (60,), generator=torch.Generator().manual_seed(4)).tolist()
    (expected,) = float_logits(state, shape, [Reading(tuple(ids), shape.qkv_groups)])
    found = {name: logits_of(one, ids) for name, one in implementations(weights).items()}
    for name, logits in found.items():
        assert relative_error(logits, expected.numpy()) < 0.45, name
        best, reference = logits.argmax(-1), found["torch"]
        behind = (reference.max(-1) - reference[np.arange(len(ids)), best]) / reference.std(-1)
        assert relative_error(logits, reference) < 0.02, name
        assert behind.max() < NEAR_TIE, name


@pytest.mark.parametrize("group", [32, 64])
def test_what_4_bits_cost_is_recorded(
    group: int, learned: Any, make_checkpoint: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trained model keeps what it learned; the record has the losses of all three."""
    shape, state = learned
    build = make(make_checkpoint, tmp_path, "codegen2", group, shape=shape, state=state)
    info, before = read_info(build), read_info(tmp_path / "int8")
    figures, cost = info.verification, info.int8_comparison
    assert figures is not None
    assert cost is not None
    assert before.verification is not None
    assert figures.float_loss == before.verification.float_loss
    assert figures.int8_loss == pytest.approx(before.verification.build_loss, abs=0.02)
    assert figures.build_loss < figures.float_loss + 0.2
    assert cost.tokens > 1000
    assert cost.increase == pytest.approx(cost.loss / cost.int8_loss - 1)
    assert 0 < cost.increase_margin < 0.05
    assert cost.loss - cost.int8_loss < 0.3
    assert (before.bits, before.format, before.int8_comparison) == (8, 1, None)
    assert info.bytes < before.bytes
    assert "4-bit weights in groups of" in (build / "README.md").read_text()
    assert check_build(build).build_loss == pytest.approx(figures.build_loss, abs=0.02)
    assert verify_build(build, tmp_path / "checkpoint").agreement > 0.8


def test_the_build_is_the_size_that_is_foretold(make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path) -> None:
    for family in ("codegen", "granite"):
        build = make(make_checkpoint, tmp_path / family, family, name=family)
        shape = (small.SHAPES | small.OTHER_SHAPES)[family]
        size = (build / "model.bin").stat().st_size
        assert size == pytest.approx(shape.four_bit_bytes(32), abs=4000)  # names and shapes
        assert size < shape.int8_bytes * (0.75 if shape.hidden % 32 == 0 else 0.95)


def test_a_model_without_groups_is_refused(make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path) -> None:
    """96 and 176 columns have no groups of 64."""
    with pytest.raises(ConversionError, match=r"No matrix of .* in groups of 64"):
        make(make_checkpoint, tmp_path, "qwen2", 64)
    assert not (tmp_path / "four").exists()


def test_a_model_that_the_native_engine_does_not_run_is_refused(
    make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match="which only the native engine runs"):
        make(make_checkpoint, tmp_path, "starcoder")
    assert not list(tmp_path.glob("*four*"))
    with pytest.raises(DownloadError, match="can't have 4-bit weights"):
        check_memory("StarCoder", small.OTHER_SHAPES["starcoder"], 32)


@pytest.mark.parametrize("trained", [True, False])
def test_nibbles_in_the_wrong_order_are_refused(
    trained: bool, learned: Any, make_checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = four_bit.pack

    def swapped(numbers: Any, group: int) -> Any:
        packed = right(numbers, group)
        return packed << 4 | packed >> 4

    monkeypatch.setattr(four_bit, "pack", swapped)
    given = {"family": "codegen2", "shape": learned[0], "state": learned[1]} if trained else {}
    with pytest.raises(ConversionError, match=r"far worse than in int8" if trained else "does not compute"):
        make(make_checkpoint, tmp_path, **given)
    assert not list(tmp_path.glob("*four*"))


def rewrite(build: Path, change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the weights of a build again, with other scales of the first matrices."""
    written = four_bit_file._write_variable

    def write(file: Any, name: str, type: str, values: Any) -> None:
        written(file, name, *(change(type, values) if name.endswith("linear_0/weight_scale") else (type, values)))

    monkeypatch.setattr(four_bit_file, "_write_variable", write)
    source, output = build.parent / "int8" / "model.bin", build / "model.bin"
    four_bit_file.write_four_bit_file(source, output, 32, 1, lambda done: None)


@pytest.mark.parametrize(
    ("scales", "word"),
    [
        (lambda type, values: ("float32", values.astype(np.float32)), "float32 scales"),
        (lambda type, values: (type, np.repeat(values, [1, 2], 1)), "scales of shape"),
        (lambda type, values: (type, values[:-1].copy()), "scales of shape"),
        (lambda type, values: (type, np.repeat(values, 2, 1)), "scales of shape"),  # groups of 16
        (lambda type, values: (type, np.where(values == values[1, 1], np.float16(np.nan), values)), "no numbers"),
        (lambda type, values: (type, np.where(values == values[0, 0], np.float16(np.inf), values)), "no numbers"),
    ],
)
def test_damaged_scales_are_refused(
    scales: Any, word: str, make_checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = make(make_checkpoint, tmp_path)
    rewrite(build, scales, monkeypatch)
    with pytest.raises(ModelError, match=word):
        read_weights(build)


def test_truncated_and_altered_builds_are_refused(make_checkpoint: Any, tmp_path: Path) -> None:
    build = make(make_checkpoint, tmp_path)
    whole = (build / "model.bin").read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        (build / "model.bin").write_bytes(whole[:length])
        with pytest.raises(ModelError, match="truncated"):
            read_info(build)
        with pytest.raises(ModelError, match=r"truncated|can't be read"):
            read_weights(build)
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 1
    (build / "model.bin").write_bytes(altered)
    with pytest.raises(ModelError, match="was changed"):
        check_build(build)


@pytest.mark.parametrize(
    ("weights", "word"),
    [({"bits": 3, "group": 32}, "3 bits in groups of 32"), ({"bits": 4, "group": 48}, "4 bits in groups of 48"),
     ({"bits": 4, "group": None}, "4 bits in groups of None"), ({"bits": "many"}, "damaged")],
)  # fmt: skip
def test_unknown_bits_are_refused_by_name(
    weights: dict[str, Any], word: str, make_checkpoint: Any, tmp_path: Path
) -> None:
    build = make(make_checkpoint, tmp_path)
    raw = json.loads((build / "build.json").read_text())
    (build / "build.json").write_text(json.dumps(raw | {"weights": weights}))
    with pytest.raises(ModelError, match=word):
        read_info(build)


def test_a_description_of_other_groups_is_refused(make_checkpoint: Any, tmp_path: Path) -> None:
    build = make(make_checkpoint, tmp_path)
    info, weights = read_info(build), read_weights(build)
    for other in (None, WeightFormat(8), WeightFormat(4, 64)):
        with pytest.raises(ModelError, match="not those of its description"):
            check_description(build, attrs.evolve(info, weights=other), weights)
    with pytest.raises(ModelError, match="not those of its description"):
        check_description(build, info, read_weights(tmp_path / "int8"))


@pytest.fixture
def installed(make_checkpoint: Any, store: Path) -> Path:
    """An int8 build in the store; return the store."""
    convert_into_store(make_checkpoint("codegen"), name="mine")
    return store


def test_quantize_installs_beside_the_int8_build(installed: Path) -> None:
    (installed / "mine" / "mixing.json").write_text("{}")
    (installed / "mine" / "adaptation.json").write_text("{}")
    build = quantize_installed("mine")
    assert build.name == "mine-4bit"
    assert sorted(one.name for one in installed_builds.installed()) == ["mine", "mine-4bit"]
    assert not {"mixing.json", "adaptation.json"} & {file.name for file in build.path.iterdir()}
    assert (build.path / "LICENSE").read_text() == (installed / "mine" / "LICENSE").read_text()
    with pytest.raises(ConversionError, match="4-bit weights already"):
        quantize_installed("mine-4bit", new_name="again")
    with pytest.raises(ConversionError, match="is the int8 build itself"):
        quantize_installed("mine", new_name="mine")


def test_4_bits_are_no_default(installed: Path) -> None:
    """The smallest model is the default, but not one whose 4 bits cost more than 1 %."""
    smaller = quantize_installed("mine")
    assert smaller.info.bytes < installed_builds.find("mine").info.bytes
    for loss, default in ((2.0, "mine-4bit"), (2.018, "mine"), (2.1, "mine"), (None, "mine")):
        cost = smaller.info.int8_comparison
        assert cost is not None
        found = None if loss is None else attrs.evolve(cost, int8_loss=2.0, loss=loss, margin=0.01)
        write_info(smaller.path, attrs.evolve(smaller.info, int8_comparison=found))
        assert installed_builds.find("auto").name == default
    shutil.rmtree(installed / "mine")
    assert installed_builds.find("auto").name == "mine-4bit"


@pytest.mark.parametrize("stage", ["quantizing to 4 bits", "running the int8 build", "running the 4-bit build"])
def test_an_interruption_leaves_nothing_behind(stage: str, installed: Path) -> None:
    def interrupt(message: str, fraction: float) -> None:
        if message == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_installed("mine", progress=interrupt)
    assert [folder.name for folder in installed.iterdir()] == ["mine"]
    assert installed_builds.find("mine").info.bits == 8


def test_a_full_disk_is_reported(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(four_bit_file, "_write_text", full)
    with pytest.raises(ConversionError, match="No space left"):
        quantize_installed("mine")
    assert [folder.name for folder in installed.iterdir()] == ["mine"]


def test_the_commands_convert_list_and_verify(make_checkpoint: Any, store: Path) -> None:
    source = make_checkpoint("codegen", name="tiny")
    run = CliRunner().invoke
    done = run(app, ["convert", str(source), "--bits", "4", "--group", "64"])
    assert done.exit_code == 0, done.output
    assert "Price of 4 bits: loss" in done.output
    assert [folder.name for folder in store.iterdir()] == ["tiny-4bit"]
    (row,) = json.loads(run(app, ["list", "--installed", "--json"]).output)
    assert (row["name"], row["bits"]) == ("tiny-4bit", 4)
    assert abs(row["loss_increase"]) < 0.1
    checked = run(app, ["verify", "tiny-4bit", "--against", str(source)])
    assert checked.exit_code == 0, checked.output
    assert "Price of 4 bits" in checked.output
    assert read_info(store / "tiny-4bit").weights == WeightFormat(4, 64)


def test_a_4_bit_build_is_read_as_floats(make_checkpoint: Any, tmp_path: Path) -> None:
    """Export and adaptation read the weights of any build so."""
    build = make(make_checkpoint, tmp_path)
    info = read_info(build)
    weights = BuildWeights(build, info)
    ids = list(range(40))
    (expected,) = float_logits(weights, weights.architecture, [Reading(tuple(ids), 1)])
    assert relative_error(native_logits(build, ids), expected.numpy()) < 0.03
