"""rope on texts in memory: it reads no file and writes none.

rope expects a project on disk. Here the project consists of the document alone, as the editor has it; imports are not
resolved, so that a refactoring never depends on the packages that are installed beside the server. To rename in all
files of a workspace, the project consists of the texts that may be read; rope sees any other file as empty.

rope is not thread-safe: it caches facts about objects in its modules. All of it runs in one thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from rope.base.change import ChangeContents
from rope.base.exceptions import RopeError
from rope.base.project import NoProject
from rope.base.project import _Project as RopeProject
from rope.base.pyobjectsdef import PyModule
from rope.base.resources import File
from rope.refactor.rename import Rename

from codegen_lsp.refactor.python.ast_nodes import parse
from codegen_lsp.refactor.refusal import RefactorError

MODULE = "document"
_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rope")

P = ParamSpec("P")
R = TypeVar("R")


def _in_one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function in the thread for rope, and wait for it there. Its callers run in threads of their own."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return _THREAD.submit(function, *args, **kwargs).result()

    return run


class _Document(File):  # type: ignore[misc]
    def __init__(self, project: _Project, text: str) -> None:
        super().__init__(project, f"{MODULE}.py")
        self.text = text

    def read(self) -> str:
        return self.text

    def read_bytes(self) -> bytes:
        return self.text.encode("utf-8", "surrogatepass")

    def exists(self) -> bool:
        return True


class _Project(NoProject):  # type: ignore[misc]
    root = None

    def __init__(self, text: str) -> None:
        super().__init__()
        self.document = _Document(self, text)
        self.module = PyModule(self.pycore, text, resource=self.document, force_errors=True)

    def get_pymodule(self, resource: Any, force_errors: bool = False) -> Any:
        return self.module

    def get_module(self, name: str, folder: Any = None) -> Any:
        return self.module if name == MODULE else super().get_module(name, folder)

    def get_python_path_folders(self) -> list[Any]:
        return []

    def get_source_folders(self) -> list[Any]:
        return []


class _ReadOnly:
    """The file system as rope sees it: the given texts, and no way to write."""

    def __init__(self, texts: Mapping[Path, str]) -> None:
        self._texts = texts

    def read(self, path: str) -> bytes:
        return self._texts.get(Path(path), "").encode("utf-8", "surrogatepass")


class _Workspace(RopeProject):  # type: ignore[misc]
    ropefolder = None

    def __init__(self, root: Path, texts: Mapping[Path, str], sources: Iterable[Path]) -> None:
        self.address = str(root)
        super().__init__(_ReadOnly(texts))
        self._sources = [self.get_resource(one.relative_to(root).as_posix().removeprefix(".")) for one in sources]

    @property
    def root(self) -> Any:
        return self.get_resource("")

    def _get_resource_path(self, name: str) -> str:
        return str(Path(self.address, *name.split("/")))

    def get_files(self) -> list[Any]:
        return []

    def get_python_files(self) -> list[Any]:
        return []

    def is_ignored(self, resource: Any) -> bool:
        return False

    def get_python_path_folders(self) -> list[Any]:
        return []

    def get_source_folders(self) -> list[Any]:
        return self._sources


@_in_one_thread
def rename(text: str, offset: int, name: str) -> str:
    """Return the text with the variable, function or class at the offset renamed. Raises RefactorError."""
    project = _Project(text)
    return _result(
        project,
        lambda: Rename(project, project.document, offset).get_changes(name, resources=[project.document]),
    )


@_in_one_thread
def rename_everywhere(
    root: Path,
    sources: Iterable[Path],
    texts: Mapping[Path, str],
    path: Path,
    offset: int,
    name: str,
    searched: Iterable[Path],
) -> dict[Path, str]:
    """Rename the symbol at an offset of one file in all files that are searched; return the texts that change.

    Args:
        root: a folder above all files.
        sources: the folders from which modules are imported.
        texts: the texts of all files by absolute path, with LF line ends.
        path: the file with the symbol.
        offset: its offset there.
        name: its new name.
        searched: the files in which it is renamed.

    Raises RefactorError.
    """
    project = _Workspace(root, texts, sources)

    def changes() -> Any:
        resources = {one: project.get_resource(one.relative_to(root).as_posix()) for one in [path, *searched]}
        return Rename(project, resources[path], offset).get_changes(name, resources=list(resources.values()))

    changed = _changes(changes)
    return {Path(change.resource.real_path): str(change.new_contents) for change in changed.changes}


def _result(project: _Project, compute: Callable[[], Any]) -> str:
    """Return the new text of the document. Raises RefactorError."""
    changed = _changes(compute)
    contents = [change.new_contents for change in changed.changes if change.resource == project.document]
    if not contents or contents[0] is None:
        raise RefactorError("nothing_to_do", "Nothing would change.")
    if parse(str(contents[0])) is None:
        raise RefactorError("does_not_parse", "What rope made of it does not parse.")
    return str(contents[0])


def _changes(compute: Callable[[], Any]) -> Any:
    """Return rope's change set. Raises RefactorError where rope fails."""
    try:
        changed = compute()
    except RopeError as error:
        raise RefactorError("rope", f"This can't be done here: {str(error).rstrip('.')}.") from error
    except Exception as error:
        # rope fails with many kinds of exceptions on code that it does not expect.
        raise RefactorError("rope", f"rope can't do this here ({type(error).__name__}: {error}).") from error
    if not all(isinstance(one, ChangeContents) for one in changed.changes):
        raise RefactorError("rope", "This can't be done here: a file would be renamed, too.")
    return changed
