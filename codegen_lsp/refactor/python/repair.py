"""Repair of a function's head without a body, which keeps the document from being parsed."""

from __future__ import annotations

import re

from attrs import evolve

from codegen_lsp.refactor.edits import SelectedSource

_HEAD = re.compile(r"^([ \t]*)(?:async[ \t]+)?def[ \t]+\w+[ \t]*\(", re.MULTILINE)
_HEAD_LINES = 30


def with_body(source: SelectedSource) -> SelectedSource | None:
    """Return the source with `pass` below the head at the cursor; None if there is no head without a body."""
    heads = list(_HEAD.finditer(source.text, 0, _line_end(source.text, source.start)))
    if not heads:
        return None
    head = heads[-1]
    end = head.start()
    for _ in range(_HEAD_LINES):
        end = _line_end(source.text, end)
        if source.text[head.start() : end].rstrip().endswith(":"):
            break
        end += 1
    else:
        return None
    if source.start > len(source.text[:end]) + len(source.text[end:]) - len(source.text[end:].lstrip()):
        return None
    body = f"\n{head.group(1)}    pass"
    rest = max(end, _line_end(source.text, source.start))
    text = source.text[:end] + body + source.text[rest:]
    at = min(source.start, end)
    return evolve(source, text=text, start=at, end=at)


def _line_end(text: str, offset: int) -> int:
    end = text.find("\n", offset)
    return len(text) if end < 0 else end
