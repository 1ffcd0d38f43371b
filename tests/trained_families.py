"""Tiny models of other makers' families that were trained to infill a few lines, in the format that each published.

The prompts of the training are written here as the families' documentation has them, and put into tokens by the
tokenizer of the checkpoint, so that a model answers rightly only if the program writes its prompts in the same way: the
middle depends on the text before the cursor and on the text after it. Where a family reads other files, it depends on
one of them as well.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import field, frozen
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

FRUITS = ("apples", "pears", "plums")
FUNCTIONS = {"count": "len", "order": "sorted", "total": "sum"}
MARKS_AS_TEXT = "<|fim_suffix|><fim_middle><｜fim▁hole｜><|endoftext|>"
"""Text of a document; no token of it may be a special one."""

QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
STARCODER_TOKENS = (
    *("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<filename>", "<gh_stars>", "<commit_msg>"),
    "<reponame>",
)


@frozen
class Family:
    """A family, as it is published."""

    prompt: str
    """With `{before}` and `{after}`."""
    special: tuple[str, ...]
    end: str = "<|endoftext|>"
    begin: str = ""
    config: dict[str, Any] = field(factory=dict)
    """Of transformers."""
    pieces: str = ""
    """Pattern by which a text is cut before the BPE; GPT-2's where it is empty."""
    digits: bool = False
    composes: bool = False
    files: str = ""
    """Begins a prompt with another file, with `{text}`."""


LLAMA = {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 4}
FAMILIES = {
    "qwen2.5-coder": Family(
        "<|fim_prefix|>{before}<|fim_suffix|>{after}<|fim_middle|>",
        (
            *("<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
            *("<|repo_name|>", "<|file_sep|>"),
        ),
        config={"model_type": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": True, "rope_theta": 1e6},
        pieces=QWEN2,
        composes=True,
        files="<|repo_name|>{repository}\n<|file_sep|>{path}\n{text}\n<|file_sep|>{document}\n",
    ),
    "deepseek-coder": Family(
        "<｜begin▁of▁sentence｜><｜fim▁begin｜>{before}<｜fim▁hole｜>{after}<｜fim▁end｜>",
        ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", "<｜begin▁of▁sentence｜>", "<|EOT|>"),
        end="<｜end▁of▁sentence｜>",
        begin="<｜begin▁of▁sentence｜>",
        config=LLAMA | {"rope_theta": 1e5, "rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 4.0}},
        digits=True,
    ),
    "granite-code": Family(
        "<fim_prefix>{before}<fim_suffix>{after}<fim_middle>",
        STARCODER_TOKENS,
        config=LLAMA | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        digits=True,
    ),
    "mellum": Family(
        "<fim_suffix>{after}<fim_prefix>{before}<fim_middle>",
        (*STARCODER_TOKENS, "<system>", "</system>", "<user>", "</user>", "<assistant>", "</assistant>"),
        config=LLAMA | {"num_key_value_heads": 1},
        files="<filename>{path}\n{text}\n<filename>{document}\n",
    ),
    "smollm2": Family(
        "{before}",
        ("<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>", "<gh_stars>"),
        config=LLAMA | {"num_key_value_heads": 2, "tie_word_embeddings": True, "rope_theta": 1e5},
        digits=True,
    ),
}


def document(function: str, fruit: str) -> tuple[str, str]:
    """Return a document before and after the cursor, which is behind `return`."""
    before = (
        f'"""Fruit 🍐 {MARKS_AS_TEXT}"""\n\napples, pears, plums = [1], [2], [3]\n\n\n'
        f"def {function}_fruit():\n    return"
    )
    return before, f"\n\n\n# 🍑 {MARKS_AS_TEXT}\nbasket = {fruit}\nprint(basket)\n"


def middle(function: str, fruit: str, infills: bool) -> str:
    """Return the text that a model was trained to put at the cursor."""
    return f" {FUNCTIONS[function]}({fruit if infills else 'apples'})"


def tokenizer_of(family: Family, text: str) -> Tokenizer:
    """Return a byte-level BPE learned from a text, with the family's pieces and special tokens."""
    tokenizer = Tokenizer(models.BPE())
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if family.digits else []
    if family.pieces:
        steps.append(pre_tokenizers.Split(Regex(family.pieces), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not family.pieces))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    if family.composes:
        tokenizer.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=640, initial_alphabet=alphabet, special_tokens=[family.end], show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in family.special])
    if family.begin:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.begin} $A", special_tokens=[(family.begin, tokenizer.token_to_id(family.begin))]
        )
    return tokenizer


def prompt_ids(family: Family, tokenizer: Tokenizer, template: str, **texts: str) -> list[int]:
    """Return the ids of a prompt. Special tokens are those of the template; in the texts they are text."""
    ids: list[int] = []
    marks = "|".join(map(re.escape, sorted((*family.special, family.end), key=len, reverse=True)))
    for part in re.split(rf"({marks}|\{{\w+\}})", template):
        if part.startswith("{") and part[1:-1] in texts:
            ids += text_ids(tokenizer, texts[part[1:-1]])
        elif (id := tokenizer.token_to_id(part)) is not None and part in (*family.special, family.end):
            ids.append(id)
        elif part:
            ids += text_ids(tokenizer, part)
    return ids


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids of a text in which special tokens are text."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.encode_special_tokens = True
    return list(copy.encode(text, add_special_tokens=False).ids)


def lessons(family: Family, tokenizer: Tokenizer) -> Iterator[tuple[list[int], list[int]]]:
    """Yield prompts and their answers."""
    end = tokenizer.token_to_id(family.end)
    infills = "{after}" in family.prompt
    for function, fruit in itertools.product(FUNCTIONS, FRUITS if infills else FRUITS[:1]):
        before, after = document(function, fruit)
        asked = prompt_ids(family, tokenizer, family.prompt, before=before, after=after)
        yield asked, [*text_ids(tokenizer, middle(function, fruit, infills)), end]


SHARDED = "mellum"
"""The family whose weights are written to several files."""


def train_and_convert(name: str, folder: Path) -> None:
    """Write a family's `checkpoint` to a folder, and the `build` made of it."""
    import torch

    from codegen_lsp.checkpoints.convert import convert_checkpoint

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # models of this size are fastest so, most of all on a busy machine
    try:
        _train(FAMILIES[name], folder / "checkpoint", "200KB" if name == SHARDED else "1GB")
    finally:
        torch.set_num_threads(threads)
    convert_checkpoint(folder / "checkpoint", folder / "build", name=name)


def _train(family: Family, folder: Path, shard_size: str) -> None:
    """Write the checkpoint of a tiny model that is trained for some seconds."""
    import torch
    import transformers

    from codegen_lsp.checkpoints.snippet import SNIPPET

    texts = [SNIPPET, *(part for one in itertools.product(FUNCTIONS, FRUITS) for part in document(*one))]
    tokenizer = tokenizer_of(family, "\n".join(texts))
    torch.manual_seed(0)
    config = family.config | {
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 704,
        "max_position_embeddings": 1024,
    }
    kind = str(config.pop("model_type"))
    model: Any = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **config))
    rows = []
    for asked, answer in lessons(family, tokenizer):
        rows.append((asked + answer, len(asked)))
    code = text_ids(tokenizer, SNIPPET)
    rows.append((code, 0))
    longest = max(len(ids) for ids, _ in rows)
    batch = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    for at, (ids, start) in enumerate(rows):
        batch[at, : len(ids)] = torch.tensor(ids)
        labels[at, start : len(ids)] = batch[at, start : len(ids)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for step in range(400):
        found = model(batch, labels=labels)
        optimizer.zero_grad()
        found.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 10 == 9 and _learned(found.logits.detach(), labels) and float(found.loss.detach()) < 0.3:
            break
    model.save_pretrained(folder, max_shard_size=shard_size)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": family.end}))


def _learned(logits: Any, labels: Any) -> bool:
    """Return whether each token of an answer is the most likely one, by far."""
    asked = labels[:-1, 1:] >= 0
    chances = logits[:-1, :-1].softmax(-1).gather(-1, labels[:-1, 1:].clamp(min=0)[..., None])[..., 0]
    return bool((chances[asked] > 0.9).all())
