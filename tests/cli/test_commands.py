"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from codegen_lsp.cli.demo import neovim_setup
from codegen_lsp.inference.engines.native.ngram_segment import library

CLONE = Path(__file__).parents[2]
SOURCE = "import os\n\n\ndef read_lines(path):\n    with open(path) as file:\n        for line in fi\n"
CALL = "    registry.enlist_marsupial(burrow, eager=True)\n"
NO_SOCKETS = """
import socket

class Refusing(socket.socket):
    def __init__(self, family=-1, *args, **kwargs):
        if family in (socket.AF_INET, socket.AF_INET6, -1) and "fileno" not in kwargs and len(args) < 3:
            raise AssertionError("a network socket was opened")
        super().__init__(family, *args, **kwargs)

socket.socket = Refusing
"""


@pytest.fixture
def environment(embedded_build: Path, tmp_path: Path) -> dict[str, str]:
    """A home of its own, where no model is installed and no proxy is set."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "XDG_RUNTIME_DIR") if name in os.environ}
    return kept | {
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "COLUMNS": "100",
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "reader.py"
    path.write_text(SOURCE)
    return path


def run(
    *arguments: object, environment: dict[str, str], prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "codegen_lsp.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_version(environment: dict[str, str]) -> None:
    assert run("--version", environment=environment).stdout.startswith("codegen-lsp ")


def test_complete_prints_the_code_with_its_completion(
    file: Path, environment: dict[str, str], embedded_build: Path
) -> None:
    result = run("complete", f"{file}:6", "--stats", "-m", embedded_build, environment=environment)
    assert result.returncode == 0, result.stderr
    assert "for line in fi" in result.stdout
    assert "tokens read" in result.stdout
    assert result.stderr == ""


def test_complete_as_json(file: Path, environment: dict[str, str], embedded_build: Path) -> None:
    result = run("complete", f"{file}:6", "--json", "-n", 3, "-m", embedded_build, environment=environment)
    body = json.loads(result.stdout)
    assert body["stats"]["prompt_tokens"] > 0
    assert body["items"] or body["refusal"]
    assert len({item["insert"] for item in body["items"]}) == len(body["items"]) <= 3
    for item in body["items"]:
        assert item["insert"].endswith(item["new_text"])
        assert item["start"] <= body["offset"] <= item["end"]


@pytest.mark.skipif(library() is None, reason="ngram_index.c was not compiled here")
def test_complete_names_the_place_that_a_completion_comes_from(
    tmp_path: Path, environment: dict[str, str], embedded_build: Path
) -> None:
    project = tmp_path / "project"
    (project / "lib").mkdir(parents=True)
    (project / "pyproject.toml").touch()
    (project / "lib" / "quokka.py").write_text('"""Quokkas."""\n\n\ndef restock(registry, burrow):\n' + CALL)
    (project / "lib" / "private.py").write_text("\n" * 30 + "def again(registry, burrow):\n" + CALL * 9)
    (project / "main.py").write_text("def visit(registry, burrow):\n    registry.enlist_")
    place = f"{project / 'main.py'}:2"
    asked = ("complete", place, "--why", "--exclude", "private.py", "-m", embedded_build)
    shown = run(*asked, environment=environment)
    assert "registry.enlist_marsupial(" in shown.stdout, shown.stderr
    assert "in the workspace: lib/quokka.py:5." in shown.stdout
    assert re.search(r"marsupial.*\d+% +workspace lib/quokka\.py:5", shown.stdout)
    body = json.loads(run(*asked, "--json", environment=environment).stdout)
    (origin,), (tokens,) = body["origins"], body["tokens"]
    assert "".join(one["text"] for one in tokens).endswith(body["items"][0]["new_text"])
    assert any(one["workspace"] and one["workspace"]["line"] == 5 for one in tokens)
    assert (origin["path"], origin["line"], origin["document"]) == ("lib/quokka.py", 5, False)
    assert not list((tmp_path / ".cache" / "codegen-lsp").glob("**/*.ngrams"))
    outside = run("complete", place, "--workspace", project / "lib", "-m", embedded_build, environment=environment)
    assert outside.returncode != 0
    assert "is not in" in outside.stderr


def test_complete_opens_no_network_socket(
    file: Path, environment: dict[str, str], embedded_build: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_SOCKETS)
    path = [str(tmp_path), *filter(None, [environment.get("PYTHONPATH")])]
    environment = environment | {"PYTHONPATH": os.pathsep.join(path)}
    probe = subprocess.run(
        [sys.executable, "-c", "import socket; socket.socket()"], env=environment, capture_output=True, check=False
    )
    assert b"a network socket was opened" in probe.stderr
    result = run("complete", f"{file}:6", "--json", "-m", embedded_build, environment=environment)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["stats"]


def test_complete_without_any_network_interface(file: Path, environment: dict[str, str], embedded_build: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no unshare on this system")
    prefix = (unshare, "--user", "--map-root-user", "--net")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system allows no network namespaces")
    result = run("complete", f"{file}:6", "--json", "-m", embedded_build, environment=environment, prefix=prefix)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["stats"]


def test_errors_say_what_to_do(tmp_path: Path, environment: dict[str, str], file: Path) -> None:
    for arguments in (
        ("complete", f"{tmp_path / 'none.py'}:1"),
        ("complete", f"{file}:99"),
        ("complete", f"{file}:1", "-m", "codegen-350M-mono"),
        ("models", "path", "nothing-like-it"),
        ("models", "pull", "codegen-350X"),
        ("models", "convert", tmp_path / "empty"),
        ("serve", "--tcp", "nowhere"),
    ):
        result = run(*arguments, environment=environment)
        assert result.returncode == 1, arguments
        assert "Error:" in result.stderr
        assert "What to do:" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_doctor_measures_the_machine_once_and_advises(environment: dict[str, str], embedded_build: Path) -> None:
    result = run("doctor", "-m", embedded_build, "--json", environment=environment)
    assert result.returncode == 0, result.stderr
    body = json.loads(result.stdout)
    rows = {row["name"]: row for row in body["models"]}
    embedded, offered = rows["codegen-lsp-python"], rows["codegen-350M-mono"]
    assert (embedded["measured"], embedded["state"], embedded["download_mb"]) == (True, "embedded", None)
    assert (offered["measured"], offered["command"]) == (False, "codegen-lsp models pull codegen-350M-mono")
    assert embedded["first_token_ms"] > 0
    assert rows["codegen-16B-mono"]["first_token_ms"] > rows["codegen-2B-mono"]["first_token_ms"] > 0
    assert body["recommended"] is None or body["recommended"] in body["recommendation"]
    quick = run("doctor", "-m", embedded_build, "--quick", environment=environment)
    assert quick.returncode == 0, quick.stderr
    assert body["machine"]["finished"] in re.sub(r"\s+", " ", quick.stdout)
    for word in ("ctranslate2", "prefill", "decode", "tokens/s", "cores", "aims"):
        assert word in quick.stdout


def test_doctor_without_a_measurement_says_how_to_make_one(environment: dict[str, str], embedded_build: Path) -> None:
    result = run("doctor", "-m", embedded_build, "--quick", environment=environment)
    assert result.returncode == 0, result.stderr
    assert "This machine was not measured yet: `codegen-lsp doctor` does it." in result.stdout


def test_models_list(environment: dict[str, str]) -> None:
    names = [row["name"] for row in json.loads(run("models", "list", "--json", environment=environment).stdout)]
    assert {"codegen-350M-mono", "codegen2-1B", "codegen25-7B-mono"} <= set(names)
    assert "codegen-350M-mono" in run("models", "list", environment=environment).stdout


def test_the_demo_completes_and_shows_how_to_set_up_an_editor(
    environment: dict[str, str], embedded_build: Path
) -> None:
    result = run("demo", "-m", embedded_build, environment=environment)
    assert result.returncode == 0, result.stderr
    assert "places got a suggestion" in result.stdout
    assert f'vim.opt.runtimepath:append("{CLONE / "editors" / "neovim"}")' in result.stdout
    assert "make vsix" in result.stdout


def test_the_lines_for_neovims_own_client_are_those_of_the_docs() -> None:
    lines = neovim_setup("/path/to/codegen-lsp/.venv/bin/codegen-lsp")
    assert lines in (CLONE / "docs" / "editors.md").read_text(encoding="utf-8")


def test_warnings_about_programs_of_the_user_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from codegen_lsp.cli import app

    monkeypatch.setattr(app, "app", lambda: compile("x = 1 is 1", "<document>", "exec"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        app.main()
    assert not caught
