"""Real Neovims of three versions, with the plugin installed as a user would, driven over their RPC.

A UI is attached, so tests see the screen as Neovim draws it. `install_neovim.sh` installs the programs; the tests are
skipped where it fails.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.editors.install import run_script
from tests.editors.scenarios import PATIENCE, ScriptedServer

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "editors" / "neovim"
VERSIONS = ("0.10", "0.11", "0.12")
WITHOUT_PYTHON = "let g:loaded_python3_provider = 0"
"""Keeps Neovim's file type plugin from looking for a Python to run plugins with, which takes a second."""


def pack(value: Any) -> bytes:
    """Return a value in msgpack; only the types that requests need."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xd3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return b"\xdb" + struct.pack(">I", len(data)) + data
    if isinstance(value, dict):
        items = b"".join(pack(key) + pack(item) for key, item in value.items())
        return b"\xdf" + struct.pack(">I", len(value)) + items
    return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(pack, value))


class Unpacker:
    """Reads msgpack from a stream."""

    SIZES: ClassVar = {0xC4: "B", 0xC5: "H", 0xC6: "I", 0xD9: "B", 0xDA: "H", 0xDB: "I"}
    NUMBERS: ClassVar = {
        0xCA: "f",
        0xCB: "d",
        0xCC: "B",
        0xCD: "H",
        0xCE: "I",
        0xCF: "Q",
        0xD0: "b",
        0xD1: "h",
        0xD2: "i",
        0xD3: "q",
    }
    MANY: ClassVar = {0xDC: "H", 0xDD: "I", 0xDE: "H", 0xDF: "I"}

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def _bytes(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def _number(self, form: str) -> Any:
        return struct.unpack(">" + form, self._bytes(struct.calcsize(form)))[0]

    def read(self) -> Any:
        kind = self._bytes(1)[0]
        if kind < 0x80:
            return kind
        if kind < 0x90:
            return self._map(kind & 0x0F)
        if kind < 0xA0:
            return [self.read() for _ in range(kind & 0x0F)]
        if kind < 0xC0:
            return self._text(kind & 0x1F)
        if kind >= 0xE0:
            return kind - 0x100
        if kind in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[kind]
        if kind in self.NUMBERS:
            return self._number(self.NUMBERS[kind])
        if kind in self.SIZES:
            return self._text(self._number(self.SIZES[kind]))
        if kind in self.MANY:
            count = self._number(self.MANY[kind])
            return self._map(count) if kind >= 0xDE else [self.read() for _ in range(count)]
        if kind in (0xC7, 0xC8, 0xC9):
            return self._bytes(1 + self._number({0xC7: "B", 0xC8: "H", 0xC9: "I"}[kind]))
        return self._bytes(1 + (1 << (kind - 0xD4)))  # a handle of a buffer, a window or a tab page

    def _map(self, count: int) -> dict[Any, Any]:
        return {self.read(): self.read() for _ in range(count)}

    def _text(self, size: int) -> str:
        return self._bytes(size).decode("utf-8", "surrogateescape")


class Neovim:
    """A running editor."""

    def __init__(self, program: Path, home: Path, init: str, columns: int = 80, rows: int = 16) -> None:
        (home / "config" / "nvim").mkdir(parents=True, exist_ok=True)
        (home / "config" / "nvim" / "init.lua").write_text(init, encoding="utf-8")
        self.home = home
        self.rows, self.columns = rows, columns
        environment = {name: os.environ[name] for name in ("PATH", "CODEGEN_LSP_TEST_BUILD") if name in os.environ}
        folders = {f"XDG_{name.upper()}_HOME": str(home / name) for name in ("config", "data", "state", "cache")}
        environment |= folders | {"HOME": str(home), "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
        environment["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(dir=os.environ["XDG_RUNTIME_DIR"])  # short, for sockets
        (home / "errors").parent.mkdir(exist_ok=True)
        with (home / "errors").open("wb") as errors:
            self.process = subprocess.Popen(
                [program, "--embed", "-n", "--cmd", WITHOUT_PYTHON],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
        self._numbers = itertools.count()
        self._answers: dict[int, queue.Queue[Any]] = {}
        threading.Thread(target=self._listen, daemon=True).start()
        self.request("nvim_ui_attach", columns, rows, {"rgb": True, "ext_linegrid": True})

    def _listen(self) -> None:
        unpacker = Unpacker(self.process.stdout)
        try:
            while True:
                message = unpacker.read()
                if message[0] == 1:
                    self._answers[message[1]].put(message[2:])
        except (EOFError, ValueError):
            for answers in self._answers.values():
                answers.put((["", "Neovim ended"], None))

    def request(self, method: str, *arguments: Any) -> Any:
        """Call a function of Neovim's API."""
        number = next(self._numbers)
        self._answers[number] = queue.Queue()
        assert self.process.stdin is not None
        self.process.stdin.write(b"\x94\x00" + pack(number) + pack(method) + pack(arguments))
        self.process.stdin.flush()
        error, result = self._answers[number].get(timeout=PATIENCE)
        assert error is None, error
        return result

    def lua(self, code: str, *arguments: Any) -> Any:
        return self.request("nvim_exec_lua", code, arguments)

    def command(self, command: str) -> None:
        self.request("nvim_command", command)

    def keys(self, keys: str) -> None:
        """Type keys, and wait until Neovim has processed them."""
        self.request("nvim_input", keys)
        self.lua("return 1")

    def until(self, holds: Callable[[], Any], what: str = "", patience: float = 1.0) -> Any:
        """Wait until `holds` returns a true value, and return it. `patience` multiplies the timeout."""
        end = time.monotonic() + patience * PATIENCE
        while not (value := holds()):
            assert time.monotonic() < end, f"waited in vain{' for ' + what if what else ''}:\n" + "\n".join(
                self.screen()
            )
            time.sleep(0.01)
        return value

    def sees(self, *texts: str) -> list[str]:
        """Wait until all these texts are on the screen."""
        self.until(lambda: all(any(text in line for line in self.screen()) for text in texts), repr(texts))
        return self.screen()

    def screen(self) -> list[str]:
        """Return the lines of the screen, without blanks at their ends."""
        return self.lua(
            """vim.cmd.redraw()
            local lines = {}
            for row = 1, vim.o.lines do
              local line, column = '', 1
              while column <= vim.o.columns do
                local cell = vim.fn.screenstring(row, column)
                line, column = line .. cell, column + math.max(vim.fn.strdisplaywidth(cell), 1)
              end
              lines[row] = line:gsub('%s+$', '')
            end
            return lines"""
        )

    def settle(self) -> None:
        """Wait for timers, and for the server to handle their messages, before asserting that nothing happened."""
        self.lua(
            """vim.wait(80)
            for _, client in ipairs(vim.lsp.get_clients()) do
              local arguments = { 'workspace/executeCommand', { command = 'fake.nothing' }, ... }
              if vim.fn.has('nvim-0.11') == 1 then table.insert(arguments, 1, client) end
              client.request_sync(unpack(arguments))
            end""",
            int(PATIENCE * 1000),
        )

    def text(self) -> list[str]:
        """Return the lines of the current buffer."""
        return self.request("nvim_buf_get_lines", 0, 0, -1, False)

    def cursor(self) -> tuple[int, int]:
        """Return the line from 1 and the byte from 0."""
        return tuple(self.request("nvim_win_get_cursor", 0))

    def ghost(self) -> str:
        """Return the whole suggestion that is shown, or an empty string."""
        return self.lua(
            """local space = vim.api.nvim_get_namespaces().codegen
            local marks = space and vim.api.nvim_buf_get_extmarks(0, space, 0, -1, { details = true }) or {}
            local text, below = '', ''
            for _, mark in ipairs(marks) do
              for _, chunk in ipairs(mark[4].virt_text or {}) do text = text .. chunk[1] end
              for _, line in ipairs(mark[4].virt_lines or {}) do
                below = below .. '\\n'
                for _, chunk in ipairs(line) do below = below .. chunk[1] end
              end
            end
            return text .. below"""
        )

    def messages(self) -> str:
        return self.lua("return vim.fn.execute('messages')").strip()

    def edit(self, name: str, text: str = "", *, mode: str = "") -> Path:
        """Write a file and open it. Waits until the server has it, unless `mode` is "unattached"."""
        path = self.home / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        self.command(f"edit {path}")
        if mode != "unattached":
            self.until(lambda: self.lua("return #vim.lsp.get_clients({ bufnr = 0 })") == 1, "the server")
        return path

    def close(self) -> None:
        if self.process.poll() is None:
            try:
                assert self.process.stdin is not None
                self.process.stdin.write(
                    b"\x94\x00" + pack(next(self._numbers)) + pack("nvim_command") + pack(["qall!"])
                )
                self.process.stdin.flush()
                self.process.wait(PATIENCE)
            except (OSError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait()


@pytest.fixture(scope="session", params=VERSIONS)
def program(request: pytest.FixtureRequest) -> Path:
    """A Neovim of each version."""
    return Path(run_script("install_neovim.sh", request.param))


@pytest.fixture(scope="session")
def plugins() -> Path:
    """The folder with other authors' plugins."""
    return Path(run_script("install_neovim_plugins.sh"))


@pytest.fixture
def start_bare(program: Path, tmp_path: Path) -> Iterator[Callable[..., Neovim]]:
    """Start editors whose init.lua has only these lines, each in an empty home."""
    running: list[Neovim] = []

    def begin(init: str, **size: int) -> Neovim:
        home = tmp_path / f"home{len(running)}"
        running.append(Neovim(program, home, init, **size))
        return running[-1]

    yield begin
    for neovim in running:
        neovim.close()


@pytest.fixture
def start(start_bare: Callable[..., Neovim]) -> Callable[..., Neovim]:
    """Start editors whose init.lua has the plugin and these lines."""
    before = f"vim.opt.runtimepath:append({json.dumps(str(PLUGIN))})\n"
    return lambda init, **size: start_bare(before + init, **size)


class Fake(ScriptedServer):
    """fake_server.py: its script, and the messages that it received."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.script()

    def script(self, *lines: str, delay: float = 0.0) -> None:
        """Set the suggestions."""
        self.write_script(lines=lines, delay=delay)

    def got(self, method: str) -> list[dict[str, Any]]:
        return [message["params"] for message in self.log if message.get("method") == method]

    @property
    def requests(self) -> list[dict[str, Any]]:
        return self.got("textDocument/inlineCompletion")

    @property
    def accepted(self) -> list[str]:
        commands = self.got("workspace/executeCommand")
        return [call["arguments"][0]["suggestion"] for call in commands if call["command"] == "codegen-lsp.accepted"]

    def setup(self, options: str = "") -> str:
        """Return the call of setup() for an init.lua."""
        cmd = [sys.executable, str(Path(__file__).parent / "fake_server.py"), str(self.folder)]
        command = ", ".join(map(json.dumps, cmd))
        return f"require('codegen').setup {{ cmd = {{ {command} }}, {options} }}\n"


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    folder = tmp_path / "fake"
    folder.mkdir()
    return Fake(folder)


@pytest.fixture
def neovim(start: Callable[..., Neovim], fake: Fake) -> Neovim:
    """An editor with the scripted server and an empty Python file."""
    neovim = start(fake.setup())
    neovim.edit("a.py")
    return neovim
