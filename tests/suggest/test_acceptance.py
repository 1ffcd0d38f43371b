"""The lifecycle of a suggestion, from the changes of the text and the reports of the editor."""

from __future__ import annotations

import pytest

from codegen_lsp.completion.snapshot import Suggestion
from codegen_lsp.suggest.acceptance import AcceptanceTracker, Fate, Shown, after_change, is_rest_of, shown
from codegen_lsp.suggest.metrics import Event, Metrics


def follow(before: str, insert: str, *changes: str) -> Shown | Fate:
    """The line before the cursor, what was suggested for the whole line, and what was put in, change by change.

    `<` deletes the character before the cursor; `X|Y` puts in both, the cursor between them.
    """
    text, cursor = before, len(before)
    now: Shown | Fate = shown(Suggestion(0, cursor, insert), cursor)
    for change in changes:
        assert isinstance(now, Shown)
        put, _, behind = change.partition("|")
        if change == "<":
            text, cursor, put, behind = text[: cursor - 1] + text[cursor:], cursor - 1, "", ""
        else:
            text = text[:cursor] + put + behind + text[cursor:]
            cursor += len(put)
        now = after_change(now, text, cursor + len(behind), put + behind)
    return now


@pytest.mark.parametrize(
    ("changes", "fate"),
    [
        (["int(y)"], "accepted"),
        (["i", "nt(y)"], "accepted"),
        (["int", "(y)"], "accepted"),
        (["int", "(", "x"], "accepted in part"),
        (["int", "(", "y", ")"], "accepted in part"),
        (["i", "n", "t", "(|)", "y", ")"], "typed"),
        (["o"], "typed over"),
        (["i", "n", "x"], "typed over"),
        (["i", "<", "i", "<", "int(y)"], "accepted"),
        (["<"], None),
        (["i", "n"], None),
        (["int"], None),
    ],
)
def test_fates(changes: list[str], fate: Fate | None) -> None:
    now = follow("x = pr", "x = print(y)", *changes)
    assert now == fate if fate else isinstance(now, Shown)


def test_the_whole_line_may_be_replaced() -> None:
    before = shown(Suggestion(0, 6, "x = print(y)"), 6)
    assert after_change(before, "x = print(y)", 12, "x = print(y)") == "accepted"


def test_characters_that_accepting_brought() -> None:
    now = follow("x = pr", "x = print(y)", "int", "(")
    assert isinstance(now, Shown)
    assert now.accepted == 3


def test_a_change_elsewhere() -> None:
    before = shown(Suggestion(10, 12, "ab + c"), 12)
    assert after_change(before, "import os\nab", 9, "import os") == "typed over"


def test_the_rest_of_a_suggestion_is_the_same_suggestion() -> None:
    before = shown(Suggestion(0, 2, "ab\ncd\nef"), 2)
    assert is_rest_of(Suggestion(0, 2, "ab\ncd\nef"), before)
    assert is_rest_of(Suggestion(3, 4, "cd\nef"), before)
    assert not is_rest_of(Suggestion(0, 2, "abc"), before)


class Counted(Metrics):
    """Metrics that are kept in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def count(self, event: Event, by: int = 1) -> None:
        self.counts[event.what] = self.counts.get(event.what, 0) + by


URI = "file:///f.py"


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def tracker(counted: Counted) -> AcceptanceTracker:
    """A tracker of a document whose line is `x = pr`, with `int(y)` suggested."""
    tracker = AcceptanceTracker(counted)
    (number,) = tracker.give(URI, 1)
    tracker.track(URI, "python", "m", Suggestion(0, 6, "x = print(y)"), 6, number)
    return tracker


def test_a_report_of_the_editor_ends_a_suggestion_that_no_change_has_ended(
    tracker: AcceptanceTracker, counted: Counted
) -> None:
    assert tracker.report_accepted(1)
    assert counted.counts == {"shown": 1, "accepted": 1, "accepted characters": 6}
    assert (tracker.shown, tracker.accepted) == (1, 1)


def test_a_report_after_the_change_counts_once(tracker: AcceptanceTracker, counted: Counted) -> None:
    tracker.changed(URI, "x = print(y)", 12, "int(y)")
    assert tracker.report_accepted(1)
    assert counted.counts == {"shown": 1, "accepted": 1, "accepted characters": 6}
    assert tracker.accepted == 1


def test_a_change_after_the_report_counts_once(tracker: AcceptanceTracker, counted: Counted) -> None:
    tracker.report_accepted(1)
    tracker.changed(URI, "x = print(y)", 12, "int(y)")
    assert counted.counts["accepted"] == 1


def test_a_suggestion_is_reported_once_and_only_if_it_was_given(tracker: AcceptanceTracker) -> None:
    assert tracker.report_accepted(1)
    assert not tracker.report_accepted(1)
    assert not tracker.report_accepted(7)
    assert tracker.accepted == 1


def test_the_rest_of_a_suggestion_is_reported_under_its_own_number(
    tracker: AcceptanceTracker, counted: Counted
) -> None:
    tracker.changed(URI, "x = pri", 7, "i")
    (number,) = tracker.give(URI, 1)
    tracker.track(URI, "python", "m", Suggestion(0, 7, "x = print(y)"), 7, number)
    assert tracker.report_accepted(number)
    assert counted.counts == {"shown": 1, "accepted": 1, "accepted characters": 5}


def test_reports_of_suggestions_long_gone_are_not_counted(tracker: AcceptanceTracker) -> None:
    tracker.give(URI, 2_000)
    assert not tracker.report_accepted(1)
    assert tracker.report_accepted(2_001)


def test_only_known_languages_are_counted_by_name() -> None:
    """A document may have any text as its language."""
    counted: list[Event] = []

    class Counts(Metrics):
        def count(self, event: Event, by: int = 1) -> None:
            counted.append(event)

    tracker = AcceptanceTracker(Counts())
    for language in ("python", "secret words of a document", ""):
        tracker.answered(language, "m", "model", 0.1)
    assert {event.language for event in counted} == {"python", "other"}
