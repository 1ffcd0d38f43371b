"""Text to token ids and back, for every family, from the `tokenizer.json` of the build.

All CodeGen tokenizers are byte-level BPE: each token stands for a string of bytes, and a character may be spread over
several tokens. So the text of an unfinished answer is decoded from bytes, up to the last complete character.

Token healing (Lundberg, "The Art of Prompt Design: Prompt Boundaries and Token Healing", 2023): a prompt that ends
inside a word ends in tokens that were seldom continued in this way in the training data. `split_for_healing` removes
the last pre-token from the prompt; the engine then chooses among all tokens that begin with the same bytes.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken
from tokenizers import Tokenizer as FastTokenizer

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo

MAX_HEALED_BYTES = 64
"""Longer pre-tokens are not healed: they are base64, rulers and the like."""


def byte_alphabet() -> dict[str, int]:
    """Return the byte for each printable character of byte-level BPE, as in GPT-2 (Radford et al., 2019).

    Bytes that are printable in Latin-1 stand for themselves; the others have the code points from 256 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


class Tokenizer:
    """The tokenizer of one build."""

    def __init__(self, fast: FastTokenizer, size: int) -> None:
        self._fast = fast
        self.size = size
        """Ids from this one on are padding."""

    @classmethod
    def from_build(cls, directory: Path, info: BuildInfo) -> Tokenizer:
        """Read the tokenizer of a build. Raises: ModelError when `tokenizer.json` can't be read."""
        path = directory / "tokenizer.json"
        try:
            fast = FastTokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise ModelError(f"{path} can't be read: {error}.", "Pull or convert the model again.") from error
        fast.no_truncation()
        fast.no_padding()
        fast.encode_special_tokens = True
        return cls(fast, info.vocabulary_size)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text. Special tokens spelt out in it are encoded as ordinary text."""
        # The batch call releases the GIL, and `fast` leaves out offsets, which take longer than the ids.
        (encoding,) = self._fast.encode_batch_fast([text], add_special_tokens=False)
        return list(encoding.ids)

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids. Invalid UTF-8 becomes U+FFFD; special tokens are spelt out."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def id_of(self, token: str) -> int | None:
        """Return the id of a special token such as `<fim_prefix>`; None when the tokenizer does not have it."""
        found: int | None = self._fast.token_to_id(token)
        return found

    def name_of(self, id: int) -> str:
        """Return the text by which a tokenizer's files name a token."""
        name: str | None = self._fast.id_to_token(id)
        return name or ""

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of a token; empty for ids beyond the vocabulary."""
        return self.all_bytes[token] if 0 <= token < len(self.all_bytes) else b""

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of special tokens, which stand for no text (end of text, infill marks)."""
        added: dict[int, AddedToken] = self._fast.get_added_tokens_decoder()
        return frozenset(id for id, token in added.items() if token.special)

    @cached_property
    def all_bytes(self) -> list[bytes]:
        """Bytes of every token, by id."""
        alphabet = byte_alphabet()
        added: dict[int, AddedToken] = self._fast.get_added_tokens_decoder()
        table: list[bytes] = []
        for id in range(self._fast.get_vocab_size(with_added_tokens=True)):
            token = self._fast.id_to_token(id)
            if token is None:
                table.append(b"")
            elif id in added or any(c not in alphabet for c in token):
                table.append(token.encode())
            else:
                table.append(bytes(alphabet[c] for c in token))
        return table

    def split_for_healing(self, text: str) -> tuple[list[int], bytes]:
        """Return the token ids of a text without its last pre-token, and the bytes of that pre-token.

        BPE never merges across the boundary of a pre-token (a word, a run of spaces), so any longer text has the same
        ids before it. The bytes are empty if nothing is to be healed.
        """
        encoding = self._encode(text)
        ids, words = list(encoding.ids), encoding.word_ids
        if not ids:
            return ids, b""
        start = len(ids) - 1
        while start > 0 and words[start] is not None and words[start - 1] == words[start]:
            start -= 1
        taken = b"".join(map(self.token_bytes, ids[start:]))
        if len(taken) > MAX_HEALED_BYTES:
            return ids, b""
        return ids[:start], taken

    def characters_per_token(self, text: str) -> float:
        """Return the mean length of a token of this text, in characters."""
        return len(text) / max(1, len(self.encode(text)))

    def _encode(self, text: str):  # type: ignore[no-untyped-def]  # tokenizers has no types
        return self._fast.encode(text, add_special_tokens=False)
