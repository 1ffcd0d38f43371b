"""Tokenizers of all families, compared with known ids and with an implementation of tiktoken's algorithm."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import json
import random
import shutil
from pathlib import Path

import pytest
import regex
from tokenizers import Tokenizer

from codegen_lsp.checkpoints import vocabulary
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.vocabulary import (
    GPT2_SIZE,
    build_tokenizers,
    check_tokenizer,
    codegen25_tokenizer,
    codegen25_tokenizer_runs_first,
    end_of_text,
    family_of,
    gpt2_files,
    padded_vocabulary,
    vocabulary_size,
    without_additions,
)
from codegen_lsp.errors import ConversionError
from codegen_lsp.inference.tokenizer import byte_alphabet

CODEGEN = Architecture("codegen", 2, 4, 64, 256, 8, 640, 512, 1e-5, 4)
LLAMA = Architecture("llama", 2, 4, 64, 176, 16, 640, 512, 1e-6)
GPT2_PATTERN = regex.compile(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.fixture(scope="module")
def codegen25(codegen_files: Path) -> Tokenizer:
    return codegen25_tokenizer(*gpt2_files(codegen_files))


@pytest.fixture(scope="module")
def ranks(codegen_files: Path) -> dict[bytes, int]:
    """tiktoken's table: GPT-2's tokens and the runs, by their bytes."""
    alphabet = byte_alphabet()
    found = {
        bytes(alphabet[character] for character in token): id
        for token, id in json.loads((codegen_files / "vocab.json").read_text()).items()
        if token != "<|endoftext|>"
    }
    runs = [b" " * length for length in range(31, 1, -1)] + [b"\t" * length for length in range(9, 1, -1)]
    return found | {run: GPT2_SIZE + place for place, run in enumerate(runs)}


def tiktoken_ids(text: str, ranks: dict[bytes, int]) -> list[int]:
    """Byte pair encoding as tiktoken does it: join the neighbours whose bytes together have the lowest rank, the first
    of equals first; a piece that is a token is that token."""
    out: list[int] = []
    for piece in GPT2_PATTERN.findall(text):
        parts = [bytes([byte]) for byte in piece.encode()]
        if piece.encode() in ranks:
            parts = [piece.encode()]
        while len(parts) > 1:
            rank, place = min((ranks.get(parts[i] + parts[i + 1], 1 << 30), i) for i in range(len(parts) - 1))
            if rank == 1 << 30:
                break
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        out += [ranks[part] for part in parts]
    return out


@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.json merges.txt added_tokens.json"])
def test_codegen_multi_and_mono(files: str, codegen_files: Path, tmp_path: Path) -> None:
    for name in files.split():
        shutil.copyfile(codegen_files / name, tmp_path / name)
    (tokenizer,) = build_tokenizers(tmp_path, CODEGEN)
    check_tokenizer(tokenizer, "codegen", tmp_path, 51200)
    assert vocabulary_size(tokenizer) == 50295
    assert ids(tokenizer, "    return x") == [50284, 7783, 2124]
    assert ids(tokenizer, "\t\tif x:\n" + " " * 31) == [50294, 361, 2124, 25, 198, 50257]
    assert ids(tokenizer, "<|endoftext|>") == [50256] == [end_of_text(tokenizer, tmp_path)]
    rows = padded_vocabulary(tokenizer, 51200)
    assert (rows[50284], rows[50294], rows[50295], rows[51199]) == (
        " " * 4,
        "\t\t",
        "<extra_id_50295>",
        "<extra_id_51199>",
    )
    assert len(set(rows)) == 51200


def test_both_forms_of_codegens_files_agree(codegen_files: Path, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        shutil.copyfile(codegen_files / name, tmp_path / name)
    (ours,) = build_tokenizers(tmp_path, CODEGEN)
    (theirs,) = build_tokenizers(codegen_files, CODEGEN)
    for path in sorted(Path(vocabulary.__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert ids(ours, text) == ids(theirs, text)


def test_nl_is_plain_gpt2_whatever_its_files_list(codegen_files: Path) -> None:
    (listed,) = build_tokenizers(codegen_files, CODEGEN)
    plain = without_additions(listed)
    assert vocabulary_size(plain) == GPT2_SIZE
    assert ids(plain, "    return x") == [220, 220, 220, 1441, 2124]
    check_tokenizer(plain, "codegen", codegen_files, 51200)


def test_codegen2_takes_the_ids_of_its_marks_from_its_files(codegen_files: Path, tmp_path: Path) -> None:
    """Published files have had `<sep>` at 50299 and at 50317; the folder's ids are used."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(codegen_files / name, tmp_path / name)
    added = json.loads((codegen_files / "added_tokens.json").read_text())
    marks = [f"<dummy_{i}>" for i in range(4)] + ["<sep>", "<eom>"] + [f"<mask_{i}>" for i in range(899, 0, -1)]
    added |= {mark: 50295 + place for place, mark in enumerate(marks)}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    (tokenizer,) = build_tokenizers(tmp_path, CODEGEN)
    assert family_of(CODEGEN, tokenizer) == "codegen2"
    check_tokenizer(tokenizer, "codegen2", tmp_path, 51200)
    assert (tokenizer.token_to_id("<sep>"), tokenizer.token_to_id("<eom>")) == (50299, 50300)
    assert ids(tokenizer, "prefix<mask_1>suffix<|endoftext|><sep><mask_1>") == [
        *(40290, 51199, 37333, 844, 50256, 50299, 51199)
    ]
    tokenizer.encode_special_tokens = True
    assert 50300 not in ids(tokenizer, "<eom>")
    assert vocabulary_size(tokenizer) == 51200


def test_codegen25_known_ids(codegen25: Tokenizer, codegen_files: Path) -> None:
    assert ids(codegen25, "<fim_prefix>abc<fim_suffix>xyz<fim_middle>") == [50295, 39305, 50297, 5431, 89, 50296]
    assert ids(codegen25, "prefix<mask_1>suffix<|endoftext|><sep><mask_1>") == [
        *(40290, 51199, 37333, 844, 50256, 50317, 51199)
    ]
    assert codegen25.token_to_id("<eom>") == 50318
    assert codegen25.token_to_id("<mask_881>") == 50319
    assert vocabulary_size(codegen25) == 51200
    assert not any(name.startswith("<extra_id") for name in padded_vocabulary(codegen25, 51200))
    check_tokenizer(codegen25, "codegen25", codegen_files, 51200)


@pytest.mark.parametrize("character", [" ", "\t"])
def test_codegen25_runs_are_tiktokens(character: str, codegen25: Tokenizer, ranks: dict[bytes, int]) -> None:
    for length in range(1, 140):
        for before in ("", "\n", "x", "\t"):
            for after in ("", "x", "\n", " \t", "(x)"):
                text = before + character * length + after
                assert ids(codegen25, text) == tiktoken_ids(text, ranks), repr(text)


def test_codegen25_text_is_tiktokens(codegen25: Tokenizer, ranks: dict[bytes, int]) -> None:
    pieces = [
        " ",
        "  ",
        "    ",
        "\t",
        "\n",
        "\n\n",
        "def",
        "return",
        "x",
        "'s",
        "'ve",
        "日本",
        "é",
        "🙂",
        "12345",
        "()",
    ]
    pieces += ["):", "\r\n", "  \n", "\x0b", "\u00a0", "#" * 9, "self.", "_private", "CamelCase", "0x1F"]
    chance = random.Random(0)
    for _ in range(3000):
        text = "".join(chance.choice(pieces) for _ in range(chance.randint(1, 12)))
        assert ids(codegen25, text) == tiktoken_ids(text, ranks), repr(text)
        assert codegen25.decode(ids(codegen25, text)) == text


def test_codegen25s_other_reading_has_the_same_ids_for_other_pieces(codegen_files: Path, codegen25: Tokenizer) -> None:
    other = codegen25_tokenizer_runs_first(*gpt2_files(codegen_files))
    assert {other.id_to_token(id) for id in (50284, 50317, 51199)} == {" " * 4, "<sep>", "<mask_1>"}
    assert ids(other, "    return x") == [50284, 7783, 2124]
    assert ids(codegen25, "    return x") == [50285, 1441, 2124]
    check_tokenizer(other, "codegen25", codegen_files, 51200)


def test_codegen25_needs_gpt2s_vocabulary(
    codegen_files: Path, tmp_path: Path, small_tokenizers: dict[str, Path]
) -> None:
    with pytest.raises(ConversionError, match="has no vocabulary") as caught:
        build_tokenizers(tmp_path, LLAMA)
    assert "vocab.json and merges.txt of any CodeGen checkpoint" in caught.value.advice
    shutil.copyfile(codegen_files / "tokenizer.json", tmp_path / "tokenizer.json")
    assert len(build_tokenizers(tmp_path, LLAMA)) == 2
    shutil.copyfile(small_tokenizers["codegen"], tmp_path / "tokenizer.json")
    (other,) = build_tokenizers(tmp_path, LLAMA)
    assert family_of(LLAMA, other) == "llama"
    shutil.copyfile(small_tokenizers["codegen25"], tmp_path / "tokenizer.json")
    assert len(build_tokenizers(tmp_path, LLAMA)) == 1


def test_a_tokenizer_with_other_ids_is_refused(codegen_files: Path, tmp_path: Path) -> None:
    """GPT-2's tokens in another order: same size, preserves text, wrong ids."""
    raw = json.loads((codegen_files / "tokenizer.json").read_text())
    raw["model"]["vocab"] |= {"Ġx": raw["model"]["vocab"]["Ġy"], "Ġy": raw["model"]["vocab"]["Ġx"]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    (tokenizer,) = build_tokenizers(tmp_path, CODEGEN)
    with pytest.raises(ConversionError, match=r"gives '    return x' the ids \[50284, 7783, \d+\]"):
        check_tokenizer(tokenizer, "codegen", tmp_path, 51200)


def test_a_lossy_tokenizer_is_refused(codegen_files: Path, tmp_path: Path) -> None:
    raw = json.loads((codegen_files / "tokenizer.json").read_text())
    raw["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    (tokenizer,) = build_tokenizers(tmp_path, CODEGEN)
    with pytest.raises(ConversionError, match="does not give"):
        check_tokenizer(tokenizer, "codegen", tmp_path, 51200)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("merges.txt", b"#version: 0.2\na\nb c d\n"),
        ("merges.txt", b"\xff\xfe"),
        ("vocab.json", b'{"a": 1}'),
        ("vocab.json", b"{"),
        ("added_tokens.json", b'{"  ": 50300}'),
        ("tokenizer.json", b'{"version": "1.0"}'),
        ("tokenizer.json", b"not json"),
    ],
)
def test_damaged_files_are_named(name: str, content: bytes, codegen_files: Path, tmp_path: Path) -> None:
    for file in ("vocab.json", "merges.txt", "added_tokens.json"):
        shutil.copyfile(codegen_files / file, tmp_path / file)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConversionError, match=str(tmp_path)):
        build_tokenizers(tmp_path, CODEGEN)


def test_end_of_text_may_have_another_name(tmp_path: Path, small_tokenizers: dict[str, Path]) -> None:
    tokenizer = Tokenizer.from_file(str(small_tokenizers["codegen"]))
    tokenizer.add_special_tokens(["<end>"])
    assert tokenizer.id_to_token(end_of_text(tokenizer, tmp_path)) == "<|endoftext|>"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<end>"}}))
    assert tokenizer.id_to_token(end_of_text(tokenizer, tmp_path)) == "<end>"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<none>"}))
    with pytest.raises(ConversionError, match="<none>"):
        end_of_text(tokenizer, tmp_path)
