"""A wheel holds the model and all libraries for its platform, and completes code where there is no compiler."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from codegen_lsp.inference.engines.native import compile_decoder
from tests import installed_wheel, light_environment

pytest.importorskip("hatchling", reason="hatchling, which builds wheels, is not installed")
ROOT = Path(__file__).parents[1]
MAGIC = {
    "linux-x86_64": (b"\x7fELF", 18, b"\x3e\x00"),
    "linux-aarch64": (b"\x7fELF", 18, b"\xb7\x00"),
    "macos-arm64": (b"\xcf\xfa\xed\xfe", 4, b"\x0c\x00\x00\x01"),
    "macos-x86_64": (b"\xcf\xfa\xed\xfe", 4, b"\x07\x00\x00\x01"),
    "windows-x86_64": (b"MZ", 0, b"MZ"),
}
"""First bytes of a library; offset and bytes that name the processor."""


def build(directory: Path, target: str | None = None, kind: str = "wheel") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "CODEGEN_LSP_TARGET"}
    environment |= {"CODEGEN_LSP_TARGET": target} if target else {}
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(directory)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not compile_decoder.suits() or compile_decoder.compiler() is None:
        pytest.skip("there is no C compiler, or no library for this machine")
    directory = tmp_path_factory.mktemp("wheel")
    built = build(directory)
    assert built.returncode == 0, built.stderr
    return next(directory.glob("*.whl"))


def package_files() -> set[str]:
    """Return the files of the package, without those that are made on this machine."""
    made = {".pyc", ".so", ".dll", ".dylib"}
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / "codegen_lsp").rglob("*")
            if path.is_file() and path.suffix not in made}  # fmt: skip


def native_files(wheel: Path) -> set[str]:
    """Return the names of the compiled libraries in a wheel."""
    with zipfile.ZipFile(wheel) as opened:
        return {Path(name).name for name in opened.namelist() if name.endswith((".so", ".dll", ".dylib"))}


@pytest.mark.slow
def test_it_holds_the_libraries_of_this_machine_and_the_model(wheel: Path) -> None:
    machine = compile_decoder.this_machine()
    assert machine is not None
    assert wheel.name.startswith("codegen_lsp-")
    assert "-py3-none-" in wheel.name
    assert machine.partition("-")[2].replace("windows-x86_64", "amd64") in wheel.name
    names = {compile_decoder.library_of(name).name for name in compile_decoder.compiled()}
    assert native_files(wheel) == {*names, compile_decoder.index_library().name}
    with zipfile.ZipFile(wheel) as opened:
        assert "codegen_lsp/models/codegen-lsp-python/model.bin" in opened.namelist()


@pytest.mark.slow
def test_it_holds_all_files_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        assert {*package_files(), "codegen_lsp/http/page/index.html"} <= set(opened.namelist())


@pytest.mark.slow
def test_the_source_distribution_holds_all_files_of_the_package(tmp_path: Path) -> None:
    built = build(tmp_path, kind="sdist")
    assert built.returncode == 0, built.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {*package_files(), "models/codegen-lsp-python/model.bin", "hatch_build.py"} <= names
    assert not {name for name in names if name.endswith((".so", ".dll", ".dylib"))}


@pytest.mark.slow
def test_it_completes_code_without_a_compiler(wheel: Path, tmp_path: Path) -> None:
    python = light_environment.make(tmp_path / "environment", without=["codegen-lsp"])
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    program = "import codegen_lsp; print(codegen_lsp.__file__)"
    where = subprocess.run([python, "-P", "-c", program], capture_output=True, text=True, check=True).stdout
    assert Path(where.strip()).is_relative_to(tmp_path)
    assert installed_wheel.libraries(python)
    answer = installed_wheel.complete(python, tmp_path)
    assert answer["items"][0]["new_text"].startswith("dth"), answer


@pytest.mark.slow
@pytest.mark.timeout(7200)  # zig's first build for Windows compiles the C runtime as well
@pytest.mark.parametrize("target", compile_decoder.TARGETS)
def test_it_is_built_for_any_platform_on_one_machine(target: str, tmp_path: Path) -> None:
    if compile_decoder.zig() is None:
        pytest.skip("ziglang is not installed")
    built = build(tmp_path, target)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    known = compile_decoder.TARGETS[target]
    assert wheel.name.endswith(f"-py3-none-{known.tag}.whl")
    variants = compile_decoder.VARIANTS_OF[known.machine]
    libraries = {*(f"decoder_{name}{known.suffix}" for name in variants), f"libngram_index{known.suffix}"}
    assert native_files(wheel) == libraries
    magic, offset, processor = MAGIC[target]
    with zipfile.ZipFile(wheel) as opened:
        for name in libraries:
            content = opened.read(f"codegen_lsp/inference/engines/native/{name}")
            assert content.startswith(magic), name
            assert content[offset:].startswith(processor), name


def test_an_unknown_target_is_refused(tmp_path: Path) -> None:
    built = build(tmp_path, "linux-riscv64")
    assert built.returncode
    assert "CODEGEN_LSP_TARGET is linux-riscv64, which is none of linux-x86_64, " in built.stderr


def hatch_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("target", "suits", "needs_zig", "expected"),
    [
        (None, True, False, []),  # the machine's compiler will do
        (None, True, True, ["ziglang"]),
        (None, False, True, []),  # nothing can be compiled for this machine
        ("macos-arm64", True, False, ["ziglang"]),
    ],
)
def test_a_build_requires_zig_where_no_compiler_suffices(
    target: str | None, suits: bool, needs_zig: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = hatch_build()
    if target:
        monkeypatch.setenv("CODEGEN_LSP_TARGET", target)
    else:
        monkeypatch.delenv("CODEGEN_LSP_TARGET", raising=False)
    hook: Any = module.NativeBuildHook(str(ROOT), {}, None, None, "", "wheel")
    steps = SimpleNamespace(suits=lambda: suits, needs_zig=lambda: needs_zig)
    monkeypatch.setattr(hook, "_steps", lambda: steps)
    assert [requirement.partition(">")[0] for requirement in hook.dependencies()] == expected


@pytest.mark.parametrize(
    ("machine", "python_platform", "expected"),
    [
        ("linux-x86_64", "linux-x86_64", "linux_x86_64"),
        ("macos-arm64", "macosx-10.9-universal2", "macosx_11_0_arm64"),
        ("windows-x86_64", "win-amd64", "win_amd64"),
    ],
)
def test_the_tag_names_what_was_compiled(
    machine: str, python_platform: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = hatch_build()
    monkeypatch.setattr(module.sysconfig, "get_platform", lambda: python_platform)
    steps = SimpleNamespace(this_machine=lambda: machine, TARGETS=compile_decoder.TARGETS)
    assert module._tag_of_this_machine(steps) == expected
