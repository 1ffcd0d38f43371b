"""Where a suggestion comes from: the longest match in the document and the workspace, as file and line."""

from __future__ import annotations

import pytest

from codegen_lsp.inference.engines.native.ngram_index import FileVersion, NgramIndex, WorkspaceCounts
from codegen_lsp.inference.engines.native.ngram_segment import ORDERS, library
from codegen_lsp.inference.origins import find_origin
from codegen_lsp.inference.rpc.messages import OriginParams
from codegen_lsp.inference.tokenizer import Tokenizer

pytestmark = pytest.mark.skipif(library() is None, reason="ngram_index.c was not compiled here")

LIBRARY = """\
class QuokkaRegistry:
    def enlist_marsupial(self, burrow, *, eager=False):
        self._burrows.append(burrow)
        return self._census(eager)

    def évict(self, burrow):
        for inhabitant in self._inhabitants_of(burrow):
            inhabitant.relocate(self._nearest(burrow), reason="évicted")
"""
FILES = {
    "lib/quokka.py": LIBRARY,
    "lib/other.py": "import os\n\n\ndef census(eager):\n    return os.environ.get(eager)\n",
}


@pytest.fixture
def workspace(tokenizer: Tokenizer) -> WorkspaceCounts:
    index = NgramIndex([1.0] * len(ORDERS))
    index.add((FileVersion(path, 0, 0), tokenizer.encode(text)) for path, text in FILES.items())
    return WorkspaceCounts(index, frozenset())


def origin(tokenizer: Tokenizer, workspace: WorkspaceCounts | None, *texts: str) -> tuple[str, int] | None:
    found = find_origin(OriginParams(*texts), tokenizer, workspace).origin
    return (found.path, found.line) if found else None


@pytest.mark.parametrize(
    ("before", "text", "line"),
    [
        ("def f(self, burrow):\n    self._bur", "rows.append(burrow)", 3),
        ("def f(self, burrow):\n    ", "x = 1\n        self._burrows.append(burrow)\n        return", 3),
        ("x = 1\n        self._burrows.append(burrow)\n        return self", "._census(eager)", 4),
        ("    def évict(self, burrow):", "\n        for inhabitant in self._inhabitants_of(burrow):", 7),
        (LIBRARY[: LIBRARY.index("relocate")], 'relocate(self._nearest(burrow), reason="évicted")', 8),
    ],
)
def test_the_line_of_a_file_is_named(
    tokenizer: Tokenizer, workspace: WorkspaceCounts, before: str, text: str, line: int
) -> None:
    assert origin(tokenizer, workspace, before, text) == ("lib/quokka.py", line)


def test_files_left_out_are_not_named(tokenizer: Tokenizer, workspace: WorkspaceCounts) -> None:
    left_out = WorkspaceCounts(workspace.index, frozenset({"lib/quokka.py"}))
    assert origin(tokenizer, left_out, "    self._bur", "rows.append(burrow)") is None
    assert origin(tokenizer, None, "    self._bur", "rows.append(burrow)") is None


def test_the_document_itself_is_named_above_and_below(tokenizer: Tokenizer, workspace: WorkspaceCounts) -> None:
    call = "registry.reconsider(wombats, patience=7)"
    above = f"import registry\n\n\ndef f():\n    {call}\n\n\ndef g():\n    "
    below = f"\n\n\ndef h():\n\n    {call}\n"
    assert origin(tokenizer, workspace, above, call) == ("", 5)
    cursor = above.replace(call, "pass")
    assert origin(tokenizer, workspace, cursor, call, below) == ("", 9 + 5)
    assert origin(tokenizer, workspace, cursor, call) is None  # the suggestion does not match itself


def test_the_longer_match_wins_and_the_document_at_equal_length(
    tokenizer: Tokenizer, workspace: WorkspaceCounts
) -> None:
    text = "self._burrows.append(burrow)\n        return self._census(eager)\n"
    before = "x = 1\n        "
    assert origin(tokenizer, workspace, before, text) == ("lib/quokka.py", 3)
    assert origin(tokenizer, workspace, f"y = 1\n        {text}\n{before}", text) == ("", 2)


def test_a_short_match_tells_nothing(tokenizer: Tokenizer, workspace: WorkspaceCounts) -> None:
    assert origin(tokenizer, workspace, "zebra", "(self") is None
    assert origin(tokenizer, workspace, "", "") is None


def test_a_match_longer_than_the_index_is_deep_is_counted_whole(
    tokenizer: Tokenizer, workspace: WorkspaceCounts
) -> None:
    found = find_origin(OriginParams("\n", LIBRARY[:200]), tokenizer, workspace).origin
    assert found is not None
    assert found.line == 1
    assert found.tokens > 2 * ORDERS[-1]
