"""Conversations as programs: the turns of a user become comments, those of the assistant are the code below them.

That is the format in which the paper of CodeGen has programs written in several turns (Nijkamp et al., 2023, section
4), and what a model of code has seen: https://arxiv.org/abs/2203.13474. Code between fences in a turn is code here,
too.
"""

from __future__ import annotations

import re

from attrs import frozen

from codegen_lsp.http.fields import Fields
from codegen_lsp.http.problems import RequestProblem, invalid

ROLES = ("system", "developer", "user", "assistant")
NEXT_TURN = "\n\n\n\n"
"""Three blank lines: the model went on to something else. More than two stand in no well-formed code."""

_FENCE = re.compile(r"^```[^\n`]*\n(.*?)^```[^\S\n]*$\n?", re.DOTALL | re.MULTILINE)


@frozen
class ChatTurn:
    """A message of a conversation."""

    role: str
    text: str


def read_turns(messages: list[Fields]) -> list[ChatTurn]:
    """Return the turns of a list of messages, as OpenAI and Ollama have them. Raises: RequestProblem."""
    if not messages:
        raise invalid("`messages` must be a list of at least one message.")
    turns = [ChatTurn(_role(one), _content(one)) for one in messages]
    if len(turns) > 1 and turns[-1].role == "assistant" and not turns[-1].text.strip():
        turns.pop()  # some clients announce the answer in this way
    return turns


def program_of(turns: list[ChatTurn], comment: str) -> str:
    """Return the text to continue for a conversation. `comment` opens a comment in the language of the model.

    The text of a last turn of the assistant is continued; after another one, the answer begins on a new line.
    """
    parts = []
    for number, turn in enumerate(turns):
        if turn.role == "assistant":
            last = number == len(turns) - 1
            code = _FENCE.sub(r"\1", turn.text)
            parts.append(code if last else code.rstrip() + "\n\n")
        else:
            parts.append(_commented(turn.text, comment))
    return "".join(parts)


def _commented(text: str, comment: str) -> str:
    """Return a text with each line as a comment, but for the lines between fences."""
    parts, at = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_lines(text[at : fence.start()], comment), fence[1]]
        at = fence.end()
    return "".join([*parts, _lines(text[at:], comment)])


def _lines(text: str, comment: str) -> str:
    return "".join(f"{comment} {line.strip()}\n" for line in text.splitlines() if line.strip())


def _role(message: Fields) -> str:
    role = message.text("role", "user").lower()
    if role not in ROLES:
        raise invalid(f"Messages of the role {role!r} are not supported; those of {', '.join(ROLES)} are.")
    return role


def _content(message: Fields) -> str:
    """Return the text of a message: a string, or a list of parts with text."""
    content = message.values.get("content")
    if message.values.get("tool_calls") or message.values.get("images"):
        raise RequestProblem(400, "invalid_request_error", "This model takes neither images nor calls of tools.")
    if not isinstance(content, list):
        return message.text("content")
    parts = message.tables("content")
    if any(part.text("type", "text") != "text" for part in parts):
        raise invalid("The content of a message must be text.")
    return "\n".join(part.text("text") for part in parts)
