"""One-line docstrings: whether a file has them, and the one that the model writes for a new function."""

from __future__ import annotations

import ast
import re

from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python.ast_nodes import DEFINITIONS, docstring_node
from codegen_lsp.refactor.sentences import as_sentence

SUMMARY_STOP = StopRules(max_tokens=40, max_lines=1, strings=['"""', "'''"])
_FOLLOWING_CHARACTERS = 200
"""Characters of the text after a summary that are scored along with it."""


def are_usual(tree: ast.Module) -> bool:
    """Return whether most functions and classes of the file have a docstring."""
    definitions = [node for node in ast.walk(tree) if isinstance(node, DEFINITIONS)]
    return bool(definitions) and sum(docstring_node(node) is not None for node in definitions) * 2 > len(definitions)


async def summary_of(assistant: ModelAssistant, text: str, name: str) -> str | None:
    """Return the likeliest summary for a function in the text, or None. Raises WorkerError and ModelError."""
    place = _place(text, name)
    if place is None:
        return None
    offset, margin = place
    before, after = f'{text[:offset]}{margin}"""', f'"""\n{text[offset:]}'
    candidates = await assistant.continuations(before, after, stop=SUMMARY_STOP, candidates=3)
    sentences = list(dict.fromkeys(found for one in candidates if (found := as_sentence(one.text, words=3))))
    likelihoods = await assistant.likelihoods([(before, f"{one}{after[:_FOLLOWING_CHARACTERS]}") for one in sentences])
    return max(zip(likelihoods, sentences, strict=True))[1] if sentences else None


def with_summary(text: str, name: str, summary: str) -> str:
    """Return the text with a docstring of one line under the head of the function."""
    place = _place(text, name)
    if place is None:
        return text
    offset, margin = place
    return f'{text[:offset]}{margin}"""{summary}"""\n{text[offset:]}'


def _place(text: str, name: str) -> tuple[int, str] | None:
    """Return the offset of the first line of a function's body, and the white space before that line."""
    found = re.search(rf"^[ \t]*def {name}\(.*?\).*?:\n", text, re.MULTILINE | re.DOTALL)
    if found is None:
        return None
    margin = re.match(r"[ \t]*", text[found.end() :])
    return found.end(), margin.group() if margin else ""
