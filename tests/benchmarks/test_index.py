"""The benchmark of the workspace's n-gram index."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp.benchmarks.index import time_index
from codegen_lsp.evaluation.documents import EvaluationError, SourceDocument
from codegen_lsp.inference.engines.native.ngram_segment import library

pytestmark = pytest.mark.skipif(library() is None, reason="ngram_index.c was not compiled here")


def test_figures_are_of_the_files_given(tmp_path: Path) -> None:
    documents = [SourceDocument("p", f"{number}.py", "python", f"value = {number}\n" * 40) for number in range(5)]
    times = time_index("auto", documents, 1_000_000, tmp_path, 0, (2, 4, 100, 1_000))
    assert [one.files for one in times] == [2, 4, 5]  # there are no more
    assert 0 < times[0].tokens < times[1].tokens < times[2].tokens
    assert times[2].tokens > 400
    assert times[2].bytes_per_token > 8
    assert all(one.token_us > 0 and one.update_ms > 0 for one in times)
    assert [one.files for one in time_index("auto", documents, 1, tmp_path, 0)] == [1]


def test_nothing_to_index_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="nothing"):
        time_index("auto", [], 1, tmp_path, 0)
