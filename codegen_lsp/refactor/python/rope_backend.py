"""rope on one text in memory: no project folder, no file, no module but this one.

rope wants a project on disk. Here it gets one that consists of the document alone, as the editor has it; imports lead
nowhere, so that a refactoring never depends on what happens to be installed beside the server. To rename in all files
of a workspace it gets the files that it may read, and nothing else that is on the disk: others are empty to it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rope.base.exceptions import RopeError
from rope.base.project import NoProject
from rope.base.project import _Project as RopeProject
from rope.base.pyobjectsdef import PyModule
from rope.base.resources import File
from rope.refactor.extract import ExtractMethod, ExtractVariable
from rope.refactor.inline import create_inline
from rope.refactor.rename import Rename

from codegen_lsp.refactor.python.ast_nodes import parse
from codegen_lsp.refactor.refusal import RefactorError

MODULE = "document"


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
    """The texts that rope may see; it can write nothing."""

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


def extract_variable(text: str, start: int, end: int, name: str) -> str:
    """The text with `text[start:end]` as a variable. Raises RefactorError."""
    project = _Project(text)
    return _result(project, lambda: ExtractVariable(project, project.document, start, end).get_changes(name))


def extract_function(text: str, start: int, end: int, name: str) -> str:
    """The text with the statements `text[start:end]` as a function or method. Raises RefactorError."""
    project = _Project(text)
    return _result(project, lambda: ExtractMethod(project, project.document, start, end).get_changes(name))


def inline(text: str, offset: int) -> str:
    """The text with the variable or function at the offset put where it is used. Raises RefactorError."""
    project = _Project(text)

    def changes() -> Any:
        found = create_inline(project, project.document, offset)
        return found.get_changes(resources=[project.document])

    return _result(project, changes)


def rename(text: str, offset: int, name: str) -> str:
    """The text with the variable, function or class at the offset renamed. Raises RefactorError."""
    project = _Project(text)
    return _result(
        project,
        lambda: Rename(project, project.document, offset).get_changes(name, resources=[project.document]),
    )


def rename_everywhere(
    root: Path,
    sources: Iterable[Path],
    texts: Mapping[Path, str],
    path: Path,
    offset: int,
    name: str,
    searched: Iterable[Path],
) -> dict[Path, str]:
    """The texts that change when what stands at an offset in the file `path` is renamed in all files that are searched.

    `texts` are all texts that there are, by absolute path, with LF line ends. `sources` are the folders that imports
    begin at; `root` is above them all. Raises RefactorError.
    """
    project = _Workspace(root, texts, sources)

    def changes() -> Any:
        resources = {one: project.get_resource(one.relative_to(root).as_posix()) for one in [path, *searched]}
        return Rename(project, resources[path], offset).get_changes(name, resources=list(resources.values()))

    made = _made(changes)
    return {Path(change.resource.real_path): str(change.new_contents) for change in made.changes}


def _result(project: _Project, changes: Any) -> str:
    made = _made(changes)
    contents = [change.new_contents for change in made.changes if change.resource == project.document]
    if not contents or contents[0] is None:
        raise RefactorError("nothing_to_do", "Nothing would change.")
    if parse(str(contents[0])) is None:
        raise RefactorError("does_not_parse", "What rope made of it does not parse.")
    return str(contents[0])


def _made(changes: Any) -> Any:
    try:
        # rope prints where it fails, which nobody reads, and on a command line is taken for the result.
        with contextlib.redirect_stdout(io.StringIO()):
            return changes()
    except RopeError as error:
        raise RefactorError("rope", f"This can't be done here: {str(error).rstrip('.')}.") from error
    except Exception as error:
        # rope fails in many ways on code that it does not expect.
        raise RefactorError("rope", f"rope can't do this here ({type(error).__name__}: {error}).") from error
