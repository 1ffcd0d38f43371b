"""Record names and JSON types of the fields that llama.cpp's server answers with: `facts.json`.

    python -m tests.http.llama_server.record LLAMA_SERVER MODEL.gguf VERSION

LLAMA_SERVER is the program, MODEL a model with infilling marks (`codegen-lsp models export codegen-lsp-python --to gguf
DIR`), VERSION what the program was built from. No text of an answer is kept.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from contextlib import closing
from typing import Any

from tests.http.llama_server.exchanges import FACTS, REQUESTS, answer_shape

HOST = "127.0.0.1"


def record(program: str, model: str, version: str) -> None:
    """Ask a new server everything, and write the facts."""
    with closing(socket.socket()) as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = [program, "--model", model, "--host", HOST, "--port", str(port), "--ctx-size", "2048", "--parallel", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until_ready(process, port)
            answers = {name: answer_shape(HOST, port, request) for name, request in REQUESTS.items()}
        finally:
            process.terminate()
    facts: dict[str, Any] = {"server": version, "answers": answers}
    FACTS.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the model is loaded. Raises: SystemExit when the server ends."""
    while True:
        if process.poll() is not None:
            raise SystemExit("the server ended; start it by hand to see why")
        try:
            with closing(http.client.HTTPConnection(HOST, port, timeout=5)) as connection:
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.1)


if __name__ == "__main__":
    record(*sys.argv[1:])
