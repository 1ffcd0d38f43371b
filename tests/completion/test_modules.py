"""The names of imported modules, in workspaces that are tables of texts."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Mapping
from pathlib import Path

import pytest

import codegen_lsp
from codegen_lsp.completion.modules import Files, modules_of
from codegen_lsp.completion.undefined_names import undefined_names
from codegen_lsp.source.languages import LANGUAGES
from codegen_lsp.source.parse_tree import parsed

WORKSPACE = {
    "app/__init__.py": "from app.models import User\nVERSION = '1'\n",
    "app/models.py": "import os\nfrom typing import Any as Anything\n\nclass User:\n    name = 1\n\nlimit: int\n",
    "app/views.py": "def show():\n    global last\n    last = inner = 1\n\nfor row in []:\n    seen = row\n",
    "app/parts/__init__.py": "from .one import *\n",
    "app/parts/one.py": "from ..models import *\nfrom .two import *\nfirst = [(second := 1) for _ in '']\n",
    "app/parts/two.py": "third = 1\n",
    "app/lazy.py": "def __getattr__(name):\n    return 1\n",
    "app/broken.py": "def f(:\n",
    "app/circle.py": "from app.circle import *\n",
    "app/taken.py": "from numpy import *\n",
    "src/lib_in_src/__init__.py": "one = 1\n",
    "tools/helper.py": "help_me = 1\n",
    "helper.py": "help_them = 1\n",
    "logging.py": "mine = 1\n",
}
LISTED = {"app": ["__init__.py", "models.py", "secret.py", "fast.cpython-311-x86_64-linux-gnu.so", "parts"]}


def known(text: str, path: str = "main.py", files: Mapping[str, str] = WORKSPACE) -> dict[str, set[str]]:
    """The names of the modules that a document imports."""
    found = modules_of(
        text,
        path,
        Files(frozenset(files), files.get, lambda folder: LISTED.get(folder, [posixpath.basename(p) for p in files])),
    )
    return {module: set(names) for module, names in found.items()}


@pytest.mark.parametrize(
    ("text", "module", "names"),
    [
        ("import app.models", "app.models", {"os", "Anything", "User", "limit"}),
        ("import app.models as m", "app.models", {"os", "Anything", "User", "limit"}),
        ("from app import models", "app.models", {"os", "Anything", "User", "limit"}),
        ("def f():\n    from app.views import show\n", "app.views", {"show", "last", "row", "seen"}),
        ("if x:\n    import lib_in_src, sys\n", "lib_in_src", {"one"}),
    ],
)
def test_the_names_of_a_module(text: str, module: str, names: set[str]) -> None:
    found = known(text)[module]
    assert names <= found
    assert found - names <= {"__init__", *(posixpath.basename(path).partition(".")[0] for path in WORKSPACE)}


def test_a_package_has_its_modules_whether_they_may_be_read_or_not() -> None:
    assert known("import app")["app"] == {"User", "VERSION", "__init__", "models", "secret", "fast", "parts"}


def test_star_imports_bring_what_their_modules_have() -> None:
    assert {"User", "first", "second", "third"} <= known("from app.parts import x")["app.parts"]


@pytest.mark.parametrize("module", ["lazy", "broken", "circle", "taken", "missing"])
def test_modules_that_are_not_known(module: str) -> None:
    assert f"app.{module}" not in known(f"from app.{module} import x\nimport app.{module}\n")


def test_the_standard_library_is_not_taken_for_a_file_of_the_workspace() -> None:
    assert known("import logging\nfrom logging import x\n") == {}


@pytest.mark.parametrize(
    ("text", "path", "module", "one"),
    [
        ("from . import models", "app/views.py", ".models", "User"),
        ("from .models import User", "app/views.py", ".models", "User"),
        ("from ..models import User", "app/parts/two.py", "..models", "User"),
        ("from .. import models", "app/parts/two.py", "..models", "User"),
        ("from . import views", "app/models.py", ".", "VERSION"),
    ],
)
def test_relative_imports(text: str, path: str, module: str, one: str) -> None:
    assert one in known(text, path)[module]


def test_absolute_paths_have_an_end() -> None:
    assert known("import helper", "/home/user/main.py", {"helper.py": "one = 1\n"})["helper"] >= {"one"}


def test_relative_imports_end_at_the_root() -> None:
    assert known("from ...helper import x\nfrom .... import y\n", "app/views.py") == {}


def test_what_a_script_may_mean_is_all_known() -> None:
    """Started as a script it finds the file beside it, started otherwise the one at the root."""
    assert {"help_me", "help_them"} <= known("import helper", "tools/run.py")["helper"]
    assert "help_me" not in known("import helper", "app/views.py")["helper"]


def test_what_can_not_be_read_is_not_known() -> None:
    files = Files(frozenset({"app/models.py"}), lambda path: None, lambda folder: [])
    assert modules_of("import app.models", "main.py", files) == {}


def test_texts_that_are_no_python() -> None:
    assert known("import\nfrom\nfrom . import\nimport app.\n") == {}
    assert known("import app.models\n\ndef f(:\n    from app.views import (show,\n")["app.models"]
    assert known("") == {}


def test_nothing_that_this_project_uses_of_itself_is_missing() -> None:
    """Each module as though all of it were suggested: its imports, and the attributes of imported modules."""
    root = Path(codegen_lsp.__file__).parents[1]
    texts = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in root.glob("codegen_lsp/**/*.py")}
    files = Files(frozenset(texts), texts.get, lambda folder: [path.name for path in (root / folder).iterdir()])
    checked = 0
    for path, text in texts.items():
        if not path.startswith("codegen_lsp/lsp/"):
            continue
        source = parsed(text, LANGUAGES["python"])
        assert source is not None
        modules = modules_of(text, path, files)
        assert list(undefined_names(source, 0, len(text), modules)) == []
        imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
        checked += sum((node.module or "") in modules for node in imports)
    assert checked > 60
