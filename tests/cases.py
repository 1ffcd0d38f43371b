"""Tables of test cases: source text with marks in it, and what is expected of it.

A table is a text file of cases:

    === title
    source, with │ for the cursor or «» around a selection
    --- section ARGUMENT
    text of the section

The argument is the rest of the section's line; argument and text are optional. Each test defines the sections of its
tables. → stands for a tab, ␍ for a carriage return, · for a space at the end of a line, which editors would remove. The
blank line before the next case does not belong to the last section.

A test compares its results with `Case.expect`. With UPDATE_EXPECT=1 in the environment, expectations that differ are
written into the table instead of failing; the diff is to be read before it is committed:

    UPDATE_EXPECT=1 .venv/bin/python -m pytest tests/completion/test_cases.py -k python-lines.txt:42
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from attrs import define, field, frozen

CURSOR, OPEN, CLOSE = "│", "«", "»"
STANDINS = {"→": "\t", "␍": "\r", "·": " "}

_HEAD = re.compile(r"^(?:=== |--- )", re.MULTILINE)


@frozen
class Section:
    """A section of a case: `--- name argument`, then the lines of `text`."""

    name: str
    argument: str = ""
    text: str = ""

    @classmethod
    def parse(cls, raw: str) -> Section:
        head, _, text = raw.partition("\n")
        name, _, argument = head.partition(" ")
        return cls(name, decoded(argument), decoded(text))

    def rendered(self) -> str:
        """Return the section as it is written in a table."""
        head = f"--- {self.name} {encoded(self.argument)}".rstrip(" ") + "\n"
        return head + (encoded(self.text) + "\n" if self.text else "")


@define
class Case:
    """A case of a table; `line` is the one of its title, counted from 1."""

    path: Path
    line: int
    title: str
    source: str
    sections: list[Section] = field(factory=list)

    @property
    def id(self) -> str:
        """Return the name of the test: file, line and title."""
        return f"{self.path.name}:{self.line}: {self.title}"

    def all(self, *names: str) -> list[Section]:
        """Return the sections of these names, in their order."""
        return [section for section in self.sections if section.name in names]

    def one(self, name: str) -> Section | None:
        """Return the only section of this name, or None without one."""
        found = self.all(name)
        assert len(found) <= 1, f"{self.path}:{self.line}: {name!r} stands {len(found)} times in one case"
        return found[0] if found else None

    def expect(self, name: str, actual: Iterable[Section]) -> None:
        """Compare the sections called `name` with the actual ones, or write these into the table (UPDATE_EXPECT=1)."""
        actual = list(actual)
        assert all(section.name == name for section in actual)
        expected = self.all(name)
        if expected != actual and os.environ.get("UPDATE_EXPECT"):
            self.sections = replaced(self.sections, name, actual)
            update(self)
            return
        wanted, found = rendered(expected), rendered(actual)
        assert found == wanted, f"{self.path}:{self.line}: {self.title}"
        assert actual == expected


@frozen
class Marked:
    """Source text without its marks; `start` and `end` are those of the selection, equal for a cursor."""

    text: str
    start: int
    end: int

    @classmethod
    def parse(cls, marked: str) -> Marked:
        """Raises: AssertionError when there is neither one cursor nor one selection."""
        if CURSOR in marked:
            assert marked.count(CURSOR) == 1, f"more than one cursor in {marked!r}"
            start = marked.index(CURSOR)
            return cls(marked.replace(CURSOR, ""), start, start)
        assert marked.count(OPEN) == marked.count(CLOSE) == 1, f"neither a cursor nor a selection in {marked!r}"
        start = marked.index(OPEN)
        text = marked.replace(OPEN, "")
        return cls(text.replace(CLOSE, ""), start, text.index(CLOSE))


def cases_of(path: Path, sections: Iterable[str]) -> list[Case]:
    """Return the cases of a table that may have these sections."""
    known = set(sections)
    cases = parse(path, path.read_text(encoding="utf-8"))
    for case in cases:
        for section in case.sections:
            assert section.name in known, f"{path}:{case.line}: no section is called {section.name!r}"
    return cases


def parametrized(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Return the mark that runs a test on each of these cases, under a name with file and line."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in cases])


def parse(path: Path, text: str) -> list[Case]:
    """Return the cases in a table's text."""
    cases = []
    starts = [found.start() for found in re.finditer(r"^=== ", text, re.MULTILINE)]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        block = text[start:end]
        if end < len(text):
            block = block.removesuffix("\n")  # the blank line before the next case
        head, *sections = re.split(r"^--- ", block, flags=re.MULTILINE)
        title, _, source = head.removeprefix("=== ").partition("\n")
        line = text.count("\n", 0, start) + 1
        cases.append(Case(path, line, title.strip(), decoded(source), [Section.parse(section) for section in sections]))
    return cases


def render(cases: Iterable[Case]) -> str:
    """Return a table's text."""
    blocks = []
    for case in cases:
        source = encoded(case.source) + "\n" if case.source else ""
        blocks.append(f"=== {case.title}\n{source}{rendered(case.sections)}")
    return "\n".join(blocks)


def rendered(sections: Iterable[Section]) -> str:
    """Return sections as they are written in a table."""
    return "".join(section.rendered() for section in sections)


def replaced(sections: list[Section], name: str, new: list[Section]) -> list[Section]:
    """Return the sections with those called `name` replaced, at the place of the first of them or at the end."""
    at = next((at for at, section in enumerate(sections) if section.name == name), len(sections))
    kept = [section for section in sections[at:] if section.name != name]
    return sections[:at] + new + kept


def update(case: Case) -> None:
    """Write a case's sections into its table; the case is found by its title, since lines move with each update."""
    assert "PYTEST_XDIST_WORKER" not in os.environ, "tables are updated by one process: run pytest without -n"
    cases = parse(case.path, case.path.read_text(encoding="utf-8"))
    (old,) = [one for one in cases if one.title == case.title]
    old.sections = case.sections
    case.path.write_text(render(cases), encoding="utf-8")


def decoded(text: str) -> str:
    """Return the text that a section's lines stand for, without the last line end."""
    text = text.removesuffix("\n")
    for standin, real in STANDINS.items():
        text = text.replace(standin, real)
    return text


def encoded(text: str) -> str:
    """Return the lines that stand for a text. Raises: AssertionError when one would be read as a head of a section."""
    text = text.replace("\t", "→").replace("\r", "␍")
    text = re.sub(r" +$", lambda found: "·" * len(found[0]), text, flags=re.MULTILINE)
    assert not _HEAD.search(text), f"a table can't hold a line that begins with '=== ' or '--- ': {text!r}"
    return text
