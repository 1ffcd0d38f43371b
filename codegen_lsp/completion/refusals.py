"""Rules that refuse a request before the model is asked.

Each rule has a name, which `codegen-lsp/explain` shows. The rules of `NEVER` apply to every request; those of `UNASKED`
only to requests that the user did not make explicitly. In the middle of a line a completion is given only if the rest
of the line is closing brackets and quotes, optionally with `:`, `{`, `;` or `,` after them, as in Copilot. That applies
to models that infill, too: the rest of the line was written on purpose, and an explicit request is one key away.
"""

from __future__ import annotations

from collections.abc import Callable

from codegen_lsp.completion.options import Options
from codegen_lsp.completion.snapshot import Refusal, Snapshot, Trigger
from codegen_lsp.source.blocks import head_of, opens_block
from codegen_lsp.source.brackets import code_of, is_rest_of_closers, open_at_end
from codegen_lsp.source.indentation import columns
from codegen_lsp.source.languages import EVERY_LANGUAGE
from codegen_lsp.workspace.secrets import holds_secrets, is_commit_message

LONG_LINE = 1_000
"""Characters of a line beyond which the file was not written by hand."""
Rule = Callable[[Snapshot, Options], Refusal | None]


def refuse_when_off(snapshot: Snapshot, options: Options) -> Refusal | None:
    """Refuse while suggestions are turned off."""
    return None if options.enabled else Refusal("off", "Suggestions are turned off in the settings.")


def refuse_secret_file(snapshot: Snapshot, options: Options) -> Refusal | None:
    """Refuse in files with keys or passwords, which no model may read."""
    if not holds_secrets(snapshot.uri):
        return None
    return Refusal("secret_file", "The file's name says that it holds keys or passwords; such files are left alone.")


def refuse_commit_message(snapshot: Snapshot, options: Options) -> Refusal | None:
    """Refuse in commit messages: prose, in which a suggestion is in the way."""
    if not is_commit_message(snapshot.uri, snapshot.language):
        return None
    return Refusal("commit_message", "This is a message of a version control system, not code.")


def refuse_language(snapshot: Snapshot, options: Options) -> Refusal | None:
    """Refuse in languages that the settings do not turn on."""
    if EVERY_LANGUAGE in options.languages or snapshot.language in options.languages:
        return None
    return Refusal("language", f"The language {snapshot.language!r} is not among those turned on in the settings.")


def refuse_empty_document(snapshot: Snapshot, options: Options) -> Refusal | None:
    """Refuse where nothing precedes the cursor, since any answer would be a guess."""
    cursor = snapshot.cursor
    if cursor.before.strip() or any(line.strip() for line in cursor.above):
        return None
    return Refusal("nothing_before", "There is no text before the cursor to continue.")


def refuse_long_line(snapshot: Snapshot, options: Options) -> Refusal | None:
    """Refuse on very long lines, which are data or minified code."""
    cursor = snapshot.cursor
    if len(cursor.before) + len(cursor.after) <= LONG_LINE:
        return None
    return Refusal("long_line", f"The line has more than {LONG_LINE} characters: data or generated code.")


def refuse_middle_of_line(snapshot: Snapshot, options: Options) -> Refusal | None:
    """Refuse in the middle of a line unless only closers follow."""
    cursor = snapshot.cursor
    if is_rest_of_closers(cursor.after):
        return None
    if cursor.after[:1].isalnum() or cursor.after[:1] == "_":
        return Refusal("middle_of_word", "The cursor stands before a word; ask by key to get a suggestion here.")
    return Refusal("middle_of_line", "There is code after the cursor; ask by key to get a suggestion here.")


def refuse_finished_statement(snapshot: Snapshot, options: Options) -> Refusal | None:
    """Refuse after the `;` that ends a statement, and after the opener of a block that has its body already."""
    cursor = snapshot.cursor
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


def first_refusal(snapshot: Snapshot, options: Options) -> Refusal | None:
    """Return the first refusal of a request; None if the model may be asked."""
    rules = NEVER if snapshot.trigger is Trigger.INVOKED else NEVER + UNASKED
    return _first(rules, snapshot, options)


def never_here(snapshot: Snapshot, options: Options) -> Refusal | None:
    """Return the first refusal that holds for every request in this document; None if there is none."""
    return _first(NEVER, snapshot, options)


def _first(rules: tuple[Rule, ...], snapshot: Snapshot, options: Options) -> Refusal | None:
    return next((refusal for rule in rules if (refusal := rule(snapshot, options))), None)
