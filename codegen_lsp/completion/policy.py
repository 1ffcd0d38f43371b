"""Whether to ask the model at all, and for how much.

Every rule that can refuse has a name, which `codegen-lsp/explain` shows. The rules of `NEVER` hold for every request;
those of `UNASKED` only for requests that the user did not make himself. A line is completed in its middle only if the
rest of it is closing brackets and quotes, optionally with `:`, `{`, `;` or `,` after them, as Copilot does; that
holds for models that infill too: what stands there was written on purpose, and an invocation is one key away.

Several lines are asked for where a block begins (Cody's rule), after a comment, docstring or decorator that announces
code, and where the user asks on an empty line; one line everywhere else, since the first line is what a small model
gets right, unless that line opens a block: then its body may follow.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve, frozen

from codegen_lsp.completion.cursor import Cursor, EmptyBlock, empty_block, follows_annotation, follows_docstring
from codegen_lsp.completion.snapshot import Refusal, Snapshot, Trigger
from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.source.blocks import head_of, is_comment, opens_block
from codegen_lsp.source.brackets import code_of, is_rest_of_closers, open_at_end
from codegen_lsp.source.indentation import columns
from codegen_lsp.source.languages import EVERY_LANGUAGE
from codegen_lsp.workspace.secrets import holds_secrets, is_commit_message

LONG_LINE = 1_000
"""Characters before the cursor on its line, beyond which the file was not written by hand."""
LARGE_DOCUMENT = 400_000
"""Characters (about 8,000 lines) beyond which only single lines are suggested, as Cody does."""


@frozen(kw_only=True)
class Options:
    """Limits on a completion that follow from the settings and the model."""

    enabled: bool
    languages: frozenset[str]
    """LSP language identifiers for which suggestions are given; `*` stands for all."""
    prefix_characters: int
    """Most text before the cursor that is put into the prompt."""
    suffix_characters: int
    """Most text after the cursor that is put into the prompt of a model that infills."""
    infill: bool
    """Whether the model takes text after the cursor."""
    candidates: int
    """Different suggestions wanted when the user asks; otherwise it is one."""
    max_lines: int
    """Lines of a suggestion that may have several."""
    max_tokens: int
    """Tokens of a suggestion that may have several lines."""
    line_tokens: int
    """Tokens of a suggestion of one line."""
    temperature: float
    """Of sampling; 0 is greedy."""
    top_p: float
    """Nucleus sampling: the share of probability that is sampled from."""
    threshold: float
    """Least probability, by the model, of what is shown unasked; 0 shows everything."""
    ablate: frozenset[str]
    """Names of parts that are left out (`settings.ABLATIONS`)."""


Rule = Callable[[Snapshot, Cursor, Options], Refusal | None]


def refuse_when_off(snapshot: Snapshot, cursor: Cursor, options: Options) -> Refusal | None:
    """Suggestions are turned off."""
    return None if options.enabled else Refusal("off", "Suggestions are turned off in the settings.")


def refuse_secret_file(snapshot: Snapshot, cursor: Cursor, options: Options) -> Refusal | None:
    """Files that hold keys or passwords are never given to a model."""
    if not holds_secrets(snapshot.uri):
        return None
    return Refusal("secret_file", "The file's name says that it holds keys or passwords; such files are left alone.")


def refuse_commit_message(snapshot: Snapshot, cursor: Cursor, options: Options) -> Refusal | None:
    """Commit messages are prose, and a suggestion there is in the way."""
    if not is_commit_message(snapshot.uri, snapshot.language):
        return None
    return Refusal("commit_message", "This is a message of a version control system, not code.")


def refuse_language(snapshot: Snapshot, cursor: Cursor, options: Options) -> Refusal | None:
    """Only the languages turned on in the settings."""
    if EVERY_LANGUAGE in options.languages or snapshot.language in options.languages:
        return None
    return Refusal("language", f"The language {snapshot.language!r} is not among those turned on in the settings.")


def refuse_empty_document(snapshot: Snapshot, cursor: Cursor, options: Options) -> Refusal | None:
    """With nothing before the cursor an answer would be a guess."""
    if cursor.before.strip() or any(line.strip() for line in cursor.above):
        return None
    return Refusal("nothing_before", "There is no text before the cursor to continue.")


def refuse_long_line(snapshot: Snapshot, cursor: Cursor, options: Options) -> Refusal | None:
    """Very long lines are data or minified code."""
    if len(cursor.before) + len(cursor.after) <= LONG_LINE:
        return None
    return Refusal("long_line", f"The line has more than {LONG_LINE} characters: data or generated code.")


def refuse_middle_of_line(snapshot: Snapshot, cursor: Cursor, options: Options) -> Refusal | None:
    """In the middle of a line only before closers."""
    if is_rest_of_closers(cursor.after):
        return None
    if cursor.after[:1].isalnum() or cursor.after[:1] == "_":
        return Refusal("middle_of_word", "The cursor stands before a word; ask by key to get a suggestion here.")
    return Refusal("middle_of_line", "There is code after the cursor; ask by key to get a suggestion here.")


def refuse_finished_statement(snapshot: Snapshot, cursor: Cursor, options: Options) -> Refusal | None:
    """After the `;` that ends a statement, or the opener of a block that has its body, nothing follows on the line."""
    line, language = cursor.before, cursor.language
    if not line.strip():
        return None
    if opens_block(line, language) and columns(cursor.line_below) > columns(head_of(line, cursor.above, language)):
        return Refusal("finished_statement", "The block that this line opens is already written.")
    if language.braces and code_of(line, language).endswith(";") and not open_at_end(line, language):
        return Refusal("finished_statement", "The statement before the cursor is complete.")
    return None


NEVER: tuple[Rule, ...] = (refuse_when_off, refuse_secret_file, refuse_commit_message, refuse_language)
UNASKED: tuple[Rule, ...] = (
    refuse_empty_document,
    refuse_long_line,
    refuse_middle_of_line,
    refuse_finished_statement,
)


def first_refusal(snapshot: Snapshot, cursor: Cursor, options: Options) -> Refusal | None:
    """The first rule that speaks against asking the model here."""
    rules = NEVER if snapshot.trigger is Trigger.INVOKED else NEVER + UNASKED
    return _first(rules, snapshot, cursor, options)


def never_here(snapshot: Snapshot, cursor: Cursor, options: Options) -> Refusal | None:
    """The first rule that forbids suggestions in this document, whoever asks."""
    return _first(NEVER, snapshot, cursor, options)


def _first(rules: tuple[Rule, ...], snapshot: Snapshot, cursor: Cursor, options: Options) -> Refusal | None:
    return next((refusal for rule in rules if (refusal := rule(snapshot, cursor, options))), None)


def stop_rules(cursor: Cursor, options: Options, *, document_length: int) -> StopRules:
    """How far an answer may go."""
    if not wants_block(cursor) or document_length > LARGE_DOCUMENT:
        stop = StopRules(max_tokens=options.line_tokens, max_lines=1, strings=_ends_of_line(cursor))
        return stop if document_length > LARGE_DOCUMENT else _with_body(stop, cursor, options)
    block = empty_block(cursor)
    strings = ["\n\n\n"]
    if block is None and columns(cursor.before) == 0 and not cursor.before.strip():
        strings += ["\n" + beginning for beginning in cursor.language.top_level]
    return StopRules(
        max_tokens=options.max_tokens,
        max_lines=options.max_lines,
        strings=strings,
        min_indent=_least_indent(cursor, block),
    )


def _with_body(stop: StopRules, cursor: Cursor, options: Options) -> StopRules:
    """Rules for one line under which a line that turns out to open a block may bring its body along (as Cody does)."""
    indent = columns(cursor.before)
    if cursor.after.strip() or options.max_lines == 1 or columns(cursor.line_below) > indent:
        return stop
    return evolve(
        stop,
        max_tokens=options.max_tokens if options.threshold else options.line_tokens,
        openers=["{"] if cursor.language.braces else [":"],
        opened_lines=options.max_lines,
        opened_indent=indent if cursor.language.braces else indent + 1,
    )


def _ends_of_line(cursor: Cursor) -> list[str]:
    """An answer that begins with a line break says that the line is complete; the next one was not asked for."""
    return ["\n"] if cursor.before.strip() and cursor.trigger is Trigger.AUTOMATIC else []


def _least_indent(cursor: Cursor, block: EmptyBlock | None) -> int:
    typed = 0 if cursor.before.strip() else columns(cursor.before)
    return typed if block is None else max(typed, columns(block.margin) + 1)


def wants_block(cursor: Cursor) -> bool:
    """Whether several lines are wanted at the cursor."""
    if empty_block(cursor) is not None:
        return True
    if cursor.before.strip() or cursor.after.strip():
        return False
    if cursor.trigger is Trigger.INVOKED or follows_docstring(cursor) or follows_annotation(cursor):
        return True
    return is_comment(cursor.above[-1] if cursor.above else "", cursor.language)
