"""The prompt format of a checkpoint, by the special tokens of its tokenizer."""

from __future__ import annotations

import pytest
from attrs import evolve
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from codegen_lsp.checkpoints.infill_formats import MELLUM_FILES, QWEN, QWEN_FILES, STARCODER, ModelInfill, infill_format
from codegen_lsp.inference.build import InfillMarks

DEEPSEEK = InfillMarks("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>")
STARCODER_TOKENS = (
    *("<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<filename>", "<gh_stars>"),
    *("<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>", "<jupyter_code>"),
    *("<jupyter_output>", "<empty_output>", "<commit_before>", "<commit_msg>", "<commit_after>", "<reponame>"),
)
QWEN_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
    *("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
)
TOKENS = {
    "qwen2.5-coder, sweep": QWEN_TOKENS,
    "deepseek-coder": (
        *("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
        "<|EOT|>",
    ),
    "starcoder, granite code": STARCODER_TOKENS,
    "mellum": (
        *STARCODER_TOKENS,
        *("<system>", "</system>", "<user>", "</user>", "<assistant>", "</assistant>", "<think>", "</think>"),
    ),
    "smollm2": (
        *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>"),
        *("<gh_stars>", "<issue_start>", "<empty_output>"),
    ),
    "a plain llama": ("<|endoftext|>",),
}
"""Special tokens of the families, as their published tokenizers have them."""

FORMATS = {
    "qwen2.5-coder, sweep": ModelInfill("prefix-first", QWEN, files=QWEN_FILES),
    "deepseek-coder": ModelInfill("prefix-first", DEEPSEEK),
    "starcoder, granite code": ModelInfill("prefix-first", STARCODER),
    "mellum": ModelInfill("suffix-first", STARCODER, files=MELLUM_FILES),
    "smollm2": ModelInfill(),
    "a plain llama": ModelInfill(),
}
ENDS = {
    "qwen2.5-coder, sweep": {
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|fim_pad|>",
        "<|repo_name|>",
        "<|file_sep|>",
    },
    "deepseek-coder": {"<|EOT|>"},
    "starcoder, granite code": {"<|endoftext|>", "<fim_pad>", "<filename>", "<reponame>"},
    "mellum": {"<|endoftext|>", "<fim_pad>", "<filename>", "<reponame>"},
    "smollm2": {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>"},
    "a plain llama": {"<|endoftext|>"},
}
"""Tokens that end an answer, beside the declared end of a text."""


@pytest.mark.parametrize("family", TOKENS)
def test_the_format_is_recognised_by_the_special_tokens(family: str) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(token) for token in TOKENS[family]])
    found = infill_format(tokenizer, codegens=False)
    assert {tokenizer.id_to_token(id) for id in found.ends} == ENDS[family]
    assert evolve(found, ends=()) == FORMATS[family]
