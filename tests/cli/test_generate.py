"""`codegen-lsp generate`, run as a user runs it, with the embedded build."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

PIPE_BYTES = 4096
"""The least that a pipe holds."""


def run(*arguments: object, home: Path, stdin: bytes | None = b"") -> tuple[int, str, str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "COLUMNS": "80"}
    command = [sys.executable, "-m", "codegen_lsp.cli", "generate", *map(str, arguments), "--threads", "1"]
    done = subprocess.run(
        command, input=stdin, capture_output=True, env=environment, timeout=120, check=False, cwd=home
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_text_is_printed_after_its_prompt(embedded_build: Path, tmp_path: Path) -> None:
    code, printed, error = run("def f(x):", "-m", embedded_build, "--max-new-tokens", 16, home=tmp_path)
    assert code == 0, error
    assert printed.startswith("def f(x):")
    assert len(printed) > len("def f(x):\n")
    command = ("-", "-m", embedded_build, "--max-new-tokens", 16)
    assert run(*command, home=tmp_path, stdin=b"def f(x):")[1] == printed
    cut = run("def f(x):", *command[1:], "--truncate-before-pattern", "^    ", home=tmp_path)[1]
    assert cut.rstrip("\n") == printed.partition("\n")[0]


def test_several_texts_as_json(embedded_build: Path, tmp_path: Path) -> None:
    command = ("é = ", "-m", embedded_build, "--max-new-tokens", 4, "--json", "--seed", 3)
    code, printed, error = run(*command, "-n", 2, "--temperature", 0.8, home=tmp_path)
    assert code == 0, error
    body = json.loads(printed)
    assert body["prompt"] == "é = "
    assert [text["finish"] for text in body["texts"]] == ["length", "length"]
    code, _, error = run(*command, "-n", 2, home=tmp_path)
    assert code == 1
    assert "temperature above 0" in error


def test_input_that_is_no_text_is_refused(embedded_build: Path, tmp_path: Path) -> None:
    code, _, error = run("-", "-m", embedded_build, home=tmp_path, stdin=b"\xff\xfe")
    assert code == 1
    assert "not UTF-8" in error
    assert "Traceback" not in error
    command = (
        os.fsencode(sys.executable),
        b"-m",
        b"codegen_lsp.cli",
        b"generate",
        b"caf\xe9",
        b"-m",
        bytes(embedded_build),
    )
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 1
    assert b"Give text in UTF-8" in done.stderr


def test_odd_characters_are_kept(embedded_build: Path, tmp_path: Path) -> None:
    prompt = "x = 'é\0\t\U0001f600\u2028"
    code, printed, error = run("-", "-m", embedded_build, "--max-new-tokens", 2, home=tmp_path, stdin=prompt.encode())
    assert code == 0, error
    assert printed.startswith(prompt)


def test_a_reader_that_leaves_ends_it_without_a_word(embedded_build: Path, tmp_path: Path) -> None:
    """The prompt fills the pipe, so that the text is still written when the reader leaves."""
    prompt = ("def a():\n" + "    x = 1\n" * PIPE_BYTES)[:PIPE_BYTES]
    command = [sys.executable, "-m", "codegen_lsp.cli", "generate", prompt, "-m", str(embedded_build)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, "--max-new-tokens", "200"], stdout=pipe, stderr=pipe, env=environment, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        assert os.read(process.stdout.fileno(), 5) == b"def a"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(120) == 1
