"""What the extension's manifest says is what the program has. Needs no editor."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from codegen_lsp.settings import setting_names, structure_settings
from codegen_lsp.version import __version__

EXTENSION = Path(__file__).parents[3] / "editors" / "vscode"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", EXTENSION / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def manifest() -> Any:
    return json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))


def test_settings_and_languages_are_in_step(generate: ModuleType) -> None:
    for name, text in generate.files().items():
        written = (EXTENSION / name).read_text(encoding="utf-8")
        assert written == text, f"editors/vscode/{name} is out of step: run `make docs`"


def test_every_setting_is_there_with_a_description_and_its_default(manifest: Any) -> None:
    own, completion = manifest["contributes"]["configuration"]
    for_measurements = {"codegen-lsp.ablate"}
    assert list(completion["properties"]) == [name for name in setting_names() if name not in for_measurements]
    for schema in (own["properties"] | completion["properties"]).values():
        assert len(schema["markdownDescription"]) > 20
    defaults = {name: schema["default"] for name, schema in completion["properties"].items()}
    assert structure_settings(defaults) == structure_settings({})


def test_commands_are_there_and_are_named_rightly(manifest: Any) -> None:
    """Each command of the manifest has code, each piece of code a command, and every mention one of them."""
    declared = {command["command"] for command in manifest["contributes"]["commands"]}
    source = (EXTENSION / "src" / "extension.ts").read_text(encoding="utf-8")
    table = source.partition("readonly commands")[2].partition("\n  };")[0]
    coded = {f"codegen-lsp.{name}" for name in re.findall(r"^    (\w+): ", table, re.MULTILINE)}
    assert declared == coded
    mentioned = set(re.findall(r"(?:command:|onCommand:)(codegen-lsp\.\w+)", json.dumps(manifest)))
    menu = (EXTENSION / "src" / "menu.ts").read_text(encoding="utf-8")
    mentioned |= {f"codegen-lsp.{name}" for name in re.findall(r"own\('(\w+)'\)", menu)}
    assert mentioned <= declared


def test_the_walkthrough_has_its_pages(manifest: Any) -> None:
    (walkthrough,) = manifest["contributes"]["walkthroughs"]
    for step in walkthrough["steps"]:
        assert (EXTENSION / step["media"]["markdown"]).is_file()


def test_versions_go_together(manifest: Any) -> None:
    assert manifest["version"] == __version__


def test_the_lock_names_no_registry() -> None:
    assert "resolved" not in (EXTENSION / "package-lock.json").read_text(encoding="utf-8")
