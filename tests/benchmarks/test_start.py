"""The parts of a start, in real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp.benchmarks import start


@pytest.mark.slow
def test_the_parts_of_a_start_add_up(embedded_build: Path) -> None:
    found = start.measure_start(embedded_build, 1, 1)
    for process, names in ((found.server, start.SERVER_PARTS), (found.worker, start.WORKER_PARTS)):
        assert tuple(process.parts) == names
        assert sum(process.parts.values()) == pytest.approx(process.whole) == pytest.approx(process.slowest)
        assert sum(process.imports.values()) == pytest.approx(process.parts["imports"])
        assert process.memory_mb > 1
    assert {"lsprotocol", "codegen_lsp.lsp"} <= set(found.server.imports)
    assert {"numpy", "codegen_lsp.inference"} <= set(found.worker.imports)
    assert found.pair_mb > found.server.memory_mb


def test_imports_are_counted_without_those_nested_in_them() -> None:
    found = start.imports_by_package("import json.decoder, codegen_lsp.source.lines")
    assert {"json", "codegen_lsp.source", "codegen_lsp"} <= set(found)
    assert list(found.values()) == sorted(found.values(), reverse=True)
