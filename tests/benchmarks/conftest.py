"""A document to benchmark on."""

from __future__ import annotations

import pytest

from codegen_lsp.evaluation.documents import Document
from tests.evaluation.conftest import SOURCE


@pytest.fixture
def document() -> Document:
    return Document("package", "module.py", "python", SOURCE)
