"""`codegen-lsp models tune`: on a real build and real files."""

from __future__ import annotations

import email
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codegen_lsp.checkpoints import tune as module
from codegen_lsp.cli.app import app
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import MIXING, read_info
from codegen_lsp.inference.engines.native.mixing_file import read_tuned
from codegen_lsp.inference.engines.native.ngram_segment import library
from codegen_lsp.inference.loading import load_model
from codegen_lsp.inference.rpc.messages import LoadParams

pytestmark = pytest.mark.skipif(library() is None, reason="ngram_index.c was not compiled here")

SMALL = Path(__file__).parents[1] / "models" / "small"


@pytest.fixture
def build(store: Path) -> Path:
    """An installed build called mine."""
    shutil.copytree(SMALL, store / "mine")
    return store / "mine"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace of real files, with one that must not be read."""
    made = tmp_path / "workspace"
    shutil.copytree(Path(email.__file__).parent, made, ignore=shutil.ignore_patterns("__pycache__", "mime"))
    (made / "secrets").mkdir()
    (made / "secrets" / "keys.py").write_text("KEY = 1\n" * 100)
    (made / "secrets" / "keys.py").chmod(0)
    return made


@pytest.fixture
def few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TOKENS", 5_000)
    monkeypatch.setattr(module, "WINDOW", 400)


def ignore(message: str, fraction: float) -> None:
    """Take a report of progress."""


@pytest.mark.usefixtures("few_tokens")
def test_weights_are_fitted_kept_used_and_removed(build: Path, folder: Path, store: Path) -> None:
    result = CliRunner().invoke(app, ["models", "tune", "mine", str(folder), "--threads", "1", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["path"] == str(build / MIXING)
    assert told["after"] < told["before"] < told["alone"]
    tuned = read_tuned(build, read_info(build))
    assert tuned is not None
    assert (tuned.tokens, tuned.held_out_tokens) == (told["tokens"], told["held_out_tokens"])
    model, _ = load_model(LoadParams(str(build), engine="native", threads=1), ignore)
    assert model.weights == tuned.weights
    model.close()
    assert read_info(build)  # the build is whole
    listed = json.loads(CliRunner().invoke(app, ["models", "list", "--installed", "--json"]).stdout)
    assert [row["tuned"] for row in listed if row["name"] == "mine"] == [True]
    assert (
        "installed, tuned" in CliRunner().invoke(app, ["models", "list", "--installed"], env={"COLUMNS": "200"}).stdout
    )
    assert CliRunner().invoke(app, ["models", "tune", "mine", "--reset"]).exit_code == 0
    assert not (build / MIXING).exists()
    (build / MIXING).write_text("{}")
    assert CliRunner().invoke(app, ["models", "remove", "mine"]).exit_code == 0
    assert not build.exists()


def test_too_little_text_is_refused(build: Path) -> None:
    for workspaces in ([], [{"a.py": "x = 1\n" * 4_000}], [{f"{n}.py": "x = 1\n" * 50 for n in range(9)}]):
        with pytest.raises(ModelError, match="too little text"):
            module.tune(build, workspaces, seconds=60, threads=1, progress=ignore)
    assert not (build / MIXING).exists()


@pytest.mark.usefixtures("few_tokens")
@pytest.mark.parametrize("at", ["scored", "fitting"])
def test_an_interruption_leaves_nothing(build: Path, at: str) -> None:
    before = sorted(path.name for path in build.iterdir())

    def interrupt(message: str, fraction: float) -> None:
        if message.startswith(at):
            raise KeyboardInterrupt

    workspace = {f"{n}.py": f"def f{n}(value):\n    return value + {n}\n" * 40 for n in range(12)}
    with pytest.raises(KeyboardInterrupt):
        module.tune(build, [workspace], seconds=60, threads=1, progress=interrupt)
    assert sorted(path.name for path in build.iterdir()) == before


def test_the_time_is_limited(build: Path) -> None:
    workspace = {f"{n}.py": f"def f{n}(value):\n    return value + {n}\n" * 40 for n in range(12)}
    with pytest.raises(ModelError, match="more time"):
        module.tune(build, [workspace], seconds=0, threads=1, progress=ignore)
