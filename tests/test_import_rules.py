"""The rules of `docs/architecture.md` that can be read from the source: who may import what, and how code is laid out.

Each rule is one test. Every import counts: at the top of a module, inside a function, and under `TYPE_CHECKING`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

LONGEST = 450
"""Lines of a module."""
PACKAGE = Path(__file__).parents[1] / "codegen_lsp"
MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))

LIBRARIES = {
    "lsprotocol": ["lsp/*"],
    "pygls.lsp": ["lsp/*"],
    "pygls": ["lsp/*"],
    "torch": [
        *("inference/engines/native/torch_*.py", "training/*", "checkpoints/*"),
        *("evaluation/likelihood.py", "benchmarks/peers.py"),
    ],
    "ctranslate2": ["inference/engines/ct2/*", "checkpoints/convert.py", "checkpoints/ct2_writer.py"],
    "transformers": ["checkpoints/*", "training/*", "evaluation/*", "benchmarks/*"],
    "starlette": ["http/*", "deploy/*"],
    "uvicorn": ["http/serve.py", "http/connections.py"],
    "prometheus_client": ["http/metrics.py"],
    "ray": ["deploy/*", "evaluation/ray_sampling.py", "training/adaptation/ray_training.py"],
    "peft": ["training/adaptation/adapter_model.py"],
    "filelock": ["inference/rpc/endpoint.py", "checkpoints/adaptation_record.py"],
    "huggingface_hub": ["checkpoints/hub.py", "checkpoints/hub_errors.py", "checkpoints/card_metadata.py"],
    "tree_sitter": ["source/*", "completion/undefined_names.py", "refactor/treesitter.py"],
    "h11": ["inference/client/http_connections.py", "http/connections.py"],
    "rapidfuzz": ["completion/similar_lines.py", "evaluation/similarity.py"],
    "datasketch": ["training/*"],
    "rope": ["refactor/python/*"],
    "libcst": ["refactor/python/*"],
    "packaging": ["extras.py"],
    "typer": ["cli/*"],
    "rich": ["cli/*"],
}
"""Third-party libraries, and the only modules that may import them."""

PACKAGES = {
    "errors.py": [],
    "access.py": ["errors"],
    "log_format.py": [],
    "python_path.py": [],
    "progress.py": [],
    "extras.py": ["errors"],
    "former_settings.py": [],
    "settings.py": ["former_settings"],
    "version.py": [],
    "python_api.py": [
        *("suggest", "completion", "inference", "checkpoints", "settings", "errors"),
    ],
    "file_replacement.py": [],
    "temporary_folder.py": [],
    "source": ["source", "python_path"],
    "sandbox": ["sandbox", "temporary_folder", "errors"],
    "inference": ["inference", "file_replacement", "progress", "log_format", "python_path", "errors"],
    "workspace": ["workspace", "source", "errors"],
    "completion": ["completion", "source", "workspace.secrets", "inference.rpc.messages"],
    "checkpoints": ["checkpoints", "inference", "temporary_folder", "progress", "errors"],
    "training": [
        *("training", "checkpoints", "inference", "workspace", "temporary_folder", "progress", "extras", "errors"),
        *("deploy.cluster", "version"),
    ],
    "refactor": [
        *("refactor", "completion", "source", "workspace", "sandbox", "temporary_folder"),
        *("inference.rpc.messages", "progress", "python_path", "errors"),
    ],
    "synthesis": [
        *("synthesis", "sandbox", "file_replacement", "inference.rpc.messages", "errors"),
    ],
    "suggest": [
        *("suggest", "completion", "source", "workspace"),
        *("inference.rpc.messages", "settings", "errors"),
    ],
    "trace": [
        *("trace", "suggest", "completion.options", "completion.snapshot", "source.lines", "workspace.uris"),
        *("file_replacement", "inference.rpc.attribution", "inference.rpc.messages", "errors"),
    ],
    "advice": [
        *("advice", "benchmarks.random_build", "checkpoints", "inference", "file_replacement", "temporary_folder"),
        *("progress", "version", "errors"),
    ],
    "lsp": [
        *("lsp", "advice", "suggest", "refactor", "synthesis", "completion.snapshot", "source", "workspace"),
        *("inference.client", "inference.rpc", "checkpoints.catalogue", "checkpoints.store", "settings", "log_format"),
        *("former_settings", "access", "sandbox.sandbox", "file_replacement", "errors"),
    ],
    "http": [
        *("http", "trace", "suggest", "synthesis", "completion", "source", "workspace", "sandbox"),
        *("inference.client", "inference.rpc", "checkpoints.store", "settings", "log_format", "errors"),
        "access",
    ],
    "deploy": ["deploy", "http", "suggest.options", "checkpoints.store", "settings", "temporary_folder", "errors"],
    "evaluation": [
        *("evaluation", "suggest", "synthesis", "refactor", "completion", "source", "workspace", "sandbox"),
        *("inference.build", "inference.client", "inference.engines.base", "inference.loading"),
        *("inference.rpc", "inference.tokenizer"),
        *("checkpoints", "training", "temporary_folder", "progress", "settings", "errors"),
        *("deploy.cluster", "version"),
    ],
    "benchmarks": [
        *("benchmarks", "evaluation", "suggest", "refactor", "completion", "source", "workspace", "inference"),
        *("checkpoints", "temporary_folder", "progress", "settings", "errors"),
    ],
    "cli": ["*"],
}
"""Packages of codegen_lsp, and what each may import of the others."""

LIGHT = {
    "codegen_lsp.lsp.serve": [
        *("rope", "libcst", "tree_sitter", "torch", "ctranslate2", "transformers"),
        *("huggingface_hub", "tokenizers", "numpy", "h11"),
    ],
    "codegen_lsp.http.serve": [
        *("pygls", "lsprotocol", "rope", "libcst", "torch", "ctranslate2", "transformers", "tokenizers", "numpy"),
    ],
    "codegen_lsp.checkpoints.store": ["torch", "ctranslate2", "transformers", "huggingface_hub", "numpy"],
    "codegen_lsp.completion.planning": ["torch", "ctranslate2", "pygls", "lsprotocol", "numpy"],
    "codegen_lsp.refactor.registry": ["pygls", "lsprotocol", "rope", "libcst", "tree_sitter", "numpy"],
    "codegen_lsp.refactor.perform": ["lsprotocol", "rope", "libcst", "numpy"],
    "codegen_lsp.inference.worker.process": [
        *("torch", "ctranslate2", "transformers", "safetensors", "scipy", "pygls", "lsprotocol"),
    ],
    "codegen_lsp.inference.engines.native.engine": ["torch", "ctranslate2", "transformers", "safetensors", "scipy"],
    "codegen_lsp.inference.engines.factory": ["torch", "ctranslate2"],
    "codegen_lsp.inference.engines.ct2.engine": ["torch", "transformers"],
    "codegen_lsp.evaluation.lines": ["torch", "ctranslate2", "transformers"],
    "codegen_lsp": ["typer", "rich", "attrs", "asyncio", "numpy"],
    "codegen_lsp.cli.__main__": ["typer", "rich", "attrs", "asyncio"],
    "codegen_lsp.cli.app": ["torch", "transformers", "pygls", "cattrs", "rich.console", "codegen_lsp.settings"],
}
"""Modules, and the libraries that importing them must not load, however indirectly."""


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"))


def imports_of(module: str) -> Iterator[str]:
    """Yield the full name of every import of a module; `from a import b` is `a.b`."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def dotted(module: str) -> str:
    return "codegen_lsp." + module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


@pytest.mark.parametrize("module", MODULES)
def test_libraries_are_imported_only_where_they_belong(module: str) -> None:
    for name in imports_of(module):
        for library, places in LIBRARIES.items():
            if is_within(name, library):
                assert any(fnmatch(module, place) for place in places), f"{module} imports {name}"


def test_every_package_has_a_rule() -> None:
    assert {module.split("/")[0] for module in MODULES} - {"__init__.py", "__main__.py"} <= set(PACKAGES)


@pytest.mark.parametrize("module", [module for module in MODULES if module.split("/")[0] in PACKAGES])
def test_packages_import_only_what_they_may(module: str) -> None:
    allowed = PACKAGES[module.split("/")[0]]
    if allowed == ["*"]:
        return
    for name in imports_of(module):
        if is_within(name, "codegen_lsp") and name not in ("codegen_lsp", "codegen_lsp.version.__version__"):
            assert any(is_within(name, f"codegen_lsp.{package}") for package in allowed), f"{module} imports {name}"


@pytest.mark.parametrize("module", LIGHT)
def test_loading_stays_light(module: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert not loaded & set(LIGHT[module])


def test_every_module_says_what_it_is_for() -> None:
    silent = [module for module in MODULES if not ast.get_docstring(tree_of(module))]
    assert not silent


def cycles() -> list[list[str]]:
    """Return the strongly connected components of the import graph that have more than one module (Tarjan 1972)."""
    names = {dotted(module): module for module in MODULES}
    edges = {
        name: {target for found in imports_of(module) if (target := _module_named(found, names)) and target != name}
        for name, module in names.items()
    }
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for target in edges[name]:
            if target not in order:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], order[target])
        if low[name] == order[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.append(sorted(component))

    for name in edges:
        if name not in order:
            visit(name)
    return found


def _module_named(name: str, names: dict[str, str]) -> str | None:
    """Return the module that an import reaches: the name itself, or the module that defines it."""
    return name if name in names else parent if (parent := name.rpartition(".")[0]) in names else None


def test_modules_do_not_import_each_other_in_circles() -> None:
    assert cycles() == []


def test_a_class_name_stands_for_one_thing() -> None:
    places = defaultdict(list)
    for module in MODULES:
        for node in tree_of(module).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_modules_are_short() -> None:
    long = [module for module in MODULES if len((PACKAGE / module).read_text("utf-8").splitlines()) > LONGEST]
    assert not long


def test_docstrings_are_imperative() -> None:
    """`Return …` says what a function does; `What …` and `Whether …` lack a verb. Attributes count as well."""
    found = [
        f"{module}:{node.lineno}: {node.value.value.splitlines()[0]}"
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and node.value.value.lstrip().startswith(("What ", "Whether "))
    ]
    assert len(found) <= 40, "\n".join(found)
