"""Places in code."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import attrs
import pytest

from codegen_lsp.evaluation.documents import EvaluationError, SourceDocument, held_out, in_turn
from codegen_lsp.evaluation.places import KINDS, code_lines, draw


def test_lines_of_code_are_those_a_model_could_know(document: SourceDocument) -> None:
    lines = [document.text[start:end].strip() for start, end in code_lines(document)]
    assert lines == [
        "found = []",
        "for name in sorted(os.listdir(path)):",
        "if os.path.isdir(os.path.join(path, name)):",
        "return found",
        "def main():",
        "for folder in folders(sys.argv[1]):",
        "print(folder)",
        "print(",
        "message,",
        'if __name__ == "__main__":',
        "main()",
    ]


def test_what_python_can_not_read_has_no_places(document: SourceDocument) -> None:
    assert code_lines(attrs.evolve(document, text=document.text + "\nx = (\n")) == []


def test_other_languages_have_every_line_with_a_word() -> None:
    document = SourceDocument("p", "a.c", "c", "int a;\nint b;\nint c;\n\nint main() {\n  return 0;\n}\n")
    assert [document.text[start:end] for start, end in code_lines(document)] == ["int main() {", "  return 0;"]


def test_places_are_where_their_kind_says(document: SourceDocument) -> None:
    for place in draw([document], 40, seed=3):
        line = place.before.rpartition("\n")[2]
        assert place.rest
        assert re.search(r"\w", place.rest)
        assert document.text == place.before + document.text[place.offset : place.line_end] + place.below
        assert document.text.split("\n")[place.line_number - 1].startswith(line)
        inside = (line[-1:].isalnum() or line[-1:] == "_") and (place.rest[0].isalnum() or place.rest[0] == "_")
        if place.kind == "line start":
            assert not line.strip()
            assert not place.rest[0].isspace()
        else:
            assert line.strip()
            assert inside == (place.kind == "mid-word")


def test_words_are_worth_completing(document: SourceDocument) -> None:
    words = set()
    for place in draw([document], 60, seed=1):
        if place.kind == "mid-word":
            typed = re.search(r"\w+$", place.before)
            rest = re.match(r"\w+", place.rest)
            assert typed
            assert rest
            words.add(typed.group() + rest.group())
    assert {"sorted", "return", "found", "isdir", "__name__", "argv"} <= words
    assert min(map(len, words)) >= 3


def test_the_same_seed_draws_the_same_places(document: SourceDocument) -> None:
    documents = [attrs.evolve(document, path=str(n), package=str(n % 3)) for n in range(7)]
    shuffled = random.Random(0).sample(documents, 7)
    assert draw(documents, 9, seed=5) == draw(documents, 9, seed=5)
    assert draw(documents, 9, seed=5) != draw(documents, 9, seed=6)
    assert {p.document.package for p in draw(shuffled, 9, seed=5)} == {"0", "1", "2"}


def test_kinds_alternate_and_none_repeats(document: SourceDocument) -> None:
    places = draw([document], 8, seed=0)
    assert [place.kind for place in places] == list(KINDS) * 8
    assert len({(place.kind, place.offset) for place in places}) == len(places)


def test_there_are_no_more_places_than_there_are(document: SourceDocument) -> None:
    places = draw([document], 1000, seed=0)
    starts = [place for place in places if place.kind == "line start"]
    assert len(starts) == len(code_lines(document))


def test_files_without_code_are_refused() -> None:
    with pytest.raises(EvaluationError, match="no code"):
        draw([SourceDocument("p", "p.py", "python", "# nothing\n")], 5, seed=0)


def test_packages_take_turns() -> None:
    large = [SourceDocument("large", str(n), "python", "") for n in range(50)]
    small = [SourceDocument("small", str(n), "python", "") for n in range(3)]
    order = [document.package for document in in_turn([*large, *small], random.Random(0))]
    assert order[:6].count("small") == 3
    assert len(order) == 53


def test_held_out_packages_of_a_corpus(tmp_path: Path) -> None:
    row = {"package": "p", "path": "p/a.py", "text": "x = 1\n"}
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "validation.jsonl").write_text(json.dumps(row) + "\n")
    assert held_out(tmp_path) == held_out(tmp_path / "corpus") == [SourceDocument("p", "p/a.py", "python", "x = 1\n")]


@pytest.mark.parametrize("content", ["{", "[]\n", '{"package": 1}\n'])
def test_a_damaged_corpus_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "validation.jsonl").write_text(content)
    with pytest.raises(EvaluationError, match=r"validation\.jsonl can't be read"):
        held_out(tmp_path)


def test_a_folder_that_is_no_corpus_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="--until corpus"):
        held_out(tmp_path)
