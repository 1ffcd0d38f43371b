"""Text to a prompt in tokens, in the format of the model's family.

A prompt is the text before the cursor, with the text after it in the family's infill format. Other files come before
both, in the family's own marks: what comes first in a prompt must not change while the user types, or nothing of the
prompt would be in the KV cache.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cached_property, lru_cache

from attrs import evolve, frozen

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.rpc.messages import RelatedFiles
from codegen_lsp.inference.tokenizer import Tokenizer

MINIMUM_PREFIX = 32
"""Minimum number of prefix tokens when the suffix competes for the context."""
CHARACTERS_PER_TOKEN_BOUND = 32
"""Upper bound of the mean length of a token of source code, by which text is cut before it is encoded."""
FILES_SHARE = 0.5
"""Largest share of the context for other files. Unlike the room for a prompt, it does not depend on the length of the
answer: requests for one line and for several must have the same files, to share the KV cache."""
FILES_KEPT = 16
"""Number of files whose tokens are kept."""

_PLACEHOLDER = re.compile(r"\{(repository|path|text)\}")


@frozen
class Prompt:
    """Token ids, and the bytes at the end of the text that the answer must begin with."""

    ids: list[int]
    forced: bytes
    before: range
    """Numbers of the ids of the text before the cursor."""
    after: range = range(0)
    """Numbers of the ids of the text after the cursor."""
    files: range = range(0)
    """Numbers of the ids of other files, with their marks."""


_MARK = re.compile(r"<[|｜]?[\w▁-]+[|｜]?>")


class PromptFormat:
    """The format of one model's prompts."""

    def __init__(self, info: BuildInfo, tokenizer: Tokenizer) -> None:
        self._info = info
        self._tokenizer = tokenizer
        self._encode_part = lru_cache(FILES_KEPT)(self._encode_with_marks)

    def prompt(self, prefix: str, suffix: str, room: int, *, heal: bool, files: RelatedFiles | None = None) -> Prompt:
        """Return a prompt of at most `room` tokens, cut at the start of the prefix and the end of the suffix.

        Of the files, those are left out that do not fit, the last ones first.
        """
        limit = room * CHARACTERS_PER_TOKEN_BOUND
        prefix, suffix = prefix[-limit:], suffix[:limit]
        begin = [] if self._info.begin is None else [self._info.begin]
        files_room = min(int(self._info.context_length * FILES_SHARE), room - len(begin) - 2 * MINIMUM_PREFIX)
        head = [*begin, *self._files(files, files_room)]
        prompt = self._document(prefix, suffix, room - len(head), heal=heal)
        if not head:
            return prompt if prompt.ids else evolve(prompt, ids=[self._info.end_of_text])
        before, after = (range(part.start + len(head), part.stop + len(head)) for part in (prompt.before, prompt.after))
        return Prompt([*head, *prompt.ids], prompt.forced, before, after, range(len(begin), len(head)))

    def _document(self, prefix: str, suffix: str, room: int, *, heal: bool) -> Prompt:
        """Return the part of a prompt with the document."""
        tokenizer = self._tokenizer
        ids, forced = tokenizer.split_for_healing(prefix) if heal else (tokenizer.encode(prefix), b"")
        if self._info.infill == "none" or not suffix:
            kept = keep_end(ids, room)
            return Prompt(kept, forced, range(len(kept)))
        marks = self._marks
        after = tokenizer.encode(suffix)
        space = room - marks.count
        after = after[: max(0, min(len(after), space - min(len(ids), max(MINIMUM_PREFIX, space // 2))))]
        before = keep_end(ids, space - len(after))
        first, second = (after, before) if marks.suffix_first else (before, after)
        ids = [*marks.start, *first, *marks.between, *second, *marks.end]
        at = len(marks.start)
        parts = range(at, at + len(first)), range(at := at + len(first) + len(marks.between), at + len(second))
        return Prompt(ids, forced, *(reversed(parts) if marks.suffix_first else parts))

    def _files(self, files: RelatedFiles | None, room: int) -> list[int]:
        """Return the ids of other files, and of the document's name after them; none where there is no file."""
        marks = self._info.file_marks
        if files is None or not files.files or marks is None:
            return []
        head = self._encode_part(marks.repository, files.repository, "", "") if files.repository else ()
        document = self._encode_part(marks.document, files.repository, files.path, "")
        room -= len(head) + len(document)
        parts: list[int] = []
        for file in files.files:
            part = self._encode_part(marks.file, files.repository, file.path, file.text)
            if len(parts) + len(part) > room:
                break
            parts += part
        return [*head, *parts, *document] if parts else []

    def _encode_with_marks(self, template: str, repository: str, path: str, text: str) -> tuple[int, ...]:
        """Return the ids of a text of `FileMarks` with its names and the text of a file filled in."""
        values = {"repository": repository, "path": path, "text": text.rstrip("\n")}
        ids: list[int] = []
        plain = ""
        for piece, is_mark in self._pieces(template):
            if not is_mark:
                plain += _PLACEHOLDER.sub(lambda match: values[match[1]], piece)
                continue
            ids += [*self._tokenizer.encode(plain), self._id_of(piece)]
            plain = ""
        return (*ids, *self._tokenizer.encode(plain))

    def _pieces(self, template: str) -> Iterator[tuple[str, bool]]:
        """Yield the parts of a template, and for each whether it is a special token."""
        special = sorted(map(self._tokenizer.name_of, self._tokenizer.special_ids), key=len, reverse=True)
        for piece in re.split(f"({'|'.join(map(re.escape, special))})", template) if special else [template]:
            if not piece:
                continue
            if piece not in special and (unknown := _MARK.search(piece)):
                raise ModelError(
                    f"`file_marks` of {self._info.name} has {unknown[0]}, which is no special token of its tokenizer.",
                    "Correct it in the model's build.json.",
                )
            yield piece, piece in special

    def _id_of(self, token: str) -> int:
        id = self._tokenizer.id_of(token)
        if id is None:
            raise ModelError(f"The tokenizer of {self._info.name} has no {token}.", "Pull or convert the model again.")
        return id

    @cached_property
    def _marks(self) -> _Marks:
        id_of = self._id_of
        suffix_first = self._info.infill == "suffix-first"
        if (found := self._info.infill_marks) is not None:
            prefix, suffix, middle = id_of(found.prefix), id_of(found.suffix), id_of(found.middle)
            if suffix_first:
                return _Marks(True, [suffix], [prefix], [middle])
            return _Marks(False, [prefix], [suffix], [middle])
        if suffix_first:
            return _Marks(True, [id_of("<fim_suffix>")], [id_of("<fim_prefix>")], [])
        mask = id_of("<mask_1>")
        return _Marks(False, [], [mask], [self._info.end_of_text, id_of("<sep>"), mask])


@frozen
class _Marks:
    """The special tokens of an infill format."""

    suffix_first: bool
    start: list[int]
    between: list[int]
    end: list[int]

    @property
    def count(self) -> int:
        return len(self.start) + len(self.between) + len(self.end)


def keep_end(ids: list[int], room: int) -> list[int]:
    """Return the last ids, at most `room`, cut in steps of a quarter of `room`.

    A window that moves with every token would never find its prefix in the cache.
    """
    if len(ids) <= room:
        return ids
    step = max(1, room // 4)
    return ids[math.ceil((len(ids) - room) / step) * step :]
