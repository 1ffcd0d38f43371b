"""The tokenizer of a GGUF file, as a tokenizer.json.

llama.cpp names the way in which a text is cut before the BPE (`tokenizer.ggml.pre`). For the names of models that can
be converted, here are the steps that the models' own tokenizer.json have.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from codegen_lsp.checkpoints.gguf_source.header import FETCH_AGAIN, GgufHeader
from codegen_lsp.errors import ConversionError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Types of tokens, by GGUF's numbers. An unused one fills a row of the embedding that has no token."""

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
QWEN2 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",)
LLAMA3 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",)
DEEPSEEK_CODER = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+")


@frozen
class Cutting:
    """The steps before a byte-level BPE."""

    patterns: tuple[str, ...] = ()
    """A text is split by each in turn; what does not match is kept, too. Without any, GPT-2's pattern is used."""
    digits: bool = False
    """Each digit is a piece of its own."""
    composes: bool = False
    """A text is brought into Unicode's composed form (NFC)."""
    whole_pieces: bool = False
    """A piece that is a token is not merged."""


GPT2 = Cutting()
STARCODER = Cutting(digits=True)
CUTTINGS = {
    **dict.fromkeys(("gpt-2", "phi-2", "mellum", "olmo"), GPT2),
    **dict.fromkeys(("starcoder", "refact", "smollm", "codeshell", "command-r"), STARCODER),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), Cutting(QWEN2, composes=True)),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), Cutting(LLAMA3, whole_pieces=True)),
    "deepseek-coder": Cutting(DEEPSEEK_CODER, digits=True),
}
"""By llama.cpp's name. Granite Code's is `refact`, which cuts as StarCoder's does."""

BEGINS = ("llama-bpe", "llama3", "llama-v3")
"""Names with which a text begins with the mark for that where the file does not say it."""


def declared_tokenizer(header: GgufHeader) -> Tokenizer:
    """Return the tokenizer of a file.

    Raises ConversionError when it is not a byte-level BPE, is cut in an unknown way, or is damaged.
    """
    keys = _TokenizerKeys(header)
    cutting = _cutting(header, keys)
    tokens, types, merges = keys.texts("tokens"), keys.numbers("token_type"), keys.texts("merges")
    if len(types) != len(tokens):
        raise ConversionError(f"{header.path} has {len(tokens)} tokens, but {len(types)} types of them.", FETCH_AGAIN)
    vocabulary = {token: id for id, token in enumerate(tokens) if types[id] != UNUSED}
    if len(vocabulary) != len(tokens) - types.count(UNUSED):
        raise ConversionError(f"{header.path} has a token twice.", FETCH_AGAIN)
    try:
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=_pairs(merges), ignore_merges=cutting.whole_pieces))
    except Exception as error:  # tokenizers raises plain Exception
        raise ConversionError(f"The merges in {header.path} are damaged: {error}.", FETCH_AGAIN) from error
    if cutting.composes:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _steps(cutting)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [
            AddedToken(tokens[id], special=type == CONTROL, normalized=False)
            for id, type in enumerate(types)
            if type in (CONTROL, USER_DEFINED)
        ]
    )
    begin = keys.token("bos", tokens)
    if begin is not None and keys.flag("add_bos_token", keys.given("pre") in BEGINS):
        tokenizer.post_processor = processors.TemplateProcessing(
            single="begin $A", special_tokens=[_special(begin, tokens[begin])]
        )
    return tokenizer


def end_token(header: GgufHeader) -> str | None:
    """Return the text of the token that ends a document; None when the file names none."""
    keys = _TokenizerKeys(header)
    tokens = keys.texts("tokens")
    end = keys.token("eos", tokens)
    return None if end is None else tokens[end]


def _special(id: int, text: str) -> Any:
    """Return an entry of a template, which names the token `begin`: its own text may have characters of templates."""
    return {"id": "begin", "ids": [id], "tokens": [text]}


def _cutting(header: GgufHeader, keys: _TokenizerKeys) -> Cutting:
    kind, name = keys.given("model"), keys.given("pre")
    if kind != "gpt2":
        known = {"llama": "SentencePiece", "bert": "WordPiece", "t5": "Unigram"}.get(kind, repr(kind))
        raise ConversionError(
            f"The tokenizer of {header.path} is {known}; only byte-level BPE is supported.",
            "Choose a model with a byte-level BPE, such as Qwen2.5-Coder.",
        )
    if name in CUTTINGS:
        return CUTTINGS[name]
    if name in (None, "default"):
        if header.metadata.get("general.architecture") == "qwen2":
            return CUTTINGS["qwen2"]
        raise ConversionError(
            f"{header.path} does not tell how its model cuts text before the BPE: it was made before llama.cpp wrote "
            "`tokenizer.ggml.pre`, and a wrong guess would give other tokens than the model knows.",
            "Fetch a newer file of this model, or convert the folder of its checkpoint.",
        )
    raise ConversionError(
        f"{header.path} cuts text in a way that is not known here, {str(name)[:40]!r}. "
        f"Known are {', '.join(sorted(CUTTINGS))}.",
        "Convert the folder of the checkpoint, whose tokenizer.json has its own description of that.",
    )


def _steps(cutting: Cutting) -> Any:
    digits = [pre_tokenizers.Digits(individual_digits=True)] if cutting.digits else []
    split = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in cutting.patterns]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not cutting.patterns)
    return pre_tokenizers.Sequence([*split, *digits, byte_level])


def _pairs(merges: list[str]) -> list[tuple[str, str]]:
    """Return the two parts of each merge. Blanks stand for themselves nowhere in the alphabet of a byte-level BPE."""
    pairs = []
    for merge in merges:
        left, _, right = merge.partition(" ")
        pairs.append((left, right))
    return pairs


class _TokenizerKeys:
    """The keys `tokenizer.ggml.*` of a file."""

    def __init__(self, header: GgufHeader) -> None:
        self._header = header

    def given(self, key: str) -> Any:
        return self._header.metadata.get(f"tokenizer.ggml.{key}")

    def texts(self, key: str) -> list[str]:
        return self._list(key, str)

    def numbers(self, key: str) -> list[int]:
        return self._list(key, int)

    def flag(self, key: str, default: bool) -> bool:
        found = self.given(key)
        return default if found is None else bool(found)

    def token(self, name: str, tokens: list[str]) -> int | None:
        """Return the id of a token with a name, such as `eos`; None when there is none."""
        found = self.given(f"{name}_token_id")
        if found is None:
            return None
        if not isinstance(found, int) or not 0 <= found < len(tokens):
            raise ConversionError(f"{self._header.path}: the id of {name} is {found!r:.40}.", FETCH_AGAIN)
        return found

    def _list(self, key: str, kind: type) -> list[Any]:
        found = self.given(key)
        if not isinstance(found, list) or not all(isinstance(item, kind) for item in found):
            raise ConversionError(f"{self._header.path} has no list tokenizer.ggml.{key}.", FETCH_AGAIN)
        return found
