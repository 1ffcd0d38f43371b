"""Who may import what: the rules of `docs/architecture.md`, read from the source and from running processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "codegen_lsp"
MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))

# What is imported, and by whom alone.
ONLY = {
    "lsprotocol": ["editor/*"],
    "pygls.lsp": ["editor/*"],
    "pygls": ["editor/*", "inference/wire.py", "inference/worker.py", "inference/client.py", "evaluation/replay.py"],
    "torch": ["inference/*", "training/*", "checkpoints/*", "evaluation/*"],
    "ctranslate2": ["inference/ct2.py", "checkpoints/convert.py"],
    "transformers": ["checkpoints/*", "training/*", "evaluation/*"],
    "huggingface_hub": ["checkpoints/download.py", "checkpoints/card.py"],
    "tree_sitter": ["completion/syntax.py", "completion/names.py", "refactor/braces.py"],
    "datasketch": ["training/*"],
    "rope": ["refactor/*"],
    "libcst": ["refactor/*"],
    "typer": ["cli.py", "terminal/*"],
    "rich": ["cli.py", "terminal/*"],
}

# Rooms, and what they may import of each other.
ROOMS = {
    "completion": ["completion", "inference.messages"],
    "inference": ["inference", "errors"],
    "checkpoints": ["checkpoints", "inference", "errors"],
    "training": ["training", "checkpoints", "inference.build", "errors"],
    "confinement": ["confinement", "errors"],
    "refactor": ["refactor", "confinement", "completion", "inference.messages", "errors"],
    "editor": ["editor", "refactor", "completion", "inference", "checkpoints.store", "settings", "errors"],
    "evaluation": [
        "evaluation",
        "confinement",
        "refactor",
        "editor.completer",
        "completion",
        "inference",
        "checkpoints",
        "training.corpus",
        "errors",
    ],
    "settings.py": ["inference.messages", "completion.parts"],
    "errors.py": [],
}

# What a process must not load, however indirectly.
LIGHT = {
    "codegen_lsp.editor.serve": [
        "rope",
        "libcst",
        "tree_sitter",
        "torch",
        "ctranslate2",
        "transformers",
        "huggingface_hub",
        "tokenizers",
        "numpy",
    ],
    "codegen_lsp.checkpoints.store": ["torch", "ctranslate2", "transformers", "huggingface_hub", "numpy"],
    "codegen_lsp.completion.planning": ["torch", "ctranslate2", "pygls", "lsprotocol", "numpy"],
    "codegen_lsp.refactor.kinds": ["pygls", "lsprotocol", "rope", "libcst", "tree_sitter", "numpy"],
    "codegen_lsp.refactor.perform": ["pygls", "lsprotocol", "rope", "libcst", "numpy"],
    "codegen_lsp.inference.worker": ["torch", "transformers"],
    "codegen_lsp.inference.ct2": ["torch", "transformers"],
    "codegen_lsp.evaluation.lines": ["torch", "ctranslate2", "transformers"],
    "codegen_lsp.cli": ["torch", "transformers", "pygls", "rich.markdown"],
}


def imports_of(module: str) -> Iterator[str]:
    """Full names of what a module imports, anywhere in it."""
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def begins(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("module", MODULES)
def test_packages_are_imported_only_where_they_belong(module: str) -> None:
    for name in imports_of(module):
        for package, places in ONLY.items():
            if begins(name, package):
                assert any(fnmatch(module, place) for place in places), f"{module} imports {name}"


@pytest.mark.parametrize("module", [module for module in MODULES if module.split("/")[0] in ROOMS])
def test_rooms_import_only_what_they_may(module: str) -> None:
    allowed = ROOMS[module.split("/")[0]]
    for name in imports_of(module):
        if begins(name, "codegen_lsp") and name not in ("codegen_lsp", "codegen_lsp.__version__"):
            assert any(begins(name, f"codegen_lsp.{room}") for room in allowed), f"{module} imports {name}"


@pytest.mark.parametrize("module", LIGHT)
def test_loading_stays_light(module: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert not loaded & set(LIGHT[module])


def test_every_module_says_what_it_is_for() -> None:
    silent = [module for module in MODULES if not ast.get_docstring(ast.parse((PACKAGE / module).read_text()))]
    assert not silent
