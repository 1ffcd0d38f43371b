"""The scan of brackets, strings and comments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.source.brackets import code_of, is_rest_of_closers, open_at_end, scan, split_closers
from codegen_lsp.source.languages import LANGUAGES


@pytest.mark.parametrize(
    ("language", "text", "opened"),
    [
        ("python", "print(", "("),
        ("python", "x = [1, (2, 3), {4: ", "[{"),
        ("python", 'print("(', '("('),
        ("python", 'print("(")', ""),
        ("python", "'don\\'t (', (", "("),
        ("python", "x = 'unfinished\ny = (", "("),
        ("python", '"""Don\'t (\nstop""" + (', "("),
        ("python", "x = 1  # (don't\n[", "["),
        ("python", "x = 1  # see (", "#("),
        ("c", "/* ( */ {", "{"),
        ("c", "if (c == '{') {", "{"),
        ("c", "// (\n/* [ ", "/*["),
        ("javascript", "`a\n(`; f(", "("),
        ("javascript", "f(() => {", "({"),
        ("go", "`\\d+`, (", "("),
        ("java", "f(a))) (", "("),
    ],
)
def test_what_is_open(language: str, text: str, opened: str) -> None:
    assert "".join(open_at_end(text, LANGUAGES[language])) == opened


def test_closers_of_nothing() -> None:
    python = LANGUAGES["python"]
    assert scan("x)", python).unmatched == (1,)
    assert scan("x)", python, ("(",)).unmatched == ()
    assert scan("x)", python, ("[",)).unmatched == (1,)
    assert scan('")"', python).unmatched == ()
    assert scan("# :)", python).unmatched == ()


@pytest.mark.parametrize(
    ("language", "line", "code"),
    [
        ("python", "if x:  # now", "if x:"),
        ("python", "x = '#'", "x = '#'"),
        ("c", "int x; // (", "int x;"),
        ("c", "f(/* nothing */) {", "f() {"),
        ("javascript", 'a("http://b");', 'a("http://b");'),
    ],
)
def test_code_without_comments(language: str, line: str, code: str) -> None:
    assert code_of(line, LANGUAGES[language]) == code


def test_rests_of_closers() -> None:
    for rest in ("", ")", '")', "))", ") {", "):", ");", "),", " ", "`)", "}", '"""'):
        assert is_rest_of_closers(rest), rest
    for rest in ("x", "(", ") x", ") + 1", ":;", "= 1", ".", ">"):
        assert not is_rest_of_closers(rest), rest


def test_closers_one_by_one() -> None:
    assert split_closers('") ]:', LANGUAGES["python"]) == [('"', 1), (")", 2), ("]", 4)]
    assert split_closers('""")', LANGUAGES["python"]) == [('"""', 3), (")", 4)]


@given(st.text(alphabet="ab(){}[]\"'`#/*\\\n ", max_size=60), st.integers(0, 60), st.sampled_from(sorted(LANGUAGES)))
def test_a_scan_in_two_parts_ends_where_one_scan_does(text: str, cut: int, identifier: str) -> None:
    """Unless the cut goes through a delimiter of several characters or an escape."""
    language = LANGUAGES[identifier]
    if any(text[max(0, at) : at + 1] in "\"'/*\\-" for at in range(cut - 2, cut + 2) if 0 <= at < len(text)):
        return
    head = scan(text[:cut], language)
    assert scan(text[cut:], language, head.open).open == scan(text, language).open
