"""Reading weights: all forms give the same tensors; damaged and dangerous files are refused."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import json
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from codegen_lsp.checkpoints.weights import Weights, read_json, weight_files
from codegen_lsp.errors import ConversionError


def sum_of_all(folder: Path) -> float:
    with Weights(folder) as weights:
        return sum(float(weights[name].sum()) for name in weights)


FORMS = ["safetensors", "sharded-safetensors", "bin", "sharded-bin", "old-bin"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_tensors(form: str, make_checkpoint: Any, small: SimpleNamespace) -> None:
    state = small.random_state(small.SHAPES["codegen"])
    with Weights(make_checkpoint(form=form, state=state)) as weights:
        assert state.keys() <= set(weights)
        assert len(weights) == len(list(weights))
        for name, tensor in state.items():
            assert torch.equal(weights[name], tensor)


def test_safetensors_are_preferred(make_checkpoint: Any) -> None:
    folder = make_checkpoint(form="safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert weight_files(folder) == [folder / "model.safetensors"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.999])
def test_truncated_files_are_named(form: str, keep: float, make_checkpoint: Any, small: SimpleNamespace) -> None:
    folder = make_checkpoint(form=form)
    victim = max(folder.glob("*model*"), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[: int(victim.stat().st_size * keep)])
    with pytest.raises(ConversionError) as caught:
        sum_of_all(folder)
    assert victim.name in str(caught.value)
    assert "again" in caught.value.advice


def test_code_in_a_pickle_is_refused_and_not_run(make_checkpoint: Any, tmp_path: Path) -> None:
    folder = make_checkpoint(form="bin")
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    torch.save({"transformer.wte.weight": Hostile()}, folder / "pytorch_model.bin")
    with pytest.raises(ConversionError, match="more than tensors"), Weights(folder):
        pass
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ConversionError), Weights(folder):
        pass
    assert not marker.exists()


def test_a_pickle_of_other_things_is_refused(make_checkpoint: Any) -> None:
    folder = make_checkpoint(form="bin")
    torch.save({"epoch": 3}, folder / "pytorch_model.bin")
    with pytest.raises(ConversionError, match="no dictionary of tensors"), Weights(folder):
        pass


def test_missing_shard(make_checkpoint: Any) -> None:
    folder = make_checkpoint(form="sharded-bin")
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(ConversionError, match=r"pytorch_model-00002-of-00002\.bin, which is missing"), Weights(folder):
        pass


@pytest.mark.parametrize("place", ["../other.bin", "/etc/passwd", 3])
def test_index_may_not_point_elsewhere(place: object, make_checkpoint: Any) -> None:
    folder = make_checkpoint(form="sharded-bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": place}}))
    with pytest.raises(ConversionError, match="not a file of this folder"), Weights(folder):
        pass


def test_index_that_promises_too_much(make_checkpoint: Any) -> None:
    folder = make_checkpoint(form="sharded-safetensors")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["lm_head.scale"] = "model-00001-of-00002.safetensors"
    path.write_text(json.dumps(index))
    with Weights(folder) as weights, pytest.raises(ConversionError, match=r"lacks the tensor lm_head\.scale"):
        weights["lm_head.scale"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of other systems are Unicode")
def test_a_folder_whose_name_is_not_utf_8(make_checkpoint: Any) -> None:
    folder = make_checkpoint()
    renamed = folder.rename(folder.with_name(os.fsdecode(b"latin-\xe9")))
    with pytest.raises(ConversionError, match="is not UTF-8") as caught, Weights(renamed):
        pass
    assert caught.value.advice == "Rename the folder."


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="has no weights"), Weights(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe{"])
def test_bad_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"config\.json"):
        read_json(path)
    with pytest.raises(ConversionError, match=r"has no other\.json"):
        read_json(tmp_path / "other.json")
