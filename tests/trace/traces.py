"""Traces of texts that nobody would like in their page."""

from __future__ import annotations

import base64

import numpy as np

from codegen_lsp.inference.attention_record import AttentionRecorder
from codegen_lsp.inference.rpc.attribution import (
    AttentionRecord,
    AttributionResult,
    LikelyToken,
    PromptToken,
    TokenAttribution,
)
from codegen_lsp.inference.rpc.messages import ModelDescription, TextOrigin
from codegen_lsp.trace.tracing import Trace

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "<!--<script>",
    "\u202eevil\u2066",
    "\x00\x1b[31m\x07",
    "\u2028",
    "'\"`${alert(3)}",
    "🦘 größer\t",
    "javascript:alert(4)",
)


def token(text: str, probability: float = 0.5, **options: object) -> TokenAttribution:
    model = probability * 0.6
    return TokenAttribution(
        text, 0, len(text), 0, probability, model, model, probability * 0.3, probability * 0.1,
        [LikelyToken(text, probability), LikelyToken("</style>", 0.2)], **options,  # type: ignore[arg-type]
    )  # fmt: skip


def random_record(prompt: int, suggestion: int, layers: int = 3, heads: int = 4) -> AttentionRecord:
    """Return attention as an engine might report it."""
    recorder, random = AttentionRecorder(layers, heads, prompt, suggestion), np.random.default_rng(1)
    total = prompt + suggestion - 1
    for first in range(0, total, 128):
        end = min(first + 128, total)
        for layer in range(layers):
            weights = np.tril(random.random((heads, end - first, end), np.float32) ** 8, first)
            recorder.take(layer, first, weights / weights.sum(-1, keepdims=True))
    return recorder.record()


def hostile_trace(repeat: int = 1) -> Trace:
    """Return a trace of hostile texts."""
    lines = [f"{text}\n" for text in HOSTILE] * repeat
    place = TextOrigin("<b>/evil.py", 3, 5, "</code><script>alert(5)</script>")
    return Trace(
        file="/tmp/<script>alert(6)</script>\udc80.py",
        line=len(lines) + 1,
        column=1,
        language="python",
        model=ModelDescription("<i>model</i>", "codegen", "native", "cpu", "int8", 2, 2048, True, ["python"], 3.0, 0.1),
        suggestion="".join(HOSTILE),
        shown=False,
        reason="<u>because</u>",
        attribution=AttributionResult(
            [token(text, 0.1 * at, document=place, workspace=place) for at, text in enumerate(HOSTILE)],
            [PromptToken("before", at + 1, token(text, 0.001 * at)) for at, text in enumerate(lines)],
            random_record(len(lines), len(HOSTILE)),
        ),
    )


def dense(record: AttentionRecord, row: int) -> np.ndarray:
    """Return the weights of a token of the suggestion: (layers, heads, tokens before it)."""
    data = np.frombuffer(base64.b64decode(record.suggestion[row]), np.uint8)
    return (data.reshape(record.layers, record.heads, -1) / 255.0) ** 2
