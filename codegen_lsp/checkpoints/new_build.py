"""The folder of a build that is being made: it appears complete or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from codegen_lsp.errors import ConversionError
from codegen_lsp.progress import ProgressReport


@contextmanager
def new_build(output: Path) -> Iterator[Path]:
    """Yield the path of a hidden folder beside `output`, which does not exist yet, and move it there at the end.

    An existing build is replaced; after an error it stays, and nothing else. Two processes must not make the same build
    at once. Raises: ConversionError when `output` is a file or a link, and in place of an OSError, such as that of a
    full disk.
    """
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise ConversionError(
            f"{output} is {'a link' if output.is_symlink() else 'a file'}, which a build does not replace.",
            "Remove it, or choose another folder.",
        )
    partial = output.with_name(f".{output.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        if _aside(output).is_dir() and not output.exists():
            _aside(output).rename(output)  # a process was killed between the two steps of `_replace`
        output.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _replace(partial, output)
    except OSError as error:
        raise ConversionError(
            f"The build could not be made at {output}: {error}.", "Make room there, or choose another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def part_of(report: ProgressReport, message: str, start: float, end: float) -> Callable[[float], None]:
    """Return a callback for one stage, whose share 0 to 1 is `start` to `end` of the whole."""
    return lambda fraction: report(message, start + (end - start) * fraction)


def _aside(output: Path) -> Path:
    return output.with_name(f".{output.name}.old")


def _replace(partial: Path, output: Path) -> None:
    """Move a finished build to its place. An existing one is moved aside first: a directory can't be replaced in one
    step."""
    old = _aside(output)
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    try:
        partial.rename(output)
    except BaseException:  # also an interruption
        if old.exists():
            old.rename(output)
        raise
    shutil.rmtree(old, ignore_errors=True)
