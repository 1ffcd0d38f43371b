"""Write the reference pages and the VS Code extension's manifest from the program: `make docs`.

A test fails when they are out of step.
"""

from __future__ import annotations

import ast
import inspect
import json
import runpy
from pathlib import Path

import attrs
import typer
from typer.main import get_command

from codegen_lsp import settings
from codegen_lsp.cli.app import app as cli

DOCS = Path(__file__).parent


def command_line_page() -> str:
    """Return `docs/command-line.md`: every command with its arguments and options."""
    command = get_command(cli)
    context = typer.Context(command, info_name="codegen-lsp")
    lines = ["# Command line", "", "Written by `make docs` from the program's own help.", ""]
    lines += _command(command, context)
    return "\n".join(lines).rstrip() + "\n"


def _command(command, context) -> list[str]:  # type: ignore[no-untyped-def]
    names = command.list_commands(context) if hasattr(command, "list_commands") else []
    subcommands = {name: command.get_command(context, name) for name in names}
    lines = [f"## {context.command_path}", "", command.help or "", ""]
    if not subcommands:
        usage = " ".join(command.collect_usage_pieces(context))
        lines += ["```", f"{context.command_path} {usage}", "```", ""]
        lines += [line for record in _records(command, context) for line in record]
    for name, inner in subcommands.items():
        lines += _command(inner, typer.Context(inner, info_name=name, parent=context))
    return lines


def _records(command, context) -> list[list[str]]:  # type: ignore[no-untyped-def]
    rows = []
    for parameter in command.params:
        if "--help" in parameter.opts:
            continue
        argument = parameter.param_type_name == "argument"
        value = parameter.metavar or ""
        names = value if argument else f"{', '.join(parameter.opts)} {value}".strip()
        rows.append(f"| `{names}` | {' '.join((getattr(parameter, 'help', '') or '').split())} |")
    return [["| | |", "|---|---|", *rows, ""]] if rows else []


def settings_page() -> str:
    """Return `docs/settings.md`: every setting with its default, the values that it accepts, and its meaning."""
    lines = [
        "# Settings",
        "",
        "Written by `make docs` from `codegen_lsp/settings.py`.",
        "",
        "Editors send them as the section `codegen-lsp` (`workspace/configuration`), in `initializationOptions`, or in",
        "`workspace/didChangeConfiguration`; nested tables and names joined by dots are the same. A wrong value is",
        "reported by name, and its default is used.",
        "",
        "| setting | default | accepts | |",
        "|---|---|---|---|",
    ]
    for name, field, meaning in described(settings.Settings, settings.SECTION):
        accepts = field.metadata[settings.RULE].expected
        default = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default  # type: ignore[arg-type]
        shown = json.dumps(list(default) if isinstance(default, tuple) else default)
        lines.append(f"| `{name}` | `{shown}` | {accepts} | {meaning} |")
    return "\n".join(lines) + "\n"


def described(cls: type, prefix: str) -> list[tuple[str, attrs.Attribute[object], str]]:
    """Return the full name, field and docstring of each setting, those of nested tables included."""
    found = []
    docs = _field_docs(cls)
    for field in attrs.fields(cls):
        if settings.RULE in field.metadata:
            found.append((f"{prefix}.{field.name}", field, docs[field.name]))
        else:
            found += described(type(field.default), f"{prefix}.{field.name}")
    return found


def _field_docs(cls: type) -> dict[str, str]:
    (tree,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(tree, ast.ClassDef)
    docs = {}
    for statement, after in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            docs[ast.unparse(statement.target)] = " ".join(str(after.value.value).split())
    return docs


PAGES = {"command-line.md": command_line_page, "settings.md": settings_page}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
    runpy.run_path(str(DOCS.parent / "editors" / "vscode" / "generate.py"), run_name="__main__")
