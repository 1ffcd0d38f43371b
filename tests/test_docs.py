"""The reference pages say what the program does, and the README's commands exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pages() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: page() for name, page in module.PAGES.items()}


def test_reference_pages_are_in_step() -> None:
    for name, text in pages().items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, (
            f"docs/{name} is out of step: run `make docs`"
        )


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("**/*.md")
                                        if not {".venv", ".cache", "node_modules"} & set(path.parts)))  # fmt: skip
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_paths_in_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:codegen_lsp|tests|docs|editors)/[^`*A-Z]*)`", text))
    assert len(paths) > 20
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_commands_in_the_readme_exist() -> None:
    reference = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in re.findall(r"codegen-lsp ((?:models )?[a-z]+)\b", text):
        assert f"## codegen-lsp {command}\n" in reference, f"README names `codegen-lsp {command}`"


def test_refactorings_of_the_documentation_apply() -> None:
    """To the examples as they are; what comes of them is the model's."""
    from codegen_lsp.cli.refactor_target import target_at
    from codegen_lsp.refactor.dispatch import menu
    from codegen_lsp.refactor.registry import KINDS

    text = (ROOT / "docs" / "refactoring.md").read_text(encoding="utf-8")
    shown = re.findall(r"^    codegen-lsp refactor (\S+) --kind (\S+)", text, re.MULTILINE)
    assert {kind for _, kind in shown} == {kind.name for kind in KINDS}
    for place, kind in shown:
        target = target_at(f"{ROOT / 'docs' / 'examples'}/{place}")
        assert kind in [entry.kind.name for entry in menu(target.source)], place
