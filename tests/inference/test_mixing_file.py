"""Fitted mixing weights in a build's folder: they come back whole, or they are not used."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import MIXING, BuildInfo, write_info
from codegen_lsp.inference.engines.native import mixing_file
from codegen_lsp.inference.engines.native.mixing_file import (
    TunedWeights,
    model_digest,
    read_tuned,
    remove_tuned,
    weights_for,
    write_tuned,
)
from codegen_lsp.inference.engines.native.mixing_weights import LARGE_MODEL, SMALL_MODEL

WEIGHTS = evolve(SMALL_MODEL, workspace=(900.0, 80.0, 30.0, 10.0, 5.0, 3.0, 0.5))


@pytest.fixture
def tuned(info: BuildInfo) -> TunedWeights:
    return TunedWeights(WEIGHTS, model_digest(info), 20_000, 6_000, 1.5, 1.4)


def test_they_come_back(tmp_path: Path, info: BuildInfo, tuned: TunedWeights) -> None:
    assert read_tuned(tmp_path, info) is None
    write_tuned(tmp_path, tuned)
    assert read_tuned(tmp_path, info) == tuned
    assert [path.name for path in tmp_path.iterdir()] == [MIXING]
    assert weights_for(tmp_path, info, "auto") == weights_for(tmp_path, info, "on") == WEIGHTS
    assert weights_for(tmp_path, info, "off") is None
    remove_tuned(tmp_path)
    remove_tuned(tmp_path)
    assert read_tuned(tmp_path, info) is None


def test_without_them_the_size_of_the_model_decides(tmp_path: Path, info: BuildInfo) -> None:
    large = evolve(info, layers=20, width=1024)
    assert not large.small
    assert weights_for(tmp_path, info, "auto") == SMALL_MODEL
    assert weights_for(tmp_path, large, "auto") == LARGE_MODEL
    assert weights_for(tmp_path, large, "on") == SMALL_MODEL
    assert weights_for(tmp_path, large, "off") is None


def _set(raw: dict[str, Any], *path: str, value: object) -> dict[str, Any]:
    inner = raw
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("weights", "workspace"), [1.0] * 6),
        (("weights", "workspace"), [1.0] * 6 + [math.nan]),
        (("weights", "workspace"), [1.0] * 6 + [math.inf]),
        (("weights", "workspace"), [1.0] * 6 + [-1.0]),
        (("weights", "workspace"), [1.0] * 6 + ["many"]),
        (("weights", "workspace"), None),
        (("weights", "document"), [1.0]),
        (("weights", "document_factors"), []),
        (("weights",), {}),
        (("model",), "0" * 64),
        (("format",), 2),
    ],
)
def test_damaged_ones_are_not_used(
    tmp_path: Path, info: BuildInfo, tuned: TunedWeights, path: tuple[str, ...], value: object
) -> None:
    file = write_tuned(tmp_path, tuned)
    file.write_text(json.dumps(_set(json.loads(file.read_text()), *path, value=value)))
    assert weights_for(tmp_path, info, "auto") == SMALL_MODEL


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_files_that_are_none_are_not_used(
    tmp_path: Path, info: BuildInfo, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / MIXING).write_bytes(content)
    assert read_tuned(tmp_path, info) is None
    assert "models tune" in caplog.text


def test_a_failed_write_leaves_the_former_file(
    tmp_path: Path, info: BuildInfo, tuned: TunedWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tuned(tmp_path, tuned)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mixing_file.Path, "replace", full)
    with pytest.raises(ModelError, match="No space"):
        write_tuned(tmp_path, evolve(tuned, after=1.0))
    assert read_tuned(tmp_path, info) == tuned
    assert [path.name for path in tmp_path.iterdir()] == [MIXING]


def test_they_are_no_part_of_the_build(
    embedded_build: Path, tmp_path: Path, info: BuildInfo, tuned: TunedWeights
) -> None:
    shutil.copytree(embedded_build, tmp_path / "build")
    write_tuned(tmp_path / "build", tuned)
    write_info(tmp_path / "build", info)
    assert MIXING not in json.loads((tmp_path / "build" / "build.json").read_text())["files"]
