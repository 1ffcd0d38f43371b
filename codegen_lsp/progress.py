"""Reports of progress from operations that take a while."""

from __future__ import annotations

from collections.abc import Callable

ProgressReport = Callable[[str, float], None]
"""Called with a description of the current step and the share of the whole that is done, 0 to 1."""
