"""The form of a log record: one line of printable text, however hostile the text is that it quotes.

Logged text comes from editors, documents and other processes. Unescaped, a line break in it would forge a record, and
an escape sequence would reach the terminal of whoever reads the log.
"""

from __future__ import annotations

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
CONTINUATION = "  | "
"""Begins each line of a traceback."""


def escaped(text: str) -> str:
    """Return the text with every character that is not printable, line breaks included, as a Python escape."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


class LogFormatter(logging.Formatter):
    """Writes a record as one line, followed by the indented lines of its traceback."""

    def __init__(self, form: str = FORMAT) -> None:
        super().__init__(form)

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record, without a final line break."""
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        lines = [escaped(self.formatMessage(record))]
        for below in (record.exc_info and self.formatException(record.exc_info), record.stack_info):
            if below:
                lines += [CONTINUATION + escaped(line) for line in below.splitlines()]
        return "\n".join(lines)
