"""Worker processes of the training pipeline."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of newly started processes.

    A forked child of a process that runs threads, such as those of torch or of Ray, may crash or hang: only the
    forking thread goes on in it, and locks that others held stay locked.
    """
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
