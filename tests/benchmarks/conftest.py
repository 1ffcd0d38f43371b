"""A document to benchmark on."""

from __future__ import annotations

import pytest

from codegen_lsp.evaluation.documents import SourceDocument
from tests.evaluation.conftest import SOURCE


@pytest.fixture
def document() -> SourceDocument:
    return SourceDocument("package", "module.py", "python", SOURCE)
