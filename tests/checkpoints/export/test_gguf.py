"""Exports to GGUF: the file holds the model's weights and tokens, and llama.cpp computes and cuts text as here."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import needs

needs.extra("export")

import gguf
import numpy as np
import torch

from codegen_lsp.checkpoints import convert, store, vocabulary
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.export.blocks import exported_shapes, exported_weights
from codegen_lsp.checkpoints.export.checks import MARKS, SAMPLES
from codegen_lsp.checkpoints.export.export import export_model
from codegen_lsp.checkpoints.export.gguf_file import gguf_name
from codegen_lsp.checkpoints.export.gguf_vocabulary import CONTROL, UNUSED, USER_DEFINED, gguf_vocabulary
from codegen_lsp.checkpoints.export.source import ExportSource, open_source
from codegen_lsp.errors import ConversionError
from codegen_lsp.inference.build import BuildInfo

MakeCheckpoint = Callable[..., Path]
FAMILIES = ("codegen", "codegen2", "codegen25")

llama_cpp_needed = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None,
    reason='needs llama.cpp: pip install "codegen-lsp[peers]", which compiles it',
)


def silent(message: str, fraction: float) -> None:
    pass


@pytest.mark.parametrize("type", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize("family", ["codegen2", "codegen25"])
def test_the_file_holds_every_weight(family: str, type: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(family)
    done = export_model(str(checkpoint), "gguf", tmp_path / "out", weights=type, verify=False)
    reader = gguf.GGUFReader(done.path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    with open_source(str(checkpoint), None, silent) as source:
        assert set(tensors) == {gguf_name(name) for name in exported_shapes(source)}
        for name, weight in exported_weights(source):
            stored = tensors[gguf_name(name)]
            values = gguf.quants.dequantize(stored.data, stored.tensor_type).reshape(weight.shape)
            if family == "codegen25" and ("q_proj" in name or "k_proj" in name):
                heads = source.architecture.heads
                values = values.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
            step = 0 if type == "f32" or weight.ndim == 1 else 2**-11 if type == "f16" else 1 / 127
            assert np.abs(values - weight.numpy()).max() <= step * np.abs(weight.numpy()).max()
    fields = {name: field.contents() for name, field in reader.fields.items()}
    architecture = "llama" if family == "codegen25" else "phi2"
    assert fields["general.architecture"] == architecture
    assert fields[f"{architecture}.context_length"] == 512
    assert len(fields["tokenizer.ggml.tokens"]) == tensors["output.weight"].shape[1]


def test_only_tokens_that_are_matched_before_the_bpe_are_user_defined(
    make_checkpoint: MakeCheckpoint,
) -> None:
    with open_source(str(make_checkpoint("codegen2")), None, silent) as source:
        found = gguf_vocabulary(source)
        of_type = {
            type: {text for text, kind in zip(found.tokens, found.types, strict=True) if kind == type}
            for type in (USER_DEFINED, CONTROL, UNUSED)
        }
    assert of_type[USER_DEFINED] == {"  ", "   ", "    "}
    assert of_type[CONTROL] == {"<|endoftext|>", "<sep>", "<eom>", "<mask_1>", "<mask_2>"}
    assert of_type[UNUSED] == set()


def test_a_tokenizer_that_llama_cpp_lacks_is_refused(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source = make_checkpoint()
    raw = json.loads((source / "tokenizer.json").read_text())
    raw["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, raw["pre_tokenizer"]],
    }
    (source / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(ConversionError, match="no pre-tokenizer"):
        export_model(str(source), "gguf", tmp_path / "out", verify=False)
    assert not (tmp_path / "out").exists()


@llama_cpp_needed
@pytest.mark.parametrize("type", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_the_same(family: str, type: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    done = export_model(str(make_checkpoint(family)), "gguf", tmp_path / "out", weights=type)
    assert done.check is not None
    assert done.check.cut_otherwise == 0
    assert done.check.tokens > 200


@llama_cpp_needed
@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_chooses_the_same_tokens(family: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """`GREEDY_PROMPTS=1000` in the environment makes a longer run; `-s` shows its figures."""
    from tests.checkpoints.export.greedy import compare, compare_float, prompts_from

    build = tmp_path / "build"
    info = convert.convert_checkpoint(make_checkpoint(family), build, name="build")
    done = export_model(str(build), "gguf", tmp_path / "out", weights="f32")
    with open_source(str(build), None, silent) as source:
        texts = [SAMPLES[0], Path(__file__).read_text()]
        count = int(os.environ.get("GREEDY_PROMPTS", "30"))
        prompts = prompts_from(texts, source.tokenizer, count, 24, seed=info.layers)
    found = compare(build, done.path, prompts, 8)
    assert found.wrong == 0, found
    assert found.same > found.prompts / 2
    phi = export_model(str(build), "phi", tmp_path / "phi", weights="f32", verify=False)
    exact = compare_float(build, phi.path, done.path, prompts, 8)
    assert exact.wrong == 0, exact
    assert exact.same >= 0.95 * exact.prompts
    for engine, one in (("native", found), ("transformers", exact)):
        print(f"{family}, {engine}: {one.same} the same, {one.near_ties} near-ties, {one.wrong} others")


@llama_cpp_needed
@pytest.mark.slow
def test_the_embedded_model_runs_in_llama_cpp(tmp_path: Path) -> None:
    from tests.checkpoints.export.greedy import compare, prompts_from

    (build,) = [build for build in store.installed() if build.bundled]
    done = export_model(build.name, "gguf", tmp_path / "out")
    assert done.check is not None
    assert done.check.cut_otherwise <= 0.02 * done.check.cut_tokens
    assert any("pre-tokenizer" in warning for warning in done.warnings)
    with open_source(build.name, None, silent) as source:
        prompts = prompts_from([Path(__file__).read_text()], source.tokenizer, 10, 64, seed=1)
    found = compare(build.path, done.path, prompts, 8)
    assert found.wrong == 0, found


def real_tokenizer(files: Path, family: str) -> vocabulary.Tokenizer:
    """Return a family's own tokenizer, from the files of CodeGen1."""
    if family.startswith("codegen25"):
        base = vocabulary.gpt2_files(files)
        runs_first = family.endswith("runs first")
        return vocabulary.codegen25_tokenizer_runs_first(*base) if runs_first else vocabulary.codegen25_tokenizer(*base)
    (tokenizer,) = vocabulary.build_tokenizers(files, Architecture("codegen", 2, 4, 64, 256, 8, 640, 512, 1e-5, 4))
    return vocabulary.without_additions(tokenizer) if family == "codegen nl" else tokenizer


@llama_cpp_needed
@pytest.mark.parametrize("family", ["codegen", "codegen nl", "codegen25", "codegen25, runs first"])
def test_llama_cpp_cuts_text_into_the_same_tokens(family: str, codegen_files: Path, tmp_path: Path) -> None:
    """With the real vocabularies, on a model of one small layer."""
    import llama_cpp

    from codegen_lsp.checkpoints.export.gguf_file import write_gguf_file

    tokenizer = real_tokenizer(codegen_files, family)
    shape = Architecture("codegen", 1, 1, 32, 32, 32, 51200, 64, 1e-5, 1)
    size = vocabulary.vocabulary_size(tokenizer)
    info = BuildInfo("small", "codegen", "", "", 64, size, 1, 1, 32, 50256)
    weights = {name: torch.zeros(size) for name, size in shape.shapes().items()}
    source = ExportSource(tmp_path, info, shape, weights, tokenizer, dequantized=False)
    path = tmp_path / "small.gguf"
    write_gguf_file(source, gguf_vocabulary(source), path, "f16", lambda share: None)
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    runs = [" " * n + "x\n" + "\t" * n + "y" for n in range(70)] + [f"\n{' ' * n}\t  \n  x" for n in range(40)]
    for text in [*SAMPLES, MARKS, *runs, Path(__file__).read_text()]:
        ids = source.tokenizer.encode(text)
        assert model.tokenize(text.encode(), add_bos=False, special=False) == ids, text
        pieces = b"".join(model.detokenize([id], special=True) for id in ids)
        assert pieces == text.encode()
