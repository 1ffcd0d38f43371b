"""Snippets of other files that resemble the text at the cursor: windows that share most words with it.

Snippets go beside the prompt: their n-grams are mixed into the model's probabilities, as the document's own are. That
helps a small model more than reading them would, and costs it no time; `docs/lab.md` compares the two, and other
variants. Models that were trained on several files in one text may get some in their prompt, too (`related_files`).
Windows that repeat the text around the cursor are left out, since the model has that text already. The order of
snippets depends on their paths alone, so that cached results stay valid.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping

from attrs import field, frozen

from codegen_lsp.completion.undefined_names import Modules

WINDOW_LINES = 60
"""Lines of a window of another file, as in Copilot."""
WINDOW_STEP = 20
MOST_WINDOWS = 4
"""Most windows taken, one of each file."""
LEAST_SIMILARITY = 0.1
"""Jaccard similarity of the sets of words below which a window is unrelated to the text at the cursor."""
ECHO = 0.5
"""Share of a snippet's lines that are near the cursor, too, above which the snippet is left out (llama.vim)."""
NEAREST = 40
"""Files, nearest to the document, that are compared with the text at the cursor."""
CURSOR_CHARACTERS = 3_000
"""Characters before the cursor that are compared with other files; after it, half as many."""

_WORD = re.compile(r"[^\W\d]\w{2,}")


@frozen
class Snippet:
    """A window of another file."""

    path: str
    """Relative to the workspace's root, with slashes."""
    text: str
    score: float = 1.0


@frozen
class WorkspaceContext:
    """The contribution of the workspace's other files to a completion."""

    snippets: tuple[Snippet, ...] = ()
    """Text that the answer may repeat, in a stable order."""
    modules: Modules = field(factory=dict)
    """Names of the modules that the document imports."""
    repository: str = ""
    """Name of the workspace's folder."""
    path: str = ""
    """The document, as in `Snippet`."""


def similar_snippets(
    text: str, offset: int, path: str, listed: Iterable[str], read: Callable[[str], str]
) -> list[Snippet]:
    """Return the windows of other files of the workspace that resemble the text at the cursor.

    `listed` are the paths of the files that may be read; `read` returns the text of one, or an empty string.
    """
    around = text[max(0, offset - CURSOR_CHARACTERS) : offset + CURSOR_CHARACTERS // 2]
    compared = {other: there for other in nearest_first(path, listed)[:NEAREST] if (there := read(other))}
    return without_echoes(similar_windows(around, compared), around)


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text, for comparison: identifiers and keywords of three letters or more."""
    return frozenset(_WORD.findall(text))


def similar_windows(around: str, files: Mapping[str, str], most: int = MOST_WINDOWS) -> list[Snippet]:
    """Return the windows of other files that share most words with the text around the cursor, one of each file."""
    here = words_of(around)
    best = [found for path, text in files.items() if (found := _best_window(here, path, text)) is not None]
    best.sort(key=lambda snippet: (-snippet.score, snippet.path))
    return best[:most]


def _best_window(here: frozenset[str], path: str, text: str) -> Snippet | None:
    lines = text.split("\n")
    words = [words_of(line) for line in lines]
    best: tuple[float, int] = (0.0, 0)
    for start in range(0, max(1, len(lines) - WINDOW_LINES + WINDOW_STEP), WINDOW_STEP):
        there = frozenset().union(*words[start : start + WINDOW_LINES])
        union = len(here | there)
        score = len(here & there) / union if union else 0.0
        best = max(best, (score, -start))
    score, start = best[0], -best[1]
    if score < LEAST_SIMILARITY:
        return None
    return Snippet(path, "\n".join(lines[start : start + WINDOW_LINES]), score)


def without_echoes(snippets: Iterable[Snippet], around: str) -> list[Snippet]:
    """Return the snippets with new text, in the order of their paths."""
    here = {line.strip() for line in around.split("\n")} - {""}
    kept = []
    for snippet in snippets:
        lines = [line.strip() for line in snippet.text.split("\n") if line.strip()]
        if lines and sum(line in here for line in lines) / len(lines) <= ECHO:
            kept.append(snippet)
    return sorted(kept, key=lambda snippet: (snippet.path, snippet.text))


def nearest_first(path: str, others: Iterable[str]) -> list[str]:
    """Return the other paths with the same extension, nearest in the tree of folders first."""
    folder, extension = posixpath.dirname(path), posixpath.splitext(path)[1]

    def distance(other: str) -> tuple[int, str]:
        common = posixpath.commonpath([folder, posixpath.dirname(other)]) if folder and "/" in other else ""
        up = len(folder.split("/")) - len(common.split("/")) if common else folder.count("/") + 1
        return up + other[len(common) :].count("/"), other

    return sorted((other for other in others if other != path and other.endswith(extension)), key=distance)
