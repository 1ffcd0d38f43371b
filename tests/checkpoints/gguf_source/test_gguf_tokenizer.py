"""Tokenizers of GGUF files against the tokenizers that they were made from, and against llama.cpp."""

from __future__ import annotations

from tests import needs

needs.extra("export")

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from codegen_lsp.checkpoints.gguf_source.header import read_header
from codegen_lsp.checkpoints.gguf_source.tokenizer import CUTTINGS, declared_tokenizer, end_token
from codegen_lsp.checkpoints.infill_formats import begin_of
from codegen_lsp.checkpoints.snippet import SNIPPET
from tests.checkpoints.gguf_source.gguf_files import write_gguf

TEXTS = (
    SNIPPET,
    "def f(x1234):\r\n\treturn  x1234 + 5678  # it's WE'LL naïve 日本語 12\n\n\n  \n",
    "    if (a != b) { c = {\"k\": 'v'}; }\n\t\t// done...   \n",
    "#include <x.h>\nint _a2b = -1e10; $x @y ~z\n",
    " leading and trailing   ",
)


@pytest.fixture(scope="module")
def across(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BPE with merges across words, digits and lines, so that each step before it makes a difference."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=620,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([text[at : at + 40] for text in TEXTS * 3 for at in range(0, len(text), 9)], trainer)
    path = tmp_path_factory.mktemp("across") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, small: SimpleNamespace) -> Write:
    def made(tokenizer: Path, pre: str, family: str = "deepseek", begin: str | None = None) -> Path:
        shape = small.OTHER_SHAPES[family]
        write_gguf(tmp_path / "a.gguf", shape, small.random_state(shape), tokenizer, pre=pre, begin=begin)
        return tmp_path / "a.gguf"

    return made


@pytest.mark.parametrize("family", ["qwen2", "deepseek", "granite"])
def test_ids_are_those_of_the_original(family: str, small_tokenizers: dict[str, Path], write: Write) -> None:
    original = Tokenizer.from_file(str(small_tokenizers[family]))
    begin = "<｜begin▁of▁sentence｜>" if family == "deepseek" else None
    header = read_header(write(small_tokenizers[family], "gpt-2", family, begin))
    found = declared_tokenizer(header)
    assert found.get_vocab(with_added_tokens=True) == original.get_vocab(with_added_tokens=True)
    assert [found.encode(text).ids for text in TEXTS] == [original.encode(text).ids for text in TEXTS]
    assert begin_of(found) == begin_of(original)
    assert end_token(header) == "<|endoftext|>"


@needs.mark("peers")
@pytest.mark.parametrize("pre", CUTTINGS)
def test_text_is_cut_as_by_llama_cpp(pre: str, across: Path, write: Write) -> None:
    import llama_cpp

    path = write(across, pre)
    found = declared_tokenizer(read_header(path))
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    for text in TEXTS:
        theirs = model.tokenize(text.encode(), add_bos=False, special=False)
        assert found.encode(text, add_special_tokens=False).ids == theirs, text
        assert found.decode(theirs) == text


def test_each_way_of_cutting_makes_a_difference(across: Path, write: Write) -> None:
    ways = {repr(CUTTINGS[pre]): pre for pre in CUTTINGS}
    ids = {
        pre: tuple(tuple(declared_tokenizer(read_header(write(across, pre))).encode(text).ids) for text in TEXTS)
        for pre in ways.values()
    }
    assert len(set(ids.values())) == len(ways)
