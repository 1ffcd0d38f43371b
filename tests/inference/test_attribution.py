"""The probability of each token of a suggestion, its sources, and the places that it agrees with."""

from __future__ import annotations

import base64
import math
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve
from numpy.typing import NDArray

from codegen_lsp.errors import OtherEngineError
from codegen_lsp.inference import attention_record
from codegen_lsp.inference.build import FileMarks
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled, ReadsLogits
from codegen_lsp.inference.engines.native.ngram_segment import library
from codegen_lsp.inference.loading import load_model
from codegen_lsp.inference.origins import earlier_matches
from codegen_lsp.inference.rpc.attribution import AttentionRecord, AttributionParams, AttributionResult
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    GenerateResult,
    IndexUpdate,
    LoadParams,
    RelatedFile,
    RelatedFiles,
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


def traced(model: TextModel, params: GenerateParams, text: str, before: str = "", after: str = "") -> AttributionResult:
    asked = AttributionParams(params, text, before or params.prefix, after or params.suffix, prompt=True)
    return model.placed(asked, model.attribute(asked, CancellationToken()))


def weights_of(record: AttentionRecord, row: int) -> NDArray[np.float64]:
    """Return the weights of a token of the suggestion: (layers, heads, tokens before it)."""
    data = np.frombuffer(base64.b64decode(record.suggestion[row]), np.uint8)
    return (data.reshape(record.layers, record.heads, -1) / 255.0) ** 2


@pytest.mark.parametrize("suffix", ["", "\n\ndef below():\n    return 1\n"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_tokens_of_the_prompt_have_the_probabilities_that_scoring_gives(
    model: TextModel, prefix: str, suffix: str
) -> None:
    params = request(prefix, suffix=suffix)
    result = traced(model, params, "marsupial(burrow)")
    prompt = model.prompt(prefix, suffix, 1_000, heal=True)
    assert len(result.prompt) == len(prompt.ids)
    scores = model.engine.score(prompt.ids, CancellationToken())
    assert result.prompt[0].token.probability == 0
    for one, score in zip(result.prompt[1:], scores, strict=True):
        assert one.token.model_probability == pytest.approx(math.exp(score), abs=0.02)
        shares = one.token.from_model + one.token.from_document + one.token.from_workspace
        assert shares == pytest.approx(one.token.probability, abs=3e-6)
    texts = {"before": prefix, "after": suffix}
    for one in result.prompt:
        if one.region != "special" and "\ufffd" not in one.token.text:
            assert texts[one.region][one.token.start : one.token.end] == one.token.text
    assert {one.region for one in result.prompt if one.line == 0} <= {"special"}
    assert any(one.region == "after" for one in result.prompt) == bool(suffix)


def test_other_files_of_the_prompt_are_no_part_of_the_document(model: TextModel) -> None:
    info = evolve(model.info, file_marks=FileMarks("# {path}\n{text}\n", "# {path}\n"))
    reading = TextModel(info, model.tokenizer, model.engine)
    files = RelatedFiles("r", "main.py", [RelatedFile("other.py", LIBRARY)])
    params = request("registry = Registry()\nregistry.enlist_mars", files=files)
    result = traced(reading, params, "upial(burrow)")
    tokens = {"other": "", "before": ""}
    for one in result.prompt:
        tokens[one.region] += one.token.text
        assert (one.line == 0) == (one.region == "other")
        assert one.token.document is None or one.token.document.line
        if one.region == "before":
            assert params.prefix[one.token.start : one.token.end] == one.token.text
    assert tokens["other"] == f"# other.py\n{LIBRARY.rstrip()}\n# main.py\n"
    assert params.prefix.startswith(tokens["before"])


def test_the_tokens_of_the_prompt_have_their_lines_in_the_document(indexing: TextModel) -> None:
    """The prompt may be a part of the document, and the text after the cursor may begin on the next line."""
    above, shown, below = "import os\n" * 50, "def f(path):\n\n    return os.path", "\n\n\ndef g():\n    pass\n"
    result = traced(indexing, request(shown, suffix=below), ".join(path)", above + shown, ")" + below)
    lines = {one.token.text.strip(): one.line for one in result.prompt if one.token.text.strip()}
    assert lines["def"] in (51, 57)
    assert (lines["return"], lines["g"], lines["pass"]) == (53, 56, 57)


@indexed
def test_the_tokens_of_the_prompt_have_the_place_that_they_repeat(indexing: TextModel) -> None:
    text = LIBRARY + "\n\ndef again(registry, burrow):\n    registry.enlist_marsupial(burrow, eager=True)\n"
    result = traced(indexing, request(text, workspace="w", heal=False), "")
    assert result.tokens == []
    by_line = [one for one in result.prompt if one.line == text.count("\n")]
    last = next(one.token for one in reversed(by_line) if "True" in one.token.text)
    assert last.document is not None
    assert (last.document.line, last.document.excerpt) == (9, "registry.enlist_marsupial(burrow, eager=True)")
    assert last.workspace is not None
    assert (last.workspace.path, last.workspace.line) == ("lib/quokka.py", 9)
    assert last.from_document + last.from_workspace > last.from_model
    assert all(one.token.document is None for one in result.prompt[:3])


def test_attention_is_recorded_for_each_layer_and_head(indexing: TextModel) -> None:
    params = request(PREFIXES[1])
    asked = AttributionParams(params, "supial(burrow, eager=True)", params.prefix, prompt=True, attention=True)
    result = indexing.attribute(asked, CancellationToken())
    record, info, length = result.attention, indexing.info, len(result.prompt)
    assert record is not None
    assert (record.layers, record.heads) == (info.layers, info.heads)
    assert len(record.suggestion) == len(result.tokens)
    for row in range(len(result.tokens)):
        weights = weights_of(record, row)
        assert weights.shape == (info.layers, info.heads, length + row)
        assert weights.sum(-1) == pytest.approx(np.ones((info.layers, info.heads)), abs=0.05)
    shape = (length - 1, info.layers, info.heads, record.kept)
    tokens = np.frombuffer(base64.b64decode(record.prompt_tokens), "<u2").reshape(shape)
    kept = (np.frombuffer(base64.b64decode(record.prompt_weights), np.uint8).reshape(shape) / 255.0) ** 2
    assert (np.diff(kept, axis=-1) <= 0).all()
    assert kept.sum(-1).max() <= 1.02
    assert kept[0, :, :, 0] == pytest.approx(np.ones((info.layers, info.heads)))
    assert all((tokens[at] <= at).all() for at in range(length - 1))

    # As for the same text as a suggestion, whose weights are recorded in full.
    ids = indexing.prompt(params.prefix, "", 2_000, heal=True).ids
    seen = np.zeros((info.layers, info.heads, len(ids), len(ids)))

    def on_attention(layer: int, first: int, found: NDArray[np.float32]) -> None:
        seen[layer, :, first : first + found.shape[1], : found.shape[2]] = found

    assert isinstance(indexing.engine, ReadsLogits)
    cancellation = CancellationToken()
    indexing.engine.run(indexing.engine.reading_logits(ids, lambda *_: None, on_attention), cancellation)
    for at in (0, 5, length - 2):
        named = np.take_along_axis(seen[:, :, at], tokens[at].astype(np.int64), -1)
        count = min(record.kept, at + 1)
        assert kept[at][..., :count] == pytest.approx(named[..., :count], abs=0.005)
        assert named[..., 0] == pytest.approx(seen[:, :, at].max(-1), abs=1e-6)


def test_an_engine_that_shows_no_attention_refuses(model: TextModel) -> None:
    asked = AttributionParams(request("import os\n"), "import sys", "import os\n", attention=True)
    if isinstance(model.engine, ReadsLogits):
        assert model.attribute(asked, CancellationToken()).attention is not None
        return
    with pytest.raises(OtherEngineError, match="does not show what the model attends to"):
        model.attribute(asked, CancellationToken())


def test_the_record_stays_within_its_size(indexing: TextModel, monkeypatch: pytest.MonkeyPatch) -> None:
    params = request(PREFIXES[1])
    asked = AttributionParams(params, "supial(burrow, eager=True)", params.prefix, attention=True)
    maps = indexing.info.layers * indexing.info.heads
    length = len(indexing.prompt(params.prefix, "", 2_000, heal=True).ids)
    monkeypatch.setattr(attention_record, "MAX_BYTES", 2 * maps * (length + 1))
    record = indexing.attribute(asked, CancellationToken()).attention
    assert record is not None
    assert len(record.suggestion) == 2
    assert record.kept == 1


@pytest.mark.parametrize("size", [2, 3, 40])
def test_earlier_matches_are_those_of_a_plain_search(size: int) -> None:
    random = np.random.default_rng(size)
    ids = random.integers(size, size=70).tolist()
    gaps = {0}

    def run(at: int, last: int) -> int:
        length = 0
        while last - length >= 0 and ids[last - length] == ids[at - length] and ids[at - length] not in gaps:
            length += 1
        return length

    expected = []
    for at in range(len(ids)):
        runs = [run(at, last) for last in range(at)]
        longest = max(runs, default=0)
        expected.append((longest, at - 1 - runs[::-1].index(longest)) if longest else (0, 0))
    assert list(earlier_matches(ids, gaps)) == expected


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
