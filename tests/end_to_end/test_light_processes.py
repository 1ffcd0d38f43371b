"""A completion loads no library that it does not need, neither in the server nor in the worker.

Python reports every import of both processes (`PYTHONPROFILEIMPORTTIME`), those inside functions included.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import SERVE, Client

URI = "file:///project/words.py"
TEXT = "import os\n\n\ndef read_lines(path):\n    with open(path) as file:\n        "

HEAVY = {"torch", "transformers", "safetensors", "accelerate", "ctranslate2", "scipy", "pandas", "huggingface_hub"}
"""Libraries for conversion, training, and the other engine."""
ONLY_SERVER = {"pygls", "lsprotocol"}
ONLY_WORKER = {"numpy", "tokenizers"}


def imported(log: str) -> set[str]:
    """Return the top-level packages in the lines `import time: self | cumulative | name`."""
    lines = (line for line in log.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.skipif(sys.platform == "win32", reason="the worker is private and its imports are not kept")
async def test_a_completion_loads_no_heavy_library(client: Client, embedded_build: Path, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    program = f"import os; os.dup2(os.open({str(log)!r}, os.O_WRONLY | os.O_CREAT), 2); {SERVE}"
    await client.start(embedded_build, program, {"engine": "native"}, PYTHONPROFILEIMPORTTIME="1")
    await client.status("ready")
    client.open(URI, TEXT)
    assert await client.complete(URI, 5, 8, invoked=True)
    (worker_log,) = Path(client.runtime).rglob("*.log")
    in_server, in_worker = imported(log.read_text()), imported(worker_log.read_text())
    assert in_server >= ONLY_SERVER | {"codegen_lsp"}
    assert in_worker >= ONLY_WORKER | {"codegen_lsp"}
    assert not in_server & (HEAVY | ONLY_WORKER)
    assert not in_worker & (HEAVY | ONLY_SERVER)
