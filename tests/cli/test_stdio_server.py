"""`codegen-lsp serve` starts the server without loading what other commands need."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [["serve"], ["serve", "--stdio"]])
def test_serving_on_stdio_loads_no_command_line(arguments: list[str]) -> None:
    program = """
import gc, sys
from codegen_lsp.cli.__main__ import main
from codegen_lsp.lsp import serve

def serve_stdio():
    print(sorted({"typer", "rich", "click"} & set(sys.modules)), gc.isenabled(), gc.get_freeze_count() > 10_000)
    return 3

serve.serve_stdio = serve_stdio
main()
"""
    command = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 3, result.stderr
    assert result.stdout.split("\n")[0] == "[] True True"


def test_other_arguments_are_those_of_the_command_line() -> None:
    command = [sys.executable, "-m", "codegen_lsp.cli", "serve", "--stdio", "--tcp", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "choose one of" in result.stderr
