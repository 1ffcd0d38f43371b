"""Time the menu of refactorings."""

from __future__ import annotations

import ast
import random
import time

from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.python.python_backend import PythonBackend


def menu_seconds(text: str, places: int, seed: int) -> tuple[list[float], float]:
    """Return the processor seconds of the menu at random places, and those of parsing the whole text.

    Each menu is computed as after a change of the text, with nothing parsed yet. Processor time is the cost of the menu
    on a machine that does other work as well.
    """
    dice = random.Random(seed)  # noqa: S311 - no secret
    seconds = []
    for _ in range(places):
        start = dice.randrange(len(text))
        source = SelectedSource(text, start, min(len(text), start + dice.choice([0, 0, 10, 200])))
        started = time.process_time()
        PythonBackend().menu(source)
        seconds.append(time.process_time() - started)
    started = time.process_time()
    ast.parse(text)
    return seconds, time.process_time() - started
