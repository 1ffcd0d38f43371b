"""Which other files a prompt begins with."""

from __future__ import annotations

import pytest

from codegen_lsp.completion.context import Snippet, WorkspaceContext
from codegen_lsp.completion.related_files import files_within, related_files, steady_files
from codegen_lsp.inference.rpc.messages import RelatedFile, RelatedFiles

A, B, C = (RelatedFile(f"{name}.py", f"{name} = 1\n") for name in "abc")


def of(*files: RelatedFile, path: str = "main.py") -> RelatedFiles:
    return RelatedFiles("project", path, list(files))


def test_the_most_similar_windows_come_in_the_order_of_their_paths() -> None:
    snippets = (Snippet("b.py", "second\n", 0.5), Snippet("a.py", "third\n", 0.2), Snippet("c.py", "first\n", 0.9))
    context = WorkspaceContext(snippets, {}, "project", "main.py")
    found = related_files(context, 13)
    assert found == of(RelatedFile("b.py", "second\n"), RelatedFile("c.py", "first\n"))
    assert related_files(context, 0) is None
    assert related_files(WorkspaceContext(), 100) is None


@pytest.mark.parametrize(
    ("text", "budget", "kept"),
    [
        ("one\ntwo\n", 8, "one\ntwo\n"),
        ("one\ntwo", 7, "one\ntwo"),
        ("one\ntwo\n", 7, "one\ntwo"),
        ("one\ntwo\n", 6, "one"),
        ("one\ntwo\n", 3, "one"),
        ("one\ntwo\n", 2, ""),
        ("\n \none\n", 3, ""),
    ],
)
def test_a_file_is_cut_at_the_end_of_a_line(text: str, budget: int, kept: str) -> None:
    found = files_within(budget, [RelatedFile("a.py", text)])
    assert [file.text for file in found] == ([kept] if kept else [])
    assert sum(len(file.text) for file in found) <= budget


@pytest.mark.parametrize(
    ("last", "found", "kept"),
    [
        (None, of(A), of(A)),
        (of(A, B), of(B, C), of(A, B)),
        (of(A, B), of(C), of(C)),
        (of(A), of(RelatedFile("a.py", "a = 2\n")), of(RelatedFile("a.py", "a = 2\n"))),
        (of(A), of(A, path="other.py"), of(A, path="other.py")),
        (of(A), None, None),
    ],
)
def test_files_stay_while_half_of_them_are_found_again(
    last: RelatedFiles | None, found: RelatedFiles | None, kept: RelatedFiles | None
) -> None:
    assert steady_files(found, last) == kept
