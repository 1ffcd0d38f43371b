"""Progress of long commands where standard error is not a terminal."""

from __future__ import annotations

import pytest

from codegen_lsp.cli import progress_bar


def test_a_file_gets_a_line_at_times(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress_bar, "LINE_SECONDS", 0)
    with progress_bar.progress_bar() as report:
        report("2 of 8 [files]", 0.25)
        report("9 of 8", 1.1)
    assert capfd.readouterr().err == "25% 2 of 8 [files]\n100% 9 of 8\n"


def test_a_short_command_writes_nothing_to_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar.progress_bar() as report:
        report("1 of 1", 1)
    assert capfd.readouterr() == ("", "")
