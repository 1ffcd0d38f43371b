"""A model that was adapted to a folder is offered when the folder is opened, and used after the user said so."""

from __future__ import annotations

import json

from tests.editors.adapted_build import put_adapted_build
from tests.editors.neovim.test_with_the_server import setup

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


def loaded(neovim) -> str:
    """Return the name of the loaded model, empty while there is none."""
    code = "local model = require('codegen.server').status.model return type(model) == 'table' and model.name or ''"
    return neovim.lua(code)


def test_an_adapted_model_is_offered_and_used(start, embedded_build, tmp_path):
    home = tmp_path / "home0"
    (home / "pyproject.toml").parent.mkdir(parents=True)
    (home / "pyproject.toml").write_text("")
    put_adapted_build(embedded_build, home / "data" / "codegen-lsp" / "models", NAME, home)
    init = ANSWER + setup(embedded_build).replace(f"model = {json.dumps(str(embedded_build))}, ", "")
    neovim = start(init, columns=120)
    neovim.edit("stack.py", "import os\n")
    neovim.until(lambda: neovim.lua("return require('codegen').statusline()") == "codegen?", "the question", 4)
    neovim.keys("Goself.x<Esc>")  # the question takes no keys
    assert neovim.text() == ["import os", "self.x"]
    assert neovim.lua("return _G.asked") == ""
    neovim.command("Codegen answer")
    assert NAME in neovim.lua("return _G.asked")
    neovim.until(lambda: loaded(neovim) == NAME, "the adapted model", 4)
    kept = home / "config" / "codegen-lsp" / "workspace-models.json"
    assert [(one["model"], one["use"]) for one in json.loads(kept.read_text())] == [(NAME, True)]
