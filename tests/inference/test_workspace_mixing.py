"""The workspace's n-grams in the native engine's answers: they decide, and caches and drafts change nothing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve

from codegen_lsp.inference.engines.base import CancellationToken
from codegen_lsp.inference.engines.native.mixing import interpolate
from codegen_lsp.inference.engines.native.mixing_weights import LARGE_MODEL, SMALL_MODEL
from codegen_lsp.inference.engines.native.ngram_index import FileVersion, NgramIndex, WorkspaceCounts
from codegen_lsp.inference.engines.native.ngram_segment import library
from codegen_lsp.inference.engines.native.ngrams import SINGLE_SUCCESSOR
from codegen_lsp.inference.loading import load_model
from codegen_lsp.inference.rpc.messages import GenerateParams, IndexUpdate, LoadParams, StopRules, WorkspaceFile
from codegen_lsp.inference.sampling import log_sum
from codegen_lsp.inference.text_model import TextModel
from codegen_lsp.inference.workspace_indexes import WorkspaceIndexes

pytestmark = pytest.mark.skipif(library() is None, reason="ngram_index.c was not compiled here")

LIBRARY = """\
class QuokkaRegistry:
    def enlist_marsupial(self, burrow, *, eager=False):
        self._burrows.append(burrow)
        return self._census(eager)


def restock(registry, burrows):
    for burrow in burrows:
        registry.enlist_marsupial(burrow, eager=True)
"""


@pytest.fixture
def model(embedded_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TextModel:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found, description = load_model(LoadParams(str(embedded_build), engine="native", threads=1), lambda *_: None)
    assert description.ngrams
    assert found.workspaces is not None
    found.workspaces.update(IndexUpdate("w", [WorkspaceFile("quokka.py", LIBRARY, 1, len(LIBRARY))]))
    assert found.workspaces.wait(60)
    return found


def complete(model: TextModel, prefix: str, workspace: str = "w", **options) -> list[str]:  # type: ignore[no-untyped-def]
    params = GenerateParams("d", prefix, workspace=workspace, stop=StopRules(max_tokens=16), **options)
    return [candidate.text for candidate in model.generate(params, CancellationToken()).candidates]


def test_names_of_the_workspace_are_completed(model: TextModel) -> None:
    prefix = "def visit(registry, burrow):\n    registry.enlist_"
    assert complete(model, prefix, workspace="")[0] != complete(model, prefix)[0]
    assert complete(model, prefix)[0].startswith("marsupial(")
    assert not complete(model, prefix, excluded_files=["quokka.py"])[0].startswith("marsupial")
    assert complete(model, prefix, workspace="unknown") == complete(model, prefix, workspace="")


def test_snippets_of_other_files_count_only_without_the_index(model: TextModel) -> None:
    prefix = "def visit(registry, burrow):\n    registry.enlist_"
    other = LIBRARY.replace("marsupial", "wallaby") * 3
    assert complete(model, prefix, snippets=[other]) == complete(model, prefix)
    assert complete(model, prefix, workspace="", snippets=[other])[0].startswith("wallaby(")
    assert complete(model, prefix, workspace="", snippets=[other]) == complete(
        model, prefix, workspace="", related=[other]
    )


def test_answers_do_not_depend_on_the_cache_or_on_drafts(model: TextModel) -> None:
    prefix = LIBRARY[: LIBRARY.index("self._census")] + "# again\n        self._burrows.app"
    cold = complete(model, prefix)
    assert complete(model, prefix) == cold
    complete(model, "x = 1\n")
    assert complete(model, prefix) == cold
    assert complete(model, prefix, candidates=3)[0] == cold[0]


def test_the_mixed_distribution_adds_up_to_one(model: TextModel) -> None:
    assert model.workspaces is not None
    counts = model.workspaces.counts("w", [])
    assert isinstance(counts, WorkspaceCounts)
    random = np.random.default_rng(0)
    ids = model.tokenizer.encode(LIBRARY)
    for end in range(1, len(ids)):
        logits = random.normal(size=8_192).astype(np.float32) * 3
        normaliser = log_sum(logits)
        for factor in (0.3, 1.0, 13.5):
            mixture = counts.mixture(ids[:end], factor)
            assert mixture is not None
            normaliser = interpolate(logits, normaliser, mixture)
            assert float(np.exp(logits.astype(np.float64) - normaliser).sum()) == pytest.approx(1.0, abs=1e-4)


def test_untuned_large_models_use_long_unambiguous_matches_only(model: TextModel) -> None:
    assert model.workspaces is not None
    prefix = "def visit(registry, burrow):\n    registry.enlist_"
    long = LIBRARY[: LIBRARY.index("enlist_marsupial(burrow, eager")] + "enlist_"
    alone, mixed, mixed_long = complete(model, prefix, workspace=""), complete(model, prefix), complete(model, long)
    assert alone[0] != mixed[0]
    model.workspaces = WorkspaceIndexes(model.tokenizer.encode, "t", (*[math.inf] * 6, 1e-9), None)
    model.workspaces.update(IndexUpdate("w", [WorkspaceFile("quokka.py", LIBRARY, 1, len(LIBRARY))]))
    assert model.workspaces.wait(60)
    model.weights = evolve(LARGE_MODEL, workspace=(*[math.inf] * 6, 1e-9))
    assert complete(model, long)[0] == mixed_long[0]
    assert not complete(model, prefix)[0].startswith("marsupial")  # 3 tokens agree


def test_orders_with_infinite_k_and_ambiguous_matches_do_not_count() -> None:
    index = NgramIndex(LARGE_MODEL.workspace)
    same, twice = list(range(20)), list(range(100, 120))
    index.add([(FileVersion("a", 0, 0), [*same, 50, *twice, 60]), (FileVersion("b", 0, 0), [*same, 50, *twice, 61])])
    assert index.mixture(same[-5:]) is None
    unambiguous, ambiguous = index.mixture(same), index.mixture(twice)
    assert LARGE_MODEL.admits(unambiguous)
    assert unambiguous is not None
    assert unambiguous.ids.tolist() == [50]
    cautions = [k * SINGLE_SUCCESSOR for k in LARGE_MODEL.workspace if math.isfinite(k)]
    left = math.prod(k / (2 + k) for k in cautions)
    assert unambiguous.gains.sum() == pytest.approx(1 / left - 1)
    assert ambiguous is not None
    assert sorted(ambiguous.ids.tolist()) == [60, 61]
    assert not LARGE_MODEL.admits(ambiguous)
    assert SMALL_MODEL.admits(ambiguous)
    assert not SMALL_MODEL.admits(None)
