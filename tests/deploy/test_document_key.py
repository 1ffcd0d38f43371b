"""The key of a document: the same for all requests of one document, whatever the dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codegen_lsp.deploy.document_key import KEY_LINES, document_key, first_lines

LICENCE = "".join(f"# Licensed under the terms of the licence, line {n}\n" for n in range(20))
CODE = "".join(f"name_{n} = {n}\n" for n in range(30))


def key(client: str = "10.0.0.1", **fields: Any) -> str:
    return document_key(json.dumps(fields).encode(), client)


@pytest.mark.parametrize(
    "form",
    [
        lambda text: {"input_prefix": text, "prompt": "nam", "input_suffix": "\n"},
        lambda text: {"prompt": text},
        lambda text: {"prompt": [text, "another"]},
        lambda text: {"segments": {"prefix": text, "suffix": ""}},
        lambda text: {"messages": [{"role": "user", "content": text}]},
        lambda text: {"model": "m", "prompt": text, "suffix": "\n", "stream": True},
    ],
    ids=["llama.cpp", "openai", "openai-list", "tabby", "chat", "ollama"],
)
def test_typing_further_keeps_the_key_and_another_document_has_another(form: Any) -> None:
    assert key(**form(CODE)) == key(**form(CODE + "value = name_1 + na")) == key(**form(CODE + "for name in "))
    assert key(**form(CODE)) != key(**form("import os\n" + CODE))


def test_a_named_document_keeps_its_key_whatever_its_text() -> None:
    assert key(filename="a.py", input_prefix=CODE) == key(filename="a.py", input_prefix="x = 1\n")
    assert key(filename="a.py", input_prefix=CODE) != key(filename="b.py", input_prefix=CODE)
    by_tabby = [key(segments={"prefix": text, "filepath": "a.py"}) for text in (CODE, "")]
    assert by_tabby[0] == by_tabby[1]


def test_files_with_the_same_licence_have_different_keys() -> None:
    assert key(prompt=LICENCE + "import os\n") != key(prompt=LICENCE + "import sys\n")
    assert first_lines(LICENCE + CODE) == [f"name_{n} = {n}" for n in range(KEY_LINES)]


def test_the_line_that_is_being_typed_does_not_count() -> None:
    assert key(prompt="import os\nimp") == key(prompt="import os\nimport sys")


def test_users_are_told_apart_by_their_field_or_their_address() -> None:
    assert key("10.0.0.1", prompt=CODE) != key("10.0.0.2", prompt=CODE)
    assert key("10.0.0.1", prompt=CODE, user="ada") == key("10.0.0.2", prompt=CODE, user="ada")
    assert key(prompt=CODE, user="ada") != key(prompt=CODE, user="bob")


def test_a_language_server_keeps_to_one_replica_with_all_documents() -> None:
    bodies = [json.dumps({"client": "c1", "params": {"document": name, "prefix": CODE}}).encode() for name in "ab"]
    assert document_key(bodies[0], "10.0.0.1") == document_key(bodies[1], "10.0.0.2")
    assert document_key(bodies[0], "10.0.0.1") != document_key(b'{"client": "c2"}', "10.0.0.1")


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[1, 2]", b"[" * 100_000, b'{"prompt": 3}', b'{"segments": [{}]}'])
def test_a_body_without_a_document_has_the_key_of_its_client(body: bytes) -> None:
    assert document_key(body, "10.0.0.1") == document_key(b"{}", "10.0.0.1") != document_key(b"{}", "10.0.0.2")


def test_lone_surrogates_have_a_key() -> None:
    assert len(document_key(b'{"filename": "\\ud800"}', "")) == 32
