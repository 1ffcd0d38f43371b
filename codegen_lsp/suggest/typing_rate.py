"""The clock for `completion.debounce`: when keys came, and how long answers took."""

from __future__ import annotations

import time
from collections.abc import Callable

from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.suggest.debounce import Rhythm, wait_before_asking


class Metronome:
    """Follows one user's typing and one model's answers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_key: float | None = None
        self.rhythm = Rhythm()

    def key(self) -> None:
        """A document was changed."""
        now = self._clock()
        if self._last_key is not None:
            self.rhythm = self.rhythm.typed(now - self._last_key)
        self._last_key = now

    def answered(self, seconds: float) -> None:
        """The model has answered."""
        self.rhythm = self.rhythm.answered(seconds)

    def wait(self, snapshot: Snapshot) -> float:
        """Seconds to wait before the model is asked."""
        since = self._clock() - self._last_key if self._last_key is not None else 0.0
        return wait_before_asking(self.rhythm, snapshot.text[snapshot.line_start : snapshot.offset], since)
