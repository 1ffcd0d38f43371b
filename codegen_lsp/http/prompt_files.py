"""Names and texts of files in prompts that clients make for models: of other files, and the name of the one in work.

They stand before the document (`files_of_preamble`), in formats that models for whole repositories are trained with, or
at the beginning of its prefix (`without_file_header`).
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from attrs import frozen

from codegen_lsp.http.requests import ExtraText

_PATH = r"(?:\w+://)?(?:[A-Za-z]:)?[\w.@+~$%()\[\]-]*(?:[/\\][\w.@+~$%()\[\]-]+)*"
FILE_MARK = r"(?:<\|file_sep\|>|<file_sep>|<\|file_separator\|>|<filename>)"
"""Begins the name of a file: Qwen2.5-Coder; StarCoder2 and CodeQwen1.5; CodeGemma; StarCoder and Mellum."""
REPOSITORY_MARK = r"(?:<\|repo_name\|>|<repo_name>|<reponame>)"
CLOSED_HEADER = rf"{FILE_MARK}(?:{_PATH} ?)?(?:\n|(?=<))"
"""Name of a file without its text."""
COMMENT_HEADER = rf"(?m:^)# ?{_PATH} ?\n"
"""Name of a file in a comment, as ProxyAI writes it."""

_FILE_MARK = re.compile(FILE_MARK)
_REPOSITORY = re.compile(rf"{REPOSITORY_MARK}[^\n<]*\n*")
_COMMENT_HEADER = re.compile(rf"{COMMENT_HEADER}")
_GEEX_HEADER = re.compile(r"^###(?:REFERENCE:|PATH:(?P<path>[^\n]*)|LANGUAGE:[^\n]*|MODE:[^\n]*)\n", re.MULTILINE)
"""CodeGeeX4: https://github.com/THUDM/CodeGeeX4/blob/main/guides/Infilling_guideline.md"""
_PLUS_HEADER = re.compile(r"^\+\+\+\+\+ ([^\n]+?) ?\n", re.MULTILINE)
"""Codestral with several files, as Continue writes it."""
_TWINNY_HEADER = re.compile(
    r"\n[^\n]{0,20}Language: [^\n(]{1,60} \(([\w+#-]{1,40})\)[^\n]{0,9}\n[^\n]{0,9}File uri: (\S+) \(\1\)[^\n]{0,20}\n"
)
"""Two comments of twinny at the beginning of a prefix; the lengths bound the time of a search."""
_STARCODER_HEADER = re.compile(r"(?:<reponame>[^\n<]*)?<filename>([^\n<]*)(?:<gh_stars>[^\n<]*)?\n")
_END_OF_TEXT = "<|endoftext|>"


@frozen
class PromptFiles:
    """The files before a document."""

    extra: tuple[ExtraText, ...] = ()
    filename: str = ""
    """Name of the document; empty if it is not told."""
    ends_with_mark: bool = False
    """True if a mark announces the name of the document, which is not before it."""


@frozen
class PrefixHeader:
    """A prefix, and what was at its beginning."""

    text: str
    filename: str = ""
    extra: tuple[ExtraText, ...] = ()
    by_twinny: bool = False


def files_of_preamble(preamble: str) -> PromptFiles | None:
    """Return the files in the text before a document; None if it is not such a text."""
    text = preamble.lstrip()
    repository = _REPOSITORY.match(text)
    if repository is not None:
        text = text[repository.end() :]
    if _FILE_MARK.match(text):
        return _marked_files(_FILE_MARK.split(text)[1:], repository is not None)
    if repository is not None:
        return PromptFiles() if not text.strip() else None
    if _GEEX_HEADER.match(text):
        return _files_with_headers(text, _GEEX_HEADER)
    if (
        _COMMENT_HEADER.match(text)
        and (last := text.rfind("\n", 0, -1))
        and _COMMENT_HEADER.fullmatch(text[last + 1 :])
    ):
        return _files_with_headers(text, re.compile(rf"^# ?(?P<path>{_PATH}) ?\n", re.MULTILINE))
    return None


def without_file_header(prefix: str, *, behind_files: bool) -> PrefixHeader:
    """Return a prefix without names and texts of files at its beginning.

    With `behind_files`, a mark for a file's name came last, so the name is the first line of the prefix.
    """
    if (found := _TWINNY_HEADER.search(prefix)) is not None:
        before = prefix[: found.start()].strip()
        extra = [ExtraText(before)] if before else []
        return PrefixHeader(prefix[found.end() :], path_of(found[2]), tuple(extra), by_twinny=True)
    if (found := _STARCODER_HEADER.match(prefix)) is not None:
        return PrefixHeader(prefix[found.end() :], path_of(found[1]))
    if _PLUS_HEADER.match(prefix):
        *others, last = _PLUS_HEADER.split(prefix)[1:]
        extra = [_extra(name, text) for name, text in zip(others[0::2], others[1::2], strict=False)]
        return PrefixHeader(last, path_of(others[-1]) if others else "", tuple(extra))
    if behind_files:
        name, newline, rest = prefix.partition("\n")
        if newline and is_path(name):
            return PrefixHeader(rest, path_of(name))
    return PrefixHeader(prefix)


def is_path(line: str) -> bool:
    """Return true for the name of a file: no blanks, and an extension or a folder."""
    name = line.strip()
    return "." in name and "//" not in name.removeprefix("file://") and re.fullmatch(_PATH, name) is not None


def path_of(name: str) -> str:
    """Return the path of a file of which a prompt has the name or the URI."""
    name = name.strip()
    return unquote(name.removeprefix("file://")) if name.startswith("file://") else name


def _marked_files(segments: list[str], in_repository: bool) -> PromptFiles:
    """Return the files of texts that begin behind marks; the last one may be the name of the document alone."""
    *others, last = segments
    extra = [_named(segment) for segment in others]
    filename, text = "", last
    if (found := _TWINNY_HEADER.search(last)) is not None:
        filename, text = path_of(found[2]), last[: found.start()]
    else:
        name, _, rest = last.partition("\n")
        if is_path(name) and not rest.strip():
            filename, text = path_of(name), ""
    extra.append(_named(text))
    ends_with_mark = in_repository and not last.strip()
    return PromptFiles(tuple(one for one in extra if one.text.strip()), filename, ends_with_mark)


def _named(segment: str) -> ExtraText:
    name, newline, rest = segment.partition("\n")
    return _extra(name, rest) if newline and is_path(name) else _extra("", segment)


def _files_with_headers(text: str, header: re.Pattern[str]) -> PromptFiles:
    """Return the files of texts below headers with their paths; the last path is the document's."""
    found = list(header.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    extra, path = [], ""
    for match, end in zip(found, ends, strict=True):
        path = match["path"] if match["path"] is not None else path
        if text[match.end() : end].strip():
            extra.append(_extra(path, text[match.end() : end]))
    return PromptFiles(tuple(extra), path_of(path))


def _extra(name: str, text: str) -> ExtraText:
    return ExtraText(text.rstrip("\n").removesuffix(_END_OF_TEXT).strip("\n") + "\n", path_of(name))
