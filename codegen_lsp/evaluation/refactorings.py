"""Evaluation of refactorings on published code: how often each is offered, and how many of the results are correct.

Functions are drawn at random, one from each file, and every kind is tried at a random place of each function where the
menu has it. Results have passed the checks of the refactoring itself; here they are checked by other means: the
compiler and the signatures of `inspect`. On a sample of the files that have doctests or tests, those are run twice: by
the verification that the server makes of generated code, and again on the first result that is offered after it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from attrs import evolve, field, frozen

from codegen_lsp.errors import CodegenError
from codegen_lsp.evaluation.documents import SourceDocument, in_turn
from codegen_lsp.refactor.edits import Original, SelectedSource
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.perform import perform
from codegen_lsp.refactor.python.ast_nodes import statement_runs
from codegen_lsp.refactor.python.python_backend import PythonBackend
from codegen_lsp.refactor.python.run_tests import verify
from codegen_lsp.refactor.python.selection import SelectionView, SyntaxTreeCache
from codegen_lsp.refactor.refusal import RefactorError, RejectedResult
from codegen_lsp.refactor.registry import KINDS, RefactoringKind
from codegen_lsp.refactor.verification import VerificationResult, policy_for
from codegen_lsp.workspace.sources import Workspace, module_of

logger = logging.getLogger(__name__)

LONGEST = 100_000
"""Maximum characters of a file."""
PLACES = 12
"""Random places in a function at which a kind is tried."""


@frozen
class RefactoringAttempt:
    """One refactoring of one function."""

    kind: str
    place: str
    """File and line."""
    offers: int
    refused: str | None = None
    """The rule that refused it."""
    broken: list[str] = field(factory=list)
    """Defects of the results that were offered."""
    withheld: int = 0
    """Results that were not offered since the tests failed with them."""
    verified: VerificationResult | None = None
    """Result of the tests with the first offer."""


@frozen
class KindFigures:
    """Counts of one kind."""

    kind: str
    tried: int
    done: int
    """Attempts with at least one result."""
    results: int
    broken: int
    """Results that do not parse, or change a signature; there must be none."""
    refused: dict[str, int]
    withheld: int
    """Results that were not offered since the tests failed with them."""
    passed: int
    """First offers whose tests were run and passed."""
    failed: int
    """First offers whose tests were run and failed."""


async def attempts(
    documents: Sequence[SourceDocument],
    functions: int,
    seed: int,
    assistant: ModelAssistant,
    kinds: Sequence[RefactoringKind],
    verified: int = 0,
) -> AsyncIterator[RefactoringAttempt]:
    """Refactor functions of the documents, and run the tests of the first `verified` places of each kind.

    Raises: WorkerError, ModelError and SandboxError.
    """
    dice = random.Random(seed)  # noqa: S311 - no secret
    left = Counter({kind.name: verified for kind in kinds})
    drawn = 0
    for document in in_turn([one for one in documents if len(one.text) <= LONGEST], dice):
        text = Original(document.text).normal()
        view = SyntaxTreeCache().view(SelectedSource(text, 0, len(text)))
        functions_there = [] if view is None else [node for node in ast.walk(view.tree) if _substantial(node)]
        if view is None or not functions_there:
            continue
        node = dice.choice(functions_there)
        for kind in kinds:
            source = _place(view, node, kind, dice)
            if source is not None:
                source = evolve(source, path=Path(document.path), workspace=_package_of(Path(document.path)))
                attempt = await _attempt(document, source, kind, assistant, run_tests=left[kind.name] > 0)
                judged = attempt.verified is not None and attempt.verified.kind in ("passed", "failed")
                left[kind.name] -= judged or attempt.withheld > 0
                yield attempt
        drawn += 1
        if drawn == functions:
            return


def figures_of(found: Sequence[RefactoringAttempt]) -> list[KindFigures]:
    """Return the counts by kind, in the order of the menu."""
    figures = []
    for kind in KINDS:
        own = [one for one in found if one.kind == kind.name]
        verified = Counter(one.verified.kind for one in own if one.verified)
        if own:
            figures.append(
                KindFigures(
                    kind.name,
                    len(own),
                    sum(one.offers > 0 for one in own),
                    sum(one.offers for one in own),
                    sum(len(one.broken) for one in own),
                    dict(Counter(one.refused for one in own if one.refused)),
                    sum(one.withheld for one in own),
                    verified["passed"],
                    verified["failed"],
                )
            )
    return figures


async def _attempt(
    document: SourceDocument,
    source: SelectedSource,
    kind: RefactoringKind,
    assistant: ModelAssistant,
    *,
    run_tests: bool,
) -> RefactoringAttempt:
    path = Path(document.path)
    place = f"{path}:{source.line_of(source.start)}"
    tested = run_tests and await asyncio.to_thread(path.is_file)
    policy = policy_for("auto", kind) if tested else None
    try:
        outcome = await perform(kind, source, assistant, lambda what, share: None, policy)
    except RefactorError as error:
        return RefactoringAttempt(kind.name, place, 0, error.rule, withheld=_by_tests(error.rejected))
    except CodegenError:
        raise
    except Exception as error:
        logger.exception("%s at %s", kind.name, place)
        return RefactoringAttempt(kind.name, place, 0, f"crash: {type(error).__name__}")
    broken = [why for offer in outcome.offers if (why := what_is_wrong(source.text, offer.text, kind))]
    verified = None
    if tested:
        first = outcome.offers[0]
        result = {**{one.path: one.after for one in first.others}, path: first.text}
        verified = (await asyncio.to_thread(verify, path, Original(document.text).normal(), [result]))[0]
    return RefactoringAttempt(
        kind.name, place, len(outcome.offers), None, broken, _by_tests(outcome.rejected), verified
    )


def _by_tests(rejected: Sequence[RejectedResult]) -> int:
    return sum(one.rule == "tests" for one in rejected)


def what_is_wrong(before: str, after: str, kind: RefactoringKind) -> str | None:
    """Return the defect of a result, or None.

    It must compile, and every function must still exist with the same parameters, except under the name that a rename
    changes and the function that an inlining removes.
    """
    try:
        compile(after, "<after>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        return f"does not parse: {error}"
    old, new = _callables(before), _callables(after)
    if kind.name == "rename":
        return None if len(old) == len(new) else "a definition came or went"
    if kind.name == "inline-function":
        return None if not Counter(new.values()) - Counter(old.values()) else "a signature changed"
    lost = [name for name, signature in old.items() if new.get(name) != signature]
    return f"the signature of {lost[0]} changed" if lost else None


def _callables(text: str) -> dict[str, str]:
    """Return the parameters without annotations of all functions by name, as `inspect` writes them."""
    found: dict[str, str] = {}

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = f"{prefix}{getattr(child, 'name', '')}"
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                number = sum(one.split("#")[0] == name for one in found)
                found[f"{name}#{number}"] = str(inspect.Signature(_parameters(child.args)))
            walk(child, f"{name}." if hasattr(child, "body") and hasattr(child, "name") else prefix)

    walk(ast.parse(text), "")
    return found


def _parameters(arguments: ast.arguments) -> list[inspect.Parameter]:
    def made(one: ast.arg, kind: inspect._ParameterKind, default: ast.expr | None) -> inspect.Parameter:
        value = inspect.Parameter.empty if default is None else ast.unparse(default)
        return inspect.Parameter(one.arg, kind, default=value)

    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    found = []
    for at, (one, default) in enumerate(zip(positional, defaults, strict=True)):
        only = at < len(arguments.posonlyargs)
        kind = inspect.Parameter.POSITIONAL_ONLY if only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        found.append(made(one, kind, default))
    if arguments.vararg:
        found.append(made(arguments.vararg, inspect.Parameter.VAR_POSITIONAL, None))
    for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append(made(one, inspect.Parameter.KEYWORD_ONLY, default))
    if arguments.kwarg:
        found.append(made(arguments.kwarg, inspect.Parameter.VAR_KEYWORD, None))
    return found


def _substantial(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and 3 <= (node.end_lineno or 0) - node.lineno <= 80


def _package_of(path: Path) -> Workspace | None:
    """Return the package of an installed file as a workspace, whose root is the folder that it is imported from."""
    module, root = module_of(path)
    top = root / module.split(".")[0]
    if not top.is_dir():
        return None
    return Workspace(root, lambda: {one: one.read_bytes().decode("utf-8", "replace") for one in top.rglob("*.py")})


def _place(view: SelectionView, node: ast.AST, kind: RefactoringKind, dice: random.Random) -> SelectedSource | None:
    """Return a random place in the function whose menu has the kind; None if there is none."""
    backend = PythonBackend()
    found = list(_selections(view, node, kind))
    dice.shuffle(found)
    for text, start, end in found[:PLACES]:
        source = SelectedSource(text, start, end)
        if any(entry.kind is kind for entry in backend.menu(source)):
            return source
    return None


def _selections(view: SelectionView, node: ast.AST, kind: RefactoringKind) -> Iterator[tuple[str, int, int]]:
    text = view.source.text
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    head = text.index(node.name, view.span(node)[0])
    if kind.name == "rename":
        yield text, head, head
    if kind.name in ("docstring", "type-hints"):
        yield text, head, head
    elif kind.name == "complete-body":
        first, last = view.span(node.body[0])[0], view.span(node.body[-1])[1]
        emptied = f"{text[:first]}pass{text[last:]}"
        yield emptied, head, head
    elif kind.name == "comment-to-code":
        for statement in node.body[1:]:
            start, end = view.line_span(statement)
            margin = text[start : view.span(statement)[0]]
            if not margin.strip():
                comment = f"{margin}# {node.name.strip('_').replace('_', ' ')}"
                yield f"{text[:start]}{comment}\n\n{text[start:]}", start + len(comment), start + len(comment)
    elif kind.name == "rewrite":
        for statements in statement_runs(node):
            start, end = view.line_span(statements[0])[0], view.span(statements[-1])[1]
            margin = text[start : view.span(statements[0])[0]]
            if not margin.strip():
                comment = f"{margin}# make this simpler\n"
                yield f"{text[:start]}{comment}{text[start:]}", start, end + len(comment)
    elif kind.name in ("extract-function", "simplify"):
        for statements in statement_runs(node):
            yield text, view.span(statements[0])[0], view.span(statements[-1])[1]
    elif kind.name == "extract-variable":
        for inner in ast.walk(node):
            if isinstance(inner, ast.expr):
                yield text, *view.span(inner)
    else:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name):
                yield text, view.span(inner)[0], view.span(inner)[0]
