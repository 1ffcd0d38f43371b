"""Prompts in the formats of the families, token by token."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as FastTokenizer

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo, FileMarks, InfillMarks
from codegen_lsp.inference.prompt import FILES_SHARE, PromptFormat
from codegen_lsp.inference.rpc.messages import RelatedFile, RelatedFiles
from codegen_lsp.inference.tokenizer import Tokenizer

FILES = RelatedFiles("shop", "app/main.py", [RelatedFile("a.py", "x = 1\n"), RelatedFile("b/c.py", "y = 2")])
MARKS = {
    "qwen": ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>"),
    "mellum": ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<filename>"),
}
FORMATS: dict[str, dict[str, Any]] = {
    "qwen": {
        "infill": "prefix-first",
        "file_marks": FileMarks("<|file_sep|>{path}\n{text}\n", "<|file_sep|>{path}\n", "<|repo_name|>{repository}\n"),
    },
    "mellum": {"infill": "suffix-first", "file_marks": FileMarks("<filename>{path}\n{text}\n", "<filename>{path}\n")},
}
PUBLISHED = {
    ("qwen", True): "<|repo_name|>shop\n<|file_sep|>a.py\nx = 1\n<|file_sep|>b/c.py\ny = 2\n<|file_sep|>app/main.py\n"
    "<|fim_prefix|>def f():\n<|fim_suffix|>f()\n<|fim_middle|>",
    ("qwen", False): "<|repo_name|>shop\n<|file_sep|>a.py\nx = 1\n<|file_sep|>b/c.py\ny = 2\n<|file_sep|>app/main.py\n"
    "def f():\n",
    ("mellum", True): "<filename>a.py\nx = 1\n<filename>b/c.py\ny = 2\n<filename>app/main.py\n"
    "<fim_suffix>f()\n<fim_prefix>def f():\n<fim_middle>",
    ("mellum", False): "<filename>a.py\nx = 1\n<filename>b/c.py\ny = 2\n<filename>app/main.py\ndef f():\n",
}
"""Prompts as the families' documentation has them, with and without text after the cursor."""


def prompts(family: str, **changed: Any) -> tuple[PromptFormat, Tokenizer, FastTokenizer]:
    fast = FastTokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=256, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    fast.train_from_iterator([], trainer)
    fast.add_special_tokens([AddedToken(mark) for mark in MARKS[family]])
    size = fast.get_vocab_size()
    info = BuildInfo("m", "qwen2", "", "", 2048, size, 2, 2, 16, 0, **(FORMATS[family] | changed))
    info = evolve(info, infill_marks=InfillMarks(*MARKS[family][:3]))
    ours = FastTokenizer.from_str(fast.to_str())
    ours.encode_special_tokens = True
    tokenizer = Tokenizer(ours, size)
    return PromptFormat(info, tokenizer), tokenizer, fast


@pytest.mark.parametrize(("family", "below"), PUBLISHED)
def test_other_files_come_first_in_the_format_of_the_family(family: str, below: bool) -> None:
    made, tokenizer, fast = prompts(family)
    prompt = made.prompt("def f():\n", "f()\n" if below else "", 1_000, heal=False, files=FILES)
    assert prompt.ids == fast.encode(PUBLISHED[family, below]).ids
    assert tokenizer.decode([prompt.ids[at] for at in prompt.before]) == "def f():\n"
    assert tokenizer.decode([prompt.ids[at] for at in prompt.after]) == ("f()\n" if below else "")
    assert tokenizer.decode([prompt.ids[at] for at in prompt.files]).endswith("app/main.py\n")


@pytest.mark.parametrize("family", MARKS)
def test_without_files_the_prompt_is_that_of_one_file(family: str) -> None:
    made, _, _ = prompts(family)
    alone = made.prompt("def f():\n", "f()\n", 1_000, heal=False)
    assert made.prompt("def f():\n", "f()\n", 1_000, heal=False, files=evolve(FILES, files=[])) == alone
    other, _, _ = prompts(family, file_marks=None)
    assert other.prompt("def f():\n", "f()\n", 1_000, heal=False, files=FILES) == alone


@pytest.mark.parametrize("family", MARKS)
def test_marks_in_names_and_texts_of_files_are_text(family: str) -> None:
    made, tokenizer, _ = prompts(family)
    every = "".join(MARKS[family]) + "{path}{text}{repository}<|endoftext|>"
    files = RelatedFiles(every, every, [RelatedFile(every, every)])
    prompt = made.prompt("x", "y", 1_000, heal=False, files=files)
    plain = made.prompt("x", "y", 1_000, heal=False, files=RelatedFiles("r", "p", [RelatedFile("p", "t")]))

    def special(ids: list[int]) -> list[int]:
        return [id for id in ids if id in tokenizer.special_ids]

    assert special(prompt.ids) == special(plain.ids)
    assert tokenizer.decode(prompt.ids).count(every) == (4 if family == "qwen" else 3)


@pytest.mark.parametrize("family", MARKS)
def test_what_does_not_fit_is_left_out_and_the_same_for_every_length_of_answer(family: str) -> None:
    made, tokenizer, _ = prompts(family)
    files = evolve(FILES, files=[*FILES.files, RelatedFile("d.py", "z" * int(2048 * FILES_SHARE))])
    whole = made.prompt("x = 1\n" * 400, "y\n" * 400, 2_000, heal=False, files=files)
    assert "b/c.py" in tokenizer.decode(whole.ids)
    assert "d.py" not in tokenizer.decode(whole.ids)
    for room in range(1_888, 2_048, 40):
        prompt = made.prompt("x = 1\n" * 400, "y\n" * 400, room, heal=False, files=files)
        assert len(prompt.ids) <= room
        assert prompt.ids[: prompt.files.stop] == whole.ids[: whole.files.stop]
    for room in range(64, 200, 8):
        prompt = made.prompt("x = 1\n" * 400, "y\n" * 400, room, heal=False, files=files)
        assert len(prompt.ids) <= room
        assert len(prompt.before) >= 16


def test_a_mark_that_the_tokenizer_lacks_is_refused() -> None:
    made, _, _ = prompts("qwen", file_marks=FileMarks("<filename>{path}\n{text}\n", "<|file_sep|>{path}\n"))
    with pytest.raises(ModelError, match="has <filename>, which is no special token"):
        made.prompt("x", "y", 1_000, heal=False, files=FILES)
