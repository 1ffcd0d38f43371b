"""What ruff finds in many texts, by one process: starting one for each text takes most of the time of a run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from codegen_lsp.refactor.python import simplify

Findings = list[dict[str, Any]]
"""What ruff finds in a text, as it prints it in JSON."""


class RuffFindings:
    """Answers `simplify.ruff_fixes` for texts that were checked together, and starts ruff for others."""

    def __init__(self) -> None:
        self._by_text: dict[str, Findings] = {}
        self._single = simplify.ruff_fixes
        self.started = 0
        """Processes that were started for one text."""

    def check(self, texts: Iterable[str]) -> None:
        """Forget the texts before, and check these by one process."""
        program = simplify.ruff()
        self._by_text = {}
        if program is None:
            return
        with TemporaryDirectory(prefix="codegen-lsp-fuzz-") as folder:
            paths = {str(Path(folder).resolve() / f"{at}.py"): text for at, text in enumerate(dict.fromkeys(texts))}
            for path, text in paths.items():
                Path(path).write_bytes(text.encode())
            done = subprocess.run([program, *simplify.ARGUMENTS, folder], capture_output=True, text=True)
            if done.returncode not in (0, 1):
                raise RuntimeError(f"ruff ended with {done.returncode}: {done.stderr}")
            self._by_text = {text: [] for text in paths.values()}
            for finding in json.loads(done.stdout):
                self._by_text[paths[finding["filename"]]].append(finding)

    async def fixes(self, text: str, lines: frozenset[int]) -> list[simplify.Fix]:
        """Return what `simplify.ruff_fixes` returns."""
        if (found := self._by_text.get(text)) is not None:
            return simplify.fixes_within(found, text, lines)
        self.started += 1
        return await self._single(text, lines)
