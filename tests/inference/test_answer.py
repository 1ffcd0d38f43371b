"""From tokens to text: what is streamed, and what the finished candidate has."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.inference import answer as answer_module
from codegen_lsp.inference.answer import DecodedAnswer
from codegen_lsp.inference.engines.base import Completion
from codegen_lsp.inference.rpc.messages import Candidate, GeneratedToken, StopRules

UNLIMITED = StopRules(max_tokens=1000, max_lines=1000)


def decoded(
    pieces: Sequence[bytes], rules: StopRules = UNLIMITED, forced: bytes = b""
) -> tuple[list[str], list[GeneratedToken], Candidate]:
    """Return the streamed parts and tokens of an answer, and its candidate. Token n has the bytes of piece n."""
    answer = DecodedAnswer(forced, rules, lambda id: pieces[id], reports_tokens=True)
    parts, tokens, count = [], [], 0
    for id in range(len(pieces)):
        count += 1
        stops = answer.add(id, -0.5)
        text, new = answer.streamable()
        parts.append(text)
        tokens += new
        if stops:
            break
    return parts, tokens, answer.candidate(Completion(list(range(count)), [-0.5] * count, False))


@given(
    st.lists(st.sampled_from([b"a", b"b", b"\n", b" ", b"\r", b"ab", b"\xc3", b"\xa9", "é".encode(), b"\n  b"])),
    st.lists(st.sampled_from(["ab", "a\n", "\n\n", "b a", "é"]), max_size=3),
    st.one_of(st.none(), st.integers(0, 2)),
    st.sampled_from([1, 2, 1000]),
    st.sampled_from([b"", b"a"]),
)
def test_what_is_streamed_is_the_beginning_of_the_answer(
    pieces: list[bytes], strings: list[str], min_indent: int | None, max_lines: int, forced: bytes
) -> None:
    """Whatever the rules cut away was never streamed."""
    rules = StopRules(max_tokens=1000, max_lines=max_lines, strings=strings, min_indent=min_indent)
    parts, tokens, candidate = decoded(pieces, rules, forced)
    assert candidate.text.startswith("".join(parts))
    assert "".join(token.text for token in candidate.generated) == candidate.text
    assert tokens == candidate.generated[: len(tokens)]


def test_a_stop_string_across_tokens_is_held_back() -> None:
    parts, _, candidate = decoded([b"x = ", b"1 #", b" E", b"ND"], StopRules(1000, 1000, ["# END"]))
    assert parts == ["x = ", "1 ", "", ""]
    assert (candidate.text, candidate.finish, candidate.stopped_by) == ("x = 1 ", "stop", "# END")


def test_the_beginning_of_a_stop_string_is_streamed_once_it_turns_out_to_be_none() -> None:
    parts, _, candidate = decoded([b"a #", b" E", b"lse"], StopRules(1000, 1000, ["# END"]))
    assert parts == ["a ", "", "# Else"]
    assert candidate.stopped_by == ""


def test_half_a_character_is_not_streamed() -> None:
    parts, tokens, _ = decoded([b"\xe2\x82", b"\xac", b"!"])
    assert parts == ["", "€", "!"]
    assert [token.text for token in tokens] == ["", "€", "!"]
    assert [token.data for token in tokens] == [[0xE2, 0x82], [0xAC], [0x21]]


def test_tokens_of_half_a_character_that_ends_the_text_are_not_streamed() -> None:
    _, tokens, candidate = decoded([b"a", b"\xc3", b"\xa9"], StopRules(1000, 1000, ["é"]))
    assert [token.data for token in tokens] == [[0x61]]
    assert tokens == candidate.generated


def test_the_deadline_ends_a_text_after_its_first_line_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As llama.cpp's `t_max_predict_ms`."""
    now = 0.0
    monkeypatch.setattr(answer_module.time, "perf_counter", lambda: now)
    pieces = [b"first", b" line", b"\n", b"second"]
    answer = DecodedAnswer(b"", UNLIMITED, lambda id: pieces[id], deadline_seconds=1.0)
    assert not answer.add(0, 0.0)
    now = 5.0
    assert not answer.add(1, 0.0)
    assert answer.add(2, 0.0)
    assert answer.candidate(Completion([0, 1, 2], [0.0] * 3, False)).finish == "length"
