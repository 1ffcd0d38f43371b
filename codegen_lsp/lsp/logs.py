"""Where the log goes and what it contains, as the settings say."""

from __future__ import annotations

import logging
from pathlib import Path

from codegen_lsp.settings import SECTION, LogSettings

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(settings: LogSettings) -> list[str]:
    """Configure the root logger. Returns problems of the settings, as sentences for the user."""
    problems: list[str] = []
    handler: logging.Handler = logging.StreamHandler()
    if settings.file:
        try:
            handler = logging.FileHandler(Path(settings.file).expanduser(), encoding="utf-8", delay=False)
        except OSError as error:
            problems.append(f"`{SECTION}.log.file` can't be written ({error}); the standard error stream is used.")
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, logging.StreamHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    root.setLevel(level)
    # pygls logs the text of documents at its info level.
    logging.getLogger("pygls").setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
    return problems
