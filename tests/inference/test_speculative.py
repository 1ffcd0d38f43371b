"""The length of drafts follows measured costs and acceptance rates."""

from __future__ import annotations

from codegen_lsp.inference.engines.native.speculative import LENGTHS, DraftLength


def trained(cost: float, right: bool, rounds: int = 400) -> DraftLength:
    """Return a DraftLength after steps in which each further token took `cost` single steps."""
    drafts = DraftLength()
    for _ in range(rounds):
        drafts.record_step(1, 0.01)
        for length in LENGTHS[1:]:
            drafts.record_step(1 + length, 0.01 * (1 + cost * length))
        drafts.record_guess(4, right)
        drafts.record_guess(1, False)
    return drafts


def test_no_draft_without_agreement_or_measurements() -> None:
    assert DraftLength().choose(9) == 0
    assert trained(0.0, True).choose(0) == 0


def test_long_drafts_where_tokens_are_cheap_and_guesses_right() -> None:
    assert trained(0.05, True).choose(4) >= 7


def test_no_draft_where_tokens_are_expensive_or_guesses_wrong() -> None:
    assert trained(1.2, True).choose(4) == 0
    assert trained(0.3, False).choose(4) == 0


def test_acceptance_is_counted_by_number_of_agreeing_tokens() -> None:
    drafts = trained(0.1, True)
    assert drafts.choose(4) > 0
    assert drafts.choose(1) == 0


def test_a_rejected_length_is_tried_again() -> None:
    drafts = trained(1.2, True)
    assert drafts.choose(4) == 0
    for _ in range(1000):
        drafts.record_step(1, 0.01)
    assert drafts.choose(4) > 0


def test_one_slow_step_does_not_end_drafts() -> None:
    drafts = trained(0.05, True)
    drafts.record_step(1 + LENGTHS[-1], 60.0)
    assert drafts.choose(4) > 0
