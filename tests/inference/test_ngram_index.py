"""The workspace's n-gram index: exact counts, a normalised mixture, updates, files that are left out."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.inference.engines.native import ngram_index as module
from codegen_lsp.inference.engines.native.ngram_index import FileVersion, NgramIndex
from codegen_lsp.inference.engines.native.ngram_segment import DEPTH, ORDERS, library
from codegen_lsp.inference.engines.native.ngrams import SINGLE_SUCCESSOR

pytestmark = pytest.mark.skipif(library() is None, reason="ngram_index.c was not compiled here")

CAUTION = (144.0, 21.6, 10.6, 4.3, 3.7, 2.6, 2.1)

texts = st.lists(st.integers(0, 3), max_size=40)
folders = st.dictionaries(st.sampled_from(["a.py", "b.py", "c.py", "d.py"]), texts, max_size=4)


def version(path: str, modified: int = 0) -> FileVersion:
    return FileVersion(path, modified, 0)


def index_of(files: Mapping[str, Sequence[int]], caution: Sequence[float] = CAUTION) -> NgramIndex:
    index = NgramIndex(caution)
    index.add((version(path), ids) for path, ids in files.items())
    return index


def expected(files: Mapping[str, Sequence[int]], context: Sequence[int]) -> tuple[dict[int, float], float]:
    """The mixture by its definition: each order's share of probability, token by token, and the model's share."""
    left, gains = 1.0, Counter[int]()
    for order, k in reversed(list(zip(ORDERS, CAUTION, strict=True))):
        if len(context) < order:
            continue
        tail = list(context[-order:])
        counts = Counter(
            text[at] for text in files.values() for at in range(order, len(text)) if list(text[at - order : at]) == tail
        )
        if total := counts.total():
            weight = total / (total + k * (len(counts) if len(counts) > 1 else SINGLE_SUCCESSOR))
            for token, count in counts.items():
                gains[token] += left * weight * count / total
            left *= 1 - weight
    return dict(gains), left


def assert_exact(index: NgramIndex, files: Mapping[str, Sequence[int]], context: Sequence[int], **options) -> None:  # type: ignore[no-untyped-def]
    gains, left = expected(files, context)
    mixture = index.mixture(context, **options)
    if not gains:
        assert mixture is None
        return
    assert mixture is not None
    found = dict(zip(mixture.ids.tolist(), (mixture.gains * left).tolist(), strict=True))
    assert found == pytest.approx(gains)
    assert sum(found.values()) + left == pytest.approx(1.0)  # the mixed distribution adds up to 1


@pytest.fixture(autouse=True)
def all_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEGLIGIBLE", 0.0)


@given(folders, st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_counts_are_exact_and_the_mixture_is_normalised(files: dict[str, list[int]], context: list[int]) -> None:
    assert_exact(index_of(files), files, context)


@given(folders, st.data())
def test_changes_leave_what_a_new_index_would_hold(files: dict[str, list[int]], data: st.DataObject) -> None:
    index = index_of(files)
    for step in range(data.draw(st.integers(1, 6))):
        path = data.draw(st.sampled_from(["a.py", "b.py", "c.py", "d.py"]))
        action = data.draw(st.sampled_from(["write", "write", "remove", "compact", "tidy", "tidy, small ones only"]))
        if action == "write":
            files[path] = data.draw(texts)
            index.add([(version(path, step), files[path])])
        elif action == "remove":
            files.pop(path, None)
            index.remove([path])
        elif action == "compact":
            index.compact()
        else:
            with pytest.MonkeyPatch.context() as patch:
                if action != "tidy":
                    patch.setattr(module, "SMALL_SHARE", 1e9)
                index.tidy()
                assert len(index._state.segments) <= 2
                assert len(index._state.stale) <= 1
    context = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=20))
    assert index.files.keys() == files.keys()
    assert len(index) == sum(map(len, files.values()))
    assert_exact(index, files, context)
    left_out = data.draw(st.sets(st.sampled_from(["a.py", "b.py", "c.py", "d.py", "none.py"])))
    rest = {path: ids for path, ids in files.items() if path not in left_out}
    assert_exact(index, rest, context, without=left_out)


def test_frequent_contexts_are_counted_by_tables() -> None:
    random = np.random.default_rng(0)
    files = {f"{number}.py": random.integers(0, 3, 3_000).tolist() for number in range(4)}
    index = index_of(files)
    assert index.files["0.py"].segment.table_counts[0] > 0
    for length in (1, 2, 3, 5, 9):
        context = files["0.py"][100 : 100 + length]
        assert_exact(index, files, context)
        assert_exact(index, {"1.py": files["1.py"], "2.py": files["2.py"]}, context, without={"0.py", "3.py"})


def test_no_context_reaches_into_another_file() -> None:
    index = index_of({"a.py": [1, 2], "b.py": [3, 4]})
    assert index.mixture([2]) is None
    assert index.mixture([2, 3]) is not None


def test_contexts_longer_than_the_depth_count_as_their_end() -> None:
    ids = list(range(40))
    index = index_of({"a.py": ids})
    match = index.longest_match([99, *ids[:30]], 4)
    assert match is not None
    tokens, origin = match
    assert tokens == ids[30:34]
    assert (origin.path, origin.index, origin.agreement) == ("a.py", 30, DEPTH)


def test_the_longest_match_is_in_a_current_file() -> None:
    index = index_of({"a.py": [1, 2, 3, 4], "b.py": [9, 3, 5]})
    assert index.longest_match([2, 3], 5) == ([4], module.Origin("a.py", 3, 2))
    assert index.longest_match([2, 3], 5, without=["a.py"]) == ([5], module.Origin("b.py", 2, 1))
    index.add([(version("a.py", 1), [7, 7])])
    assert index.longest_match([2, 3], 5) == ([5], module.Origin("b.py", 2, 1))
    assert index.longest_match([6], 5) is None


@given(folders, st.lists(st.integers(0, 3), min_size=1, max_size=20), st.sampled_from(["a.py", "b.py", "none.py"]))
def test_no_place_agrees_longer_than_the_longest_match(
    files: dict[str, list[int]], context: list[int], left_out: str
) -> None:
    index = index_of(files)
    best = 0
    for path, text in files.items():
        for at in range(len(text)):
            agreement = 0
            while agreement < min(at, len(context), DEPTH) and text[at - agreement - 1] == context[-agreement - 1]:
                agreement += 1
            best = max(best, agreement if path != left_out else 0)
    match = index.longest_match(context, 3, without=[left_out])
    assert (match[1].agreement if match else 0) == best
    if match:
        tokens, origin = match
        assert tokens == files[origin.path][origin.index : origin.index + 3]
        before = files[origin.path][: origin.index]
        assert before[len(before) - best :] == context[-best:]


def test_a_factor_above_one_trusts_the_model_more() -> None:
    index = index_of({"a.py": [1, 2, 1, 2, 1, 3]})
    plain, careful = index.mixture([1]), index.mixture([1], caution_factor=4.0)
    assert plain is not None
    assert careful is not None
    assert careful.gains.sum() < plain.gains.sum()


def test_ids_that_do_not_fit_are_refused() -> None:
    index = index_of({"a.py": [1, 2]})
    for ids in ([0xFFFF], [-1]):
        with pytest.raises(ValueError, match=r"b\.py"):
            index.add([(version("b.py"), ids)])
    assert list(index.files) == ["a.py"]
    assert index.mixture([0xFFFF, 1]) is not None
    assert index.mixture([1, 0xFFFF]) is None


def test_an_empty_index_answers() -> None:
    index = NgramIndex(CAUTION)
    index.compact()
    assert index.mixture([1]) is None
    assert index.longest_match([1], 3) is None
    index.add([(version("empty.py"), [])])
    assert index.mixture([1]) is None


def test_queries_go_on_while_files_change() -> None:
    ids = list(range(50)) * 4
    index = index_of({"a.py": ids, "b.py": ids})
    stop, wrong = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            mixture = index.mixture([3, 4])
            if mixture is None or mixture.ids.tolist() != [5]:
                wrong.append(mixture)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    for number in range(60):
        index.add([(version("b.py", number), ids)])
        if index.is_fragmented:
            index.compact()
    stop.set()
    for thread in asking:
        thread.join()
    assert not wrong


def test_tidying_leaves_a_large_segment_alone() -> None:
    index = index_of({f"{number}.py": [number, 1, 2, 3] * 100 for number in range(10)})
    large = index._state.segments[0]
    for number in range(5):
        index.add([(version("3.py", number), [9, 1, 2, 3 + number] * 20)])
    assert len(index._state.segments) == 6
    index.tidy()
    assert index._state.segments[0] is large
    assert len(index._state.segments) == 2
    assert len(index._state.stale) == 1  # of the large one; of the others nothing is left
    for number in range(40):
        index.add([(version(f"new{number}.py", number), [9, 1, 2, number] * 20)])
    index.tidy()
    assert len(index._state.segments) == 1
    assert index._state.stale == ()
