"""The format of tables of cases, and the mode that updates expectations."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases import Case, Marked, Section, cases_of, parse, render

TABLES = sorted(Path(__file__).parent.rglob("cases/*.txt"))
TABLE = """\
=== the first one
def f():
→return │

    x··
--- model 2
a

b
--- shows
a

=== the second one
--- asked
--- file a b.txt
x␍
--- refused rule
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("UPDATE_EXPECT", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    path = tmp_path / "table.txt"
    path.write_text(TABLE, encoding="utf-8")
    return path


def read(table: Path) -> list[Case]:
    return cases_of(table, ("model", "shows", "asked", "file", "refused"))


def test_a_table_is_read(table: Path) -> None:
    first, second = read(table)
    assert (first.id, second.id) == ("table.txt:1: the first one", "table.txt:13: the second one")
    assert first.source == "def f():\n\treturn │\n\n    x  "
    assert first.sections == [Section("model", "2", "a\n\nb"), Section("shows", text="a")]
    assert second.source == ""
    assert second.sections == [Section("asked"), Section("file", "a b.txt", "x\r"), Section("refused", "rule")]


def test_an_unknown_section_is_an_error(table: Path) -> None:
    with pytest.raises(AssertionError, match="no section is called 'refused'"):
        cases_of(table, ("model", "shows", "asked", "file"))


def test_a_difference_fails_and_names_the_line(table: Path) -> None:
    first, _ = read(table)
    first.expect("shows", [Section("shows", text="a")])
    with pytest.raises(AssertionError, match=r"table.txt:1: the first one"):
        first.expect("shows", [Section("shows", text="b")])
    assert table.read_text(encoding="utf-8") == TABLE


def test_expectations_are_updated(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPDATE_EXPECT", "1")
    first, second = read(table)
    first.expect("shows", [Section("shows", text="a"), Section("shows", text="\tb\n\n  c")])
    second.expect("refused", [])
    second.expect("shows", [Section("shows", text="d")])
    expected = TABLE.replace("--- shows\na\n", "--- shows\na\n--- shows\n→b\n\n  c\n")
    expected = expected.replace("--- refused rule\n", "--- shows\nd\n")
    assert table.read_text(encoding="utf-8") == expected


def test_text_that_a_table_can_not_hold_is_not_written(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPDATE_EXPECT", "1")
    with pytest.raises(AssertionError, match="can't hold"):
        read(table)[0].expect("shows", [Section("shows", text="--- a\n")])
    assert table.read_text(encoding="utf-8") == TABLE


def test_marks_in_source() -> None:
    assert Marked.parse("a│b") == Marked("ab", 1, 1)
    assert Marked.parse("a«bc»d") == Marked("abcd", 1, 3)
    for wrong in ("ab", "a│b│", "a«b", "«a»«b»"):
        with pytest.raises(AssertionError):
            Marked.parse(wrong)


@pytest.mark.parametrize("path", TABLES, ids=[str(path.relative_to(Path(__file__).parent)) for path in TABLES])
def test_every_table_is_written_as_an_update_would_write_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    cases = parse(path, text)
    assert render(cases) == text
    assert len({case.title for case in cases}) == len(cases)
