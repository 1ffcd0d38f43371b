"""How a turn is put to the model, and where its answer ends: the format of CodeGen's paper (Nijkamp et al., 2023).

What is asked is a comment below everything before; the answer is the code that follows. Base models were trained on
files, in which a comment is followed by the code that it describes. The rules of truncation are those of the published
programs (`mtpb_sample.py` of the CodeGen repository).
"""

from __future__ import annotations

import re

from codegen_lsp.inference.rpc.messages import StopRules

LINE_STARTS = (("print", 2), ("def", 2), ("#", 1), ("'''", 1), ('"""', 1))
"""An answer ends before the n-th line that begins with such a string, `StopRules.line_starts`."""
BREAKS = "\n\n\n"
"""An answer ends before this."""


def as_comment(request: str) -> str:
    """Return what is asked as lines of comments, with the last line break."""
    return "".join(f"# {line}".rstrip() + "\n" for line in request.splitlines() or [""])


def truncate(answer: str) -> str:
    """Return the part of an answer that is kept, by the published rules."""
    for word in ("print", "def"):
        if len(found := list(re.finditer(f"^{word}", answer, re.MULTILINE))) > 1:
            answer = answer[: found[1].start()]
    end = re.search(r"""^(?:#|'''|\""")|<\|endoftext\|>|\n\n\n""", answer, re.MULTILINE)
    return answer[: end.start()] if end else answer


def stop_rules(max_tokens: int) -> StopRules:
    """Return the rules that end an answer where `truncate` would cut it."""
    return StopRules(max_tokens=max_tokens, max_lines=max_tokens + 1, strings=[BREAKS], line_starts=list(LINE_STARTS))
