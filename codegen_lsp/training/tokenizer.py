"""Byte-level BPE tokenizer for code.

A line break with the indentation after it is one token, and so is a run of spaces: indentation decides how many tokens
a line of Python takes and where a completion can begin. A leading space belongs to its word, digits are separate,
punctuation is grouped. Encoding is lossless, since bytes are the alphabet. No token crosses the start of a line break,
so the tokens of a text up to a line's end do not depend on what follows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from codegen_lsp.errors import CorpusError

END = "<|endoftext|>"
SUFFIX = "<fim_suffix>"
PREFIX = "<fim_prefix>"
MIDDLE = "<fim_middle>"
SPECIAL = (END, SUFFIX, PREFIX, MIDDLE)

WORD = r" ?[\p{L}_]+|"
WORD_AFTER_MARK = r"[^\r\n\p{L}\p{N}_]?[\p{L}_]+|"
REST = r"\p{N}| ?[^\s\p{L}\p{N}_]+|\r?\n(?:[ \t]*\r?\n)*[ \t]*| +(?! )|\s"

DESIGNS = {"word": WORD + REST, "mark": WORD_AFTER_MARK + REST}
"""Patterns that split text before pairs are merged. `word`: a word includes the space before it. `mark`: it includes
any one character before it that is not a letter (`.append`, `(self`), as GPT-4's tokenizer does."""


def byte_alphabet() -> dict[str, int]:
    """Return GPT-2's table from characters of a byte-level vocabulary to bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}


def train(texts: Iterable[str], vocabulary: int = 8192, design: str = "word") -> Tokenizer:
    """Learn a tokenizer of `vocabulary` entries, including the special tokens and the 256 bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(DESIGNS[design]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(byte_alphabet()),
        show_progress=False,
        min_frequency=2,
        max_token_length=32,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, positions: int = 2048) -> None:
    """Write the files read by `tokenizers.Tokenizer.from_file` and transformers' AutoTokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    # Written here: the library has no class of its own for the error of a full disk.
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
        "additional_special_tokens": [SUFFIX, PREFIX, MIDDLE],
        "clean_up_tokenization_spaces": False,
        "model_max_length": positions,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END)
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> Tokenizer:
    """Return the tokenizer for training data, which treats the text of a special token as ordinary text."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a token. Raises CorpusError when the tokenizer has no such token."""
    number = tokenizer.token_to_id(token)
    if number is None:
        raise CorpusError(f"The tokenizer has no token {token}.", "Make it with codegen_lsp.training.tokenizer.")
    return int(number)


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """Return the bytes of each token by id; empty for the special tokens."""
    alphabet = byte_alphabet()
    entries = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda entry: entry[1])
    return [b"" if piece in SPECIAL else bytes(alphabet[c] for c in piece) for piece, _ in entries]


def encode_bytes(tokenizer: Tokenizer, data: bytes) -> list[int]:
    """Return token ids of any bytes; each byte that is not part of valid UTF-8 becomes one token."""
    single = {byte: token_id(tokenizer, character) for character, byte in byte_alphabet().items()}
    ids: list[int] = []
    for valid, stray in _utf8_runs(data):
        ids += tokenizer.encode(valid).ids
        ids += [single[byte] for byte in stray]
    return ids


def decode_bytes(tokenizer: Tokenizer, ids: Iterable[int]) -> bytes:
    """Return the bytes of token ids; the inverse of `encode_bytes`."""
    table = token_bytes(tokenizer)
    return b"".join(table[i] for i in ids)


def _utf8_runs(data: bytes) -> Iterator[tuple[str, bytes]]:
    while data:
        try:
            yield data.decode("utf-8"), b""
            return
        except UnicodeDecodeError as error:
            yield data[: error.start].decode("utf-8"), data[error.start : error.end]
            data = data[error.end :]


def characters_per_token(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """Return the mean number of characters per token."""
    characters = tokens = 0
    for text in texts:
        characters += len(text)
        tokens += len(tokenizer.encode(text).ids)
    return characters / max(tokens, 1)
