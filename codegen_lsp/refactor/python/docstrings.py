"""Write a docstring in the style of the file: its form comes from the signature, its sentences from the model.

The syntax tree determines the sections and the names in them. The model is asked for one sentence at a time, with the
docstring so far before it; text that does not read like a sentence is left out.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import Literal

from attrs import frozen

from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.checks import AllowedChanges
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python.analysis.scopes import parameters
from codegen_lsp.refactor.python.ast_nodes import DEFINITIONS, Definition, Function, docstring_node, walk_scope
from codegen_lsp.refactor.python.selection import SelectionView, end_of_head
from codegen_lsp.refactor.python.summaries import SUMMARY_STOP
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.results import RefactoringDraft
from codegen_lsp.refactor.sentences import as_sentence
from codegen_lsp.source.lines import start_of_line

Style = Literal["google", "numpy", "rest", "plain"]

_GOOGLE = re.compile(r"^\s*(?:Args|Arguments|Returns|Raises|Yields|Attributes):\s*$", re.MULTILINE)
_NUMPY = re.compile(r"^\s*(?:Parameters|Returns|Raises|Yields|Attributes)\s*\n\s*-{3,}\s*$", re.MULTILINE)
_REST = re.compile(r"^\s*:(?:param|parameter|arg|type|returns?|rtype|raises?)\b[^:\n]*:", re.MULTILINE)
DESCRIPTION = StopRules(max_tokens=32, max_lines=1, strings=['"""', "'''", "\n"])


@frozen
class DocstringEntry:
    """A parameter, an exception or the result, with its description."""

    name: str
    annotation: str
    text: str


@frozen
class DocstringContent:
    """The content of a docstring."""

    summary: str
    parameters: tuple[DocstringEntry, ...] = ()
    returns: DocstringEntry | None = None
    raises: tuple[DocstringEntry, ...] = ()

    @property
    def short(self) -> bool:
        """The docstring has nothing but the summary."""
        return not (self.parameters or self.returns or self.raises)


async def docstring(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    """Write a docstring for the definition whose head is selected. Raises RefactorError, WorkerError and ModelError."""
    node = view.header
    assert node is not None
    style = style_of(view.tree)
    text = view.source.text
    offset = text.index("\n", end_of_head(view, node)) + 1
    first = view.span(node.body[0])[0]
    margin = text[start_of_line(text, first) : first]
    head = _head_with_body_shown(view, node, offset, assistant)
    report("Writing the summary", 0.1)
    after = f'"""\n{text[offset:]}'
    candidates = await assistant.continuations(f'{head}{margin}"""', after, stop=SUMMARY_STOP, candidates=4)
    summaries = list(dict.fromkeys(found for one in candidates if (found := as_sentence(one.text, words=3))))
    if not summaries:
        raise RefactorError("no_sentence", "The model wrote nothing that reads like a docstring.")
    drafts = []
    for at, summary in enumerate(summaries[:3]):
        report("Describing the parameters", 0.2 + 0.2 * at)
        content = await _content(view.tree, node, style, summary, assistant, f'{head}{margin}"""', margin)
        lines = rendered(content, style, margin)
        if isinstance(node, ast.ClassDef) and text[offset : offset + 1] != "\n":
            lines += "\n"
        drafts.append(RefactoringDraft(f"{text[:offset]}{lines}{text[offset:]}", summary, AllowedChanges()))
    return drafts


def style_of(tree: ast.Module) -> Style:
    """Return the most frequent style of the file's docstrings that have sections.

    `plain` if no docstring has sections, `google` if there are no docstrings.
    """
    found: Counter[Style] = Counter()
    any_there = False
    for node in ast.walk(tree):
        if isinstance(node, DEFINITIONS) and (own := docstring_node(node)) is not None:
            any_there = True
            text = str(own.value.value)  # type: ignore[attr-defined]
            found["google"] += bool(_GOOGLE.search(text))
            found["numpy"] += bool(_NUMPY.search(text))
            found["rest"] += bool(_REST.search(text))
    (best, count) = found.most_common(1)[0] if found else ("google", 0)
    if count:
        return best
    return "plain" if any_there else "google"


def rendered(content: DocstringContent, style: Style, margin: str) -> str:
    """Return the lines of a docstring, line ends included."""
    if content.short or style == "plain":
        return f'{margin}"""{content.summary}"""\n'
    body = {"google": _google, "numpy": _numpy, "rest": _rest}[style](content)
    lines = [f'"""{content.summary}', "", *body, '"""']
    return "".join(f"{margin}{line}\n" if line else "\n" for line in lines)


def _google(content: DocstringContent) -> list[str]:
    sections = []
    if content.parameters:
        sections.append(["Args:", *(f"    {one.name}: {one.text}" for one in content.parameters)])
    if content.returns:
        sections.append(["Returns:", f"    {content.returns.text}"])
    if content.raises:
        sections.append(["Raises:", *(f"    {one.name}: {one.text}" for one in content.raises)])
    return _apart(sections)


def _numpy(content: DocstringContent) -> list[str]:
    sections = []
    if content.parameters:
        entries = [line for one in content.parameters for line in (_typed(one), f"    {one.text}")]
        sections.append(["Parameters", "----------", *entries])
    if content.returns:
        sections.append(["Returns", "-------", content.returns.annotation or "object", f"    {content.returns.text}"])
    if content.raises:
        entries = [line for one in content.raises for line in (one.name, f"    {one.text}")]
        sections.append(["Raises", "------", *entries])
    return _apart(sections)


def _rest(content: DocstringContent) -> list[str]:
    lines = [f":param {one.name}: {one.text}" for one in content.parameters]
    lines += [f":returns: {content.returns.text}"] if content.returns else []
    return lines + [f":raises {one.name}: {one.text}" for one in content.raises]


def _typed(one: DocstringEntry) -> str:
    return f"{one.name} : {one.annotation}" if one.annotation else one.name


def _apart(sections: list[list[str]]) -> list[str]:
    return [line for at, section in enumerate(sections) for line in ([""] if at else []) + section]


async def _content(
    tree: ast.Module, node: Definition, style: Style, summary: str, assistant: ModelAssistant, before: str, margin: str
) -> DocstringContent:
    if isinstance(node, ast.ClassDef) or style == "plain":
        return DocstringContent(summary)
    own = [one for at, one in enumerate(parameters(node)) if not (at == 0 and one.arg in ("self", "cls"))]
    described: list[DocstringEntry] = []
    used = {summary}
    for one in own:
        content = DocstringContent(summary, tuple(described), None, ())
        opening = _opening(content, style, margin, "parameters", one.arg)
        of_others = _descriptions_of_others(tree, one.arg)
        if text := await _described(assistant, f"{before}{opening}", used | of_others):
            used.add(text)
            described.append(DocstringEntry(one.arg, ast.unparse(one.annotation) if one.annotation else "", text))
    returns = None
    if _returns_value(node):
        opening = _opening(DocstringContent(summary, tuple(described)), style, margin, "returns", "")
        if text := await _described(assistant, f"{before}{opening}", used):
            used.add(text)
            returns = DocstringEntry("", ast.unparse(node.returns) if node.returns else "", text)
    raised: list[DocstringEntry] = []
    for name in _raised(node):
        opening = _opening(
            DocstringContent(summary, tuple(described), returns, tuple(raised)), style, margin, "raises", name
        )
        if text := await _described(assistant, f"{before}{opening}", used):
            used.add(text)
            raised.append(DocstringEntry(name, "", text))
    return DocstringContent(summary, tuple(described), returns, tuple(raised))


def _opening(so_far: DocstringContent, style: Style, margin: str, section: str, name: str) -> str:
    """Return the docstring so far, from its summary to the place of the next entry's description."""
    mark = "\0"
    entry = DocstringEntry(name, "", mark)
    if section == "parameters":
        content = DocstringContent(so_far.summary, (*so_far.parameters, entry))
    elif section == "returns":
        content = DocstringContent(so_far.summary, so_far.parameters, entry)
    else:
        content = DocstringContent(so_far.summary, so_far.parameters, so_far.returns, (*so_far.raises, entry))
    text = rendered(content, style, margin)
    return text[len(margin) + 3 : text.index(mark)]


async def _described(assistant: ModelAssistant, before: str, used: set[str]) -> str | None:
    """Return the model's description of an entry, if it differs from those of other entries; else None."""
    candidates = await assistant.continuations(before.rstrip(" "), "", stop=DESCRIPTION, candidates=2)
    sentences = [found for one in candidates if (found := as_sentence(one.text))]
    return next((one for one in sentences if one not in used), None)


def _descriptions_of_others(tree: ast.Module, name: str) -> set[str]:
    """Return the descriptions in the file's docstrings of entries with other names, which models often repeat."""
    found = set()
    for node in ast.walk(tree):
        own = docstring_node(node) if isinstance(node, DEFINITIONS) else None
        above = ""
        for line in str(own.value.value).split("\n") if own is not None else []:  # type: ignore[attr-defined]
            # `name: text`, `:param name: text`, or the text below `name : type`.
            entry = re.fullmatch(r"\s*(?::\w+ )?\*{0,2}(\w+)(?: \([^)]*\))?:\s+(.+)", line)
            owner, text = (entry.group(1), entry.group(2)) if entry else (above, line.strip())
            if owner != name and text:
                found.add(text if text.endswith((".", "!", "?")) else f"{text}.")
            above = line.split(":")[0].strip()
    return found


def _returns_value(node: Function) -> bool:
    return any(
        isinstance(inner, ast.Return)
        and inner.value is not None
        and not (isinstance(inner.value, ast.Constant) and inner.value.value is None)
        for inner in walk_scope(node)
    )


def _raised(node: Function) -> list[str]:
    """Return the names of the exceptions that the function itself raises."""
    found = []
    for inner in walk_scope(node):
        if isinstance(inner, ast.Raise) and inner.exc is not None:
            raised = inner.exc.func if isinstance(inner.exc, ast.Call) else inner.exc
            if isinstance(raised, ast.Name | ast.Attribute) and (name := ast.unparse(raised))[:1].isupper():
                found.append(name)
    return list(dict.fromkeys(found))


def _head_with_body_shown(view: SelectionView, node: Definition, offset: int, assistant: ModelAssistant) -> str:
    """Return the text up to the docstring; for a model without infilling, with the whole definition before it."""
    text = view.source.text
    if assistant.infill:
        return text[:offset]
    start, end = view.line_span(node)
    return f"{text[:end]}\n\n{text[start:offset]}"
