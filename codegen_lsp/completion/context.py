"""Which text of other files may help at the cursor: windows of files near by that share most words with what is there.

What is found goes beside the prompt, not into it: its n-grams are mixed into the model's probabilities, as the
document's own are. That helps a small model more than reading it would, and costs it no time; `docs/lab.md` compares
the two, and what else was tried. Windows that repeat what stands around the cursor are left out, since the model has
that already, and their order depends on their paths alone, so that what was cached of them stays of use.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping

from attrs import field, frozen

from codegen_lsp.completion.undefined_names import Modules

WINDOW_LINES = 60
"""Lines of a window of another file that is compared with the cursor's surroundings, as Copilot does."""
WINDOW_STEP = 20
MOST_WINDOWS = 4
"""Windows taken at most, one of each file."""
LEAST_SIMILARITY = 0.1
"""Jaccard similarity of the sets of words below which a window has nothing to do with the cursor's surroundings."""
ECHO = 0.5
"""Share of a snippet's lines that stand around the cursor, from which on it is left out (llama.vim)."""
NEAREST = 40
"""Files, nearest to the document, whose text is compared with the cursor's surroundings."""
AROUND = 3_000
"""Characters before and half as many after the cursor that are compared with other files."""

_WORD = re.compile(r"[^\W\d]\w{2,}")


@frozen
class Snippet:
    """Text of another file."""

    path: str
    """From the workspace's root on, with slashes."""
    text: str
    score: float = 1.0


@frozen
class WorkspaceContext:
    """What other files of the workspace say for a document."""

    snippets: tuple[Snippet, ...] = ()
    """What the answer may repeat something of, in a stable order."""
    modules: Modules = field(factory=dict)
    """The names of the modules that the document imports."""


def related(text: str, offset: int, path: str, listed: Iterable[str], read: Callable[[str], str]) -> list[Snippet]:
    """The windows of other files of the workspace that look like the surroundings of a cursor.

    `listed` are the paths of the files that may be looked at, `read` gives the text of one, or nothing.
    """
    around = text[max(0, offset - AROUND) : offset + AROUND // 2]
    compared = {other: there for other in near(path, listed)[:NEAREST] if (there := read(other))}
    return without_echoes(similar_windows(around, compared), around)


def words_of(text: str) -> frozenset[str]:
    """The words of a text, for comparison: identifiers and keywords of three letters or more."""
    return frozenset(_WORD.findall(text))


def similar_windows(around: str, files: Mapping[str, str], most: int = MOST_WINDOWS) -> list[Snippet]:
    """The windows of other files that share most words with the text around the cursor, one of each file."""
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
    """The snippets that say something new, in the order of their paths."""
    here = {line.strip() for line in around.split("\n")} - {""}
    kept = []
    for snippet in snippets:
        lines = [line.strip() for line in snippet.text.split("\n") if line.strip()]
        if lines and sum(line in here for line in lines) / len(lines) <= ECHO:
            kept.append(snippet)
    return sorted(kept, key=lambda snippet: (snippet.path, snippet.text))


def near(path: str, others: Iterable[str]) -> list[str]:
    """The other paths with the same extension, nearest in the tree of folders first."""
    folder, extension = posixpath.dirname(path), posixpath.splitext(path)[1]

    def distance(other: str) -> tuple[int, str]:
        common = posixpath.commonpath([folder, posixpath.dirname(other)]) if folder and "/" in other else ""
        up = len(folder.split("/")) - len(common.split("/")) if common else folder.count("/") + 1
        return up + other[len(common) :].count("/"), other

    return sorted((other for other in others if other != path and other.endswith(extension)), key=distance)
