"""Recognise the prompt format of a checkpoint by the special tokens of its tokenizer.

The marks and their order are those of the models' own documentation. StarCoder's marks for infilling are the most
common ones and say nothing of the order: StarCoder and Granite Code expect the prefix first, Mellum the suffix. Mellum
is recognised by its marks for turns, which the others lack. For another order, change `infill` in `build.json`.

Several files in a prompt are stated only for families that are published with a format for that. StarCoder and Granite
Code name a file in its own document, one to each; SmolLM2 has marks for files, and no format that says how. For them,
and for others, `file_marks` can be written into `build.json`.
"""

from __future__ import annotations

from attrs import frozen
from tokenizers import Tokenizer

from codegen_lsp.inference.build import FileMarks, InfillMarks, InfillStyle

STARCODER = InfillMarks("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
"""Also those of Granite Code and Mellum."""
QWEN = InfillMarks("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
PREFIX_FIRST = (
    QWEN,
    InfillMarks("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
    STARCODER,
    InfillMarks("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
)
MELLUM_TURNS = ("<system>", "<user>", "<assistant>")
"""Marks that Mellum has beside StarCoder's."""
QWEN_FILES = FileMarks(
    repository="<|repo_name|>{repository}\n",
    file="<|file_sep|>{path}\n{text}\n",
    document="<|file_sep|>{path}\n",
)
"""Of the repository-level examples of Qwen2.5-Coder, which Sweep's models inherit."""
MELLUM_FILES = FileMarks(file="<filename>{path}\n{text}\n", document="<filename>{path}\n")
"""Of the example with additional files on Mellum's model card."""
ENDS = (
    *("<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|im_end|>", "<|im_start|>"),
    *("<fim_pad>", "<fim-pad>", "<filename>", "<reponame>", "<file_sep>", "<repo_name>", "<|EOT|>"),
)
"""Marks with which these models end a file, an infilled span or a turn, where their tokenizer has them."""


@frozen
class ModelInfill:
    """How a model infills and reads several files, as `build.json` states it."""

    style: InfillStyle = "none"
    marks: InfillMarks | None = None
    end: int | None = None
    ends: tuple[int, ...] = ()
    files: FileMarks | None = None


def infill_format(tokenizer: Tokenizer, *, codegens: bool) -> ModelInfill:
    """Return the prompt format of a tokenizer. `codegens` is true for CodeGen's own families."""

    def has(*marks: str) -> bool:
        return all(tokenizer.token_to_id(mark) is not None for mark in marks)

    if has("<mask_1>", "<sep>", "<eom>"):
        return ModelInfill("mask", end=tokenizer.token_to_id("<eom>"))
    if codegens:
        return ModelInfill("suffix-first" if has("<fim_suffix>", "<fim_prefix>") else "none")
    ends = tuple(id for mark in ENDS if (id := tokenizer.token_to_id(mark)) is not None)
    for marks in PREFIX_FIRST:
        if not has(marks.prefix, marks.suffix, marks.middle):
            continue
        if marks is STARCODER and has("<filename>", *MELLUM_TURNS):
            return ModelInfill("suffix-first", marks, ends=ends, files=MELLUM_FILES)
        files = QWEN_FILES if marks is QWEN and has("<|repo_name|>", "<|file_sep|>") else None
        return ModelInfill("prefix-first", marks, ends=ends, files=files)
    return ModelInfill(ends=ends)


def begin_of(tokenizer: Tokenizer) -> int | None:
    """Return the id that the tokenizer puts before a text, as DeepSeek-Coder's does; None if there is none."""
    plain = tokenizer.encode("x", add_special_tokens=False).ids
    marked = tokenizer.encode("x", add_special_tokens=True).ids
    return marked[0] if marked[1:] == plain and len(marked) > len(plain) else None
