"""Rows are full, infilling samples are whole, and a saved position goes on with the next row."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest

from codegen_lsp.training import corpus, data
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.data import Encoded, Rows, Vocabulary

LENGTH = 256


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [d.text for d in corpus.read_package(corpus.library_package("json"))[0]]


@pytest.fixture(scope="module")
def vocabulary(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    folder = tmp_path_factory.mktemp("tokenizer")
    code_tokenizer.save(code_tokenizer.train(texts, 600), folder)
    return Vocabulary.of(code_tokenizer.load(folder))


@pytest.fixture(scope="module")
def encoded(texts: list[str], vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    return data.encode(vocabulary.tokenizer, texts, tmp_path_factory.mktemp("encoded"), "train")


def text_of(ids: np.ndarray, vocabulary: Vocabulary) -> str:
    return b"".join(vocabulary.pieces[i] for i in ids).decode()


def test_encoded_documents_are_the_texts(encoded: Encoded, texts: list[str], vocabulary: Vocabulary) -> None:
    assert encoded.documents == len(texts)
    for number, text in enumerate(texts):
        ids = encoded.ids[encoded.starts[number] : encoded.starts[number + 1]]
        assert text_of(ids, vocabulary) == text


def test_plain_rows_are_the_documents_with_an_end_after_each(
    encoded: Encoded, texts: list[str], vocabulary: Vocabulary
) -> None:
    rows = Rows(encoded, vocabulary, LENGTH, infill=0.0)
    stream = []
    while not rows.position.epoch:
        stream.append(rows.row())
        assert stream[-1].shape == (LENGTH + 1,)
    whole = np.concatenate(stream)
    found = [text_of(part, vocabulary) for part in np.split(whole, np.flatnonzero(whole == vocabulary.end) + 1)]
    assert sum(text in found for text in texts) >= len(texts) - 2


def samples(rows: Rows, count: int) -> list[np.ndarray]:
    """Infilling samples out of rows, each from its first mark to its end mark."""
    found = []
    for _ in range(count):
        row = rows.row()
        for start in np.flatnonzero(row == rows.vocabulary.suffix):
            ends = np.flatnonzero(row[start:] == rows.vocabulary.end)
            assert len(ends), "an infilling sample was cut off by the end of its row"
            found.append(row[start : start + ends[0] + 1])
    return found


def test_infilling_samples_are_suffix_then_prefix_with_middle(
    encoded: Encoded, texts: list[str], vocabulary: Vocabulary
) -> None:
    everything = samples(Rows(encoded, vocabulary, LENGTH, infill=1.0), 200)
    assert len(everything) > 200
    empty = 0
    for sample in everything:
        mark = np.flatnonzero(sample == vocabulary.prefix)
        assert len(mark) == 1
        suffix, before = text_of(sample[1 : mark[0]], vocabulary), text_of(sample[mark[0] + 1 : -1], vocabulary)
        assert any(before + suffix in text for text in texts)
        empty += not suffix
    assert 0.02 * len(everything) < empty < 0.4 * len(everything)


def test_text_up_to_the_cursor_is_tokenised_as_one(encoded: Encoded, vocabulary: Vocabulary) -> None:
    """A prompt made of the text before the cursor gives the tokens that were trained on."""
    for sample in samples(Rows(encoded, vocabulary, LENGTH, infill=1.0, seed=3), 60):
        before = sample[np.flatnonzero(sample == vocabulary.prefix)[0] + 1 : -1]
        line = (
            before[np.flatnonzero(vocabulary.breaks[before])[-1] + 1 :] if vocabulary.breaks[before].any() else before
        )
        assert vocabulary.tokenizer.encode(text_of(line, vocabulary)).ids == line.tolist()


SOURCE = "import os\n\n\ndef f(a):\n    g(a, [b])\n    return a\n\n\ndef h():\n    pass\n"


@pytest.mark.parametrize("ending", [data.LINE_END, data.BLOCK_END, data.BEFORE_CLOSERS, data.IN_LINE])
def test_middles_end_where_completions_end(
    ending: int, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "ENDINGS", tuple(float(i == ending) for i in range(4)))
    monkeypatch.setattr(data, "NO_SUFFIX", 0.0)
    window = np.array(vocabulary.tokenizer.encode(SOURCE).ids)
    cuts = set()
    for seed in range(200):
        sample = data.infill(window, vocabulary, np.random.default_rng(seed))
        mark = int(np.flatnonzero(sample == vocabulary.prefix)[0])
        cuts.add(text_of(sample[mark + 1 : -1], vocabulary))
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


def test_a_saved_position_goes_on_with_the_next_row(encoded: Encoded, vocabulary: Vocabulary) -> None:
    rows = Rows(encoded, vocabulary, LENGTH, infill=0.5, seed=7)
    for _ in range(5):
        rows.row()
    saved = data.Position(**attrs.asdict(rows.position))
    later = [rows.row() for _ in range(80)]
    assert rows.position.epoch > 0
    again = Rows(encoded, vocabulary, LENGTH, infill=0.5, seed=7, position=saved)
    for row in later:
        np.testing.assert_array_equal(again.row(), row)


def test_another_seed_gives_another_order(encoded: Encoded, vocabulary: Vocabulary) -> None:
    one, two = (Rows(encoded, vocabulary, LENGTH, infill=0.5, seed=seed).row() for seed in (1, 2))
    assert (one != two).any()


def test_the_marks_are_read_but_not_predicted(encoded: Encoded, vocabulary: Vocabulary) -> None:
    inputs, targets = Rows(encoded, vocabulary, LENGTH, infill=1.0).batch(8)
    assert inputs.shape == targets.shape == (8, LENGTH)
    assert (inputs == vocabulary.prefix).any()
    assert not ((targets == vocabulary.prefix) | (targets == vocabulary.suffix)).any()
    assert (targets == data.NOT_COUNTED).any()
    assert (targets == vocabulary.end).any()


def test_encoding_writes_files_that_read_back(tmp_path: Path, vocabulary: Vocabulary) -> None:
    data.encode(vocabulary.tokenizer, [], tmp_path, "none")
    assert data.read(tmp_path, "none").documents == 0
