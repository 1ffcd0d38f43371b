"""Counts of suggestions shown and accepted, kept on this machine for `codegen-lsp stats`; nothing is sent.

The counts are stored by day, language and model, without text or file names. Answer times are counted in a histogram
with a logarithmic scale of steps of a tenth, which gives percentiles within 5 % and does not grow. A thread writes them
in batches. Errors of the file do not reach completion: a damaged file is renamed once, and one that can't be written is
left alone.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import os
import queue
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

logger = logging.getLogger(__name__)

STEP = 1.1
"""Ratio of the bounds of one step of the histogram."""
WRITE_INTERVAL = 5.0
"""Seconds between two writes."""
WRITE_TIMEOUT = 2.0
"""Seconds to wait while another server writes, and for the last write."""
KEPT_DAYS = 400
"""Days after which counts are deleted."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS counts (
  day TEXT NOT NULL, language TEXT NOT NULL, model TEXT NOT NULL, what TEXT NOT NULL, step INTEGER NOT NULL,
  count INTEGER NOT NULL, PRIMARY KEY (day, language, model, what, step)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (day, language, model, what, step) DO UPDATE SET count = count + excluded.count
"""


@frozen
class Event:
    """A kind of event that is counted."""

    day: str
    """As 2026-01-31."""
    language: str
    model: str
    what: str
    """`requests`, `shown`, `accepted`, `accepted in part`, `typed`, `typed over`, `accepted characters`, or the time of
    an answer by its source: `time cache`, `time flight`, `time model`."""
    step: int = 0
    """Of an answer time: the exponent of `STEP`, in milliseconds; 0 for other events."""


@frozen
class CountRow:
    """One row of the counts."""

    day: str
    language: str
    model: str
    what: str
    step: int
    count: int


def default_path() -> Path:
    """Return the path of the file."""
    from platformdirs import user_state_path

    return user_state_path("codegen-lsp", appauthor=False) / "metrics.sqlite"


def today() -> str:
    """Return the day in local time, as 2026-01-31."""
    return datetime.date.today().isoformat()


def step_of(milliseconds: float) -> int:
    """Return the step of the histogram for a time; times below 0.1 ms share one."""
    return round(math.log(max(milliseconds, 0.1), STEP))


def milliseconds_of(step: float) -> float:
    """Return the middle of a step."""
    return float(STEP**step)


class Metrics:
    """Counts events, and writes the counts in a thread."""

    def __init__(self, path: Path | None = None) -> None:
        self.enabled = False
        """Set from the settings; nothing is counted before."""
        self._path = path
        self._queue: queue.SimpleQueue[tuple[Event, int] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def count(self, event: Event, by: int = 1) -> None:
        """Count an event. Never raises and never blocks."""
        if not self.enabled:
            return
        self._queue.put((event, by))
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="metrics", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write the remaining counts, for at most `WRITE_TIMEOUT` seconds."""
        self._closing.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(WRITE_TIMEOUT)

    def _write_all(self) -> None:
        closing = False
        while not closing:
            entries = [self._queue.get()]
            self._closing.wait(WRITE_INTERVAL)
            with contextlib.suppress(queue.Empty):
                while True:
                    entries.append(self._queue.get_nowait())
            closing = None in entries
            batch: Counter[Event] = Counter()
            for event, by in filter(None, entries):
                batch[event] += by
            if batch and not write(self._path or default_path(), batch):
                self.enabled = False
                return


def write(path: Path, batch: Counter[Event]) -> bool:
    """Add counts to the file. Returns false if it can't be written, which is logged."""
    import sqlite3

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _add(path, batch)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            logger.warning("%s is damaged (%s); it is put aside and begun anew", path, error)
            path.replace(path.with_suffix(".damaged"))
            _add(path, batch)
    except (OSError, sqlite3.Error) as error:
        logger.warning("No counts are kept: %s: %s", path, error)
        return False
    return True


def _add(path: Path, batch: Counter[Event]) -> None:
    import sqlite3

    # For the user alone; SQLite gives its temporary files the same mode.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    path.chmod(0o600)
    with contextlib.closing(sqlite3.connect(path, timeout=WRITE_TIMEOUT)) as connection, connection:
        connection.execute(_SCHEMA)
        connection.executemany(
            _ADD, [(event.day, event.language, event.model, event.what, event.step, n) for event, n in batch.items()]
        )
        oldest = datetime.date.today() - datetime.timedelta(days=KEPT_DAYS)
        connection.execute("DELETE FROM counts WHERE day < ?", (oldest.isoformat(),))


def read(path: Path, since: str = "") -> list[CountRow]:
    """Return the counts since a day; an empty list if there is no file. Raises: sqlite3.Error."""
    import sqlite3

    if not path.is_file():
        return []
    with contextlib.closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=WRITE_TIMEOUT)
    ) as db:
        rows = db.execute("SELECT * FROM counts WHERE day >= ? ORDER BY day, language, model, what, step", (since,))
        return [CountRow(*row) for row in rows]


def percentile(steps: Iterable[tuple[int, int]], share: float) -> float | None:
    """Return the time in milliseconds below which this share of the answers is; None without answers.

    `steps` are pairs of step and count.
    """
    ordered = sorted(steps)
    total = sum(count for _, count in ordered)
    seen = 0
    for step, count in ordered:
        seen += count
        if seen >= share * total > 0:
            return milliseconds_of(step)
    return None
