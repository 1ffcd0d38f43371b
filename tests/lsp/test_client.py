"""The capabilities of an editor, as the server makes use of them."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import asdict
from lsprotocol import types

from codegen_lsp.lsp.client import EditorCapabilities
from codegen_lsp.lsp.jsonrpc import make_converter

DATA = {"dataSupport": True}
ANNOTATIONS = {"changeAnnotationSupport": {"groupsOnLabel": True}}


@pytest.mark.parametrize(
    ("capabilities", "known"),
    [
        ({}, set()),
        ({"workspace": {}, "window": {}, "textDocument": {"codeAction": {}}}, set()),
        ({"workspace": {"configuration": True}}, {"configuration"}),
        (
            {"workspace": {"didChangeConfiguration": {"dynamicRegistration": True}}},
            {"registers_configuration"},
        ),
        ({"window": {"workDoneProgress": True}}, {"progress"}),
        ({"workspace": {"applyEdit": True}}, {"apply_edit"}),
        ({"workspace": {"workspaceEdit": {"documentChanges": True}}}, {"document_changes"}),
        ({"workspace": {"workspaceEdit": ANNOTATIONS}}, set()),
        (
            {"workspace": {"workspaceEdit": {"documentChanges": True} | ANNOTATIONS}},
            {"document_changes", "confirms_edits"},
        ),
        ({"textDocument": {"codeAction": DATA}}, set()),
        ({"textDocument": {"codeAction": DATA | {"resolveSupport": {"properties": ["command"]}}}}, set()),
        ({"textDocument": {"codeAction": {"resolveSupport": {"properties": ["edit"]}}}}, set()),
        (
            {"textDocument": {"codeAction": DATA | {"resolveSupport": {"properties": ["edit"]}}}},
            {"resolves_edits"},
        ),
    ],
)
def test_capabilities(capabilities: dict[str, Any], known: set[str]) -> None:
    structured = make_converter().structure(capabilities, types.ClientCapabilities)
    assert {name for name, value in asdict(EditorCapabilities.of(structured)).items() if value} == known
