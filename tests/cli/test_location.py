"""`FILE:LINE[:COL]` to a cursor."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp.cli.location import LocationError, snapshot_at
from codegen_lsp.workspace.decoding import UnreadableSourceError

SOURCE = "import os\r\nx = '🙂é'\n\tlast"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a:b.py"
    path.write_bytes(SOURCE.encode())
    return path


@pytest.mark.parametrize(
    ("place", "before"),
    [
        ("1", "import os"),
        ("1:1", ""),
        ("1:7", "import"),
        ("2", "import os\r\nx = '🙂é'"),
        ("2:7", "import os\r\nx = '🙂"),
        ("3", SOURCE),
        ("3:2", "import os\r\nx = '🙂é'\n\t"),
    ],
)
def test_lines_and_columns_count_characters_from_one(file: Path, place: str, before: str) -> None:
    snapshot = snapshot_at(f"{file}:{place}")
    assert snapshot.text == SOURCE
    assert snapshot.text[: snapshot.offset] == before
    assert snapshot.language == "python"


@pytest.mark.parametrize("place", ["0", "4", "1:0", "1:11", "2:10"])
def test_places_outside_are_refused_with_the_range(file: Path, place: str) -> None:
    with pytest.raises(LocationError) as caught:
        snapshot_at(f"{file}:{place}")
    assert "from 1 to" in caught.value.advice


@pytest.mark.parametrize("place", ["file.py", "file.py:x", ":3", ""])
def test_what_is_no_place(place: str) -> None:
    with pytest.raises(LocationError, match=r"not a place"):
        snapshot_at(place)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSourceError, match="No such file"):
        snapshot_at(f"{tmp_path / 'none.py'}:1")


def test_a_python_file_in_its_declared_encoding(tmp_path: Path) -> None:
    path = tmp_path / "old.py"
    path.write_bytes("# -*- coding: latin-1 -*-\nname = 'é'\n".encode("latin-1"))
    assert "é" in snapshot_at(f"{path}:2").text


@pytest.mark.parametrize("name", ["a.py", "a.js"])
def test_bytes_that_are_no_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"x = '\xff\xfe'\n")
    with pytest.raises(UnreadableSourceError) as caught:
        snapshot_at(f"{path}:1")
    assert "UTF-8" in caught.value.advice


def test_a_byte_order_mark_is_no_character(tmp_path: Path) -> None:
    path = tmp_path / "bom.c"
    path.write_bytes(b"\xef\xbb\xbfint x;")
    snapshot = snapshot_at(f"{path}:1:4")
    assert snapshot.text[: snapshot.offset] == "int"
    assert snapshot.language == "c"
