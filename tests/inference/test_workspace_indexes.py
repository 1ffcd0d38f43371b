"""Indexes of workspaces in the worker: updates in the background, limits, and what is kept between sessions."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codegen_lsp.inference import workspace_indexes as module
from codegen_lsp.inference.engines.native.ngram_index import NgramIndex
from codegen_lsp.inference.engines.native.ngram_segment import library
from codegen_lsp.inference.rpc.messages import IndexUpdate, WorkspaceFile
from codegen_lsp.inference.workspace_indexes import WorkspaceIndexes

pytestmark = pytest.mark.skipif(library() is None, reason="ngram_index.c was not compiled here")

CAUTION = (144.0, 21.6, 10.6, 4.3, 3.7, 2.6, 2.1)
WAIT_SECONDS = 60.0


def encode(text: str) -> list[int]:
    return [ord(character) for character in text]


def file(path: str, text: str, modified: int = 1) -> WorkspaceFile:
    return WorkspaceFile(path, text, modified, len(text))


@pytest.fixture
def indexes(tmp_path: Path) -> Iterator[WorkspaceIndexes]:
    made = WorkspaceIndexes(encode, "characters", CAUTION, tmp_path)
    yield made
    made.close()


def next_of(indexes: WorkspaceIndexes, workspace: str, context: str, left_out: list[str] | None = None) -> set[str]:
    counts = indexes.counts(workspace, left_out or [])
    mixture = counts.mixture(encode(context)) if counts else None
    return set(map(chr, mixture.ids.tolist())) if mixture else set()


def test_files_are_added_changed_and_removed(indexes: WorkspaceIndexes) -> None:
    indexes.update(IndexUpdate("w", [file("a", "xyz"), file("b", "xq")]))
    assert indexes.wait(WAIT_SECONDS)
    assert next_of(indexes, "w", "x") == {"y", "q"}
    assert next_of(indexes, "w", "x", ["a"]) == {"q"}
    indexes.update(IndexUpdate("w", [file("a", "x.", 2)], removed=["b"]))
    assert indexes.wait(WAIT_SECONDS)
    assert next_of(indexes, "w", "x") == {"."}
    state = indexes.state("w")
    assert (state.files, state.tokens, state.pending) == ({"a": [2, 2]}, 2, 0)
    assert state.memory_bytes > 0


def test_the_files_are_named_in_parts(indexes: WorkspaceIndexes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAMED_FILES", 3)
    indexes.update(IndexUpdate("w", [file(f"{number}", "x") for number in range(8)]))
    assert indexes.wait(WAIT_SECONDS)
    parts = [list(indexes.state("w", first=first).files) for first in (0, 3, 6, 8)]
    assert parts == [["0", "1", "2"], ["3", "4", "5"], ["6", "7"], []]
    assert indexes.state("w", first=6).tokens == 8


def test_workspaces_do_not_mix(indexes: WorkspaceIndexes) -> None:
    indexes.update(IndexUpdate("one", [file("a", "xy")]))
    indexes.update(IndexUpdate("two", [file("a", "xz")]))
    assert indexes.wait(WAIT_SECONDS)
    assert next_of(indexes, "one", "x") == {"y"}
    assert next_of(indexes, "two", "x") == {"z"}
    assert indexes.counts("three", []) is None


def test_an_index_is_there_again(indexes: WorkspaceIndexes, tmp_path: Path) -> None:
    indexes.update(IndexUpdate("w", [file("a", "xyz")]))
    assert indexes.wait(WAIT_SECONDS)
    indexes.close()
    again = WorkspaceIndexes(encode, "characters", CAUTION, tmp_path)
    assert again.state("w").files == {"a": [1, 3]}
    assert next_of(again, "w", "x") == {"y"}
    again.close()
    other = WorkspaceIndexes(encode, "another tokenizer", CAUTION, tmp_path)
    assert other.state("w").files == {}
    other.close()


def test_a_damaged_index_is_thrown_away(indexes: WorkspaceIndexes, tmp_path: Path) -> None:
    indexes.update(IndexUpdate("w", [file("a", "xyz")]))
    assert indexes.wait(WAIT_SECONDS)
    indexes.close()
    (kept,) = tmp_path.glob("*.ngrams")
    kept.write_bytes(kept.read_bytes()[:-1])
    again = WorkspaceIndexes(encode, "characters", CAUTION, tmp_path)
    assert again.state("w").files == {}
    assert not kept.exists()
    again.close()


DAMAGED_INDEXES = int(os.environ.get("DAMAGED_INDEXES", "4"))
"""Indexes whose files are damaged in 25 ways each."""


@pytest.mark.parametrize("seed", range(DAMAGED_INDEXES))
def test_any_damage_costs_no_more_than_the_index(
    indexes: WorkspaceIndexes, tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(seed)
    texts = {f"{n}.py": "".join(dice.choices("abcxyz", k=dice.randrange(400))) for n in range(dice.randrange(1, 6))}
    indexes.update(IndexUpdate("w", [file(path, text) for path, text in texts.items()]))
    assert indexes.wait(WAIT_SECONDS)
    indexes.close()
    (kept,) = tmp_path.glob("*.ngrams")
    whole = kept.read_bytes()
    for _ in range(25):
        kept.write_bytes(damaged(whole, dice))
        again = WorkspaceIndexes(encode, "characters", CAUTION, tmp_path)
        found = again._open("w").index.files
        if found:  # only padding was changed, or nothing
            assert {path: one.tokens.tolist() for path, one in found.items()} == {
                path: encode(text) for path, text in texts.items()
            }
        else:
            assert not kept.exists()
            assert "built anew" in caplog.text
        again.update(IndexUpdate("w", [file(path, text) for path, text in texts.items()]))
        assert again.wait(WAIT_SECONDS)
        again.close()
        assert WorkspaceIndexes(encode, "characters", CAUTION, tmp_path).state("w").files.keys() == texts.keys()


def damaged(whole: bytes, dice: random.Random) -> bytes:
    """Return the bytes of a file truncated, extended, or changed in places."""
    at = dice.randrange(len(whole))
    kind = dice.randrange(5)
    if kind == 0:
        return whole[:at]
    if kind == 1:
        return whole + dice.randbytes(dice.randrange(1, 200))
    if kind == 2:
        return whole[:at] + bytes([whole[at] ^ 1 << dice.randrange(8)]) + whole[at + 1 :]
    size = dice.randrange(1, 64)
    if kind == 3:
        return whole[:at] + dice.randbytes(size) + whole[at + size :]
    return whole[:at] + whole[at + size :]


WRITER = f"""
import sys
from pathlib import Path
from codegen_lsp.inference import workspace_indexes
from codegen_lsp.inference.rpc.messages import IndexUpdate, WorkspaceFile
workspace_indexes.SAVE_FILES, workspace_indexes.QUIET_SECONDS = 1, 0
who, folder = sys.argv[1:]
indexes = workspace_indexes.WorkspaceIndexes(lambda text: list(map(ord, text)), "characters", {CAUTION}, Path(folder))
indexes.state("w")
print("started", flush=True)
number = 0
while True:
    number += 1
    text = f"{{who}}{{number}}." * 500
    indexes.update(IndexUpdate("w", [WorkspaceFile(f"{{number % 3}}.py", text, number, len(text))]))
    indexes.wait(60)
"""
PAIRS = int(os.environ.get("KILLED_PAIRS", "6"))
"""Pairs of writers that are killed. `KILLED_PAIRS=100` for more."""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills processes with a signal of POSIX")
def test_workers_that_are_killed_leave_a_whole_index(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(0)
    found_files = 0
    for _ in range(PAIRS):
        pair = [
            subprocess.Popen([sys.executable, "-c", WRITER, who, str(tmp_path)], stdout=subprocess.PIPE) for who in "ab"
        ]
        for process in pair:
            assert process.stdout is not None
            assert process.stdout.readline() == b"started\n"
        for process in dice.sample(pair, 2):
            try:
                process.wait(dice.uniform(0.0, 0.3))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            assert process.stdout is not None
            process.stdout.close()
        reader = WorkspaceIndexes(encode, "characters", CAUTION, tmp_path)
        for path, one in reader._open("w").index.files.items():
            text = "".join(map(chr, one.tokens.tolist()))
            word = text.split(".")[0]
            assert text == f"{word}." * 500
            assert word[0] in "ab"
            assert f"{int(word[1:]) % 3}.py" == path
            assert one.version.modified == int(word[1:])
            found_files += 1
        assert next_of(reader, "w", "0.") <= {"a", "b"}
        reader.close()
        assert "built anew" not in caplog.text
    assert found_files


def test_a_full_index_takes_no_more(indexes: WorkspaceIndexes) -> None:
    indexes.update(IndexUpdate("w", [file("a", "x" * 60), file("b", "y" * 60)], max_tokens=100))
    assert indexes.wait(WAIT_SECONDS)
    state = indexes.state("w")
    assert sorted(state.files) == ["a", "b"]  # known, so that it is not sent again
    assert state.tokens == 60
    assert next_of(indexes, "w", "y") == set()


def test_what_has_no_room_is_not_encoded(indexes: WorkspaceIndexes, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []

    def note(text: str) -> list[int]:
        encoded.append(text)
        return encode(text)

    monkeypatch.setattr(indexes, "_encode", note)
    files = [file("a", "x" * 100), *(file(f"{number}", "y" * 60) for number in range(9))]
    indexes.update(IndexUpdate("w", files, max_tokens=100))
    assert indexes.wait(WAIT_SECONDS)
    assert encoded == ["x" * 100]
    assert len(indexes.state("w").files) == 10


def test_an_index_is_written_once_when_no_more_files_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.05)
    written: list[int] = []
    write_index = module.write_index

    def note(index: NgramIndex, path: Path, tokenizer: str) -> None:
        written.append(len(index.files))
        write_index(index, path, tokenizer)

    monkeypatch.setattr(module, "write_index", note)
    indexes = WorkspaceIndexes(encode, "characters", CAUTION, tmp_path)
    gate = threading.Event()
    monkeypatch.setattr(indexes, "_encode", lambda text: encode(text) if gate.wait(60) else [])
    for first in range(0, 120, 20):
        indexes.update(IndexUpdate("w", [file(f"{number}", "xyz") for number in range(first, first + 20)]))
    gate.set()
    assert indexes.wait(WAIT_SECONDS)
    deadline = time.monotonic() + WAIT_SECONDS
    while not written and time.monotonic() < deadline:
        time.sleep(0.01)
    assert written == [120]
    indexes.close()
    assert written == [120]  # nothing has changed since


def test_nothing_is_kept_without_a_folder() -> None:
    indexes = WorkspaceIndexes(encode, "characters", CAUTION, None)
    indexes.update(IndexUpdate("w", [file("a", "xyz")]))
    assert indexes.wait(WAIT_SECONDS)
    assert next_of(indexes, "w", "x") == {"y"}
    indexes.close()


def test_an_unwritable_folder_costs_only_what_is_kept(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    indexes = WorkspaceIndexes(encode, "characters", CAUTION, blocked / "folder")
    indexes.update(IndexUpdate("w", [file("a", "xyz")]))
    assert indexes.wait(WAIT_SECONDS)
    assert next_of(indexes, "w", "x") == {"y"}
    indexes.close()


def test_a_text_that_fails_does_not_end_the_thread(indexes: WorkspaceIndexes) -> None:
    indexes.update(IndexUpdate("w", [file("bad", "\N{PILE OF POO}")]))  # its id is above the limit
    indexes.update(IndexUpdate("w", [file("a", "xyz")]))
    assert indexes.wait(WAIT_SECONDS)
    assert list(indexes.state("w").files) == ["a"]


def test_the_oldest_indexes_are_removed(tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / f"{number}.ngrams"
        path.write_text("")
        os.utime(path, (number, number))
    module.prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3.ngrams", "4.ngrams"]
