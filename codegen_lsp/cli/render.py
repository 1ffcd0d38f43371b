"""Highlighted code with a suggestion in it, on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.text import Text

from codegen_lsp.completion.snapshot import Snapshot, Suggestion
from codegen_lsp.suggest.request import SuggestionResult

LINES_BEFORE = 8
LINES_AFTER = 3
GHOST = "bold italic #3fb950"
MARK = "bold red"
THEME = "ansi_dark"


def code_with_suggestion(
    snapshot: Snapshot, suggestion: Suggestion | None, *, before: int = LINES_BEFORE, after: int = LINES_AFTER
) -> Text:
    """Return the lines around the cursor with the inserted text in the style of ghost text."""
    text, cursor = snapshot.text, snapshot.offset
    new = suggestion.insert[cursor - suggestion.start :] if suggestion else "│"
    whole = text[:cursor] + new + text[suggestion.end if suggestion else cursor :]
    shown = highlighted(whole.replace("\r\n", "\n"), snapshot.language)
    moved = text[:cursor].count("\r\n")
    shown.stylize(GHOST if suggestion else MARK, cursor - moved, cursor - moved + len(new))
    lines = shown.split("\n", allow_blank=True)
    at = text[:cursor].count("\n")
    last = at + new.count("\n") + after
    code = Text("\n", no_wrap=True, overflow="ellipsis").join(lines[max(0, at - before) : last + 1])
    code.no_wrap, code.overflow = True, "ellipsis"
    return code


def highlighted(code: str, language: str) -> Text:
    """Return highlighted code of exactly the same length."""
    text = Syntax(code, _lexer(language), theme=THEME, background_color="default").highlight(code)
    return text[: len(code)] if len(text) > len(code) else text


def print_code(console: Console, snapshot: Snapshot, suggestion: Suggestion | None) -> None:
    """Print the code with one suggestion."""
    code = code_with_suggestion(snapshot, suggestion)
    console.print(Padding(code, (0, 0, 0, 2)) if console.is_terminal else code, soft_wrap=not console.is_terminal)


def stats_line(outcome: SuggestionResult) -> str:
    """Return the cost of a suggestion in one line."""
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
