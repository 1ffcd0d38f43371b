"""The tokenizer of a model in the terms of llama.cpp.

llama.cpp knows byte-level BPE with a fixed set of pre-tokenizers, by name. CodeGen's is GPT-2's. Tokens that are
matched before the BPE, which are runs of spaces and tabs, become user-defined tokens, special ones control tokens.

The embedded model's pre-tokenizer is not among them. Its merges never join a letter with a punctuation mark, or a digit
with anything, so that BPE over the whole text (`superbpe`) gives the same ids, but for spaces, which would join the
word after them. So its tokens of white space become user-defined tokens. llama.cpp cuts text by these longest first,
where ours merges, which differs for indentations that are no single token.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen
from tokenizers import Tokenizer as FastTokenizer

from codegen_lsp.checkpoints.export.source import ExportSource
from codegen_lsp.errors import ConversionError

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Types of tokens, by GGUF's numbers."""

GPT2 = "gpt-2"
WHOLE_TEXT = "superbpe"
"""A pre-tokenizer that splits off digits alone."""

WORDS_WITH_UNDERSCORES = (r" ?[\p{L}_]+|\p{N}| ?[^\s\p{L}\p{N}_]+|\r?\n(?:[ \t]*\r?\n)*[ \t]*| +(?! )|\s",)
"""Patterns of pre-tokenizers, of the embedded model, whose merges are those described above."""


@frozen
class GgufVocabulary:
    """Content of the keys `tokenizer.ggml.*`."""

    pre_tokenizer: str
    tokens: list[str]
    """By id."""
    types: list[int]
    merges: list[str]
    exact: bool
    """True if llama.cpp gives the same ids for every text."""


def gguf_vocabulary(source: ExportSource) -> GgufVocabulary:
    """Return the tokenizer of a model for llama.cpp.

    Raises: ConversionError when llama.cpp has no pre-tokenizer that would give the same ids.
    """
    raw: dict[str, Any] = json.loads(source.fast.to_str())
    kind = _pre_tokenizer(raw)
    if kind is None or raw.get("normalizer") or raw["model"].get("type") != "BPE":
        raise ConversionError(
            "llama.cpp has no pre-tokenizer that cuts text as this model's does.", "Export to transformers: --to phi."
        )
    added = {entry["id"]: entry for entry in raw.get("added_tokens") or []}
    spaces = _white_space(source.fast) if kind == WHOLE_TEXT else {}
    tokens, types = [], []
    for id in range(source.info.vocabulary_size):
        text = source.fast.id_to_token(id)
        if id in added:
            text, type = added[id]["content"], CONTROL if added[id]["special"] else USER_DEFINED
        elif id in spaces:
            text, type = spaces[id], USER_DEFINED
        elif text is None:  # an id of GPT-2 whose text another token has
            text, type = f"[UNUSED{id}]", UNUSED
        else:
            type = NORMAL
        tokens.append(text)
        types.append(type)
    if len(set(tokens)) != len(tokens):
        raise ConversionError("Two tokens of the model have the same text.", "Export to transformers: --to phi.")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in raw["model"]["merges"]]
    return GgufVocabulary(kind, tokens, types, merges, exact=kind == GPT2)


def _pre_tokenizer(raw: dict[str, Any]) -> str | None:
    """Return llama.cpp's name for a pre-tokenizer; None when it has none."""
    found = raw.get("pre_tokenizer") or {}
    if found.get("type") == "ByteLevel":
        return GPT2 if found.get("use_regex", True) and not found.get("add_prefix_space") else None
    steps = found.get("pretokenizers") or []
    if [step.get("type") for step in steps] != ["Split", "ByteLevel"] or steps[1].get("add_prefix_space"):
        return None
    known = steps[0].get("pattern", {}).get("Regex") in WORDS_WITH_UNDERSCORES
    return WHOLE_TEXT if known and not steps[1].get("use_regex", True) else None


def _white_space(fast: FastTokenizer) -> dict[int, str]:
    """Return the text of each token of two or more blanks, or a line break with any, by id."""
    texts = {
        id: fast.decode([id], skip_special_tokens=False) for id in fast.get_vocab(with_added_tokens=False).values()
    }
    return {id: text for id, text in texts.items() if text.isspace() and text != " "}
