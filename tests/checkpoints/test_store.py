"""The store: only complete builds are listed, names are resolved, and no build is lost."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

from codegen_lsp.checkpoints import store as store_module
from codegen_lsp.checkpoints.store import (
    bundled_directory,
    discard_downloads,
    download_directory,
    find,
    install,
    installed,
    remove,
    store_directory,
    workspace,
)
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo, read_info, write_info

INFO = BuildInfo(
    name="x",
    family="codegen",
    source="test",
    license="mit",
    context_length=128,
    vocabulary_size=300,
    layers=1,
    heads=1,
    width=8,
    end_of_text=0,
)


def put(place: Path, name: str, size: int = 10) -> Path:
    """Make a folder that passes for a build unless it is run."""
    folder = place / name
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"x" * size)
    write_info(folder, attrs.evolve(INFO, name=name))
    return folder


@pytest.fixture
def bundled(store: Path) -> Path:
    return store_module.bundled_directory()


def names() -> list[str]:
    return [build.name for build in installed()]


def test_an_empty_store(store: Path) -> None:
    assert store_directory() == store
    assert installed() == []
    with pytest.raises(ModelError, match="No model is installed") as caught:
        find("auto")
    assert "models pull codegen-350M-mono" in caught.value.advice


def test_own_builds_come_first_and_hide_bundled_ones(store: Path, bundled: Path) -> None:
    put(bundled, "embedded")
    put(bundled, "both", 5)
    put(store, "zebra")
    put(store, "both", 7)
    assert [(build.name, build.bundled) for build in installed()] == [
        ("both", False),
        ("zebra", False),
        ("embedded", True),
    ]
    assert find("both").info.files["model.bin"].bytes == 7


def test_auto_is_the_bundled_model_else_the_smallest(store: Path, bundled: Path) -> None:
    put(store, "large", 90)
    put(store, "small", 9)
    assert find("auto").name == "small"
    assert find("").name == "small"
    put(bundled, "embedded", 50)
    assert find("auto").name == "embedded"


@pytest.mark.parametrize(
    "name", ["codegen-350M-mono", "350m-mono", "Salesforce/codegen-350M-mono", "CODEGEN-350M-MONO"]
)
def test_any_name_of_the_catalogues(name: str, store: Path) -> None:
    put(store, "codegen-350M-mono")
    assert find(name).path == store / "codegen-350M-mono"


def test_by_path(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(tmp_path / "elsewhere", "mine")
    assert find(str(folder)).path == folder
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find("~/elsewhere/mine").path == folder
    with pytest.raises(ModelError, match="not a model build") as caught:
        find(str(tmp_path))
    assert "models convert" in caught.value.advice


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("350M-mono", "models pull codegen-350M-mono"),
        ("my-modle", "Did you mean my-model"),
        ("codegen-350-mono", "Did you mean codegen-350M-mono"),
        ("gpt-4", "models list"),
    ],
)
def test_missing_builds_come_with_advice(name: str, advice: str, store: Path) -> None:
    put(store, "my-model")
    with pytest.raises(ModelError) as caught:
        find(name)
    assert advice in caught.value.advice


def test_damaged_builds_are_left_out_with_a_warning(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(store, "whole")
    (put(store, "cut") / "model.bin").write_bytes(b"x")
    (put(store, "odd") / "build.json").write_text("{")
    (store / "empty").mkdir()
    with caplog.at_level(logging.WARNING):
        assert names() == ["whole"]
    assert "cut" in caplog.text
    assert "odd" in caplog.text
    with pytest.raises(ModelError, match="truncated"):
        find("cut")


def test_work_in_progress_is_never_listed(store: Path) -> None:
    with workspace("mine") as folder:
        build = put(folder, "build")
        assert names() == []
        assert install(build, "mine").path == store / "mine"
        assert names() == ["mine"]
    assert [path.name for path in store.iterdir()] == ["mine"]


def test_a_failed_attempt_leaves_nothing(store: Path) -> None:
    def fail() -> None:
        with workspace("mine") as folder:
            put(folder, "build")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(store.iterdir()) == []


def test_an_incomplete_build_is_not_installed(store: Path) -> None:
    put(store, "mine", 5)
    with workspace("mine") as folder:
        build = put(folder, "build", 50)
        (build / "model.bin").write_bytes(b"")
        with pytest.raises(ModelError, match="truncated"):
            install(build, "mine")
    assert read_info(store / "mine").files["model.bin"].bytes == 5


def test_replacing_a_build(store: Path) -> None:
    put(store, "mine", 5)
    with workspace("mine") as folder:
        install(put(folder, "build", 50), "mine")
    assert read_info(store / "mine").files["model.bin"].bytes == 50
    assert [path.name for path in store.iterdir()] == ["mine"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_build_is_kept_when_its_replacement_fails(
    error: BaseException, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "mine", 5)
    moved = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == "build":
            raise error
        return moved(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with workspace("mine") as folder, pytest.raises((ModelError, KeyboardInterrupt)):
        install(put(folder, "build", 50), "mine")
    assert read_info(store / "mine").files["model.bin"].bytes == 5
    assert [path.name for path in store.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["", "auto", "../mine", "a/b", ".hidden", "a\\b", "a b"])
def test_names_that_are_refused(name: str, store: Path) -> None:
    with workspace("x") as folder:
        build = put(folder, "build")
        with pytest.raises(ModelError, match="can't be the name"):
            install(build, name)


def test_remove(store: Path, bundled: Path, tmp_path: Path) -> None:
    put(store, "codegen-350M-mono")
    put(bundled, "embedded")
    outside = put(tmp_path / "elsewhere", "other")
    assert remove("350m-mono") == store / "codegen-350M-mono"
    assert list(store.iterdir()) == []
    with pytest.raises(ModelError, match="ships with codegen-lsp"):
        remove("embedded")
    with pytest.raises(ModelError, match="is not in the store"):
        remove(str(outside))
    with pytest.raises(ModelError, match="not installed"):
        remove("350m-mono")
    assert outside.is_dir()


def test_remove_takes_damaged_builds_and_downloads_too(store: Path) -> None:
    (put(store, "codegen-2B-mono") / "model.bin").unlink()
    fetched = download_directory("codegen-2B-mono", "abc")
    fetched.mkdir(parents=True)
    remove("2B-mono")
    assert not (store / "codegen-2B-mono").exists()
    assert not fetched.exists()


def test_downloads_of_another_commit_go(store: Path) -> None:
    old, other = download_directory("a", "1" * 40), download_directory("b", "1" * 40)
    old.mkdir(parents=True)
    other.mkdir(parents=True)
    assert download_directory("a", "1" * 40) == old
    assert old.is_dir()
    download_directory("a", "2" * 40)
    assert not old.exists()
    discard_downloads("b")
    assert not other.exists()
    assert installed() == []


def test_leftovers_of_killed_processes(store: Path) -> None:
    young, old, moved = store / ".making-a-1", store / ".making-b-2", store / ".replaced-3"
    for folder in (young, old):
        put(folder, "build")
    put(moved, "mine")
    put(store, "kept")
    long_ago = time.time() - 3 * 24 * 3600
    for folder in (old, moved):
        os.utime(folder, (long_ago, long_ago))
    with workspace("next"):
        pass
    assert sorted(path.name for path in store.iterdir()) == [".making-a-1", "kept", "mine"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_without_permission(store: Path) -> None:
    store.mkdir()
    store.chmod(0o500)
    with pytest.raises(ModelError, match="can't be written to"), workspace("mine"):
        pass


def test_a_read_only_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(store_module.tempfile, "TemporaryFile", refuse)
    with pytest.raises(ModelError, match="can't be written to: Read-only file system") as caught, workspace("mine"):
        pass
    assert "CODEGEN_LSP_MODELS" in caught.value.advice


def test_a_store_that_is_a_file(store: Path) -> None:
    store.write_text("")
    assert installed() == []
    with pytest.raises(ModelError, match="can't be written to"), workspace("mine"):
        pass


def test_the_bundled_folder_of_a_checkout() -> None:
    assert (bundled_directory() / "catalogue.toml").is_file()


def test_the_store_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODEGEN_LSP_MODELS", raising=False)
    assert store_directory().name == "models"
    assert "codegen-lsp" in str(store_directory())


def test_importing_it_is_light() -> None:
    """The language server imports it at its start."""
    code = (
        "import sys, codegen_lsp.checkpoints.store, codegen_lsp.checkpoints.catalogue\n"
        "heavy = {'torch', 'transformers', 'ctranslate2', 'huggingface_hub', 'tokenizers', 'numpy', 'safetensors'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
