"""Build hook: compile the C part of the package, for this machine or for the platform that CODEGEN_LSP_TARGET names.

For this machine any C compiler will do; one from PyPI is used on machines without one. For a named platform, it is zig
from PyPI (`docs/packaging.md`).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = "codegen_lsp/inference/engines/native"
ZIGLANG = "ziglang>=0.13"


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles the libraries beside their source for editable installations, else into a folder of their own."""

    _built: Path | None = None

    def dependencies(self) -> list[str]:
        """Return the requirements of the build: a C compiler from PyPI, where the machine's does not suffice."""
        steps = self._steps()
        return [ZIGLANG] if _target() or (steps.suits() and steps.needs_zig()) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tag the wheel for the platform unless nothing could be compiled."""
        steps, target = self._steps(), _target()
        if target and target not in steps.TARGETS:
            raise ValueError(f"CODEGEN_LSP_TARGET is {target}, which is none of {', '.join(steps.TARGETS)}")
        if version == "editable":
            tag = _tag_of_this_machine(steps) if steps.build() else None
        else:
            self._built = Path(tempfile.mkdtemp())
            made = steps.build_for(target, self._built) if target else steps.build(self._built)
            build_data["force_include"].update({str(path): f"{NATIVE}/{path.name}" for path in made})
            tag = (steps.TARGETS[target].tag if target else _tag_of_this_machine(steps)) if made else None
        if tag:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{tag}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the compiled libraries, which are in the wheel now."""
        if self._built:
            shutil.rmtree(self._built, ignore_errors=True)

    def _steps(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location("native_build", Path(self.root, NATIVE, "compile_decoder.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module


def _target() -> str | None:
    return os.environ.get("CODEGEN_LSP_TARGET") or None


def _tag_of_this_machine(steps: ModuleType) -> str:
    """Return the platform tag of what a compiler makes here.

    On Linux that depends on the machine's own glibc, so the tag promises no other. A Python for macOS may name two
    architectures, of which one was compiled.
    """
    here = steps.this_machine()
    if here and not here.startswith("linux"):
        return str(steps.TARGETS[here].tag)
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
