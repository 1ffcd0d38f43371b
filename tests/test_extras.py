"""Extras: they are found missing by their metadata, installed by pip on request, and never otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from codegen_lsp import extras
from codegen_lsp.errors import InstallationError, MissingExtraError
from tests import light_environment

if not light_environment.up_to_date():
    pytest.skip("the metadata of the installed package are older than pyproject.toml", allow_module_level=True)

MODELS_PULL = ("models", "pull", "codegen-350M-mono")
PLOT = ("bench", "engine", "--shape", "no-shape", "--plot", "plot.svg")
"""Needs the extra `plot`; ends with an error about its shape when that is there."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return light_environment.make(tmp_path_factory.mktemp("light"))


@pytest.fixture
def light(tmp_path: Path) -> Path:
    """The Python of an environment with the default installation."""
    return light_environment.make(tmp_path / "light")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables that let pip install nothing but wheels in a folder, which are empty packages."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, version in {
        "matplotlib": "3.99",
        "torch": "2.99.0+cpu",
        "transformers": "5.99",
        "safetensors": "0.99",
    }.items():
        write_wheel(wheels, name, version)
    return os.environ | {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
        "CODEGEN_LSP_MODELS": str(tmp_path / "models"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }


def write_wheel(folder: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", f"__version__ = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_a_package_without_what_its_own_extra_requires_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray, which is installed for `ray`, is without the pandas of `ray[train]`."""
    wanted = Requirement("outer_package[more]>=1")
    monkeypatch.setattr(extras, "requirements", lambda extra: [wanted])

    def install(name: str, *lines: str) -> None:
        (tmp_path / name / f"{name}-1.0.dist-info").mkdir(parents=True)
        text = "\n".join(("Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *lines))
        (tmp_path / name / f"{name}-1.0.dist-info" / "METADATA").write_text(text + "\n")
        monkeypatch.syspath_prepend(tmp_path / name)

    assert extras.missing("x") == [wanted]
    install("outer_package", "Provides-Extra: more", 'Requires-Dist: inner_package; extra == "more"')
    assert extras.missing("x") == [wanted]
    install("inner_package")
    assert extras.missing("x") == []


def run(python: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-m", "codegen_lsp.cli", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def has(python: Path, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def extras_missing(python: Path, extra: str) -> str:
    program = f"from codegen_lsp import extras; print(extras.missing({extra!r}))"
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "extra", "lacks"),
    [
        (MODELS_PULL, "convert", "transformers"),
        (("models", "convert", "folder"), "convert", "torch"),
        (("models", "verify", "auto"), "convert", "transformers"),
        (("eval", "bits-per-byte", "--float", "folder"), "convert", "transformers"),
        (("models", "export", "auto", "folder", "--to", "gguf"), "export", "gguf"),
        (("bench", "engine", "--peers"), "peers", "gguf"),
        (PLOT, "plot", "matplotlib"),
    ],
)
def test_a_command_names_the_extra_that_it_lacks(
    made: Path, environment: dict[str, str], arguments: tuple[str, ...], extra: str, lacks: str
) -> None:
    result = run(made, environment, *arguments)
    assert result.returncode == 1, result.stderr
    problem, advice = result.stderr.splitlines()
    assert f"needs the extra `{extra}`, which is not installed" in problem
    assert lacks in problem
    assert f'--install, or: pip install "codegen-lsp[{extra}]"' in advice
    assert not has(made, lacks)


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("codegen_lsp.training", ("--out", "x", "--steps", "1"), "train"),
        ("codegen_lsp.training.plot", ("x", "x.svg"), "train"),
    ],
)
def test_training_names_the_extra_that_it_lacks(
    made: Path, module: str, arguments: tuple[str, ...], extra: str
) -> None:
    command = [made, "-m", module, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f'pip install "codegen-lsp[{extra}]"' in result.stderr
    assert "Traceback" not in result.stderr


def test_an_extra_is_installed_on_request(light: Path, environment: dict[str, str]) -> None:
    result = run(light, environment, *PLOT, "--install")
    assert "no-shape is neither" in result.stderr
    assert has(light, "matplotlib")
    assert "no-shape is neither" in run(light, environment, *PLOT).stderr


def test_a_program_sees_the_steps_of_an_installation(light: Path, environment: dict[str, str]) -> None:
    first = run(light, environment, *MODELS_PULL, "--json")
    assert json.loads(first.stdout)["missing_extra"] == "convert"
    assert not has(light, "transformers")
    output = run(light, environment, *MODELS_PULL, "--json", "--install").stdout
    # The last line is an error: the packages are empty, and there is no hub.
    steps = [json.loads(line).get("message", "") for line in output.splitlines()]
    assert any("Installing collected packages: torch" in step for step in steps), steps
    assert any("Installing collected packages:" in step and "transformers" in step for step in steps), steps
    assert extras_missing(light, "convert") == "[]"


@pytest.mark.parametrize(("answer", "installed"), [("n", False), ("", False), ("y", True)])
def test_a_person_is_asked_first(
    light: Path, environment: dict[str, str], tmp_path: Path, answer: str, installed: bool
) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [str(light), "-m", "codegen_lsp.cli", *PLOT]
    with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = ""
        while "now? [y/N]" not in shown:
            shown += os.read(ours, 4096).decode()
        os.write(ours, f"{answer}\n".encode())
        try:
            while data := os.read(ours, 4096):
                shown += data.decode()
        except OSError:  # Linux reports the end of the other side so
            pass
    os.close(ours)
    assert str(light.parents[1]) in shown.replace("\r\n", "")
    assert process.returncode == 1
    assert ("no-shape is neither" in shown) == has(light, "matplotlib") == installed
    assert ('pip install "codegen-lsp[plot]"' in shown) != installed


def test_an_installation_that_fails_is_told(light: Path, environment: dict[str, str], tmp_path: Path) -> None:
    for wheel in (tmp_path / "wheels").iterdir():
        wheel.unlink()
    (line,) = [
        json.loads(line) for line in run(light, environment, *MODELS_PULL, "--json", "--install").stdout.splitlines()
    ]
    assert "No matching distribution found for torch" in line["error"]
    assert "pip install" in line["advice"]
    assert "could not be installed" in run(light, environment, *PLOT, "--install").stderr


def test_the_default_installation_has_all_that_serving_needs(made: Path) -> None:
    program = (
        "import codegen_lsp.lsp.serve, codegen_lsp.inference.worker.service, codegen_lsp.refactor.python.rope_backend,"
        "codegen_lsp.refactor.python.codemods, codegen_lsp.source.parse_tree, codegen_lsp.inference.engines.ct2.engine,"
        "codegen_lsp.cli.doctor, codegen_lsp.benchmarks.memory"
    )
    subprocess.run([made, "-c", program], check=True)


def test_torch_comes_first_and_without_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "missing", extras.requirements)
    monkeypatch.setattr(sys, "platform", "linux")
    first, second = extras.commands("convert", cpu_only=True)
    assert first[-4:-1] == ["--no-deps", "--index-url", extras.CPU_INDEX]
    assert first[-1].startswith("torch")
    assert not any("index" in word for word in second)
    assert len(extras.commands("convert", cpu_only=False)) == 1
    assert len(extras.commands("plot", cpu_only=True)) == 1
    monkeypatch.setattr(sys, "platform", "darwin")
    assert len(extras.commands("convert", cpu_only=True)) == 1


def test_uv_installs_where_there_is_no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(extras.shutil, "which", lambda name: "/bin/uv")
    (command,) = extras.commands("plot", cpu_only=True)
    assert command[:5] == ["/bin/uv", "pip", "install", "--python", sys.executable]
    monkeypatch.setattr(extras.shutil, "which", lambda name: None)
    with pytest.raises(InstallationError, match="ensurepip"):
        extras.commands("plot", cpu_only=True)


def test_a_version_out_of_range_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.metadata, "version", lambda name: "0.0.1")
    with pytest.raises(MissingExtraError, match=r"matplotlib>=3\.9"):
        extras.require("plot", "a plot")


def test_an_extra_that_older_metadata_do_not_know_is_not_asked_for() -> None:
    assert extras.requirements("no-such-extra") == extras.missing("no-such-extra") == []
