"""Rows are full, infilling samples are whole, and a saved position goes on with the next row."""

from __future__ import annotations

from tests import needs

needs.extra("train")

from pathlib import Path

import attrs
import numpy as np
import pytest

from codegen_lsp.training import corpus, data, packages
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.data import EncodedCorpus, RowSampler, TokenTables

LENGTH = 256


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [file.text for file in corpus.read_package(packages.library_package("json")).files]


@pytest.fixture(scope="module")
def tables(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> TokenTables:
    folder = tmp_path_factory.mktemp("tokenizer")
    code_tokenizer.save(code_tokenizer.train(texts, 600), folder)
    return TokenTables.of(code_tokenizer.load(folder))


@pytest.fixture(scope="module")
def encoded(texts: list[str], tables: TokenTables, tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    return data.encode(tables.tokenizer, texts, tmp_path_factory.mktemp("encoded"), "train")


def text_of(ids: np.ndarray, tables: TokenTables) -> str:
    return b"".join(tables.pieces[i] for i in ids).decode()


def test_encoded_documents_are_the_texts(encoded: EncodedCorpus, texts: list[str], tables: TokenTables) -> None:
    assert encoded.documents == len(texts)
    for number, text in enumerate(texts):
        ids = encoded.ids[encoded.starts[number] : encoded.starts[number + 1]]
        assert text_of(ids, tables) == text


def test_plain_rows_are_the_documents_with_an_end_after_each(
    encoded: EncodedCorpus, texts: list[str], tables: TokenTables
) -> None:
    sampler = RowSampler(encoded, tables, infill=0.0)
    stream = []
    while not sampler.position.epoch:
        stream.append(sampler.row(LENGTH)[0])
        assert stream[-1].shape == (LENGTH + 1,)
    whole = np.concatenate(stream)
    found = [text_of(part, tables) for part in np.split(whole, np.flatnonzero(whole == tables.end) + 1)]
    assert sum(text in found for text in texts) >= len(texts) - 2


def samples(sampler: RowSampler, count: int) -> list[np.ndarray]:
    """Infilling samples out of sampler, each from its first mark to its end mark."""
    found = []
    for _ in range(count):
        row = sampler.row(LENGTH)[0]
        for start in np.flatnonzero(row == sampler.tables.suffix):
            ends = np.flatnonzero(row[start:] == sampler.tables.end)
            assert len(ends), "an infilling sample was cut off by the end of its row"
            found.append(row[start : start + ends[0] + 1])
    return found


def test_infilling_samples_are_suffix_then_prefix_with_middle(
    encoded: EncodedCorpus, texts: list[str], tables: TokenTables
) -> None:
    everything = samples(RowSampler(encoded, tables, infill=1.0), 200)
    assert len(everything) > 200
    empty = 0
    for sample in everything:
        mark = np.flatnonzero(sample == tables.prefix)
        assert len(mark) == 1
        suffix, before = text_of(sample[1 : mark[0]], tables), text_of(sample[mark[0] + 1 : -1], tables)
        assert any(before + suffix in text for text in texts)
        empty += not suffix
    assert 0.02 * len(everything) < empty < 0.4 * len(everything)


def test_text_up_to_the_cursor_is_tokenised_as_one(encoded: EncodedCorpus, tables: TokenTables) -> None:
    """A prompt made of the text before the cursor gives the tokens that were trained on."""
    for sample in samples(RowSampler(encoded, tables, infill=1.0, seed=3), 60):
        before = sample[np.flatnonzero(sample == tables.prefix)[0] + 1 : -1]
        line = before[np.flatnonzero(tables.breaks[before])[-1] + 1 :] if tables.breaks[before].any() else before
        assert tables.tokenizer.encode(text_of(line, tables)).ids == line.tolist()


SOURCE = "import os\n\n\ndef f(a):\n    g(a, [b])\n    return a\n\n\ndef h():\n    pass\n"


@pytest.mark.parametrize("ending", [data.LINE_END, data.BLOCK_END, data.BEFORE_CLOSERS, data.IN_LINE])
def test_middles_end_where_completions_end(ending: int, tables: TokenTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "ENDINGS", tuple(float(i == ending) for i in range(4)))
    monkeypatch.setattr(data, "NO_SUFFIX", 0.0)
    window = np.array(tables.tokenizer.encode(SOURCE).ids)
    cuts = set()
    for seed in range(200):
        sample = data.infill(window, tables, np.random.default_rng(seed))
        mark = int(np.flatnonzero(sample == tables.prefix)[0])
        cuts.add(text_of(sample[mark + 1 : -1], tables))
    line_ends = {SOURCE[:i].rstrip("\n") for i, c in enumerate(SOURCE) if c == "\n"}
    if ending == data.LINE_END:
        assert cuts == line_ends
    elif ending == data.BLOCK_END:
        assert cuts == {"import os\n\n\ndef f(a):\n    g(a, [b])\n    return a", SOURCE.rstrip("\n")}
    elif ending == data.BEFORE_CLOSERS:
        assert "import os\n\n\ndef f(a):\n    g(a, [b" in cuts
        assert "import os\n\n\ndef f(a" in cuts
    else:
        assert "import o" in cuts
        assert not any(cut[-1].isspace() for cut in cuts)


def test_a_saved_position_goes_on_with_the_next_row(encoded: EncodedCorpus, tables: TokenTables) -> None:
    sampler = RowSampler(encoded, tables, infill=0.5, seed=7)
    for _ in range(5):
        sampler.row(LENGTH)[0]
    saved = data.SamplerPosition(**attrs.asdict(sampler.position))
    later = [sampler.row(LENGTH)[0] for _ in range(80)]
    assert sampler.position.epoch > 0
    again = RowSampler(encoded, tables, infill=0.5, seed=7, position=saved)
    for row in later:
        np.testing.assert_array_equal(again.row(LENGTH)[0], row)


def test_another_seed_gives_another_order(encoded: EncodedCorpus, tables: TokenTables) -> None:
    one, two = (RowSampler(encoded, tables, infill=0.5, seed=seed).row(LENGTH)[0] for seed in (1, 2))
    assert (one != two).any()


def test_the_marks_are_read_but_not_predicted(encoded: EncodedCorpus, tables: TokenTables) -> None:
    batch = RowSampler(encoded, tables, infill=1.0).batch(8, LENGTH)
    inputs, targets = batch.inputs, batch.targets
    assert inputs.shape == targets.shape == (8, LENGTH)
    assert (inputs == tables.prefix).any()
    assert not ((targets == tables.prefix) | (targets == tables.suffix)).any()
    assert (targets == data.NOT_COUNTED).any()
    assert (targets == tables.end).any()


def test_encoding_writes_files_that_read_back(tmp_path: Path, tables: TokenTables) -> None:
    data.encode(tables.tokenizer, [], tmp_path, "none")
    assert data.read(tmp_path, "none").documents == 0


def test_most_suffixes_are_short(encoded: EncodedCorpus, tables: TokenTables) -> None:
    lines = []
    for sample in samples(RowSampler(encoded, tables, infill=1.0), 200):
        suffix = sample[1 : np.flatnonzero(sample == tables.prefix)[0]]
        lines.append(text_of(suffix, tables).strip("\n").count("\n") + 1 if len(suffix) else 0)
    assert sum(1 <= count <= 2 * data.SHORT_LINES for count in lines) > 0.5 * len(lines)


def test_gains_stay_with_their_tokens(encoded: EncodedCorpus, tables: TokenTables) -> None:
    marked = attrs.evolve(encoded, gains=encoded.ids.astype(np.float16))
    batch = RowSampler(marked, tables, infill=0.3).batch(8, LENGTH)
    assert batch.gains is not None
    plain = batch.gains > 0
    assert 0.3 < plain.mean() < 0.95
    np.testing.assert_array_equal(batch.gains[plain], batch.targets[plain].astype(np.float16))
    assert RowSampler(encoded, tables, infill=0.3).batch(8, LENGTH).gains is None
