"""Build a complete `tokenizer.json` for each family, without running code of a checkpoint.

All are GPT-2's byte-level BPE (50,257 tokens) with additions:

- CodeGen1 `nl`: none. `multi` and `mono`: runs of 31 to 2 spaces (ids 50257 to 50286) and of 9 to 2 tabs (50287 to
  50294), matched before the BPE.
- CodeGen2: those runs, and special tokens for infilling (`<sep>`, `<eom>`, `<mask_1>` ...) as its files list them.
- CodeGen2.5: the same runs, but as entries of the BPE, because it was trained with tiktoken. Its repository has no
  vocabulary, only code that fetches GPT-2's from another place and extends it; here it is assembled from GPT-2's files
  of a CodeGen1 checkpoint. Both forms, runs in the BPE and runs before it, are tried on the weights.
- The embedded model: its own `tokenizer.json`.

Other models come with their own `tokenizer.json`, which is used if it is a byte-level BPE.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from codegen_lsp.checkpoints.architecture import Architecture, Family
from codegen_lsp.checkpoints.weights import read_json
from codegen_lsp.errors import ConversionError
from codegen_lsp.inference.tokenizer import Tokenizer as BuildTokenizer

END = "<|endoftext|>"
GPT2_SIZE = 50257
"""Tokens of GPT-2: 256 bytes, 50,000 merges, and the end of text."""

GPT2_MERGES = 50000

SPACE_RUNS = range(31, 1, -1)
TAB_RUNS = range(9, 1, -1)

STARCODER_MARKS = (
    *("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<filename>", "<gh_stars>"),
    *("<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>", "<jupyter_code>"),
    *("<jupyter_output>", "<empty_output>", "<commit_before>", "<commit_msg>", "<commit_after>", "<reponame>"),
)
"""The 18 special tokens that CodeGen2.5 adopted with StarCoder's training data, from id 50295 on."""

CODEGEN25_MARKS = (
    *STARCODER_MARKS,
    *(f"<dummy_{number}>" for number in range(4)),
    *("<sep>", "<eom>"),
    *(f"<mask_{number}>" for number in range(881, 0, -1)),
)
"""All special tokens of CodeGen2.5 but the end of text, ids 50295 to 51199."""

PROBES = (
    "def f(x):\n    return x\n",
    "\tif (a) {\r\n\t\treturn;\r\n\t}\r\n",
    "naïve = '日本' + \"🙂\"  # ​ \x0c",
    " " * 70 + "x" + "\t" * 20 + "y  \n\n\n",
)
"""Texts that encoding and decoding must preserve."""

KNOWN_PLAIN_IDS = {"    return x": [220, 220, 220, 1441, 2124]}
"""Ids of GPT-2 without additions."""

KNOWN_IDS: dict[Family, dict[str, list[int]]] = {
    "codegen": {"    return x": [50284, 7783, 2124], "\t\tx": [50294, 87]},
    "codegen2": {"    return x": [50284, 7783, 2124], "prefix<mask_1>suffix": [40290, 51199, 37333, 844]},
    "codegen25": {
        "<fim_prefix>abc<fim_suffix>xyz<fim_middle>": [50295, 39305, 50297, 5431, 89, 50296],
        "prefix<mask_1>suffix<|endoftext|><sep><mask_1>": [40290, 51199, 37333, 844, 50256, 50317, 51199],
    },
}
"""Ids of the families' own tokenizers. For an untrained model, no other check would notice a tokenizer of the same size
with other ids."""

MARK = re.compile(r"<[a-z_-]+(\d+)?>|<\|[a-zA-Z_]+\|>|<｜[^｜<>]+｜>")
"""Form of special tokens. The same characters in a user's file are ordinary text."""

GPT2_ADVICE = (
    "Pull it instead (`codegen-lsp models pull`), or put vocab.json and merges.txt of any CodeGen checkpoint into the "
    "folder."
)


def build_tokenizers(source: Path, architecture: Architecture) -> list[Tokenizer]:
    """Return the tokenizer of a checkpoint's folder; for CodeGen2.5, whose folder leaves it open, two possible ones.

    Raises ConversionError when the necessary files are missing or damaged.
    """
    path = source / "tokenizer.json"
    if path.is_file():
        given = _from_json(read_json(path), path)
        codegen25 = architecture.is_codegens and given.token_to_id(END) == GPT2_SIZE - 1
        if architecture.block == "codegen" or given.token_to_id("<eom>") is not None or not codegen25:
            return [given]
    elif not architecture.is_codegens:
        raise ConversionError(f"{source} has no tokenizer.json.", "Fetch the checkpoint again.")
    base = gpt2_files(source)
    if architecture.block == "llama":
        return [codegen25_tokenizer(*base), codegen25_tokenizer_runs_first(*base)]
    tokenizer = gpt2_tokenizer(*base)
    tokenizer.add_tokens([_added(text) for text in _added_tokens(source)])
    return [tokenizer]


def load_tokenizer(path: Path) -> Tokenizer:
    """Load the tokenizer of a build. Raises ConversionError when the file is damaged."""
    return _from_json(read_json(path), path)


def family_of(architecture: Architecture, tokenizer: Tokenizer) -> Family:
    """Return the family of a checkpoint. CodeGen2 and 2.5 have special tokens for infilling."""
    if architecture.block == "gpt_bigcode":
        return "gpt_bigcode"
    infills = tokenizer.token_to_id("<eom>") is not None
    if architecture.block == "codegen":
        return "codegen2" if infills else "codegen"
    if architecture.is_codegens and infills:
        return "codegen25"
    return "qwen2" if architecture.qkv_bias and not architecture.o_bias else "llama"


def check_tokenizer(tokenizer: Tokenizer, family: Family, source: Path, rows: int) -> None:
    """Check a tokenizer against its family and the embedding's number of rows.

    Raises ConversionError when it has ids beyond `rows`, does not preserve text, or gives other ids than the family was
    trained with.
    """
    if vocabulary_size(tokenizer) > rows:
        raise ConversionError(
            f"The tokenizer in {source} has {vocabulary_size(tokenizer)} tokens, the model's embedding only {rows} "
            "rows: they do not belong together.",
            "Use the tokenizer files of the checkpoint itself.",
        )
    for text in PROBES:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if tokenizer.decode(ids, skip_special_tokens=False) != text or not _is_byte_level(tokenizer, text):
            raise ConversionError(
                f"The tokenizer in {source} does not give {text!r} back.",
                "Fetch the tokenizer's files again, or choose a model with a byte-level BPE.",
            )
    if vocabulary_size(tokenizer) < GPT2_SIZE:
        return
    if family not in KNOWN_IDS:
        return
    known = KNOWN_IDS[family] if vocabulary_size(tokenizer) > GPT2_SIZE else KNOWN_PLAIN_IDS
    for text, expected in known.items():
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if ids != expected:
            raise ConversionError(
                f"The tokenizer in {source} gives {text!r} the ids {ids}; {family} was trained with {expected}.",
                "Use the tokenizer files of the checkpoint itself.",
            )


def gpt2_tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """Return GPT-2's byte-level BPE, with the end of text as its only special token."""
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    return tokenizer


def codegen25_tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """Return CodeGen2.5's tokenizer from GPT-2's vocabulary and merges, with the runs as entries of the BPE.

    tiktoken merges the pair whose joined bytes have the lowest id. Longer runs have lower ids, so each split of a run
    in two becomes a merge, longest runs first, all after GPT-2's own merges. A piece of text that is a token is taken
    without merging (`ignore_merges`).
    """
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    runs: dict[str, int] = {}
    added: list[tuple[str, str]] = []
    for character, lengths in ((" ", SPACE_RUNS), ("\t", TAB_RUNS)):
        letter = alphabet.pre_tokenize_str(character)[0][0]
        for length in lengths:
            runs[letter * length] = GPT2_SIZE + len(runs)
            added += [(letter * left, letter * (length - left)) for left in range(length - 1, 0, -1)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary | runs, merges=merges + added, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END, *CODEGEN25_MARKS])
    return tokenizer


def codegen25_tokenizer_runs_first(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """Return a tokenizer with the same ids, but with the runs matched before the BPE, as in CodeGen1.

    `    return` then is a run of four spaces and `return`; in the BPE it is a run of three spaces and ` return`.
    """
    tokenizer = gpt2_tokenizer(vocabulary, merges)
    runs = [" " * length for length in SPACE_RUNS] + ["\t" * length for length in TAB_RUNS]
    tokenizer.add_tokens([_added(run) for run in runs])
    tokenizer.add_special_tokens(list(CODEGEN25_MARKS))
    return tokenizer


def without_additions(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer without additions to GPT-2's; `nl` checkpoints were trained with that."""
    model = json.loads(tokenizer.to_str())["model"]
    return gpt2_tokenizer(*_vocabulary_and_merges(model))


def gpt2_files(source: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Read GPT-2's vocabulary and merges from the tokenizer files of a checkpoint's folder.

    Raises ConversionError when the folder has neither vocab.json with merges.txt nor tokenizer.json, or they are not
    GPT-2's.
    """
    if (source / "vocab.json").is_file() and (source / "merges.txt").is_file():
        model = {"vocab": read_json(source / "vocab.json"), "merges": _merge_lines(source / "merges.txt")}
    elif (source / "tokenizer.json").is_file():
        model = read_json(source / "tokenizer.json").get("model") or {}
    else:
        raise ConversionError(
            f"{source} has no vocabulary: neither vocab.json with merges.txt nor tokenizer.json.", GPT2_ADVICE
        )
    try:
        vocabulary, merges = _vocabulary_and_merges(model)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConversionError(f"The vocabulary in {source} is damaged: {error}.", GPT2_ADVICE) from error
    if len(vocabulary) != GPT2_SIZE or len(merges) != GPT2_MERGES or vocabulary.get(END) != GPT2_SIZE - 1:
        raise ConversionError(
            f"The vocabulary in {source} is not GPT-2's: {len(vocabulary)} tokens and {len(merges)} merges.",
            GPT2_ADVICE,
        )
    return vocabulary, merges


def padded_vocabulary(tokenizer: Tokenizer, rows: int) -> list[str]:
    """Return a name for each row of the embedding, by id: the token, or `<extra_id_N>` for a padding row."""
    return [tokenizer.id_to_token(id) or f"<extra_id_{id}>" for id in range(rows)]


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Return the highest token id plus one."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def end_of_text(tokenizer: Tokenizer, source: Path) -> int:
    """Return the id of the token that ends a document, from the tokenizer: CodeGen's config.json names wrong ids.

    Raises ConversionError when the tokenizer has none.
    """
    path = source / "tokenizer_config.json"
    declared = read_json(path).get("eos_token") if path.is_file() else None
    if isinstance(declared, dict):
        declared = declared.get("content")
    name = declared if isinstance(declared, str) else END
    found: int | None = tokenizer.token_to_id(name)
    if found is None:
        raise ConversionError(f"The tokenizer of {source} has no {name} token.", "Fetch the checkpoint again.")
    return found


def _is_byte_level(tokenizer: Tokenizer, text: str) -> bool:
    """Return whether the tokens of a text stand for its bytes, in GPT-2's alphabet."""
    copy = BuildTokenizer(Tokenizer.from_str(tokenizer.to_str()), vocabulary_size(tokenizer))
    return b"".join(map(copy.token_bytes, copy.encode(text))) == text.encode()


def _from_json(raw: dict[str, Any], path: Path) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json, with its marks made special, and without truncation and padding."""
    for token in raw.get("added_tokens") or []:
        if MARK.fullmatch(str(token.get("content", ""))):
            token |= {"special": True, "normalized": False}
    raw |= {"truncation": None, "padding": None}
    try:
        return Tokenizer.from_str(json.dumps(raw))
    except Exception as error:  # tokenizers raises plain Exception
        raise ConversionError(f"{path} is not a tokenizer: {error}.", "Fetch the checkpoint again.") from error


def _added_tokens(source: Path) -> list[str]:
    """Return the texts of added_tokens.json in order of their ids.

    Raises ConversionError unless the ids follow GPT-2's without a gap.
    """
    path = source / "added_tokens.json"
    if not path.is_file():
        return []
    by_id = {id: text for text, id in read_json(path).items() if isinstance(id, int) and id >= GPT2_SIZE}
    if sorted(by_id) != list(range(GPT2_SIZE, GPT2_SIZE + len(by_id))):
        raise ConversionError(f"{path} leaves ids out.", "Fetch the checkpoint again.")
    return [by_id[id] for id in sorted(by_id)]


def _added(text: str) -> AddedToken:
    special = MARK.fullmatch(text) is not None
    return AddedToken(text, special=special, normalized=not special)


def _merge_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConversionError(f"{path} can't be read: {error}.", "Fetch it again.") from error
    return [line for line in lines if line and not line.startswith("#version")]


def _vocabulary_and_merges(model: dict[str, Any]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    vocabulary, merges = model.get("vocab") or {}, model.get("merges") or []
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    return {token: id for token, id in vocabulary.items() if id < GPT2_SIZE}, [(left, right) for left, right in pairs]
