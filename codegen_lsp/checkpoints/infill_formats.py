"""Recognise the infill format of a checkpoint by the special tokens of its tokenizer.

The marks are those of the models' own documentation. StarCoder's marks are the most common ones, and say nothing of the
order in which a model expects prefix and suffix; prefix first is what StarCoder, Granite Code and Qwen2.5-Coder expect.
For another order, change `infill` in the build's `build.json`.
"""

from __future__ import annotations

from attrs import frozen
from tokenizers import Tokenizer

from codegen_lsp.inference.build import InfillMarks, InfillStyle

PREFIX_FIRST = (
    InfillMarks("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder
    InfillMarks("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
    InfillMarks("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite Code
    InfillMarks("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
)
ENDS = (
    *("<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|im_end|>", "<|im_start|>"),
    *("<fim_pad>", "<fim-pad>", "<filename>", "<reponame>", "<file_sep>", "<repo_name>", "<|EOT|>"),
)
"""Marks with which these models end a file, an infilled span or a turn, where their tokenizer has them."""


@frozen
class ModelInfill:
    """How a model infills, as `build.json` states it."""

    style: InfillStyle = "none"
    marks: InfillMarks | None = None
    end: int | None = None
    ends: tuple[int, ...] = ()


def infill_format(tokenizer: Tokenizer, *, codegens: bool) -> ModelInfill:
    """Return the infill format of a tokenizer. `codegens` is true for CodeGen's own families."""

    def has(*marks: str) -> bool:
        return all(tokenizer.token_to_id(mark) is not None for mark in marks)

    if has("<mask_1>", "<sep>", "<eom>"):
        return ModelInfill("mask", end=tokenizer.token_to_id("<eom>"))
    if codegens:
        return ModelInfill("suffix-first" if has("<fim_suffix>", "<fim_prefix>") else "none")
    ends = tuple(id for mark in ENDS if (id := tokenizer.token_to_id(mark)) is not None)
    for marks in PREFIX_FIRST:
        if has(marks.prefix, marks.suffix, marks.middle):
            return ModelInfill("prefix-first", marks, ends=ends)
    return ModelInfill(ends=ends)


def begin_of(tokenizer: Tokenizer) -> int | None:
    """Return the id that the tokenizer puts before a text, as DeepSeek-Coder's does; None if there is none."""
    plain = tokenizer.encode("x", add_special_tokens=False).ids
    marked = tokenizer.encode("x", add_special_tokens=True).ids
    return marked[0] if marked[1:] == plain and len(marked) > len(plain) else None
