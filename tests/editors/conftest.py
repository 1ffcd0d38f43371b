"""Tests in real editors: marked `editors`, with time to install what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in this folder; the first one to run may have to install an editor, hence the longer timeout."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.editors)
            item.add_marker(pytest.mark.timeout(900))
