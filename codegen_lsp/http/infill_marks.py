"""Prompts for infilling in the format of another model, taken apart.

Most clients of HTTP make the prompt for infilling themselves, from the marks of the model that they take the server's
for, such as `<fim_prefix>…<fim_suffix>…<fim_middle>`. `split_prompt` returns the document that such a prompt is made
of, so that it can be completed like any other one.

A prompt is recognised by its structure, not by the marks in it, since documents can have marks as text. It begins with
a mark, behind nothing but texts of other files in a format of these models, and the other marks follow in an order that
models are trained with:

- prefix, suffix, middle (PSM), then nothing, or the beginning of the answer;
- suffix, prefix, middle (SPM), likewise; Codestral needs no mark for the middle;
- the mark for the prefix with nothing behind it, then suffix, middle, prefix (the SPM of CodeLlama and StarCoder).

So a text that mentions marks is a text. Where the document inside a prompt has the mark that divides prefix from suffix
as text, the cursor could be at each of these places: the prompt is refused, and the client told to send `suffix` apart.
"""

from __future__ import annotations

import re

from attrs import frozen

from codegen_lsp.http.problems import RequestProblem, invalid
from codegen_lsp.http.prompt_files import (
    CLOSED_HEADER,
    COMMENT_HEADER,
    PromptFiles,
    files_of_preamble,
    without_file_header,
)
from codegen_lsp.http.requests import ExtraText


@frozen
class InfillFormat:
    """Marks in the prompts of some models."""

    models: str
    prefix: str
    suffix: str
    middle: str
    ends_with_prefix: bool = False
    """True if the mark for the middle may be missing behind the prefix."""
    blanks: bool = False
    """True if blanks between marks and text belong to the format."""
    ordinary: bool = False
    """True if the marks are common as text, such as HTML's tag `<PRE>`."""

    @property
    def marks(self) -> tuple[str, str, str]:
        """Return all marks."""
        return self.prefix, self.suffix, self.middle


FORMATS = (
    InfillFormat(
        "StarCoder, StarCoder2, StableCode, Granite 3, CodeQwen1.5, Mellum",
        "<fim_prefix>",
        "<fim_suffix>",
        "<fim_middle>",
    ),
    InfillFormat("Qwen2.5-Coder, CodeGemma, Granite 4", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    InfillFormat("SantaCoder", "<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    InfillFormat("DeepSeek-Coder", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    InfillFormat("DeepSeek-Coder, as some clients write it", "<|fim▁begin|>", "<|fim▁hole|>", "<|fim▁end|>"),
    InfillFormat("GLM-4, CodeGeeX4", "<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    InfillFormat("Seed-Coder", "<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>"),
    InfillFormat("CodeLlama", "<PRE>", "<SUF>", "<MID>", blanks=True, ordinary=True),
    InfillFormat("Codestral", "[PREFIX]", "[SUFFIX]", "[MIDDLE]", ends_with_prefix=True, ordinary=True),
)
MASK = "<mask_1>"
MASK_END = f"<|endoftext|><sep>{MASK}"
CODEGEN2 = InfillFormat("CodeGen2, CodeGen2.5", MASK, MASK, "<sep>")
"""Their prompt is the document with `MASK` at the cursor, then `MASK_END`."""

_BEGIN_OF_TEXT = re.compile(
    r"(?:<s>|<bos>|<｜begin▁of▁sentence｜>|<\|begin_of_text\|>|<\[begin▁of▁sentence\]>|<\|endoftext\|>|\[gMASK\]|<sop>)*"
)
_TURN = re.compile(r"<\|user\|>\n(.*)<\|assistant\|>\s*", re.DOTALL)
"""A turn of GLM around a prompt."""


@frozen
class InfillPrompt:
    """A prompt for infilling, taken apart."""

    form: InfillFormat
    prefix: str
    suffix: str
    filename: str = ""
    extra: tuple[ExtraText, ...] = ()


def split_prompt(prompt: str) -> InfillPrompt | None:
    """Return the parts of a prompt in the format of a model that infills; None for any other text.

    Raises: RequestProblem when the prompt can be split at several places.
    """
    found = _BEGIN_OF_TEXT.match(prompt)
    text = prompt[found.end() if found else 0 :]
    if (turn := _TURN.fullmatch(text)) is not None:
        text = turn[1]
    for form in FORMATS:
        if form.suffix in text and form.prefix in text and (split := _split(text, form)) is not None:
            return split
    return _split_masked(text)


def _split(text: str, form: InfillFormat) -> InfillPrompt | None:
    begun = _begin(text, form)
    if begun is None:
        return None
    at, files = begun
    body = text[at:]
    parts = _prefix_first(body, form) if body.startswith(form.prefix) else _suffix_first(body, form)
    if parts is None:
        return None
    prefix, suffix = parts
    header = without_file_header(prefix, behind_files=files.ends_with_mark)
    if header.by_twinny and form.blanks:
        suffix = suffix.removeprefix(" ")
    return InfillPrompt(form, header.text, suffix, header.filename or files.filename, (*files.extra, *header.extra))


def _split_masked(text: str) -> InfillPrompt | None:
    """Return the parts of a prompt for CodeGen2."""
    document = text.removesuffix(MASK_END)
    if document == text or MASK not in document:
        return None
    if document.count(MASK) > 1:
        raise _ambiguous(CODEGEN2, MASK)
    prefix, _, suffix = document.partition(MASK)
    return InfillPrompt(CODEGEN2, prefix, suffix)


def _begin(text: str, form: InfillFormat) -> tuple[int, PromptFiles] | None:
    """Return the offset of the mark that begins the document, and the other files before it; None without one."""
    marks = f"(?=({re.escape(form.prefix)}|{re.escape(form.suffix)}))"
    first = re.search(marks, text)
    if first is None:
        return None
    at = first.start()
    if not text[:at].strip():
        return at, PromptFiles()
    # A mark right behind the name of a file begins the document; one farther behind it may be text of that file.
    closed = re.search(CLOSED_HEADER + marks, text) or re.search(COMMENT_HEADER + marks, text)
    if closed is not None:
        at = closed.end()
    files = files_of_preamble(text[:at])
    if files is not None and closed is None and text.count(form.prefix) > 1:
        raise _ambiguous(form, form.prefix)
    return None if files is None else (at, files)


def _prefix_first(body: str, form: InfillFormat) -> tuple[str, str] | None:
    """Return prefix and suffix of a prompt that begins with the mark for the prefix."""
    inner = body[len(form.prefix) :]
    if form.blanks:
        inner = inner.removeprefix(" ")
    if inner.startswith(form.suffix):
        return _nested(inner[len(form.suffix) :], form)
    content, answer = _before_middle(inner, form, may_miss=False)
    if content is None or (parts := _divided(content, form.suffix, form)) is None:
        return None
    prefix, suffix = parts
    if form.blanks or _has_blanks(prefix, suffix):
        prefix = prefix.removesuffix(" ") if form.blanks else prefix[1:-1]
        suffix = suffix.removesuffix(" ")
    return prefix + answer, suffix


def _nested(inner: str, form: InfillFormat) -> tuple[str, str] | None:
    """Return prefix and suffix of a prompt whose first mark has nothing behind it, without both of its first marks."""
    if (parts := _divided(inner, form.middle, form)) is None:
        return None
    suffix, prefix = parts
    return (prefix.removeprefix(" "), suffix.removesuffix(" ")) if form.blanks else (prefix, suffix)


def _suffix_first(body: str, form: InfillFormat) -> tuple[str, str] | None:
    """Return prefix and suffix of a prompt that begins with the mark for the suffix."""
    content, answer = _before_middle(body[len(form.suffix) :], form, may_miss=form.ends_with_prefix)
    if content is None or (parts := _divided(content, form.prefix, form)) is None:
        return None
    suffix, prefix = parts
    return prefix + answer, suffix


def _before_middle(text: str, form: InfillFormat, *, may_miss: bool) -> tuple[str | None, str]:
    """Return the text before the mark for the middle, and the beginning of the answer behind it; None without it."""
    whole = text.rstrip()
    if whole.endswith(form.middle):
        return whole[: -len(form.middle)], ""
    if may_miss:
        return text, ""
    parts = _divided(text, form.middle, form)
    return (None, "") if parts is None else parts


def _divided(text: str, mark: str, form: InfillFormat) -> tuple[str, str] | None:
    """Return the texts before and after a mark; None without it. Raises: RequestProblem when there are several."""
    before, found, after = text.partition(mark)
    if not found:
        return None
    if mark in after:
        raise _ambiguous(form, mark)
    return before, after


def _has_blanks(prefix: str, suffix: str) -> bool:
    """Return true if a blank stands around prefix and suffix, which ProxyAI adds and hardly a document has."""
    alone = prefix.startswith(" ") and not prefix.startswith("  ")
    return alone and len(prefix) > 1 and prefix.endswith(" ") and suffix.endswith(" ")


def _ambiguous(form: InfillFormat, mark: str) -> RequestProblem:
    return invalid(
        f"The prompt has the mark {mark} of {form.models} several times, so the place of the cursor is not certain. "
        "Send the text after the cursor as `suffix`, and a prompt without marks."
    )
