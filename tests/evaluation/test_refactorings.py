"""A sample of the check over installed packages: the real embedded model, published functions."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from codegen_lsp.evaluation.documents import SourceDocument
from codegen_lsp.evaluation.refactorings import attempts, figures_of, what_is_wrong
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.registry import KINDS, RefactoringKind, kind_named
from tests.completion.options import options

PACKAGES = ("attr", "rich", "typer", "platformdirs", "psutil", "rope")
MODEL_FREE = ("extract-variable", "extract-function", "inline-variable", "inline-function", "rename", "simplify")


@pytest.fixture(scope="module")
def documents() -> list[SourceDocument]:
    site = Path(sysconfig.get_paths()["purelib"])
    files = [path for name in PACKAGES for path in sorted((site / name).glob("*.py"))]
    return [SourceDocument(path.parent.name, str(path), "python", path.read_text(encoding="utf-8")) for path in files]


def kind(name: str) -> RefactoringKind:
    found = kind_named(name)
    assert found is not None
    return found


@pytest.mark.slow
async def test_without_a_model_every_result_holds(documents: list[SourceDocument]) -> None:
    assistant = ModelAssistant.for_model(None, None, options(), "refactor")
    found = [one async for one in attempts(documents, 12, 1, assistant, [kind(name) for name in MODEL_FREE])]
    assert sum(one.offers for one in found) > 5
    assert [one for one in found if one.broken or (one.refused or "").startswith("crash")] == []


@pytest.mark.slow
async def test_with_the_embedded_model_every_result_holds(
    documents: list[SourceDocument], embedded_build: Path
) -> None:
    client = InferenceClient()
    try:
        model = await client.load(LoadParams(str(embedded_build), threads=1))
        kinds = [one for one in KINDS if one.name not in ("type-hints", "docstring")]
        assistant = ModelAssistant.for_model(client, model, options(), "refactor")
        found = [one async for one in attempts(documents, 1, 2, assistant, kinds)]
    finally:
        await client.close()
    assert found
    assert [one for one in found if one.broken or (one.refused or "").startswith("crash")] == []
    assert {one.kind for one in figures_of(found)} <= {one.name for one in KINDS}


@pytest.mark.parametrize(
    ("after", "wrong"),
    [
        ("def f(a, b=1):\n    return a - b\n", False),
        ("def f(a, b=2):\n    return a\n", True),
        ("def f(a):\n    return a\n", True),
        ("def g(a, b=1):\n    return a\n", True),
        ("def f(a, b=1) -> int:\n    return a\n", False),
        ("def f(a, b=1):\n    return a\n\n\ndef _g(c):\n    return c\n", False),
        ("def f(a, b=1):\n    return a +\n", True),
    ],
)
def test_a_wrong_result_is_seen(after: str, wrong: bool) -> None:
    assert (what_is_wrong("def f(a, b=1):\n    return a\n", after, kind("simplify")) is not None) is wrong
