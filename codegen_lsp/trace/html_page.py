"""A trace as one HTML file, which loads nothing and can be opened from the disk.

The data is a block of JSON in the page, in which `<` is escaped: no text of a file is ever markup. The policy of the
page admits the page's own script and style, by their digests, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import stat
from html import escape
from pathlib import Path

import cattrs

from codegen_lsp.file_replacement import replace_file
from codegen_lsp.trace.tracing import Trace, TraceError, name_of

FOLDER = Path(__file__).with_name("page")
MARK = "<!-- A trace of codegen-lsp. -->"
"""At the start of a file that a trace may overwrite."""
OTHER_NAME = "Give another name to --html."
HEAD = f"<!doctype html>\n{MARK}\n"


def page(trace: Trace) -> str:
    """Return the page."""
    style = _read("attention.css") + _read("viewer.css")
    script = _without_modules(_read("attention.js")) + _without_modules(_read("viewer.js"))
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    title = f"{name_of(trace)}:{trace.line}: what the model looks at"
    data = json.dumps(cattrs.unstructure(trace)).replace("<", "\\u003c")
    return f"""{HEAD}<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{escape(title.encode("utf-8", "replace").decode("utf-8"))}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
{_read("viewer.html")}
<script type="application/json" id="trace">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def save_page(path: Path, trace: Trace, *, force: bool) -> None:
    """Write the page. Raises: TraceError as `check_target` does, and when the file can't be written."""
    check_target(path, force=force)
    try:
        replace_file(path.resolve(), page(trace).encode())  # a link stays one
    except OSError as error:
        raise TraceError(f"{path} can't be written: {error.strerror}.", OTHER_NAME) from error


def check_target(path: Path, *, force: bool) -> None:
    """Raise TraceError if a page must not be written there: a file that is no trace is overwritten only if `force`."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise TraceError(f"{path} can't be written: {error.strerror}.", OTHER_NAME) from error
    if not stat.S_ISREG(mode):
        raise TraceError(f"{path} is no regular file.", OTHER_NAME)
    if not force and not is_trace(path):
        raise TraceError(f"{path} exists and is no trace.", "Give another name to --html, or add --force.")


def is_trace(path: Path) -> bool:
    """Return whether a regular file is a trace, as far as its beginning tells."""
    try:
        with path.open("rb") as file:
            return file.read(len(HEAD)) == HEAD.encode()
    except OSError:
        return False


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _without_modules(script: str) -> str:
    """Return a module as a part of another one: without its imports, its exports as plain declarations."""
    lines = (line for line in script.splitlines() if not line.startswith("import "))
    return "\n".join(line.removeprefix("export ") for line in lines) + "\n"


def _digest(text: str) -> str:
    """Return the source expression of CSP that admits a text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
