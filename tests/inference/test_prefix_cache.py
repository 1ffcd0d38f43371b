"""The record of prefixes that CTranslate2 has cached."""

from __future__ import annotations

from codegen_lsp.inference.engines.ct2.prefix_cache import LINE_TAIL, PrefixCache, cut_position


def test_the_longest_proper_prefix_covers_a_prompt() -> None:
    cache = PrefixCache(limit=1000, token_bytes=10)
    for ids in ([1], [1, 2, 3], [1, 2, 4], [1, 2, 3, 4]):
        cache.add(ids)
    assert cache.covered([1, 2, 3, 5]) == 3
    assert cache.covered([1, 2, 3, 4]) == 3  # the last token must be computed
    assert cache.covered([2, 1]) == 0


def test_the_budget_counts_all_prefixes() -> None:
    cache = PrefixCache(limit=100, token_bytes=10)
    cache.add([1] * 6)
    assert cache.bytes == 60
    assert cache.fits(4)
    assert not cache.fits(5)
    assert cache.fits_alone(10)
    assert not cache.fits_alone(11)


def test_clearing_tells_whether_there_was_anything() -> None:
    cache = PrefixCache(limit=100, token_bytes=10)
    assert not cache.clear()
    cache.add([1])
    assert cache.clear()
    assert cache.bytes == cache.covered([1, 2]) == 0


def test_a_prompt_is_cut_after_its_last_line_break() -> None:
    text = [b"a", b"\n", b" b\n  ", b"c"]
    assert cut_position([0, 1, 0, 2, 3, 3], text) == 4
    assert cut_position([0, 1], text) == 1  # at least one token is left to compute
    assert cut_position([0, 0, 3], text) == 2
    assert cut_position([1] + [0] * (LINE_TAIL + 1), text) == LINE_TAIL + 1
