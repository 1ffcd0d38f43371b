"""Tables of renames in all files of a workspace, by `tests/cases.py`.

--- file PATH       a file before; the symbol `area` of `shapes.py` is renamed to `surface`
--- changed PATH    a file that changes, with its text afterwards
--- refused RULE    no result, because of this rule; the message below
"""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp.refactor.dispatch import menu
from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.perform import perform
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.registry import INLINE_FUNCTION, RENAME
from codegen_lsp.refactor.results import RefactoringOutcome
from codegen_lsp.workspace.files import WorkspaceError
from codegen_lsp.workspace.sources import Workspace
from tests.cases import Case, Section, cases_of, parametrized
from tests.refactor.conftest import ScriptedModel

CASES = cases_of(Path(__file__).parent / "cases" / "rename-across.txt", ("file", "changed", "refused"))


def written(root: Path, files: dict[str, str]) -> Workspace:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    return Workspace(root, lambda: {one: one.read_bytes().decode() for one in root.rglob("*.py")})


async def renamed(root: Path, files: dict[str, str], *answers: str) -> RefactoringOutcome:
    """Rename the first `area` of the file `shapes.py`."""
    workspace = written(root, files)
    path = next(root.rglob("shapes.py"))
    text = path.read_text(encoding="utf-8")
    at = text.index("area")
    source = SelectedSource(text, at, at, path=path, workspace=workspace)
    return await perform(RENAME, source, ScriptedModel([list(answers)]).assistant(), lambda step, share: None)


@parametrized(CASES)
async def test_case(case: Case, tmp_path: Path) -> None:
    before = {section.argument: with_line_end(section.text) for section in case.all("file")}
    try:
        outcome = await renamed(tmp_path, before, "surface")
    except RefactorError as error:
        case.expect("refused", [Section("refused", error.rule, error.message)])
        case.expect("changed", [])
        return
    offer = outcome.offers[0]
    texts = {next(tmp_path.rglob("shapes.py")): offer.text} | {one.path: one.after for one in offer.others}
    changed = {path.relative_to(tmp_path).as_posix(): text.removesuffix("\n") for path, text in texts.items()}
    case.expect("changed", [Section("changed", name, changed.pop(name)) for name in before if name in changed])
    case.expect("refused", [])
    assert not changed
    assert all(one.before == one.path.read_bytes().decode() for one in offer.others)


def with_line_end(text: str) -> str:
    return f"{text}\n" if text else ""


def test_the_menu_has_it(tmp_path: Path) -> None:
    text = "def area(w, h):\n    return w * h\n"
    source = SelectedSource(text, 4, 4, path=tmp_path / "shapes.py", workspace=written(tmp_path, {"shapes.py": text}))
    assert RENAME in [entry.kind for entry in menu(source)]


async def test_nothing_is_written(tmp_path: Path) -> None:
    files = {"shapes.py": "def area():\n    return 1\n", "maps.py": "from shapes import area\r\n\r\nprint(area())\r\n"}
    outcome = await renamed(tmp_path, files, "surface")
    assert outcome.offers[0].others[0].after == "from shapes import surface\n\nprint(surface())\n"
    assert {one.name: one.read_bytes().decode() for one in tmp_path.iterdir()} == files


@pytest.mark.parametrize(
    "text",
    [
        "import functools\n\n\n@functools.cache\ndef ar«ea():\n    return 1\n",
        "def test_ar«ea():\n    pass\n",
        "def m«ain():\n    pass\n",
        "from os import ar«ea\n",
        "class A:\n    def ar«ea(self):\n        return 1\n",
    ],
)
def test_what_may_be_found_by_its_name_is_left_alone(text: str, tmp_path: Path) -> None:
    at = text.index("«")
    source = SelectedSource(text.replace("«", ""), at, at, path=tmp_path / "a.py", workspace=written(tmp_path, {}))
    assert "rename" not in [entry.kind.name for entry in menu(source)]


async def test_a_function_that_another_file_uses_is_not_inlined(tmp_path: Path) -> None:
    workspace = written(tmp_path, {"test_shapes.py": "from shapes import _area\n"})
    text = "def _area(w, h):\n    return w * h\n\n\nprint(_area(1, 2))\n"
    source = SelectedSource(
        text, text.rindex("_area"), text.rindex("_area"), path=tmp_path / "shapes.py", workspace=workspace
    )
    with pytest.raises(RefactorError) as caught:
        await perform(INLINE_FUNCTION, source, ScriptedModel([]).assistant(), lambda step, share: None)
    assert caught.value.rule == "used_elsewhere"
    (tmp_path / "test_shapes.py").unlink()
    outcome = await perform(INLINE_FUNCTION, source, ScriptedModel([]).assistant(), lambda step, share: None)
    assert outcome.offers[0].text == "print(1 * 2)\n"


async def test_a_workspace_that_can_not_be_read_is_a_reason_not_to_rename(tmp_path: Path) -> None:
    def fail() -> dict[Path, str]:
        raise WorkspaceError("too_many_files", "There are too many files.")

    text = "def area():\n    return 1\n"
    source = SelectedSource(text, 4, 4, path=tmp_path / "shapes.py", workspace=Workspace(tmp_path, fail))
    with pytest.raises(RefactorError) as caught:
        await perform(RENAME, source, ScriptedModel([]).assistant(), lambda step, share: None)
    assert (caught.value.rule, caught.value.message) == ("too_many_files", "There are too many files.")
