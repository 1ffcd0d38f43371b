"""The HTTP server as a process of its own, with the real worker and the embedded model."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

COMMAND = (sys.executable, "-m", "codegen_lsp.cli", "serve", "--http")


@frozen
class RunningServer:
    """A server that listens."""

    process: subprocess.Popen[str]
    host: str
    port: int

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send one request; return the status and the body of its answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=120)
        with contextlib.closing(connection):
            content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, content, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def post(self, path: str, body: object, headers: dict[str, str] | None = None) -> Any:
        """Return the JSON of an answer, whose status must be 200."""
        status, content = self.ask("POST", path, body, headers)
        assert status == 200, content
        return json.loads(content)

    def wait_until_ready(self) -> None:
        """Wait until the model is loaded."""
        while self.ask("GET", "/health")[0] != 200:
            assert self.process.poll() is None
            time.sleep(0.05)


@contextlib.contextmanager
def running_server(folder: Path, *arguments: str, address: str = "127.0.0.1:0") -> Iterator[RunningServer]:
    """Start a server on a free port, and end it as a terminal does."""
    log = folder / "server.log"
    with log.open("w") as stderr:
        process = subprocess.Popen((*COMMAND, address, *arguments), stderr=stderr, text=True)
    try:
        while "Listening on " not in (text := log.read_text()):
            assert process.poll() is None, text
            time.sleep(0.02)
        host, _, port = text.partition("http://")[2].split()[0].rpartition(":")
        yield RunningServer(process, host.strip("[]"), int(port))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def http_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose model is loaded."""
    with running_server(tmp_path_factory.mktemp("http")) as server:
        server.wait_until_ready()
        yield server
