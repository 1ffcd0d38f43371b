"""Constraints on the next token."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_lsp.inference.constraint import TokenIndex, agrees
from codegen_lsp.inference.tokenizer import Tokenizer

PIECES = st.lists(st.binary(max_size=3).map(lambda text: bytes(byte % 3 for byte in text)), max_size=40)


@given(pieces=PIECES, forced=st.binary(min_size=1, max_size=4).map(lambda text: bytes(byte % 3 for byte in text)))
def test_agreeing_tokens_are_all_found(pieces: list[bytes], forced: bytes) -> None:
    expected = [id for id, text in enumerate(pieces) if agrees(text, forced)]
    assert sorted(TokenIndex(pieces).agreeing(forced)) == expected


@settings(deadline=None)
@given(st.data())
def test_agreeing_tokens_of_a_real_vocabulary_are_found(tokenizer: Tokenizer, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(tokenizer.all_bytes)) + data.draw(st.binary(max_size=2))
    expected = [id for id, piece in enumerate(tokenizer.all_bytes) if agrees(piece, text or b"x")]
    assert sorted(TokenIndex(tokenizer.all_bytes).agreeing(text or b"x")) == expected
