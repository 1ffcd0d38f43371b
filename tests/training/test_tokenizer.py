"""The tokenizer gives back every byte, and cuts code where it was made to."""

from __future__ import annotations

from tests import needs

needs.extra("train")

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from codegen_lsp.errors import CorpusError
from codegen_lsp.training import corpus, packages
from codegen_lsp.training import tokenizer as code_tokenizer


@pytest.fixture(scope="module", params=sorted(code_tokenizer.DESIGNS))
def learned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    texts = [file.text for file in corpus.read_package(packages.library_package("json")).files]
    folder = tmp_path_factory.mktemp("tokenizer")
    code_tokenizer.save(code_tokenizer.train(texts, 700, request.param), folder)
    return code_tokenizer.load(folder)


LIKE_CODE = st.text(alphabet=st.sampled_from(list("ab_X1 \t\n\r.(\"'#é漢🙂\u0301\u2028\x00")))


@given(text=st.one_of(st.text(), LIKE_CODE))
def test_any_text_comes_back(learned: Tokenizer, text: str) -> None:
    assert learned.decode(learned.encode(text).ids, skip_special_tokens=False) == text


@given(data=st.binary())
def test_any_bytes_come_back(learned: Tokenizer, data: bytes) -> None:
    assert code_tokenizer.decode_bytes(learned, code_tokenizer.encode_bytes(learned, data)) == data


@given(first=LIKE_CODE, second=LIKE_CODE)
def test_a_line_tokenises_alike_whatever_follows(learned: Tokenizer, first: str, second: str) -> None:
    line = first.replace("\n", "").replace("\r", "") + "."
    whole = learned.encode(line + "\n" + second).ids
    alone = learned.encode(line).ids
    assert whole[: len(alone)] == alone


def test_a_line_break_with_its_indentation_is_one_token(learned: Tokenizer) -> None:
    pieces = code_tokenizer.token_bytes(learned)
    ids = learned.encode("def f(self):\n        return self\n\n    def g").ids
    assert b"\n        " in [pieces[i] for i in ids]
    assert b"\n\n    " in [pieces[i] for i in ids]


def test_a_run_of_spaces_is_one_token(learned: Tokenizer) -> None:
    assert len(learned.encode("        ").ids) == 1


def test_special_tokens_come_first_and_are_text_in_source_files(learned: Tokenizer) -> None:
    assert [code_tokenizer.token_id(learned, token) for token in code_tokenizer.SPECIAL] == [0, 1, 2, 3]
    ids = learned.encode("x = '<|endoftext|>'").ids
    assert 0 not in ids
    assert learned.decode(ids, skip_special_tokens=False) == "x = '<|endoftext|>'"


def test_transformers_reads_it_and_agrees(learned: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    code_tokenizer.save(learned, tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = "class A:\n    def f(self, x):\n        return [x  for x in 'é漢']  # done\n"
    assert theirs(text)["input_ids"] == learned.encode(text).ids
    assert theirs.decode(theirs(text)["input_ids"]) == text
    assert (theirs.bos_token_id, theirs.eos_token_id) == (0, 0)
    assert theirs("<fim_suffix>")["input_ids"] == [1]


def test_another_tokenizer_is_refused() -> None:
    from tokenizers import models

    with pytest.raises(CorpusError, match="fim_suffix"):
        code_tokenizer.token_id(Tokenizer(models.BPE()), code_tokenizer.SUFFIX)
