"""Stop rules: the conditions that end a candidate.

They are checked on the text after every token, so that no token is computed only to be cut away. `completion/` chooses
the rules of a request; this module evaluates them.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence

from attrs import evolve

from codegen_lsp.inference.rpc.messages import StopRules

TAB_WIDTH = 8


def stop_position(text: str, rules: StopRules) -> int | None:
    """Return where the first rule that applies cuts the text, in code points; None while no rule applies."""
    if opens_block(text, rules):
        strings = [string for string in rules.strings if string != "\n"]
        block = evolve(rules, strings=strings, max_lines=rules.opened_lines, min_indent=rules.opened_indent)
        return stop_position(text, block)
    cuts = [cut for cut in (_line_limit(text, rules.max_lines), _dedent(text, rules.min_indent)) if cut is not None]
    cuts += [at for string in rules.strings if string and (at := text.find(string)) >= 0]
    starts = [_line_start(text, start, number) for start, number in rules.line_starts]
    cuts += [cut for cut in starts if cut is not None]
    return min(cuts, default=None)


def held_back(text: str, rules: StopRules) -> int:
    """Return the number of characters at the end of a text, which no rule cuts yet, that more text may cut away."""
    longest = max(
        (
            length
            for string in rules.strings
            for length in range(1, min(len(string), len(text) + 1))
            if text.endswith(string[:length])
        ),
        default=0,
    )
    if rules.min_indent is not None or rules.openers:
        longest = max(longest, len(text) - len(text.rstrip()))
    return longest


def opens_block(text: str, rules: StopRules) -> bool:
    """Return whether the first line is complete and ends with one of the openers, so that a block may follow."""
    if rules.max_lines > 1 or not rules.openers or rules.opened_lines <= 1:
        return False
    line, line_break, _ = text.partition("\n")
    return bool(line_break) and line.rstrip().endswith(tuple(rules.openers))


def is_unlikely(log_probabilities: Sequence[float], rules: StopRules) -> bool:
    """Return whether a text is less likely than the threshold, by the log-probabilities of its tokens in nats."""
    return rules.threshold > 0 and math.exp(sum(log_probabilities)) < rules.threshold


def _line_limit(text: str, max_lines: int) -> int | None:
    """Return the position of the line break that ends the last allowed line.

    Line breaks before the first visible character don't count: after `:` an answer begins on the next line.
    """
    at = len(text) - len(text.lstrip())
    for _ in range(max_lines):
        at = text.find("\n", at)
        if at < 0:
            return None
        at += 1
    return at - 1


def _line_start(text: str, start: str, number: int) -> int | None:
    """Return the position of the `number`-th line that begins with `start`, from 1."""
    places = itertools.islice(re.finditer("^" + re.escape(start), text, re.MULTILINE), number - 1, None)
    return found.start() if (found := next(places, None)) else None


def _dedent(text: str, min_indent: int | None) -> int | None:
    """Return the end of the last line before one that is indented less than `min_indent` columns."""
    if min_indent is None:
        return None
    at = text.find("\n")
    while at >= 0:
        end = text.find("\n", at + 1)
        line = text[at + 1 : end if end >= 0 else len(text)]
        if line.strip() and indent_width(line) < min_indent:
            return len(text[:at].rstrip())
        at = end
    return None


def indent_width(line: str) -> int:
    """Return the columns of leading white space, with tab stops at multiples of 8, as in Python."""
    lead = line[: len(line) - len(line.lstrip(" \t"))]
    return len(lead.expandtabs(TAB_WIDTH))
