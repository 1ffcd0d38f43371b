"""A model that was adapted to a folder is offered when the folder is opened, and used after the user said so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import attrs

from codegen_lsp.checkpoints.adaptation_record import AdaptationRecord, write_record
from codegen_lsp.inference.build import read_info, write_info
from tests.editors.neovim.test_with_the_server import ready, setup

NAME = "codegen-lsp-python+home"
ANSWER = """
_G.asked = ''
local function answer(text)
  _G.asked = text
  return 1
end
vim.ui.select = function(items, options, choose)
  choose(items[answer((options.prompt or '') .. vim.inspect(items))], 1)
end
vim.fn.inputlist = function(lines) return answer(table.concat(lines, '\\n')) end
vim.fn.confirm = function(message) return answer(message) end
"""


def adapted_build(embedded: Path, store: Path, folder: Path) -> None:
    """Put the embedded model into a store as one that was adapted to a folder."""
    shutil.copytree(embedded, store / NAME)
    write_info(store / NAME, attrs.evolve(read_info(embedded), name=NAME))
    write_record(
        store / NAME, AdaptationRecord("codegen-lsp-python", {str(folder): "c0ffee"}, {}, [], [], 1, 1.0, "2026-11-26")
    )


def loaded(neovim) -> str:
    """Return the name of the loaded model, empty while there is none."""
    code = "local model = require('codegen.server').status.model return type(model) == 'table' and model.name or ''"
    return neovim.lua(code)


def test_an_adapted_model_is_offered_and_used(start, embedded_build, tmp_path):
    home = tmp_path / "home0"
    (home / "pyproject.toml").parent.mkdir(parents=True)
    (home / "pyproject.toml").write_text("")
    adapted_build(embedded_build, home / "data" / "codegen-lsp" / "models", home)
    init = ANSWER + setup(embedded_build).replace(f"model = {json.dumps(str(embedded_build))}, ", "")
    neovim = start(init, columns=120)
    neovim.edit("stack.py", "import os\n")
    ready(neovim)
    neovim.until(lambda: neovim.lua("return _G.asked") != "", "the question")
    assert NAME in neovim.lua("return _G.asked")
    neovim.until(lambda: loaded(neovim) == NAME, "the adapted model", 4)
    kept = home / "config" / "codegen-lsp" / "workspace-models.json"
    assert [(one["model"], one["use"]) for one in json.loads(kept.read_text())] == [(NAME, True)]
