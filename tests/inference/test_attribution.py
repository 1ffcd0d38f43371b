"""The probability of each token of a suggestion, its sources, and the places that it agrees with."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled
from codegen_lsp.inference.engines.native.ngram_segment import library
from codegen_lsp.inference.loading import load_model
from codegen_lsp.inference.rpc.attribution import AttributionParams, AttributionResult
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    GenerateResult,
    IndexUpdate,
    LoadParams,
    StopRules,
    WorkspaceFile,
)
from codegen_lsp.inference.text_model import TextModel

indexed = pytest.mark.skipif(library() is None, reason="ngram_index.c was not compiled here")

LIBRARY = """\
class QuokkaRegistry:
    def enlist_marsupial(self, burrow, *, eager=False):
        self._burrows.append(burrow)
        return self._census(eager)


def restock(registry, burrows):
    for burrow in burrows:
        registry.enlist_marsupial(burrow, eager=True)
"""
NEW = "def visit(registry, burrow):\n    registry.enlist_"


@pytest.fixture(scope="module")
def indexing(embedded_build: Path, tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        found, _ = load_model(LoadParams(str(embedded_build), engine="native", threads=1), lambda *_: None)
    if found.workspaces is not None and found.workspaces.available:
        found.workspaces.update(IndexUpdate("w", [WorkspaceFile("lib/quokka.py", LIBRARY, 1, len(LIBRARY))]))
        assert found.workspaces.wait(60)
    return found


def request(prefix: str, **options: object) -> GenerateParams:
    return GenerateParams("d", prefix, stop=StopRules(max_tokens=24), **options)  # type: ignore[arg-type]


def generated(model: TextModel, params: GenerateParams) -> GenerateResult:
    return model.generate(params, CancellationToken())


def attributed(model: TextModel, params: GenerateParams, text: str) -> AttributionResult:
    asked = AttributionParams(params, text, params.prefix, params.suffix)
    return model.placed(asked, model.attribute(asked, CancellationToken()))


PREFIXES = (
    "import os\n\n\ndef size_of(path):\n    return os.path.get",
    LIBRARY + "\n\ndef again(registry, burrow):\n    registry.enlist_mars",
    LIBRARY + "\n\ndef again(registry, burrow):\n    ",
    "# Größe 🦘\nname = 'é",
)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("heal", [True, False])
def test_the_probabilities_are_those_of_decoding(model: TextModel, prefix: str, heal: bool) -> None:
    answer = generated(model, request(prefix, heal=heal)).candidates[0]
    result = attributed(model, request(prefix, heal=heal), answer.text)
    assert "".join(token.text for token in result.tokens).endswith(answer.text)
    starts = [0, *(end for end, _ in answer.steps)]
    decoded = {(start, end): log for start, (end, log) in zip(starts, answer.steps, strict=False) if start < end}
    same = [token for token in result.tokens if (token.start, token.end) in decoded and not token.typed]
    assert len(same) >= len(decoded) * 0.6  # the model may choose other tokens for the same text
    for token in same:
        assert token.probability == pytest.approx(math.exp(decoded[token.start, token.end]), abs=0.03)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_shares_add_up_and_the_parts_cover_the_text(model: TextModel, prefix: str) -> None:
    text = "marsupial(burrow, eager=True)  # größer 🦘\n"
    result = attributed(model, request(prefix), text)
    assert [token.start for token in result.tokens] == [0, *(token.end for token in result.tokens)][:-1]
    assert result.tokens[-1].end == len(text)
    for token in result.tokens:
        assert token.from_model + token.from_document + token.from_workspace == pytest.approx(
            token.probability, abs=3e-6
        )
        assert 0 <= token.probability <= 1
        assert 0 <= token.model_probability <= 1
        chances = [one.probability for one in token.alternatives]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) <= 1 + 1e-4
        assert len(chances) <= 3
        assert bool(chances) == (model.engine.name == "native")
        if "\ufffd" not in token.text and token.text in [one.text for one in token.alternatives]:
            (own,) = [one.probability for one in token.alternatives if one.text == token.text]
            assert own == pytest.approx(token.probability, abs=1e-4)


def test_the_first_token_holds_the_typed_text_and_is_certain_where_only_it_agrees(indexing: TextModel) -> None:
    (first, *_) = attributed(indexing, request("x = QuokkaRegis"), "try()").tokens
    assert first.typed > 0
    assert first.start == 0
    assert all("QuokkaRegis".endswith(one.text[: first.typed].lstrip()) for one in first.alternatives[:1])


@indexed
def test_a_name_of_the_workspace_has_the_workspaces_share_file_and_line(indexing: TextModel) -> None:
    with_files = attributed(indexing, request(NEW, workspace="w"), "marsupial(burrow, eager=True)")
    without = attributed(indexing, request(NEW), "marsupial(burrow, eager=True)")
    shares = [token.from_workspace for token in with_files.tokens]
    assert sum(shares) / len(shares) > 0.4
    assert all(token.from_workspace == 0 and token.workspace is None for token in without.tokens)
    for one, other in zip(with_files.tokens, without.tokens, strict=True):
        assert one.model_probability == pytest.approx(other.model_probability, abs=1e-4)
    last = with_files.tokens[-1]
    assert last.workspace is not None
    assert (last.workspace.path, last.workspace.line) == ("lib/quokka.py", 9)
    assert last.workspace.excerpt == "registry.enlist_marsupial(burrow, eager=True)"
    assert last.document is None


@indexed
def test_each_token_has_the_line_of_the_document_that_it_is_on(indexing: TextModel) -> None:
    call = "registry.reconsider(wombats,\n        patience=7)"
    above = f"import registry\n\n\ndef f():\n    {call}\n\n\ndef g():\n    "
    result = attributed(indexing, request(above), call)
    places = [token.document for token in result.tokens]
    assert all(place is not None and place.path == "" for place in places[1:])
    lines = [place.line for place in places[1:] if place]
    assert lines == sorted(lines)
    assert set(lines) == {5, 6}
    assert places[-1] is not None
    assert places[-1].excerpt == "patience=7)"
    assert sum(token.from_document for token in result.tokens[-6:]) > 3
    cursor = above.replace(call, "pass")
    below = AttributionParams(request(cursor), call, cursor, f"\n\n\ndef h():\n    {call}\n")
    below_cursor = indexing.placed(below, indexing.attribute(below, CancellationToken())).tokens[-1]
    assert below_cursor.document is not None
    assert below_cursor.document.line == cursor.count("\n") + 1 + 5


@indexed
def test_typed_text_does_not_agree_with_itself(indexing: TextModel) -> None:
    typed = [token for token in attributed(indexing, request(NEW, workspace="w"), "marsupial(").tokens if not token.end]
    assert typed
    assert [token.document for token in typed] == [None] * len(typed)
    assert [token.workspace.line for token in typed if token.workspace][-1:] == [9]


@indexed
def test_files_left_out_have_no_share(indexing: TextModel) -> None:
    params = request(NEW, workspace="w", excluded_files=["lib/quokka.py"])
    result = attributed(indexing, params, "marsupial(burrow)")
    assert all(token.from_workspace == 0 and token.workspace is None for token in result.tokens)


def test_nothing_and_more_than_fits(indexing: TextModel) -> None:
    assert attributed(indexing, request("x = 1\n"), "").tokens == []
    long = "value = compute(value)\n" * 2_000
    result = attributed(indexing, request("x = 1\n" * 5_000), long)
    assert 0 < len(result.tokens) < indexing.info.context_length
    assert attributed(indexing, request(""), "import os").tokens


def test_an_explanation_changes_no_answer_and_keeps_the_cached_prompt(indexing: TextModel) -> None:
    params = request(PREFIXES[1])
    before = generated(indexing, params)
    attributed(indexing, params, "supial(burrow, eager=True)")
    after = generated(indexing, params)
    assert [one.text for one in after.candidates] == [one.text for one in before.candidates]
    assert after.stats.cached_tokens == after.stats.prompt_tokens


def test_it_can_be_cancelled(indexing: TextModel) -> None:
    cancellation = CancellationToken()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        indexing.attribute(AttributionParams(request("x"), " = 1", "x"), cancellation)


async def test_over_rpc(embedded_build: Path) -> None:
    client = InferenceClient()
    try:
        await client.load(LoadParams(str(embedded_build), threads=1))
        prefix = "import os\nimport os\nimport"
        result = await client.attribute(AttributionParams(request(prefix), " os\n", prefix))
        assert [token.text for token in result.tokens][-1] == "\n"
        assert result.tokens[-1].document is None or result.tokens[-1].document.line in (1, 2)
    finally:
        await client.close()
