"""The deployment as a user starts it: the command, a local cluster of Ray, two replicas with the embedded model."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from attrs import define, field, frozen

from tests import needs

COMMAND = (sys.executable, "-m", "codegen_lsp.cli", "deploy", "ray")
KEY = "a key of the test suite"
REPLICA = "x-codegen-lsp-replica"
SECONDS = 240
"""Limit of a wait for what surely comes, on a slow machine."""


@frozen
class Reply:
    """The answer to a request."""

    status: int
    body: bytes
    replica: str | None


@define
class Deployment:
    """A running deployment."""

    process: subprocess.Popen[str]
    port: int
    address: str
    """Of the Ray cluster."""
    log: Path
    key_file: Path
    started: dict[int, psutil.Process] = field(factory=dict)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def ask(self, method: str, path: str, body: object = None, key: str | None = KEY) -> Reply:
        with contextlib.closing(self.connect()) as connection:
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(), answer.headers.get(REPLICA))

    def infill(self, document: str, typed: str = "") -> Reply:
        prefix = f"import os\n\n\ndef read_lines(path):\n    with open(pa{typed}"
        fields = {"filename": document, "input_prefix": prefix, "prompt": "", "input_suffix": "\n", "n_predict": 16}
        return self.ask("POST", "/infill", fields)

    def update(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command again, on the cluster that it started."""
        keys = ("--api-key-file", str(self.key_file))
        command = (*COMMAND, "--address", self.address, "--http", str(self.port), *keys, *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)

    def children(self) -> list[psutil.Process]:
        """Return all processes that the command has started, as long as they run."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            self.started.setdefault(process.pid, process)
        return [process for process in self.started.values() if process.is_running() and status_of(process) != "zombie"]

    def named(self, name: str) -> list[psutil.Process]:
        """Return the processes whose command line contains a text."""
        return [process for process in self.children() if name in " ".join(command_line(process))]


@define
class Load:
    """Clients that complete in documents of their own without a pause, each in a thread."""

    replies: list[Reply] = field(factory=list)
    errors: list[str] = field(factory=list)


@contextlib.contextmanager
def load_on(deployment: Deployment, clients: int = 3) -> Iterator[Load]:
    """Put load on a deployment within the block."""
    load, ended = Load(), threading.Event()

    def run(number: int) -> None:
        asked = 0
        while not ended.is_set():
            asked += 1
            try:
                load.replies.append(deployment.infill(f"{number}.py", "th" * (asked % 2)))
            except (OSError, http.client.HTTPException) as error:
                load.errors.append(repr(error))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(load.replies) > clients * 3)
        yield load
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition does not come to hold"
        time.sleep(0.1)


def command_line(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return list(process.cmdline())
    return []


def status_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return str(process.status())
    return "zombie"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    needs.extra("ray")
    folder = tmp_path_factory.mktemp("ray")
    log, key_file, port = folder / "log", folder / "keys", free_port()
    key_file.write_text(KEY)
    key_file.chmod(0o600)
    arguments = ("--replicas", "2", "--http", str(port), "--api-key-file", str(key_file))
    with log.open("w") as stderr:
        # As in a terminal, where Ctrl-C is sent to the whole process group.
        process = subprocess.Popen((*COMMAND, *arguments), stderr=stderr, text=True, start_new_session=True)
    try:
        while "Ctrl-C ends it" not in (text := log.read_text()):
            assert process.poll() is None, text
            time.sleep(0.05)
        address = text.partition("cluster is at ")[2].partition(",")[0]
        yield Deployment(process, port, address, log, key_file)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
