"""A server of completions in a process of its own: this project's, or llama.cpp's."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import psutil
from attrs import frozen

from codegen_lsp.benchmarks.memory import memory_mb
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.client.remote_server import RemoteServer, remote_server
from codegen_lsp.temporary_folder import TemporaryFolder

HOST = "127.0.0.1"
POLL_SECONDS = 0.1
END_SECONDS = 10


@frozen
class ServedModel:
    """A server that is ready."""

    name: str
    command: list[str]
    address: RemoteServer
    process: psutil.Process

    def memory_mb(self) -> float:
        """Return the memory of the server and its worker, in MiB; shared pages count in part."""
        return sum(memory_mb(one) for one in (self.process, *self.process.children(recursive=True)))


def own_command(build: str, threads: int) -> list[str]:
    """Return the command of this project's server, without its address."""
    return [sys.executable, "-m", "codegen_lsp.cli", "serve", "--model", build, "--threads", str(threads), "--http"]


def llama_server_command(program: Path, model: Path, threads: int, slots: int, slot_tokens: int) -> list[str]:
    """Return the command of llama.cpp's server, without its address.

    It keeps no prompts outside its slots, since none would be used.
    """
    options = {
        "--model": model,
        "--parallel": slots,
        "--ctx-size": slots * slot_tokens,
        "--threads": threads,
        "--threads-batch": threads,
        "--cache-ram": 0,
    }
    return [str(program), *(str(part) for option in options.items() for part in option)]


def find_llama_server(given: Path | None) -> Path:
    """Return the program: the given one, $LLAMA_SERVER, or `llama-server` on PATH. Raises: ModelError."""
    named = str(given or os.environ.get("LLAMA_SERVER", "") or "llama-server")
    found = shutil.which(named)
    if found is None:
        raise ModelError(
            f"There is no program {named}, with which to compare.",
            "Install llama.cpp, and name its server in $LLAMA_SERVER or with --llama-server.",
        )
    return Path(found)


@contextlib.contextmanager
def served(name: str, command: Sequence[str], *, own: bool) -> Iterator[ServedModel]:
    """Start a server on a free port; it ends with the block. Raises: ModelError when it ends before it is ready.

    This project's server shares no worker with open windows.
    """
    with TemporaryFolder("cl-") as folder:
        port = _free_port()
        address = [f"{HOST}:{port}"] if own else ["--host", HOST, "--port", str(port)]
        log = folder / "log"
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
        with log.open("wb") as output:
            process = subprocess.Popen([*command, *address], env=environment, stdout=output, stderr=output)
        try:
            _wait_until_ready(name, process, port, log)
            url = f"http://{HOST}:{port}"
            yield ServedModel(name, [*command, *address], remote_server(url), psutil.Process(process.pid))
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
        return port


def _wait_until_ready(name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), closing(http.client.HTTPConnection(HOST, port, timeout=5)) as connection:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(POLL_SECONDS)
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["no reason given"]
    raise ModelError(f"{name} ended: {last[0]}", "Start it by hand to see why.")
