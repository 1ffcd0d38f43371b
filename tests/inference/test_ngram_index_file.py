"""The n-gram index on disk: it comes back whole, or it is refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from codegen_lsp.inference.engines.native.ngram_index import FileVersion, NgramIndex
from codegen_lsp.inference.engines.native.ngram_index_file import DamagedIndexError, read_index, write_index
from codegen_lsp.inference.engines.native.ngram_segment import library

pytestmark = pytest.mark.skipif(library() is None, reason="ngram_index.c was not compiled here")

CAUTION = (144.0, 21.6, 10.6, 4.3, 3.7, 2.6, 2.1)
FILES = {"a.py": list(range(200)) * 3, "päth/b.py": [1, 2, 3] * 900, "empty.py": []}


@pytest.fixture
def index() -> NgramIndex:
    made = NgramIndex(CAUTION)
    made.add((FileVersion(path, 17, 5), ids) for path, ids in FILES.items())
    return made


@pytest.fixture
def stored(index: NgramIndex, tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "index"
    write_index(index, path, "tokenizer")
    return path


def test_it_comes_back_whole(index: NgramIndex, stored: Path) -> None:
    again = NgramIndex(CAUTION)
    read_index(again, stored, "tokenizer")
    assert {path: file.version for path, file in again.files.items()} == {
        path: FileVersion(path, 17, 5) for path in FILES
    }
    for context in ([1], [1, 2], list(range(30)), [3, 1, 2]):
        before, after = index.mixture(context), again.mixture(context)
        assert before is not None
        assert after is not None
        assert sorted(zip(before.ids, before.gains, strict=True)) == sorted(zip(after.ids, after.gains, strict=True))
    again.add([(FileVersion("a.py", 18, 5), [7, 8])])  # a mapped segment can be changed like any other
    assert again.longest_match([7], 1) is not None


def test_it_can_be_empty(tmp_path: Path) -> None:
    write_index(NgramIndex(CAUTION), tmp_path / "index", "tokenizer")
    again = NgramIndex(CAUTION)
    read_index(again, tmp_path / "index", "tokenizer")
    assert again.files == {}


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_only_its_owner_can_read_it(stored: Path) -> None:
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert stat.S_IMODE(stored.parent.stat().st_mode) == 0o700


def test_another_tokenizer_is_refused(stored: Path) -> None:
    with pytest.raises(DamagedIndexError, match="another tokenizer"):
        read_index(NgramIndex(CAUTION), stored, "other")


def test_damage_is_noticed_anywhere(stored: Path) -> None:
    whole = stored.read_bytes()
    places = [*range(0, len(whole), 499), len(whole) - 1]
    for at in places:
        stored.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            read_index(NgramIndex(CAUTION), stored, "tokenizer")
        except DamagedIndexError:
            continue
        assert whole[at] == 0, "only padding may change unnoticed"
    for size in (0, 3, 15, 16, 200, len(whole) // 2, len(whole) - 1):
        stored.write_bytes(whole[:size])
        with pytest.raises(DamagedIndexError):
            read_index(NgramIndex(CAUTION), stored, "tokenizer")


def test_a_failed_write_leaves_the_former_file(
    index: NgramIndex, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_index(index, stored, "tokenizer")
    assert stored.read_bytes() == before
    assert [path.name for path in stored.parent.iterdir()] == ["index"]


def test_writers_that_are_killed_leave_a_whole_file(stored: Path) -> None:
    program = f"""
import os, signal, sys, threading
from pathlib import Path
from codegen_lsp.inference.engines.native.ngram_index import FileVersion, NgramIndex
from codegen_lsp.inference.engines.native.ngram_index_file import write_index
index = NgramIndex({CAUTION})
index.add([(FileVersion("a.py", 1, 1), list(range(1000)) * 20)])
threading.Timer(float(sys.argv[1]), lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
while True:
    write_index(index, Path({str(stored)!r}), "tokenizer")
"""
    for number in range(4):
        pair = [
            subprocess.Popen([sys.executable, "-c", program, str(0.011 * number + 0.007 * one)]) for one in range(2)
        ]
        for process in pair:
            process.wait()
        again = NgramIndex(CAUTION)
        read_index(again, stored, "tokenizer")
        assert again.mixture([1]) is not None
