"""Write the server's settings into the extension's manifest, and lists that its sources need beside them: `make docs`.

A test fails when they differ from the program. Settings of the extension's own (`codegen-lsp.server.*`) stay as they
are in the manifest, and those for measurements are left out.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import attrs

from codegen_lsp import former_settings, settings
from codegen_lsp.source.languages import DEFAULT_LANGUAGES, LANGUAGES

HERE = Path(__file__).parent
OWN = f"{settings.SECTION}.server."
"""Beginning of the names of the extension's own settings."""


def manifest(current: dict[str, Any]) -> dict[str, Any]:
    """Return `package.json` with the server's current settings."""
    own, _ = current["contributes"]["configuration"]
    kept = {name: schema for name, schema in own["properties"].items() if name.startswith(OWN)}
    groups = [own | {"properties": kept}, {"title": "Completion", "properties": properties()}]
    return current | {"contributes": current["contributes"] | {"configuration": groups}}


def properties() -> dict[str, Any]:
    """Return the server's settings for users as VS Code describes settings."""
    found = {}
    for order, (name, field, meaning) in enumerate(_described(settings.Settings, settings.SECTION)):
        if field.metadata[settings.FOR_MEASUREMENTS]:
            continue
        default = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default
        found[name] = {
            **field.metadata[settings.RULE].schema,
            "default": list(default) if isinstance(default, tuple) else default,
            "markdownDescription": meaning,
            "scope": "machine" if _user_only(name) else "window",
            "order": order,
        }
    return found


def languages() -> dict[str, Any]:
    """Return `src/languages.json`: the languages that are on by default, and the names of all."""
    return {"on": sorted(DEFAULT_LANGUAGES), "names": {name: known.name for name, known in sorted(LANGUAGES.items())}}


def names(current: dict[str, Any]) -> dict[str, Any]:
    """Return `src/settings.json`: the names that are passed on to the server, those that only the user may set while
    the workspace is not trusted, and those that only the user may set at all."""
    prefix = f"{settings.SECTION}."
    known = [name.removeprefix(prefix) for name in settings.setting_names()] + sorted(former_settings.FORMER_NAMES)
    untrusted = current["capabilities"]["untrustedWorkspaces"]["restrictedConfigurations"]
    return {
        "known": known,
        "restricted": [name.removeprefix(prefix) for name in untrusted],
        "userOnly": [name.removeprefix(prefix) for name in settings.setting_names() if _user_only(name)],
    }


def _user_only(name: str) -> bool:
    return name.removeprefix(f"{settings.SECTION}.").partition(".")[0] in settings.USER_ONLY


def files() -> dict[str, str]:
    """Return the path and content of all generated files."""
    current = json.loads((HERE / "package.json").read_text(encoding="utf-8"))
    return {
        "package.json": _text(manifest(current)),
        "src/languages.json": _text(languages()),
        "src/settings.json": _text(names(current)),
    }


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _described(cls: type, prefix: str) -> Any:
    spec = importlib.util.spec_from_file_location("generate_docs", HERE.parents[1] / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.described(cls, prefix)


if __name__ == "__main__":
    for name, text in files().items():
        (HERE / name).write_text(text, encoding="utf-8")
