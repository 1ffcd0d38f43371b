"""mypy's opinion of a text, before and after a change. It runs in a process of its own, and is killed when cancelled.

mypy is not part of codegen-lsp: which one is found (beside codegen-lsp, or on the path) is the user's choice.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from platformdirs import user_cache_path

from codegen_lsp.refactor.refusal import RefactorError

logger = logging.getLogger(__name__)

OPTIONS = (
    "--config-file=", "--no-error-summary", "--no-color-output", "--no-pretty", "--hide-error-context",
    "--ignore-missing-imports", "--follow-imports=silent", "--check-untyped-defs", "--show-error-codes",
)  # fmt: skip
SECONDS = 60.0


def command() -> list[str] | None:
    """What starts mypy, or None when there is none."""
    if importlib.util.find_spec("mypy") is not None:
        # -P: modules of the folder that it runs in are never imported.
        return [sys.executable, "-P", "-m", "mypy"]
    found = shutil.which("mypy")
    return [found] if found else None


async def errors(text: str, path: Path | None) -> Counter[str]:
    """What mypy finds in a text that stands for the file. Raises RefactorError without mypy, or when it fails."""
    start = command()
    if start is None:
        raise RefactorError(
            "no_type_checker",
            "Type hints are checked with mypy, which is not installed.",
            "Install it: pip install mypy.",
        )
    there = path is not None and await asyncio.to_thread(path.is_file)
    if there:
        try:
            return Counter(await _errors(start, text, path))
        except _FailedError:
            # Where a file lies can keep mypy from it, as beside a module named like one of the standard library.
            logger.info("mypy can't check %s in its place", path, exc_info=True)
    return Counter(await _errors(start, text, None))


class _FailedError(RefactorError):
    """mypy ended without an opinion."""

    def __init__(self, reason: str) -> None:
        super().__init__("type_checker_failed", f"mypy failed: {reason}.")


async def _errors(start: list[str], text: str, path: Path | None) -> list[str]:
    """The errors of a text in the place of a file, or alone. Raises RefactorError."""
    with tempfile.TemporaryDirectory(prefix="codegen-lsp-") as folder:
        shadow = Path(folder) / "document.py"
        shadow.write_text(text, encoding="utf-8", errors="replace")
        what = ["--shadow-file", str(path), str(shadow), str(path)] if path is not None else [str(shadow)]
        cache = user_cache_path("codegen-lsp") / "mypy"
        process = await asyncio.create_subprocess_exec(
            *start,
            *OPTIONS,
            f"--cache-dir={cache}",
            *what,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=path.parent if path is not None else folder,
        )
        try:
            async with asyncio.timeout(SECONDS):
                out, err = await process.communicate()
        except TimeoutError:
            raise RefactorError("type_checker_slow", f"mypy took more than {SECONDS:.0f} s.") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    lines = [line for line in out.decode("utf-8", "replace").splitlines() if ": error:" in line]
    # It ends with 1 both when it finds errors and when it breaks.
    if process.returncode not in (0, 1) or (process.returncode == 1 and not lines):
        last = (err or out).decode("utf-8", "replace").strip().splitlines()[-1:] or ["it gave no reason"]
        raise _FailedError(last[0])
    return [line.partition(":")[2].partition(":")[2].strip() for line in lines]
