"""Renaming in all files of a workspace: files before (`--- path`), files that change (`>>> path`), or the refusal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codegen_lsp.refactor.dispatch import menu
from codegen_lsp.refactor.draft import RefactoringOutcome
from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.perform import perform
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.registry import kind_named
from codegen_lsp.workspace.sources import Workspace
from tests.refactor.conftest import ScriptedModel

CASES = Path(__file__).with_name("cases-across.txt").read_text(encoding="utf-8").split("=== ")[1:]


def files_of(text: str, mark: str) -> dict[str, str]:
    parts = re.split(r"^(---|>>>|refused:) (.*)\n", text + "\n", flags=re.MULTILINE)
    return {
        parts[at + 1]: parts[at + 2].rstrip("\n") + "\n" if parts[at + 2].strip() else ""
        for at in range(1, len(parts), 3)
        if parts[at] == mark
    }


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
    kind = kind_named("rename")
    assert kind is not None
    assert kind in [entry.kind for entry in menu(source)]
    return await perform(kind, source, ScriptedModel([list(answers)]).assistant(), lambda what, share: None)


@pytest.mark.parametrize("case", CASES, ids=[case.partition("\n")[0] for case in CASES])
async def test_case(case: str, tmp_path: Path) -> None:
    before, after, refused = files_of(case, "---"), files_of(case, ">>>"), list(files_of(case, "refused:"))
    if refused:
        rule, _, reason = refused[0].partition(": ")
        with pytest.raises(RefactorError) as caught:
            await renamed(tmp_path, before, "surface")
        assert caught.value.rule == rule
        assert reason in caught.value.message
        return
    outcome = await renamed(tmp_path, before, "surface")
    offer = outcome.offers[0]
    found = {next(tmp_path.rglob("shapes.py")): offer.text} | {one.path: one.after for one in offer.others}
    assert {one.relative_to(tmp_path).as_posix(): text for one, text in found.items()} == after
    assert all(one.before == one.path.read_bytes().decode() for one in offer.others)


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
    kind = kind_named("inline-function")
    assert kind is not None
    with pytest.raises(RefactorError) as caught:
        await perform(kind, source, ScriptedModel([]).assistant(), lambda what, share: None)
    assert caught.value.rule == "used_elsewhere"
    (tmp_path / "test_shapes.py").unlink()
    outcome = await perform(kind, source, ScriptedModel([]).assistant(), lambda what, share: None)
    assert outcome.offers[0].text == "print(1 * 2)\n"
