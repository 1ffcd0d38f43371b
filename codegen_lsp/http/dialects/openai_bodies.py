"""Bodies of OpenAI's dialect: completions, chat completions, their chunks, and those of endpoints like Mistral's.

https://platform.openai.com/docs/api-reference/completions, https://docs.mistral.ai/api/endpoint/fim
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any, Literal

from attrs import field, frozen

from codegen_lsp.http.requests import Completed, CompletedText, FinishReason, TokenPiece

FINISH: dict[FinishReason, str] = {"stop": "stop", "end": "stop", "length": "length"}

Kind = Literal["text", "chat"]


@frozen
class AnswerHead:
    """The fields that all bodies of one answer begin with."""

    kind: Kind
    model: str
    id: str = field(factory=lambda: uuid.uuid4().hex)
    created: int = field(factory=lambda: int(time.time()))

    def body(self, *, chunk: bool = False) -> dict[str, Any]:
        """Return the beginning of a body."""
        if self.kind == "text":
            name, prefix = "text_completion", "cmpl"
        else:
            name, prefix = "chat.completion.chunk" if chunk else "chat.completion", "chatcmpl"
        return {"id": f"{prefix}-{self.id}", "object": name, "created": self.created, "model": self.model}


def usage(answers: Sequence[Completed], prompt_tokens: int = 0) -> dict[str, Any]:
    """Return the tokens of prompts and answers; `prompt_tokens` where the model was not asked."""
    prompt = sum(one.prompt_tokens for one in answers) or prompt_tokens
    generated = sum(text.tokens for one in answers for text in one.texts)
    cached = sum(one.stats.cached_tokens for one in answers if one.stats)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def refusal_of(answers: Sequence[Completed]) -> dict[str, Any]:
    """Return a field that tells why an editor's request has no answer; nothing if all have one."""
    refusals = [one.refusal for one in answers if one.refusal is not None]
    return {"refusal": {"rule": refusals[0].rule, "reason": refusals[0].reason}} if refusals else {}


def text_choice(
    index: int, text: str, finish: str | None, tokens: Sequence[TokenPiece] | None = None, offset: int = 0
) -> dict[str, Any]:
    """Return a choice of a completion. `tokens` are reported unless None; the first one begins at `offset`."""
    logprobs = None if tokens is None else _text_logprobs(_of_answer(tokens), offset)
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}


def chat_choice(index: int, text: CompletedText, *, with_tokens: bool) -> dict[str, Any]:
    """Return a choice of a chat completion."""
    return {
        "index": index,
        "message": {"role": "assistant", "content": text.text, "refusal": None},
        "logprobs": {"content": list(map(_chat_logprob, _of_answer(text.pieces))), "refusal": None}
        if with_tokens
        else None,
        "finish_reason": FINISH[text.finish],
    }


def delta_choice(
    index: int, delta: dict[str, Any], finish: str | None, tokens: Sequence[TokenPiece] | None = None
) -> dict[str, Any]:
    """Return a choice of a chunk of a chat completion."""
    logprobs = None if tokens is None else {"content": list(map(_chat_logprob, _of_answer(tokens))), "refusal": None}
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _of_answer(tokens: Sequence[TokenPiece]) -> list[TokenPiece]:
    """Return the tokens without those that only repeat the end of the prompt, which was tokenized anew."""
    return [token for token in tokens if token.text or not _is_text(token.data)]


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text_logprobs(tokens: Sequence[TokenPiece], offset: int) -> dict[str, Any]:
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [token.text or _token_text(token.data) for token in tokens],
        "token_logprobs": [token.log_probability for token in tokens],
        "top_logprobs": [
            {_token_text(one.data): one.log_probability for one in token.alternatives} for token in tokens
        ],
        "text_offset": offsets,
    }


def _chat_logprob(token: TokenPiece) -> dict[str, Any]:
    top = [(one.data, one.log_probability) for one in token.alternatives]
    data = token.text.encode() or token.data
    return _logprob(data, token.log_probability) | {"top_logprobs": [_logprob(*one) for one in top]}


def _logprob(data: bytes, log_probability: float) -> dict[str, Any]:
    return {"token": _token_text(data), "bytes": list(data), "logprob": log_probability}


def _token_text(data: bytes) -> str:
    """Return the text of a token; one that is a part of a character as OpenAI writes it, so that keys differ."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
