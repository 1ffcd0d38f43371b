"""The real server with a played model, so that tests of the editor's side know what will be suggested.

    python scripted_server.py FOLDER serve

`FOLDER/script.json` is read anew for every request:

- `texts`: whole texts that begin with a line as it will be; a text goes on where the line before the cursor is its
  beginning.
- `delay`: seconds until the model has answered.

What the model is asked is written to `FOLDER/log.jsonl`, and so is what was cancelled. Other commands than `serve` are
played, too, as far as the extension needs them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
MODELS = [
    {"name": "scripted", "state": "embedded", "size_mb": 8, "memory_mb": None, "path": "/models/scripted"},
    {"name": "other", "state": "installed", "size_mb": 90, "memory_mb": 80, "path": "/models/other"},
    {"name": "big", "state": "", "size_mb": 7000, "memory_mb": 3900, "path": None},
]


def log(**entry: Any) -> None:
    with (FOLDER / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def serve() -> int:
    from codegen_lsp.inference.client.client import WorkerState
    from codegen_lsp.inference.rpc.messages import (
        Candidate,
        GenerateParams,
        GenerateResult,
        GenerationStats,
        LoadParams,
        LoadProgress,
        ModelDescription,
        WarmParams,
    )
    from codegen_lsp.lsp.serve import serve_stdio
    from codegen_lsp.lsp.server import CodegenServer, create_server

    class Played:
        """An inference client."""

        def __init__(
            self, *, on_state: Callable[[WorkerState], None], on_progress: Callable[[LoadProgress], None]
        ) -> None:
            self._on_state = on_state
            self._model: ModelDescription | None = None

        async def load(self, params: LoadParams) -> ModelDescription:
            name = Path(params.build).name
            self._model = ModelDescription(name, "codegen", "ct2", "cpu", "int8", 2, 2048, False, ["python"], 3.5, 0.1)
            log(event="load", model=name)
            self._on_state(WorkerState("ready", "The model is ready.", model=self._model, pid=os.getpid()))
            return self._model

        async def generate(self, params: GenerateParams) -> GenerateResult:
            script = json.loads((FOLDER / "script.json").read_text(encoding="utf-8"))
            line = params.prefix.rpartition("\n")[2]
            log(event="generate", line=line, prefix=params.prefix, candidates=params.candidates)
            try:
                await asyncio.sleep(script.get("delay", 0))
            except asyncio.CancelledError:
                log(event="cancelled", line=line)
                raise
            texts = [text[len(line) :] for text in script.get("texts", []) if text.startswith(line) and text != line]
            stats = GenerationStats(100, 60, 12, 0.0, 0.01, 0.02)
            fitting = texts[: params.candidates] if line.strip() or script.get("anywhere") else []
            return GenerateResult([Candidate(text, 5, -0.1, "stop") for text in fitting], stats)

        async def warm(self, params: WarmParams) -> None:
            pass

        async def restart(self) -> None:
            self._on_state(WorkerState("ready", "The model is ready.", model=self._model, pid=os.getpid()))

        async def close(self) -> None:
            pass

    def make() -> CodegenServer:
        return create_server(Played, lambda name: Path("/models") / ("scripted" if name == "auto" else name))

    log(event="started", pid=os.getpid(), environment=dict(os.environ))
    return serve_stdio(make)


def pull(name: str) -> int:
    log(event="pull", name=name, pid=os.getpid())
    for percent in range(100):
        print(json.dumps({"message": "Downloading", "fraction": percent / 100}), flush=True)
        time.sleep(0.1)
    return 0


def main(command: list[str]) -> int:
    if command == ["serve"]:
        return serve()
    if command == ["models", "list", "--json"]:
        print(json.dumps([{"license": "Apache-2.0", "languages": ["python"], **model} for model in MODELS]))
        return 0
    if command[:2] == ["models", "pull"]:
        return pull(command[2])
    if command == ["doctor"]:
        print("codegen-lsp is well.")
        return 0
    if command == ["stats"]:
        print("12 suggestions")
        return 0
    print(f"No such command '{command[0]}'.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
