"""Code with a suggestion in it, in colour."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.text import Text

from codegen_lsp.completion.snapshot import Snapshot, Suggestion
from codegen_lsp.editor.completer import Outcome

LINES_BEFORE = 8
LINES_AFTER = 3
GHOST = "bold italic bright_green"
REPLACED = "dim strike"
THEME = "ansi_dark"


def code_with_suggestion(
    snapshot: Snapshot, suggestion: Suggestion | None, *, before: int = LINES_BEFORE, after: int = LINES_AFTER
) -> Text:
    """The lines around the cursor, with what would be inserted in the style of ghost text."""
    text, offset = snapshot.text, snapshot.offset
    head = "\n".join(text[:offset].splitlines()[-before - 1 :]) if text[:offset].strip() else ""
    if text[:offset].endswith("\n") and head:
        head += "\n"
    tail = text[suggestion.end if suggestion else offset :]
    tail_lines = tail.split("\n")
    tail = "\n".join(line.rstrip("\r") for line in tail_lines[: after + 1]).rstrip("\n")
    shown = Text(no_wrap=True, overflow="ellipsis")
    shown.append_text(highlighted(head, snapshot.language))
    if suggestion is None:
        shown.append("│", style="bold red")
    else:
        typed = offset - suggestion.start
        shown.append(suggestion.insert[typed:] if suggestion.insert else "", style=GHOST)
    shown.append_text(highlighted(tail, snapshot.language))
    return shown


def highlighted(code: str, language: str) -> Text:
    """Code in colour, exactly as long as it is."""
    if not code:
        return Text()
    text = Syntax(code, _lexer(language), theme=THEME, background_color="default").highlight(code)
    return text[: len(code)] if len(text) > len(code) else text


def print_code(console: Console, snapshot: Snapshot, suggestion: Suggestion | None) -> None:
    """Print the code with one suggestion."""
    code = code_with_suggestion(snapshot, suggestion)
    console.print(Padding(code, (0, 0, 0, 2)) if console.is_terminal else code, soft_wrap=not console.is_terminal)


def stats_line(outcome: Outcome) -> str:
    """What the suggestion cost, in one line."""
    stats = outcome.stats
    if stats is None:
        return f"{outcome.seconds * 1e3:.0f} ms"
    cached = f" ({stats.cached_tokens} from the cache)" if stats.cached_tokens else ""
    return (
        f"{outcome.seconds * 1e3:.0f} ms, first token after {stats.first_token_seconds * 1e3:.0f} ms, "
        f"{stats.prompt_tokens} tokens read{cached}, {stats.generated_tokens} written"
    )


def _lexer(language: str) -> str:
    return {"javascriptreact": "jsx", "typescriptreact": "tsx", "shellscript": "bash", "plaintext": "text"}.get(
        language, language
    )
