"""Other files with which a prompt begins, for models that were trained on several files in one text.

They are the most similar windows of other files (`context`). Reading them costs prefill, and a change of them makes the
whole prompt new to the KV cache: they have a budget, a fixed order, and stay while most of them are found again.
"""

from __future__ import annotations

from collections.abc import Iterable

from codegen_lsp.completion.context import WorkspaceContext
from codegen_lsp.inference.rpc.messages import RelatedFile, RelatedFiles

KEPT_SHARE = 0.5
"""Share of the files in the last prompt that must be found again, unchanged, for them to stay."""


def related_files(context: WorkspaceContext, budget: int) -> RelatedFiles | None:
    """Return the most similar windows of at most `budget` characters in all, in the order of their paths.

    A window that does not fit is cut at a line's end. None where there is nothing.
    """
    by_score = sorted(context.snippets, key=lambda one: (-one.score, one.path, one.text))
    chosen = files_within(budget, (RelatedFile(snippet.path, snippet.text) for snippet in by_score))
    chosen.sort(key=lambda file: (file.path, file.text))
    return RelatedFiles(context.repository, context.path, chosen) if chosen else None


def files_within(budget: int, files: Iterable[RelatedFile]) -> list[RelatedFile]:
    """Return the first files of at most `budget` characters in all, the last one cut at a line's end to fit."""
    chosen, room = [], budget
    for file in files:
        text = _first_lines(file.text, room)
        if text.strip():
            chosen.append(RelatedFile(file.path, text))
            room -= len(text)
    return chosen


def steady_files(found: RelatedFiles | None, last: RelatedFiles | None) -> RelatedFiles | None:
    """Return the files of the last prompt, while at least `KEPT_SHARE` of them are found again; else those found."""
    if found is None or last is None or (found.repository, found.path) != (last.repository, last.path):
        return found
    again = sum(file in found.files for file in last.files)
    return last if again >= KEPT_SHARE * len(last.files) else found


def _first_lines(text: str, room: int) -> str:
    """Return the first whole lines of a text, at most `room` characters."""
    if len(text) <= room:
        return text
    return text[: max(text.rfind("\n", 0, max(room, 0) + 1), 0)]
