"""Cache of suggestions that are being typed through, which answers without the model.

Editors ask again at every key, also while the suggestion on the screen still fits. The key of a suggestion is its
position: the text before the cursor, and the lines after it. A lookup goes back over the characters typed since: if an
entry was made n characters ago and begins with the last n characters, the rest of it is the answer. That covers typing,
accepting by word or line, and deleting typed characters again; any other edit changes the key and misses. (The scheme
and its constants are those of llama.vim.)

The rest of the line is part of the key only if it is more than closing brackets, which come and go while an editor
closes brackets by itself; so are lines below that only close brackets. The rest of a suggestion is therefore shaped
again for the text after the cursor.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import frozen

from codegen_lsp.completion.options import Options
from codegen_lsp.completion.refusals import never_here
from codegen_lsp.completion.shaping.pipeline import shape_remainder, suggestion_of
from codegen_lsp.completion.snapshot import Cursor, Refusal, Snapshot, Suggestion, Trigger
from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.source.blocks import only_closers
from codegen_lsp.source.brackets import is_rest_of_closers, open_at_end
from codegen_lsp.source.lines import slice_between, with_lf

CAPACITY = 250
LOOK_BACK = 128
"""Characters that may have been typed since a suggestion was made."""
BEFORE = 2_000
"""Characters before the position of a suggestion that must be equal."""
AFTER = 400
"""Characters after the position of a suggestion that must be equal."""


@frozen
class _Entry:
    texts: tuple[tuple[str, float], ...]
    """Texts after the cursor, each with its log-probability."""
    wanted: int
    """Number of suggestions that were requested."""


_Key = tuple[str, str, str]


class SuggestionCache:
    """The last suggestions by position (LRU)."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()

    def keep(self, snapshot: Snapshot, suggestions: list[Suggestion], options: Options) -> None:
        """Store the suggestions for a snapshot."""
        cursor = snapshot.cursor
        key = (snapshot.uri, _before(snapshot, cursor)[-BEFORE:], _after(snapshot, cursor))
        texts = tuple((shown.insert[len(cursor.kept) :], shown.log_probability) for shown in suggestions)
        self._store(key, _Entry(texts, _wanted(snapshot, options)))

    def find(self, snapshot: Snapshot, options: Options) -> list[Suggestion]:
        """Return the rest of suggestions whose beginning was typed since they were made; an empty list on a miss."""
        cursor = snapshot.cursor
        if never_here(snapshot, options):
            return []
        before, after = _before(snapshot, cursor), _after(snapshot, cursor)
        wanted = _wanted(snapshot, options)
        for back in range(min(LOOK_BACK, len(before)) + 1):
            place = before[: len(before) - back]
            key = (snapshot.uri, place[-BEFORE:], after)
            entry = self._entries.get(key)
            if entry is None or entry.wanted < wanted:
                continue
            typed = before[len(place) :]
            remainders = [(text[back:], score) for text, score in entry.texts if text.startswith(typed)]
            suggestions = _fitted(remainders, before, cursor)[:wanted]
            if suggestions:
                self._entries.move_to_end(key)
                if back > LOOK_BACK // 2:
                    self._store((snapshot.uri, before[-BEFORE:], after), _Entry(tuple(remainders), entry.wanted))
                return suggestions
        return []

    def clear(self) -> None:
        """Remove all entries, because the model or the settings were changed."""
        self._entries.clear()

    def _store(self, key: _Key, entry: _Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)


def typed_since(older: Snapshot, newer: Snapshot) -> str | None:
    """Return the text typed between two snapshots of one document; None if there was any other change."""
    if older.uri != newer.uri:
        return None
    cursor, later = older.cursor, newer.cursor
    if _after(older, cursor) != _after(newer, later):
        return None
    before, now = _before(older, cursor), _before(newer, later)
    count = later.start + len(later.kept) - cursor.start - len(cursor.kept)
    if not 0 <= count <= min(LOOK_BACK, len(now)):
        return None
    typed = now[len(now) - count :]
    return typed if now[: len(now) - count][-BEFORE:] == before[-BEFORE:] else None


def _wanted(snapshot: Snapshot, options: Options) -> int:
    return options.candidates if snapshot.trigger is Trigger.INVOKED else 1


def _before(snapshot: Snapshot, cursor: Cursor) -> str:
    reach = BEFORE + LOOK_BACK
    return with_lf(slice_between(snapshot.text, max(0, cursor.start - 2 * reach), cursor.start)) + cursor.kept


def _after(snapshot: Snapshot, cursor: Cursor) -> str:
    line_end = cursor.end + len(cursor.after)
    following = with_lf(snapshot.text[line_end : line_end + 3 * AFTER]).split("\n")
    while following and (not following[0].strip() or only_closers(following[0])):
        following.pop(0)
    rest = "" if is_rest_of_closers(cursor.after) else cursor.after
    return rest + "\n" + "\n".join(following)[:AFTER]


def _fitted(remainders: list[tuple[str, float]], before: str, cursor: Cursor) -> list[Suggestion]:
    opened = open_at_end(before, cursor.language)
    stop = StopRules()
    drafts = [(shape_remainder(text, cursor, opened, stop), score) for text, score in remainders if text]
    return [suggestion_of(draft, score) for draft, score in drafts if not isinstance(draft, Refusal)]
