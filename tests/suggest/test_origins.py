"""The origin of a suggestion, in the terms of the document and its workspace."""

from __future__ import annotations

from codegen_lsp.completion.snapshot import Snapshot, Suggestion
from codegen_lsp.inference.rpc.messages import OriginParams, OriginResult, TextOrigin
from codegen_lsp.suggest.origins import find_origin
from codegen_lsp.suggest.workspace_indexing import IndexedWorkspace
from tests.played_model import PlayedModel

WORKSPACE = IndexedWorkspace("key", "app/main.py")


def played(origin: TextOrigin | None) -> PlayedModel:
    return PlayedModel(lambda state: None, lambda progress: None, origin_result=OriginResult(origin))


def snapshot(text: str, prelude: str = "") -> Snapshot:
    whole = prelude + text
    return Snapshot(
        "file:///w/app/main.py", 1, "python", whole.replace("│", ""), whole.index("│"), prelude=len(prelude)
    )


async def test_the_model_is_asked_about_what_the_suggestion_adds() -> None:
    model = played(TextOrigin("lib/a.py", 7, 9))
    found = await find_origin(snapshot("a = 1\r\nb = │\r\n"), Suggestion(7, 11, "b = a + 1"), model, WORKSPACE)
    assert model.origins_asked == [OriginParams("a = 1\nb = ", "a + 1", "\n", "key", ["app/main.py"])]
    assert found is not None
    assert found.sentence == "Its longest match, of 9 tokens, is in the workspace: lib/a.py:7."


async def test_the_document_is_named_by_its_path_in_the_workspace() -> None:
    for workspace, path in ((WORKSPACE, "app/main.py"), (None, "main.py")):
        found = await find_origin(snapshot("x│"), Suggestion(0, 1, "xy"), played(TextOrigin("", 3, 5)), workspace)
        assert found is not None
        assert found.sentence == f"Its longest match, of 5 tokens, is in this document: {path}:3."


async def test_the_cells_above_are_not_part_of_the_document() -> None:
    model = played(None)
    assert await find_origin(snapshot("b = │", "a = 1\n"), Suggestion(0, 4, "b = a"), model, None) is None
    assert model.origins_asked == [OriginParams("b = ", "a")]
