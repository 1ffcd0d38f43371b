"""Build hook: compile the C part of the package, with a compiler from PyPI on machines without one."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles the libraries beside their source, where editable installations and wheels find them."""

    def dependencies(self) -> list[str]:
        """Return the requirements of the build: a C compiler from PyPI, on machines without one."""
        steps = self._steps()
        return ["ziglang>=0.13"] if steps.suits() and steps.compiler() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tag the wheel for the platform unless nothing could be compiled."""
        if not self._steps().build():
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"

    def _steps(self) -> ModuleType:
        path = Path(self.root) / "codegen_lsp" / "inference" / "engines" / "native" / "compile_decoder.py"
        spec = importlib.util.spec_from_file_location("native_build", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
