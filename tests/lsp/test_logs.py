"""The log's file and stream: which files are appended to, and what a full disk or an unread stream costs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codegen_lsp.lsp import logs
from codegen_lsp.lsp.logs import configure_logging
from codegen_lsp.settings import LogSettings

LOGGER = logging.getLogger("codegen_lsp.lsp")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files and pipes as POSIX has them")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    configure_logging(LogSettings())


def log_to(path: Path) -> list[str]:
    problems = configure_logging(LogSettings(file=str(path)))
    LOGGER.warning("a record")
    return problems


def test_a_log_is_made_for_the_user_alone_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    assert log_to(path) == []
    assert path.stat().st_mode & 0o777 == 0o600
    assert log_to(path) == []
    assert path.read_text().count("a record") == 2


def test_a_log_of_an_earlier_version_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("2026-01-31 12:00:00,123 WARNING codegen_lsp.lsp.serve: The editor is gone\n")
    assert log_to(path) == []
    assert "a record" in path.read_text()


@pytest.mark.parametrize("kind", ["another file", "link", "dangling link", "link to a log", "pipe", "device", "folder"])
def test_what_is_no_log_of_this_program_is_refused(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "x.log", tmp_path / "target"
    match kind:
        case "another file":
            path.write_text("alias ll='ls -l'\n")
        case "link":
            target.write_text("")
            path.symlink_to(target)
        case "dangling link":
            path.symlink_to(target)
        case "link to a log":
            log_to(target)
            path.symlink_to(target)
        case "pipe":
            os.mkfifo(path)
        case "device":
            path = Path("/dev/null")
        case "folder":
            path.mkdir()
    before = target.read_text() if target.exists() else None
    (problem,) = log_to(path)
    assert "`codegen-lsp.log.file` can't be written" in problem
    assert (target.read_text() if target.exists() else None) == before
    if kind == "another file":
        assert path.read_text() == "alias ll='ls -l'\n"


def test_settings_can_not_put_a_command_into_a_file(tmp_path: Path) -> None:
    """As a name of a setting, which is quoted in the log."""
    path = tmp_path / "new.sh"
    assert configure_logging(LogSettings(file=str(path))) == []
    LOGGER.warning("%s", "`\ntouch ~/X #` is not a setting")
    LOGGER.warning("%s", "\r\x1b]0;x\x07")
    lines = path.read_text().split("\n")
    assert len(lines) == 3
    assert not any(line.startswith("touch") for line in lines)


def test_a_full_disk_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[bytes] = []
    monkeypatch.setattr(logs, "_write_without_waiting", said.append)
    configure_logging(LogSettings())
    handler = logs.LogFileHandler(os.open("/dev/full", os.O_WRONLY))
    for _ in range(100):
        handler.handle(logging.makeLogRecord({"msg": "a record"}))
    handler.close()
    (report,) = said
    assert b"No space left" in report


def test_an_unread_stream_stops_nothing() -> None:
    code = (
        "import logging; from codegen_lsp.lsp import logs; from codegen_lsp.settings import LogSettings\n"
        "logs.configure_logging(LogSettings())\n"
        "for number in range(20_000): logging.warning('record %d %s', number, 'x' * 200)\n"
        "print('done', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"done\n"
    process.stdout.close()
    assert process.wait(60) == 0
    process.stderr.close()


def test_records_that_are_read_arrive_in_order() -> None:
    code = (
        "import logging; from codegen_lsp.lsp import logs; from codegen_lsp.settings import LogSettings\n"
        "logs.configure_logging(LogSettings())\n"
        "for number in range(500): logging.warning('record %d.', number)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line.rpartition("record ")[2] for line in result.stderr.splitlines()] == [f"{n}." for n in range(500)]
