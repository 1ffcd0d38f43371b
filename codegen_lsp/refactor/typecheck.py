"""mypy's opinion of a text, before and after a change. It runs in a process of its own, and is killed when cancelled.

mypy is not part of codegen-lsp: which one is found (beside codegen-lsp, or on the path) is the user's choice.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from platformdirs import user_cache_path

from codegen_lsp.refactor.refusal import RefactorError

OPTIONS = (
    "--config-file=", "--no-error-summary", "--no-color-output", "--no-pretty", "--hide-error-context",
    "--ignore-missing-imports", "--follow-imports=silent", "--check-untyped-defs", "--show-error-codes",
)  # fmt: skip
SECONDS = 60.0


def command() -> list[str] | None:
    """What starts mypy, or None when there is none."""
    if importlib.util.find_spec("mypy") is not None:
        return [sys.executable, "-m", "mypy"]
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
    return Counter(await _errors(start, text, path))


async def _errors(start: list[str], text: str, path: Path | None) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="codegen-lsp-") as folder:
        shadow = Path(folder) / "document.py"
        shadow.write_text(text, encoding="utf-8", errors="replace")
        there = path is not None and await asyncio.to_thread(path.is_file)
        what = ["--shadow-file", str(path), str(shadow), str(path)] if there else [str(shadow)]
        cache = user_cache_path("codegen-lsp") / "mypy"
        process = await asyncio.create_subprocess_exec(
            *start,
            *OPTIONS,
            f"--cache-dir={cache}",
            *what,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=path.parent if path is not None and there else folder,
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
    if process.returncode not in (0, 1):
        last = (err or out).decode("utf-8", "replace").strip().splitlines()[-1:] or ["it gave no reason"]
        raise RefactorError("type_checker_failed", f"mypy failed: {last[0]}.")
    lines = out.decode("utf-8", "replace").splitlines()
    return [line.partition(":")[2].partition(":")[2].strip() for line in lines if ": error:" in line]
