"""Refactorings as an editor meets them: the menu, the resolved action, progress, cancelling, and what is said of it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types

from codegen_lsp.lsp.documents import TextDocument
from codegen_lsp.sandbox.sandbox import SandboxError, run_program
from tests.lsp.conftest import URI, Editor

SOURCE = "def area(w, h):\n    print(w * h + 1)\n"
CAPABILITIES = {
    "workspace": {
        "applyEdit": True,
        "workspaceEdit": {"documentChanges": True, "changeAnnotationSupport": {"groupsOnLabel": True}},
    },
    "textDocument": {"codeAction": {"dataSupport": True, "resolveSupport": {"properties": ["edit"]}}},
}
LOOP = """def f(rows):
    # use a comprehension
    out = []
    for row in rows:
        out.append(row.x)
    return out
"""


@pytest.fixture
async def able(editor: Editor) -> Editor:
    """An editor that can do everything."""
    await editor.initialize(CAPABILITIES | {"window": {"workDoneProgress": True}})
    return editor


async def actions(
    editor: Editor, start: tuple[int, int], end: tuple[int, int], only: list[str] | None = None, uri: str = URI
) -> list[dict[str, Any]]:
    context: dict[str, Any] = {"diagnostics": []} | ({"only": only} if only is not None else {})
    place = {"start": dict(zip(("line", "character"), start)), "end": dict(zip(("line", "character"), end))}  # noqa: B905
    return await editor.request(
        "textDocument/codeAction", {"textDocument": {"uri": uri}, "range": place, "context": context}
    )


def titled(found: list[dict[str, Any]], title: str) -> dict[str, Any]:
    return next(action for action in found if action["title"] == title)


def applied(document: TextDocument, edit: dict[str, Any]) -> str:
    """The document's text after an edit, as an editor applies it."""
    (change,) = edit["documentChanges"]
    assert change["textDocument"] == {"uri": document.uri, "version": document.version}
    text = document.text
    for one in sorted(change["edits"], key=lambda one: -one["range"]["start"]["line"]):
        ends = (one["range"]["start"], one["range"]["end"])
        start, end = (document.offset(types.Position(at["line"], at["character"])) for at in ends)
        text = text[:start] + one["newText"] + text[end:]
    return text


async def asked(editor: Editor) -> None:
    """Wait until the model was asked something."""
    while not editor.model.generated:  # noqa: ASYNC110 - the played model sets no event
        await asyncio.sleep(0.002)


async def extract(editor: Editor) -> dict[str, Any]:
    """The action that extracts `w * h`."""
    return titled(await actions(editor, (1, 10), (1, 15)), "Extract variable")


async def test_the_menu_is_made_without_the_model(able: Editor) -> None:
    able.open(SOURCE)
    found = await actions(able, (1, 10), (1, 15))
    assert [action["title"] for action in found] == ["Extract variable", "Extract variable: choose…"]
    assert found[0]["kind"] == "refactor.extract.variable"
    assert "edit" not in found[0]
    assert found[1]["command"]["command"] == "codegen-lsp.refactor"
    assert not any(action.get("isPreferred") for action in found)
    assert not able.model.generated


@pytest.mark.parametrize(
    ("only", "count"),
    [(["refactor"], 2), (["refactor.extract"], 2), (["refactor.extract.variable"], 2), (["refactor.inline"], 0),
     (["quickfix"], 0), ([""], 2), (["refactor.ext"], 0), (["source.fixAll"], 0)],
)  # fmt: skip
async def test_only_the_kinds_that_are_asked_for(able: Editor, only: list[str], count: int) -> None:
    able.open(SOURCE)
    assert len(await actions(able, (1, 10), (1, 15), only)) == count


async def test_a_head_without_a_body_has_a_fix(able: Editor) -> None:
    able.open("def add(a, b):\n")
    found = await actions(able, (0, 14), (0, 14), ["quickfix"])
    assert found[0]["title"] == "Write the body of 'add'"
    able.model.answer = lambda params: ["return a + b"]
    action = await able.request("codeAction/resolve", found[0])
    document = able.server.session.documents.get(URI)
    assert document is not None
    assert applied(document.current, action["edit"]) == "def add(a, b):\n    return a + b\n"


async def test_resolving_gives_an_edit_of_this_version(able: Editor) -> None:
    able.open(SOURCE, version=7)
    able.model.answer = lambda params: ["surface"]
    action = await able.request("codeAction/resolve", await extract(able))
    document = able.server.session.documents.get(URI)
    assert document is not None
    assert applied(document.current, action["edit"]) == "def area(w, h):\n    surface = w * h\n    print(surface + 1)\n"


async def test_line_ends_and_columns_are_the_documents_own(able: Editor) -> None:
    able.open("def f(a):\r\n    print('🎉', a.x + 1)\r\n")
    able.model.answer = lambda params: ["size"]
    # The party popper takes two UTF-16 units.
    found = await actions(able, (1, 16), (1, 23))
    action = await able.request("codeAction/resolve", titled(found, "Extract variable"))
    document = able.server.session.documents.get(URI)
    assert document is not None
    assert applied(document.current, action["edit"]) == "def f(a):\r\n    size = a.x + 1\r\n    print('🎉', size)\r\n"


async def test_names_that_are_taken_are_not_offered(able: Editor) -> None:
    able.open(SOURCE)
    able.model.answer = lambda params: ["w", "print", "h"]
    action = await able.request("codeAction/resolve", await extract(able))
    assert "product = w * h" in str(action["edit"])


async def test_a_changed_document_is_not_edited(able: Editor) -> None:
    able.open(SOURCE)
    action = await extract(able)
    able.type(2, 0, 0, "\n")
    error = await able.refusal("codeAction/resolve", action)
    assert error["code"] == types.LSPErrorCodes.ContentModified.value


async def test_typing_ends_the_work(able: Editor) -> None:
    able.open(SOURCE)
    action = await extract(able)
    able.model.gate.clear()
    number = able.begin("codeAction/resolve", action)
    await asked(able)
    able.type(2, 0, 0, "\n")
    assert (await able.answer(number))["error"]["code"] == types.LSPErrorCodes.ContentModified.value
    assert able.model.cancelled
    assert (await able.explain())["refactoring"]["rule"] == "superseded"


async def test_cancelling_the_request_ends_the_generation(able: Editor) -> None:
    able.open(SOURCE)
    action = await extract(able)
    able.model.gate.clear()
    number = able.begin("codeAction/resolve", action)
    await asked(able)
    able.notify("$/cancelRequest", {"id": number})
    assert (await able.answer(number))["error"]["code"] == types.LSPErrorCodes.RequestCancelled.value
    assert able.model.cancelled
    assert (await able.explain())["refactoring"]["rule"] == "cancelled"


def progress_of(editor: Editor, title: str) -> tuple[Any, list[dict[str, Any]]]:
    """Token and values of the progress with this title."""
    sent = editor.notifications("$/progress")
    token = next(one["token"] for one in sent if one["value"].get("title") == title)
    return token, [one["value"] for one in sent if one["token"] == token]


async def test_progress_is_shown_and_can_be_cancelled(able: Editor) -> None:
    able.open(SOURCE)
    action = await extract(able)
    able.model.gate.clear()
    number = able.begin("codeAction/resolve", action)
    await able.wait_for(lambda message: message.get("params", {}).get("value", {}).get("title") == "Extract variable")
    await asked(able)
    token, values = progress_of(able, "Extract variable")
    assert values[0]["cancellable"] is True
    able.notify("window/workDoneProgress/cancel", {"token": token})
    assert "error" in await able.answer(number)
    assert able.model.cancelled
    await able.settle()
    assert progress_of(able, "Extract variable")[1][-1]["kind"] == "end"


async def test_free_text_of_the_model_is_always_confirmed(able: Editor) -> None:
    able.open(LOOP)
    able.model.answer = lambda params: ["out = [row.x for row in rows]"]
    found = await actions(able, (1, 0), (5, 0))
    action = await able.request(
        "codeAction/resolve", titled(found, "Rewrite the selection as its comment says (preview)")
    )
    (annotation,) = action["edit"]["changeAnnotations"].values()
    assert annotation["needsConfirmation"] is True
    assert "-    out = []" in annotation["description"]
    assert "+    out = [row.x for row in rows]" in annotation["description"]
    (change,) = action["edit"]["documentChanges"]
    assert all(edit["annotationId"] in action["edit"]["changeAnnotations"] for edit in change["edits"])


async def test_without_annotations_the_difference_is_asked_about(editor: Editor) -> None:
    await editor.initialize({"workspace": {"applyEdit": True}, "textDocument": CAPABILITIES["textDocument"]})
    editor.open(LOOP)
    editor.model.answer = lambda params: ["out = [row.x for row in rows]"]
    found = await actions(editor, (1, 0), (5, 0))
    action = titled(found, "Rewrite the selection as its comment says (preview)")
    editor.replies["window/showMessageRequest"] = None
    command = {"command": action["command"]["command"], "arguments": action["command"]["arguments"]}
    assert await editor.request("workspace/executeCommand", command) == {"applied": False}
    (question,) = editor.notifications("window/showMessageRequest")
    assert "+    out = [row.x for row in rows]" in question["message"]
    assert not editor.notifications("workspace/applyEdit")


@pytest.mark.parametrize("applied", [True, False])
async def test_an_editor_with_a_preview_shows_the_difference_itself(able: Editor, applied: bool) -> None:
    able.open(LOOP)
    able.model.answer = lambda params: ["out = [row.x for row in rows]", "out = list(rows)"]
    found = await actions(able, (1, 0), (5, 0))
    command = titled(found, "Rewrite the selection as its comment says (preview): choose…")["command"]
    able.replies["window/showMessageRequest"] = {"title": "out = [row.x for row in rows]"}
    able.replies["workspace/applyEdit"] = {"applied": applied}
    answer = await able.request(
        "workspace/executeCommand", {"command": command["command"], "arguments": command["arguments"]}
    )
    assert answer["applied"] is applied
    (question,) = able.notifications("window/showMessageRequest")
    assert "+    out" not in question["message"]
    (sent,) = able.notifications("workspace/applyEdit")
    (annotation,) = sent["edit"]["changeAnnotations"].values()
    assert annotation["needsConfirmation"] is True


async def test_choosing_among_several(able: Editor) -> None:
    able.open(SOURCE)
    able.model.answer = lambda params: ["surface", "size"]
    able.model.likelihood = lambda text: -1.0 if "size" in text else -2.0
    found = await actions(able, (1, 10), (1, 15))
    command = titled(found, "Extract variable: choose…")["command"]
    able.replies["workspace/applyEdit"] = {"applied": True}
    able.replies["window/showMessageRequest"] = {"title": "surface"}
    result = await able.request(
        "workspace/executeCommand", {"command": command["command"], "arguments": command["arguments"]}
    )
    (question,) = able.notifications("window/showMessageRequest")
    assert [one["title"] for one in question["actions"]] == ["size", "surface", "product"]
    assert result == {"applied": True, "label": "surface"}
    (sent,) = able.notifications("workspace/applyEdit")
    assert "surface = w * h" in str(sent["edit"])


async def test_an_editor_without_resolving_gets_commands(editor: Editor) -> None:
    await editor.initialize({"workspace": {"applyEdit": True}})
    editor.open(SOURCE)
    editor.model.answer = lambda params: ["surface"]
    (action,) = await actions(editor, (1, 10), (1, 15))
    assert action["command"]["command"] == "codegen-lsp.refactor"
    editor.replies["window/showMessageRequest"] = {"title": "surface"}
    editor.replies["workspace/applyEdit"] = {"applied": True}
    command = {"command": action["command"]["command"], "arguments": action["command"]["arguments"]}
    assert (await editor.request("workspace/executeCommand", command))["applied"]
    (sent,) = editor.notifications("workspace/applyEdit")
    assert URI in sent["edit"]["changes"]


async def test_resolving_an_action_with_a_command_does_nothing(editor: Editor) -> None:
    await editor.initialize({"workspace": {"applyEdit": True}, "textDocument": CAPABILITIES["textDocument"]})
    editor.open(LOOP)
    found = await actions(editor, (1, 0), (5, 0))
    action = titled(found, "Rewrite the selection as its comment says (preview)")
    assert await editor.request("codeAction/resolve", action) == action
    assert not editor.model.generated


async def test_an_editor_that_can_do_neither_gets_nothing(ready: Editor) -> None:
    ready.open(SOURCE)
    assert await actions(ready, (1, 10), (1, 15)) == []


async def test_a_result_that_fails_a_check_is_not_offered(able: Editor, caplog: pytest.LogCaptureFixture) -> None:
    able.open("def add(a, b):\n    pass\n")
    able.model.answer = lambda params: ["return a + nothing"]
    found = await actions(able, (1, 6), (1, 6))
    caplog.set_level(logging.INFO, "codegen_lsp")
    error = await able.refusal("codeAction/resolve", titled(found, "Write the body of 'add'"))
    assert "nothing" in error["message"]
    told = await able.explain(URI)
    assert told["refactoring"]["rule"] == "knows_its_names"
    assert told["refactoring"]["rejected"][0]["label"] == "return a + nothing"
    assert "`knows_its_names`" in told["message"]
    assert any("knows_its_names" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(("setting", "label"), [("auto", "return a + b"), ("off", "return a * b")])
async def test_a_body_with_which_the_tests_fail_is_not_offered(
    editor: Editor, tmp_path: Path, setting: str, label: str
) -> None:
    try:
        run_program("")
    except SandboxError as error:
        pytest.skip(str(error))
    tmp_path.chmod(0o755)
    (tmp_path / "test_sums.py").write_text("from sums import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n")
    await editor.initialize(CAPABILITIES, {"verify_refactorings": setting})
    (tmp_path / "sums.py").touch()
    uri = (tmp_path / "sums.py").as_uri()
    editor.open("def add(a, b):\n    pass\n", uri)
    editor.model.answer = lambda params: ["return a * b", "return a + b"]
    action = titled(await actions(editor, (1, 6), (1, 6), uri=uri), "Write the body of 'add'")
    assert label in str((await editor.request("codeAction/resolve", action))["edit"])
    rejected = (await editor.explain(uri))["refactoring"]["rejected"]
    assert [(one["label"], one["rule"]) for one in rejected] == (
        [("return a * b", "tests")] if setting == "auto" else []
    )


async def test_explain_reports_the_refactoring(able: Editor) -> None:
    able.open(SOURCE)
    able.model.answer = lambda params: ["surface"]
    await able.request("codeAction/resolve", await extract(able))
    told = await able.explain()
    assert told["refactoring"]["kind"] == "extract-variable"
    assert "surface" in told["refactoring"]["offers"]
    assert "extract-variable at line 2, column 11" in told["message"]


async def test_a_dead_model_costs_only_its_suggestions(able: Editor) -> None:
    able.open(SOURCE)
    from codegen_lsp.errors import WorkerError

    able.model.generate_error = WorkerError("The worker died.")
    action = await able.request("codeAction/resolve", await extract(able))
    assert "product = w * h" in str(action["edit"])
    assert any("The worker died." in note for note in (await able.explain())["refactoring"]["notes"])


async def test_an_action_that_needs_a_model_says_so(able: Editor) -> None:
    able.open("def add(a, b):\n    pass\n")
    from codegen_lsp.errors import WorkerError

    able.model.generate_error = WorkerError("The worker died.", "It is being restarted.")
    found = await actions(able, (1, 6), (1, 6))
    error = await able.refusal("codeAction/resolve", titled(found, "Write the body of 'add'"))
    assert error["message"] == "The worker died. It is being restarted."


@pytest.mark.parametrize(
    "options", [{"refactor": False}, {"enabled": False}, {"languages": {"python": False}}, {"exclude": ["main.py"]}]
)
async def test_settings_turn_it_off(editor: Editor, options: dict[str, Any]) -> None:
    await editor.initialize(CAPABILITIES, options)
    editor.open(SOURCE)
    assert await actions(editor, (1, 10), (1, 15)) == []


@pytest.mark.parametrize("data", [None, {}, {"kind": "extract-variable"}, {"kind": "x", "uri": URI}, "x", [1]])
async def test_data_that_are_not_ours(able: Editor, data: Any) -> None:
    able.open(SOURCE)
    error = await able.refusal("codeAction/resolve", {"title": "x", "data": data})
    assert error["code"] == types.ErrorCodes.InvalidParams.value


@pytest.mark.parametrize("text", ["", "\n\n", "def", "x = (", "\ud800", "'''", "\r\r", "@a\n@b\n", "class A:\n" * 50])
async def test_any_text_has_a_menu(able: Editor, text: str) -> None:
    able.open(text)
    for line in range(text.count("\n") + 1):
        await actions(able, (line, 0), (line, 3))
        await actions(able, (0, 0), (line, 30))


async def test_an_unknown_document(able: Editor) -> None:
    assert await actions(able, (0, 0), (0, 0), uri="file:///nowhere.py") == []


@pytest.mark.parametrize("opened", [True, False])
async def test_a_rename_changes_the_other_files_of_the_workspace(able: Editor, tmp_path: Path, opened: bool) -> None:
    shapes, maps = "def area(w, h):\n    return w * h\n", "from shapes import area\r\n\r\nprint('🎉', area(1, 2))\r\n"
    (tmp_path / "shapes.py").write_bytes(shapes.encode())
    (tmp_path / "maps.py").write_bytes((maps if not opened else "print()\n").encode())
    able.server.workspace.add_folder(types.WorkspaceFolder(tmp_path.as_uri(), "project"))
    uri, other = (tmp_path / "shapes.py").as_uri(), (tmp_path / "maps.py").as_uri()
    able.open(shapes, uri, version=3)
    if opened:
        able.open(maps, other, version=8)
    able.model.answer = lambda params: ["surface"]
    found = await actions(able, (0, 4), (0, 4), uri=uri)
    action = await able.request("codeAction/resolve", titled(found, "Rename 'area' to the likeliest name"))
    first, second = action["edit"]["documentChanges"]
    assert first["textDocument"] == {"uri": uri, "version": 3}
    assert second["textDocument"] == {"uri": other, "version": 8 if opened else None}
    assert [edit["newText"] for edit in second["edits"]] == [
        "from shapes import surface\r\n",
        "print('🎉', surface(1, 2))\r\n",
    ]
    assert (tmp_path / "maps.py").read_bytes().decode() == ("print()\n" if opened else maps)


async def test_a_public_name_is_renamed_only_where_its_uses_can_be_found(able: Editor) -> None:
    able.open(SOURCE)
    assert not any("Rename" in action["title"] for action in await actions(able, (0, 4), (0, 4)))


async def test_an_excluded_file_is_not_read_for_a_rename(editor: Editor, tmp_path: Path) -> None:
    await editor.initialize(CAPABILITIES, options={"exclude": ["generated_*"]})
    (tmp_path / "shapes.py").write_text("def area():\n    return 1\n", encoding="utf-8")
    (tmp_path / "generated_maps.py").write_text("from shapes import area\n", encoding="utf-8")
    editor.server.workspace.add_folder(types.WorkspaceFolder(tmp_path.as_uri(), "project"))
    uri = (tmp_path / "shapes.py").as_uri()
    editor.open((tmp_path / "shapes.py").read_text(encoding="utf-8"), uri)
    editor.model.answer = lambda params: ["surface"]
    found = await actions(editor, (0, 4), (0, 4), uri=uri)
    action = await editor.request("codeAction/resolve", titled(found, "Rename 'area' to the likeliest name"))
    assert [change["textDocument"]["uri"] for change in action["edit"]["documentChanges"]] == [uri]
