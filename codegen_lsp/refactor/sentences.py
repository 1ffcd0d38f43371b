"""Sentences that a model writes, and what is wrong with most of them.

A small model that is asked for a sentence may give code, a fragment, or the same words again and again. What doesn't
read like a sentence about code is dropped here; what does may still be wrong, which only its reader can tell.
"""

from __future__ import annotations

import ast
import re

from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python.selection import DEFINITIONS, docstring_node

LONGEST = 100
SENTENCE = StopRules(max_tokens=40, max_lines=1, strings=['"""', "'''"])
_CODE = re.compile(r"[=;{}<>|\\]|\(\)|^\W|>>>|TODO|FIXME|\bdef\b|https?:")


def sentence(text: str, *, words: int = 2) -> str | None:
    """The text as one sentence with a full stop, or None when it isn't one."""
    text = text.strip().strip('"').strip()
    first = re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]
    found = re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)?", first)
    if len(found) < words or len(first) > LONGEST or _CODE.search(first):
        return None
    letters = sum(character.isalpha() or character.isspace() for character in first)
    if letters < 0.7 * len(first) or len({word.lower() for word in found}) * 2 <= len(found):
        return None
    if first.endswith((":", ",", "(", "-")) or first.count("(") != first.count(")") or first.count("`") % 2:
        return None
    first = first[0].upper() + first[1:]
    return first if first.endswith((".", "!", "?")) else first + "."


def wanted(tree: ast.Module) -> bool:
    """Whether most functions of the file have a docstring."""
    functions = [node for node in ast.walk(tree) if isinstance(node, DEFINITIONS)]
    return bool(functions) and sum(docstring_node(node) is not None for node in functions) * 2 > len(functions)


def around_docstring(text: str, node: ast.AST, offset: int, margin: str) -> tuple[str, str]:
    """What stands before and after the place of a docstring, which begins at the offset of a line's start."""
    return f'{text[:offset]}{margin}"""', f'"""\n{text[offset:]}'


async def summary_of(assistant: ModelAssistant, text: str, name: str) -> str | None:
    """The likeliest first line of a docstring for a function in the text. Raises WorkerError and ModelError."""
    place = _place(text, name)
    if place is None:
        return None
    offset, margin = place
    before, after = f'{text[:offset]}{margin}"""', f'"""\n{text[offset:]}'
    candidates = await assistant.continuations(before, after, stop=SENTENCE, candidates=3)
    sentences = list(dict.fromkeys(found for one in candidates if (found := sentence(one.text, words=3))))
    likelihoods = await assistant.likelihoods([(before, f"{one}{after[:200]}") for one in sentences])
    return max(zip(likelihoods, sentences, strict=True))[1] if sentences else None


def with_summary(text: str, name: str, summary: str) -> str:
    """The text with a docstring of one line under the head of the function."""
    place = _place(text, name)
    if place is None:
        return text
    offset, margin = place
    return f'{text[:offset]}{margin}"""{summary}"""\n{text[offset:]}'


def _place(text: str, name: str) -> tuple[int, str] | None:
    """Where a function's docstring goes: the offset of its body's first line, and that line's margin."""
    found = re.search(rf"^[ \t]*def {name}\(.*?\).*?:\n", text, re.MULTILINE | re.DOTALL)
    if found is None:
        return None
    margin = re.match(r"[ \t]*", text[found.end() :])
    return found.end(), margin.group() if margin else ""
