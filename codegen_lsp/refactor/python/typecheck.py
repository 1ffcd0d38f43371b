"""mypy's errors in a text. mypy runs in a process of its own, which is killed on cancellation.

mypy is not a dependency of codegen-lsp: the one that is installed beside codegen-lsp is used, or the one on the path.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import shutil
import sys
from collections import Counter
from pathlib import Path

from platformdirs import user_cache_path

from codegen_lsp import python_path
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.temporary_folder import TemporaryFolder

logger = logging.getLogger(__name__)

OPTIONS = (
    "--config-file=", "--no-error-summary", "--no-color-output", "--no-pretty", "--hide-error-context",
    "--ignore-missing-imports", "--follow-imports=silent", "--check-untyped-defs", "--show-error-codes",
)  # fmt: skip
SECONDS = 60.0
"""Time limit for one run."""


def command() -> list[str] | None:
    """Return the command that starts mypy, or None if it is not installed."""
    if importlib.util.find_spec("mypy") is not None:
        # -P: never import modules from the current folder.
        return [sys.executable, "-P", "-m", "mypy"]
    found = shutil.which("mypy")
    # A relative path is a program in the current folder, which may be the workspace.
    return [found] if found and Path(found).is_absolute() else None


async def errors(text: str, path: Path | None) -> Counter[str]:
    """Count mypy's errors in a text in the place of a file. Raises RefactorError without mypy, or when it fails."""
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
            # mypy can't check a file in some places, as beside a module that is named like one of the standard library.
            logger.info("mypy can't check %s in its place", path, exc_info=True)
    return Counter(await _errors(start, text, None))


class _FailedError(RefactorError):
    """mypy failed."""

    def __init__(self, reason: str) -> None:
        super().__init__("type_checker_failed", f"mypy failed: {reason}.")


async def _errors(start: list[str], text: str, path: Path | None) -> list[str]:
    """Return mypy's errors in a text, in the place of a file or alone. Raises RefactorError."""
    with TemporaryFolder() as folder:
        shadow = folder / "document.py"
        shadow.write_text(text, encoding="utf-8", errors="replace")
        what = ["--shadow-file", str(path), str(shadow), str(path)] if path is not None else [str(shadow)]
        cache = user_cache_path("codegen-lsp") / "mypy"
        process = await asyncio.create_subprocess_exec(
            *start,
            *OPTIONS,
            f"--cache-dir={cache}",
            *what,
            env=python_path.environment(),
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
    # mypy exits with 1 both when it finds errors and when it crashes.
    if process.returncode not in (0, 1) or (process.returncode == 1 and not lines):
        last = (err or out).decode("utf-8", "replace").strip().splitlines()[-1:] or ["it gave no reason"]
        raise _FailedError(last[0])
    return [line.partition(":")[2].partition(":")[2].strip() for line in lines]
