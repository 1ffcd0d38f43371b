"""Around the suggestions: keys that keep their meaning, the command, the server's life, what is shown of its state."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[3] / "editors" / "neovim"
FUNCTION = "def add(a, b):\n    return a + b"


def status(neovim, **fields):
    """Let the server say something about itself."""
    whole = {"state": "ready", "message": "", "advice": "", "model": None, "workerPid": None} | fields
    notify(neovim, "codegen-lsp/status", whole)


def notify(neovim, method, params):
    neovim.lua(
        """local server = require('codegen.server')
        server.execute(server.client(), 'fake.notify', { ... })""",
        method,
        params,
    )


def statusline(neovim):
    return neovim.lua("return require('codegen').statusline()")


@pytest.mark.parametrize(
    ("mapping", "typed"),
    [
        ("vim.keymap.set('i', '<Tab>', 'MINE')", "MINE"),
        ("vim.keymap.set('i', '<Tab>', function() return 'MINE' end, { expr = true })", "MINE"),
        ("vim.keymap.set('i', '<Tab>', function() vim.api.nvim_put({ 'MINE' }, 'c', false, true) end)", "MINE"),
        ("vim.cmd([[inoremap <expr> <Tab> 'MI' .. 'NE']])", "MINE"),
        ("vim.keymap.set('i', '<Plug>mine', 'MINE') vim.cmd([[imap <Tab> <Plug>mine]])", "MINE"),
    ],
)
def test_a_key_mapped_before_keeps_its_meaning(start, fake, mapping, typed):
    neovim = start(mapping + "\n" + fake.setup())
    neovim.edit("a.py")
    fake.script(FUNCTION)
    neovim.keys("i<Tab>")
    assert neovim.text() == [typed]
    neovim.keys("<C-u>def")
    neovim.sees("add(a, b)")
    neovim.keys("<Tab>")
    assert neovim.text() == FUNCTION.split("\n")


def test_unmapped_keys_keep_their_meaning(neovim):
    neovim.command("iabbrev teh the")
    neovim.keys("iteh<C-]>")
    assert neovim.text() == ["the"]
    neovim.keys("<C-j>x")
    assert neovim.text() == ["the", "x"]


def test_keys_are_overridable_and_setup_can_be_called_again(start, fake):
    neovim = start(fake.setup("keys = { accept = '<C-y>', accept_word = false }"))
    neovim.edit("a.py")
    fake.script(FUNCTION)
    neovim.keys("idef")
    neovim.sees("add(a, b)")
    neovim.keys("<C-j>")
    assert neovim.text() == ["def", ""]
    neovim.keys("<BS>")
    neovim.sees("add(a, b)")
    neovim.keys("<C-y>")
    assert neovim.text() == FUNCTION.split("\n")
    neovim.lua(fake.setup("keys = { accept = '<M-a>' }"))
    neovim.keys("<CR>def")
    assert neovim.lua("return vim.fn.maparg('<C-y>', 'i')") == ""
    assert neovim.lua("return vim.fn.maparg('<M-a>', 'i', false, true).desc") == "codegen: accept"


def test_wrong_options_are_told_and_defaults_used(start, fake):
    neovim = start(fake.setup("filetypes = 'python', color = 'red', keys = { accpt = 'x' }"), columns=200)
    neovim.edit("a.py")
    messages = neovim.messages()
    assert "There is no option `color`." in messages
    assert "The option `filetypes` is a table, not a string." in messages
    assert "There is no key for `accpt`." in messages
    fake.script(FUNCTION)
    neovim.keys("idef")
    neovim.sees("add(a, b)")


def test_a_missing_server_is_told_once_with_what_to_do(start):
    neovim = start("require('codegen').setup { cmd = { '/nowhere/codegen-lsp' } }", columns=120)
    neovim.edit("a.py", mode="unattached")
    neovim.edit("b.py", mode="unattached")
    assert neovim.messages().count("The option `cmd` names") == 1
    assert statusline(neovim) == "codegen: error"


def test_the_server_is_found_on_the_path_and_in_the_clone(start, tmp_path):
    neovim = start("require('codegen').setup {}")
    program = tmp_path / "bin" / "codegen-lsp"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    neovim.lua("vim.env.PATH = ...", f"{program.parent}:/usr/bin:/bin")
    assert neovim.lua("return require('codegen.server').command()") == [str(program), "serve"]
    clone = tmp_path / "clone"
    (clone / ".venv" / "bin").mkdir(parents=True)
    program.rename(clone / ".venv" / "bin" / "codegen-lsp")
    copies = clone / "editors" / "neovim" / "lua" / "codegen"
    shutil.copytree(PLUGIN / "lua" / "codegen", copies)
    found = neovim.lua("return dofile(...).command()", str(copies / "server.lua"))
    assert found == [str(clone / ".venv" / "bin" / "codegen-lsp"), "serve"]


def test_settings_reach_the_server(start, fake):
    neovim = start(fake.setup("settings = { model = 'auto', cache = { memory_mb = 64 } }"))
    neovim.edit("a.py")
    wanted = {"model": "auto", "cache": {"memory_mb": 64}}
    assert fake.got("initialize")[0]["initializationOptions"] == wanted
    neovim.until(lambda: fake.got("workspace/didChangeConfiguration"))
    assert fake.got("workspace/didChangeConfiguration")[0]["settings"] == {"codegen-lsp": wanted}
    assert "inlineCompletion" in fake.got("initialize")[0]["capabilities"]["textDocument"]


def test_one_server_for_several_projects(neovim, fake):
    for project in ("one", "two"):
        (neovim.home / "project" / project / ".git").mkdir(parents=True)
        neovim.edit(f"{project}/a.py")
    neovim.until(lambda: len(fake.got("workspace/didChangeWorkspaceFolders")) == 2)
    added = [change["event"]["added"][0]["uri"] for change in fake.got("workspace/didChangeWorkspaceFolders")]
    assert [uri.rsplit("/", 1)[1] for uri in added] == ["one", "two"]
    assert len(fake.got("initialize")) == 1


def test_state_in_the_statusline(neovim):
    neovim.command("set statusline=[%{v:lua.require'codegen'.statusline()}]")
    for state, shown in [
        ("starting", "[codegen: starting]"),
        ("loading", "[codegen: loading]"),
        ("ready", "[codegen]"),
        ("busy", "[codegen*]"),
        ("disabled", "[codegen off]"),
    ]:
        status(neovim, state=state)
        neovim.until(lambda shown=shown: neovim.screen()[14] == shown, shown)
    neovim.command("enew")
    assert neovim.screen()[14] == "[]"


def test_errors_are_told_once(neovim):
    for _ in range(2):
        status(neovim, state="error", message="The model is missing.", advice="Pull one.")
        status(neovim, state="error", message="The model is missing.", advice="Pull one.")
    neovim.until(lambda: statusline(neovim) == "codegen: error")
    assert neovim.messages().count("The model is missing. Pull one.") == 1


def test_long_messages_take_no_key_that_is_typed(neovim):
    message = "The model was removed. " * 10
    neovim.keys("i")
    notify(neovim, "window/showMessage", {"type": 2, "message": message + "Another is used."})
    neovim.until(lambda: "The model was removed." in neovim.messages(), "its beginning")
    neovim.keys("x")
    neovim.until(lambda: neovim.text()[0].startswith("x"), "the letter")
    assert "Another is used." not in neovim.messages()
    neovim.request("nvim_input", "<Esc>")
    neovim.until(lambda: neovim.request("nvim_get_mode")["mode"] == "r", "the prompt of the whole message")
    neovim.keys("<CR>")
    assert "Another is used." in neovim.messages()


@pytest.mark.parametrize(
    ("begin", "end"), [("i", "<C-c>"), ("gh", "<Esc>"), (":terminal cat<CR>i", "<C-\\><C-n>"), ("i<C-o>", "<Esc><Esc>")]
)
def test_messages_of_wide_characters_wait_for_the_end_of_typing(neovim, begin, end):
    neovim.lua("vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'text' })")
    neovim.keys(begin)
    typing = neovim.until(lambda: (mode := neovim.request("nvim_get_mode")["mode"]) not in ("n", "nt", "c") and mode)
    notify(neovim, "window/showMessage", {"type": 2, "message": "\u6a21\u578b" * 60 + "END"})
    neovim.until(lambda: "\u2026" in neovim.messages(), "its beginning")
    assert neovim.request("nvim_get_mode") == {"mode": typing, "blocking": False}
    assert "END" not in neovim.messages()
    neovim.request("nvim_input", end)
    neovim.until(lambda: neovim.request("nvim_get_mode")["mode"] == "r", "the prompt of the whole message")
    neovim.keys("<CR>")
    assert "END" in neovim.messages()


def test_progress_is_shown_and_goes_away(neovim):
    notify(neovim, "$/progress", {"token": "1", "value": {"kind": "begin", "title": "Loading", "percentage": 0}})
    notify(neovim, "$/progress", {"token": "1", "value": {"kind": "report", "message": "weights", "percentage": 40}})
    neovim.sees("codegen: Loading 40% weights")
    assert statusline(neovim) == "codegen: loading 40/100"
    notify(neovim, "$/progress", {"token": "1", "value": {"kind": "end"}})
    neovim.until(lambda: not any("Loading" in line for line in neovim.screen()))
    assert "loading" not in statusline(neovim)


def test_killed_server_comes_back(start, fake):
    neovim = start(fake.setup(), columns=250)
    neovim.edit("a.py")
    fake.script(FUNCTION)
    first = neovim.lua("return vim.lsp.get_clients()[1].id")
    neovim.lua("local s = require('codegen.server') s.execute(s.client(), 'fake.exit', {})")
    neovim.until(lambda: neovim.lua("return (vim.lsp.get_clients({ bufnr = 0 })[1] or {}).id") not in (None, first))
    neovim.keys("idef")
    neovim.sees("add(a, b)")


def test_what_was_typed_before_the_server_was_there_is_completed(start, fake):
    slow = fake.setup().replace("cmd = { ", "cmd = { 'sh', '-c', 'sleep 1; exec \"$@\"', 'sh', ")
    neovim = start(slow)
    fake.script(FUNCTION)
    neovim.edit("a.py", mode="unattached")
    neovim.keys("idef")
    neovim.sees("add(a, b)")


def test_what_was_typed_before_the_model_was_loaded_is_completed(neovim, fake):
    status(neovim, state="loading")
    neovim.until(lambda: statusline(neovim) == "codegen: loading")
    neovim.keys("idef")
    neovim.until(lambda: fake.requests, "a request")
    neovim.settle()
    assert neovim.ghost() == ""
    fake.script(FUNCTION)
    status(neovim, state="ready")
    neovim.sees("add(a, b)")


def test_a_server_that_dies_again_and_again_is_given_up(start, fake):
    broken = fake.setup().replace("fake_server.py", "no_server.py")
    neovim = start(broken, columns=250)
    neovim.lua("local f = vim.defer_fn vim.defer_fn = function(g, ms) return f(g, math.min(ms, 20)) end")
    neovim.edit("a.py", mode="unattached")
    neovim.until(lambda: statusline(neovim) == "codegen: error")
    assert "The server ended 6 times within a minute" in neovim.messages()
    assert ":Codegen restart" in neovim.messages()


def test_toggled(neovim, fake):
    fake.script(FUNCTION)
    neovim.keys("idef")
    neovim.sees("add(a, b)")
    neovim.keys("<Cmd>Codegen toggle<CR>")
    assert neovim.ghost() == ""
    assert statusline(neovim) == "codegen off"
    before = len(fake.requests)
    neovim.keys("<BS>f")
    neovim.settle()
    assert len(fake.requests) == before
    neovim.keys("<Cmd>Codegen toggle<CR><BS>")
    neovim.sees("add(a, b)")
    neovim.keys("<Esc>")
    neovim.lua("vim.b.codegen_enabled = false")
    before = len(fake.requests)
    neovim.keys("af")
    neovim.settle()
    assert len(fake.requests) == before


def test_command(neovim, fake):
    neovim.command("Codegen explain")
    neovim.until(lambda: "Line 1: because." in neovim.messages())
    neovim.command("Codegen model other")
    neovim.until(lambda: "codegen: the model is other" in neovim.messages())
    neovim.command("Codegen model missing")
    neovim.until(lambda: "There is no model named missing." in neovim.messages())
    model = {"name": "small", "engine": "ct2", "device": "cpu", "computeType": "int8"}
    status(neovim, message="All is well.", model=model)
    neovim.until(lambda: statusline(neovim) == "codegen")
    assert neovim.lua("return vim.fn.execute('Codegen status')").strip() == "codegen: ready, small, ct2 on cpu (int8)"
    status(neovim, state="error", message="The model is missing.", advice="Pull one.")
    neovim.until(lambda: statusline(neovim) == "codegen: error")
    said = neovim.lua("return vim.fn.execute('Codegen status')").strip()
    assert said == "codegen: error\nThe model is missing.\nPull one."
    assert "There is no :Codegen nonsense." in neovim.lua("return select(2, pcall(vim.cmd, 'Codegen nonsense'))")


def model_advice(name, **values):
    """A model of the server's advice."""
    times = {"firstTokenMs": 12.3, "suggestionMs": 145.6, "measured": False}
    there = {"verdict": "within", "reason": "within the aims", "state": "", "downloadMb": None, "command": ""}
    return {"name": name, "license": "Apache-2.0", "goodFor": "lines", **times, **there, **values}


def advice(*rows, note=""):
    text = "On this machine medium is the largest model that answers within the aims."
    named = {"recommended": "medium", "models": rows, "note": note, "aims": {"suggestionTokens": 16}}
    return {"recommendation": text, **named}


def test_a_model_that_suits_the_machine_is_taken(neovim, fake):
    reason = {"verdict": "slow", "reason": "16 tokens 900 ms instead of 250"}
    rows = (
        model_advice("small", state="embedded", measured=True),
        model_advice("medium", downloadMb=797, command="codegen-lsp models pull medium"),
        model_advice("large", downloadMb=7000, command="codegen-lsp models pull large", goodFor="", **reason),
    )
    fake.write_script(advice=advice(*rows, note="The machine was busy."))
    neovim.lua(
        """vim.ui.select = function(rows, options, chosen)
          lines = { options.prompt }
          for _, row in ipairs(rows) do lines[#lines + 1] = options.format_item(row) end
          chosen(rows[choice])
        end
        choice = 1"""
    )
    neovim.command("Codegen models")
    neovim.until(lambda: "the model is small until Neovim ends" in neovim.messages(), "the model")
    predicted = "first token 12 ms, 16 tokens 146 ms (predicted)"
    assert neovim.lua("return lines") == [
        "On this machine medium is the largest model that answers within the aims. The machine was busy.",
        "  small; first token 12 ms, 16 tokens 146 ms; within the aims; embedded; Apache-2.0; lines",
        f"* medium; {predicted}; within the aims; 797 MB to download; Apache-2.0; lines",
        f"  large; {predicted}; 16 tokens 900 ms instead of 250; 7.0 GB to download; Apache-2.0",
    ]
    assert [call["arguments"] for call in fake.got("workspace/executeCommand")] == [["small"]]
    neovim.lua("choice = 2")
    neovim.command("Codegen models measure")
    neovim.until(lambda: ":Codegen pull medium installs it" in neovim.messages(), "the command")
    assert neovim.lua("return vim.fn.getreg('\"')") == "codegen-lsp models pull medium"
    assert [params["measure"] for params in fake.got("codegen-lsp/modelAdvice")] == ["ifNeeded", "again"]
    neovim.lua("choice = nil")
    neovim.command("Codegen models")
    neovim.until(lambda: len(fake.got("codegen-lsp/modelAdvice")) == 3)
    neovim.settle()
    assert [
        call["arguments"] for call in fake.got("workspace/executeCommand") if call["command"] != "fake.nothing"
    ] == [["small"]]
    assert "takes no name" in neovim.lua("return vim.fn.execute('Codegen models small')")


def test_the_measuring_of_the_machine_is_stopped(neovim, fake):
    fake.write_script(advice=advice(), delay=1000)
    neovim.lua("vim.ui.select = function(rows) asked = #rows end")
    neovim.command("Codegen models")
    neovim.until(lambda: fake.got("codegen-lsp/modelAdvice"), "the request")
    neovim.command("Codegen models")
    neovim.until(lambda: "was stopped" in neovim.messages(), "the message")
    neovim.until(lambda: fake.got("$/cancelRequest"), "the cancellation")
    neovim.settle()
    assert neovim.lua("return asked") is None
    fake.write_script(advice=advice(model_advice("small")))
    neovim.command("Codegen models")
    neovim.until(lambda: neovim.lua("return asked") == 1, "the advice")


def test_command_restart(neovim, fake):
    neovim.command("Codegen restart")
    neovim.until(lambda: len(fake.got("initialize")) == 2)
    neovim.until(lambda: neovim.lua("return #vim.lsp.get_clients({ bufnr = 0 })") == 1)
    fake.script(FUNCTION)
    neovim.keys("idef")
    neovim.sees("add(a, b)")


def test_command_trigger_and_log(neovim, fake):
    fake.script(FUNCTION)
    neovim.request("nvim_buf_set_lines", 0, 0, -1, False, ["def"])
    neovim.command("Codegen trigger")
    neovim.sees("add(a, b)")
    neovim.keys("<Esc>")
    log = neovim.lua("return vim.lsp.log.get_filename()")
    Path(log).unlink(missing_ok=True)
    neovim.command("Codegen log")
    neovim.until(lambda: "nothing was logged yet" in neovim.messages(), "the answer")
    Path(log).write_text("[ERROR] something\n")
    neovim.command("Codegen log")
    assert neovim.text() == ["[ERROR] something"]
    assert neovim.lua("return vim.fn.expand('%:t')") == "lsp.log"


def test_command_is_completed(neovim):
    def complete(line):
        return neovim.lua("return vim.fn.getcompletion(..., 'cmdline')", line)

    names = [
        "answer",
        "continue",
        "explain",
        "health",
        "log",
        "model",
        "models",
        "pull",
        "restart",
        "session",
        "status",
        "toggle",
        "trigger",
    ]
    assert complete("Codegen ") == names
    assert complete("Codegen t") == ["toggle", "trigger"]
    assert complete("Codegen status ") == []
    assert complete("Codegen models ") == ["measure"]


def test_installed_models_are_completed(start, tmp_path):
    program = tmp_path / "codegen-lsp"
    models = json.dumps([{"name": "big", "path": "/m/big"}, {"name": "small", "path": None}])
    program.write_text(f"#!/bin/sh\ntest \"$*\" = 'models list --json' && echo '{models}'\n")
    program.chmod(0o755)
    neovim = start(f"require('codegen').setup {{ cmd = {{ '{program}', 'serve' }} }}")
    assert neovim.lua("return vim.fn.getcompletion('Codegen model ', 'cmdline')") == ["big"]


def pulling(start, tmp_path, script):
    """An editor whose server's program is this shell script."""
    program = tmp_path / "codegen-lsp"
    program.write_text(f"#!/bin/sh\n{script}")
    program.chmod(0o755)
    return start(f"require('codegen').setup {{ cmd = {{ '{program}', 'serve' }} }}", columns=120)


def test_model_is_pulled(start, tmp_path):
    models = json.dumps([{"name": "big", "path": None, "needs_consent": False}, {"name": "small", "path": "/m/small"}])
    steps = r"""'{"message": "Downloading", "fraction": 0.4}' '{"name": "big", "path": "/m/big"}'"""
    script = f"case $2 in list) echo '{models}';; pull) printf '%s\\n' {steps};; esac"
    neovim = pulling(start, tmp_path, script)
    assert neovim.lua("return vim.fn.getcompletion('Codegen pull ', 'cmdline')") == ["big"]
    neovim.command("Codegen pull big")
    neovim.until(lambda: "big is installed" in neovim.messages(), "the end")


def test_pull_is_stopped_and_its_failure_is_told(start, tmp_path):
    script = """if [ "$2" = list ]; then echo '[]'; exit; fi
if [ "$3" = wrong ]; then echo '{"error": "There is no wrong.", "advice": "See the list."}'; exit 1; fi
echo '{"message": "Downloading", "fraction": 0.4}'; exec sleep 1000"""
    neovim = pulling(start, tmp_path, script)
    neovim.command("Codegen pull wrong")
    neovim.until(lambda: "There is no wrong. See the list." in neovim.messages(), "the failure")
    neovim.command("Codegen pull big")
    neovim.sees("pulling big 40% Downloading")
    neovim.command("Codegen pull")
    neovim.until(lambda: "The pull of big was stopped" in neovim.messages(), "the end")


@pytest.mark.parametrize(("answer", "installed"), [(2, False), (1, True)])
def test_packages_that_a_pull_lacks_are_installed_on_request(start, tmp_path, answer, installed):
    lacking = json.dumps({"error": "It needs the extra.", "advice": "pip install", "missing_extra": "convert"})
    script = f"""if [ "$2" = list ]; then echo '[]'; exit; fi
echo "$*" >> '{tmp_path}/pulls'
case "$*" in *--install) echo '{{"name": "big", "path": "/m/big"}}';; *) echo '{lacking}'; exit 1;; esac"""
    neovim = pulling(start, tmp_path, script)
    neovim.lua(
        """local answer = ...
        vim.fn.confirm = function(message, choices)
          vim.g.asked = message
          return answer
        end""",
        answer,
    )
    neovim.command("Codegen pull big")
    said = "big is installed" if installed else "It needs the extra. pip install"
    neovim.until(lambda: said in neovim.messages(), "the end")
    pulls = (tmp_path / "pulls").read_text().splitlines()
    assert "the extra convert" in neovim.lua("return vim.g.asked")
    assert pulls == ["models pull big --json", "models pull big --json --install"][: 1 + installed]


def test_health(neovim):
    status(neovim, message="All is well.")
    neovim.until(lambda: statusline(neovim) == "codegen")
    neovim.command("Codegen health")
    report = "\n".join(neovim.text())
    assert "The server runs; attached buffers: 1." in report
    assert "State: ready. All is well." in report
    assert "<Tab>: accept" in report
    assert "ERROR" not in report


def test_health_before_setup(start):
    neovim = start("")
    neovim.command("checkhealth codegen")
    report = "\n".join(neovim.text())
    assert "setup() was not called." in report


def test_neovims_own_ghost_text(start, fake, program):
    if "0.12" not in str(program):
        pytest.skip("Neovim has its own since 0.12")
    neovim = start(fake.setup("native = true"))
    neovim.edit("a.py")
    fake.script(FUNCTION)
    neovim.keys("idef")
    neovim.sees("def add(a, b):", "    return a + b")
    assert neovim.ghost() == ""
    neovim.keys("<Tab>")
    neovim.until(lambda: neovim.text() == FUNCTION.split("\n"))


def test_not_shown_twice_when_neovims_own_is_on(start, fake, program):
    if "0.12" not in str(program):
        pytest.skip("Neovim has its own since 0.12")
    neovim = start("vim.lsp.inline_completion.enable()\n" + fake.setup())
    neovim.edit("a.py")
    fake.script(FUNCTION)
    neovim.keys("idef")
    neovim.sees("add(a, b)")
    neovim.lua("vim.wait(400)")  # Neovim's own waits 200
    neovim.settle()
    assert neovim.screen()[:2] == ["def add(a, b):", "    return a + b"]
    assert len(fake.requests) == 1


def test_neovim_ends_with_a_server_running(neovim):
    neovim.close()
    assert neovim.process.returncode == 0


def test_help_is_found_as_it_lies_in_the_clone(neovim):
    text = (PLUGIN / "doc" / "codegen.txt").read_text(encoding="utf-8")
    tags = re.findall(r"(?<=\*)[:\w.-]+(?=\*)", text)
    assert len(tags) > 8
    for tag in tags:
        neovim.command(f"help {tag}")
        assert neovim.lua("return vim.fn.expand('%:t')") == "codegen.txt"


@pytest.mark.parametrize(("given", "kept"), [(":", ""), (":/x", "/x"), ("lib:.:/x:/y", "/x:/y"), ("/x", "/x")])
def test_python_is_started_without_the_current_folder(neovim, given, kept):
    """Where it would run a `sitecustomize.py` of the user's project."""
    code = "vim.env.PYTHONPATH = ... return require('codegen.server').env().PYTHONPATH"
    assert neovim.lua(code, given) == kept
    code = "require('codegen.config').current.cmd_env = { PYTHONPATH = ... } return require('codegen.server').env()"
    assert neovim.lua(code, given) == {"PYTHONPATH": kept}


def uris(fake, method: str) -> list[str]:
    return [params["textDocument"]["uri"].rsplit("/", 1)[-1] for params in fake.got(method)]


@pytest.mark.parametrize("command", ["file", "saveas"])
def test_a_renamed_buffer_is_served_under_its_new_name_at_once(neovim, fake, command):
    fake.script("def add(a, b)", "x = 1")
    neovim.keys("ix =<Esc>")
    neovim.command(f"{command} {neovim.home / 'project' / 'b.py'}")
    neovim.keys("odef")
    neovim.until(lambda: neovim.ghost() == " add(a, b)", "a suggestion")
    assert fake.requests[-1]["textDocument"]["uri"].endswith("/b.py")
    assert uris(fake, "textDocument/didClose") == ["a.py"]
    neovim.keys("<Tab><Esc>")
    neovim.command("write")
    neovim.settle()
    assert uris(fake, "textDocument/didOpen") == ["a.py", "b.py"]
    assert uris(fake, "textDocument/didClose") == ["a.py"]
    assert fake.got("textDocument/didOpen")[1]["textDocument"]["text"] == "x =\n"


def test_a_buffer_renamed_to_another_type_is_left_alone(neovim, fake):
    fake.script("def add(a, b)")
    neovim.command("file notes.txt")
    neovim.command("filetype detect")
    neovim.keys("idef")
    neovim.settle()
    assert uris(fake, "textDocument/didClose")[0] == "a.py"
    assert fake.got("textDocument/didOpen")[-1]["textDocument"]["languageId"] == "text"
    assert fake.requests == []


def test_another_file_type_ends_suggestions_or_changes_the_language(neovim, fake):
    fake.script("def add(a, b)")
    neovim.keys("idef")
    neovim.until(neovim.ghost, "a suggestion")
    neovim.keys("<Esc>")
    before = len(fake.requests)
    neovim.command("set filetype=text")
    neovim.keys("o")
    neovim.keys("def")
    neovim.settle()
    assert len(fake.requests) == before
    assert neovim.lua("return require('codegen').trigger()") is False
    neovim.keys("<Esc>")
    neovim.command("set filetype=python")
    neovim.keys("odef")
    neovim.until(neovim.ghost, "a suggestion")
    neovim.keys("<Esc>")
    neovim.command("set filetype=c")
    neovim.keys("odef")
    neovim.until(neovim.ghost, "a suggestion")
    languages = [params["textDocument"]["languageId"] for params in fake.got("textDocument/didOpen")]
    assert languages == ["python", "text", "python", "c"]
    neovim.command("doautocmd FileType c")  # set again, not changed
    neovim.settle()
    assert len(fake.got("textDocument/didOpen")) == 4
    assert len(fake.got("textDocument/didClose")) == 3
