"""Tokens, bytes and healing, on the embedded tokenizer and on CodeGen's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.tokenizer import Tokenizer, byte_alphabet

TEXTS = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=60)
CODE = st.lists(
    st.sampled_from(["def ", "    ", "\n", "\t", "self", ".", "(", ")", "x", " = ", "é", "🙂", "<|endoftext|>", "\r\n"])
).map("".join)


@pytest.fixture(scope="module", params=["embedded", "codegen"])
def any_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "embedded":
        return request.getfixturevalue("tokenizer")
    path = request.getfixturevalue("data") / "codegen-tokenizer" / "tokenizer.json"
    fast = FastTokenizer.from_file(str(path))
    fast.encode_special_tokens = True
    return Tokenizer(fast, 50295)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS | CODE)
def test_round_trip(any_tokenizer: Tokenizer, text: str) -> None:
    assert any_tokenizer.decode(any_tokenizer.encode(text)) == text


@settings(max_examples=300, deadline=None)
@given(text=TEXTS | CODE)
def test_healing_takes_back_whole_tokens_of_the_text(any_tokenizer: Tokenizer, text: str) -> None:
    ids, forced = any_tokenizer.split_for_healing(text)
    assert b"".join(map(any_tokenizer.token_bytes, ids)) + forced == text.encode()


@settings(max_examples=300, deadline=None)
@given(text=CODE, more=CODE)
def test_ids_before_the_healed_token_stay_when_the_text_grows(any_tokenizer: Tokenizer, text: str, more: str) -> None:
    """More text never changes tokens that are cached already.

    A line break or run of spaces may still join with what follows it, so the growth begins with a word.
    """
    ids, _ = any_tokenizer.split_for_healing(text + "a")
    assert any_tokenizer.encode(text + "ab" + more)[: len(ids)] == ids


def test_special_tokens_in_a_document_are_ordinary_text(any_tokenizer: Tokenizer) -> None:
    ids = any_tokenizer.encode("a<|endoftext|>b")
    assert not set(ids) & any_tokenizer.special_ids


def test_the_byte_alphabet_is_complete() -> None:
    assert sorted(byte_alphabet().values()) == list(range(256))


def test_codegen_vectors(data: Path) -> None:
    tokenizer = Tokenizer(FastTokenizer.from_file(str(data / "codegen-tokenizer" / "tokenizer.json")), 50295)
    assert tokenizer.encode("    return x") == [50284, 7783, 2124]
    assert tokenizer.split_for_healing("    ret") == ([50284], b"ret")
    assert tokenizer.token_bytes(50284) == b"    "
    assert tokenizer.token_bytes(50256) == b"<|endoftext|>"
    assert tokenizer.token_bytes(51000) == b""


def test_a_broken_file_is_named(tmp_path: Path, info: BuildInfo) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        Tokenizer.from_build(tmp_path, info)
