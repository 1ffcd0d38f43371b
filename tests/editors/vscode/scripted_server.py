"""The real server with a played model, so that tests of the editor's side know what will be suggested.

    python scripted_server.py FOLDER serve

`FOLDER/script.json` is read for each request:

- `texts`: texts whose first line is the whole line as it will be; where the line before the cursor is the beginning of
  a text, the rest of the text is the answer.
- `turns`: for the requests of a session's turns, by their text, the candidates; for another seed, those under the text
  with ` @SEED` behind it.
- `sandbox`: false where programs can't be confined.
- `delay`: seconds until the model has answered.
- `loading`: true while the model is still being loaded.
- `anywhere`: answer on blank lines, too.
- `measuring`: true while a measurement of the machine goes on. Its result is that of `tests/advice/measured.py`.

Requests to the model and their cancellations are written to `FOLDER/log.jsonl`. The other commands of codegen-lsp that
the extension uses are played, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
MODELS = [
    {"name": "scripted", "state": "embedded", "size_mb": 8, "memory_mb": None, "path": "/models/scripted"},
    {"name": "other", "state": "installed", "size_mb": 90, "memory_mb": 80, "path": "/models/other"},
    {"name": "big", "state": "", "size_mb": 7000, "memory_mb": 3900, "path": None},
    {"name": "extra-sized", "state": "", "size_mb": 800, "memory_mb": 700, "path": None},
]


def log(**entry: Any) -> None:
    with (FOLDER / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def serve() -> int:
    from codegen_lsp.inference.rpc.messages import GenerateParams, GenerateResult, LoadParams, ModelDescription
    from codegen_lsp.lsp.serve import serve_stdio
    from codegen_lsp.lsp.server import CodegenServer, create_server
    from codegen_lsp.sandbox import sandbox
    from codegen_lsp.synthesis import running
    from tests.played_model import PlayedModel

    def script() -> dict[str, Any]:
        return dict(json.loads((FOLDER / "script.json").read_text(encoding="utf-8")))

    def answers(params: GenerateParams) -> list[str]:
        line = params.prefix.rpartition("\n")[2]
        if params.document.startswith("synthesis "):
            return turn(params)
        if not line.strip() and not script().get("anywhere"):
            return []
        texts = [text[len(line) :] for text in script().get("texts", []) if text.startswith(line) and text != line]
        return texts[: params.candidates]

    def turn(params: GenerateParams) -> list[str]:
        from codegen_lsp.synthesis.dialogue import parse

        request = parse(params.prefix).turns[-1].request
        seed = f" @{params.seed}" if params.seed else ""
        turns = script().get("turns", {})
        first = 1 if params.temperature and not params.seed else 0  # the most likely one was asked for before
        return list(turns.get(request + seed, turns.get(request, [])))[first : first + params.candidates]

    def run(*given: Any, **options: Any) -> sandbox.Verdict:
        if script().get("sandbox") is False:
            raise sandbox._unavailable("there are no namespaces")
        return sandbox.run_program(*given, **options)

    running.run_program = run

    class LoggedModel(PlayedModel):
        """Writes its requests to the log, and takes its time."""

        async def load(self, params: LoadParams) -> ModelDescription:
            while script().get("loading"):  # noqa: ASYNC110 - in a file
                await asyncio.sleep(0.05)
            model = await super().load(params)
            log(event="load", model=model.name)
            return model

        async def generate(self, params: GenerateParams) -> GenerateResult:
            line = params.prefix.rpartition("\n")[2]
            asked = {"document": params.document, "prefix": params.prefix, "candidates": params.candidates}
            log(event="generate", line=line, **asked)
            try:
                await asyncio.sleep(script().get("delay", 0))
            except asyncio.CancelledError:
                log(event="cancelled", line=line)
                raise
            return await super().generate(params)

    def make() -> CodegenServer:
        make_model = partial(LoggedModel, answer=answers)
        server = create_server(make_model, lambda name: Path("/models") / ("scripted" if name == "auto" else name))
        server.session.measure_machine = measure_machine
        return server

    async def measure_machine(params: Any, report: Any) -> Any:
        from codegen_lsp.advice.measurement import keep
        from tests.advice.measured import measurement

        log(event="measure")
        report("Timing small models", 0.4)
        try:
            while script().get("measuring"):  # noqa: ASYNC110 - in a file
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            log(event="measuring cancelled")
            raise
        made = measurement(key=params.key)
        keep(made)
        return made

    log(event="started", pid=os.getpid(), environment=dict(os.environ))
    return serve_stdio(make)


def pull(name: str, *options: str) -> int:
    log(event="pull", name=name, pid=os.getpid(), options=options)
    if name == "extra-sized":
        return pull_with_extra("--install" in options)
    percent = 0
    while True:  # until it is stopped
        print(json.dumps({"message": "Downloading", "fraction": percent / 100}), flush=True)
        time.sleep(0.1)
        percent = min(percent + 1, 99)


def pull_with_extra(install: bool) -> int:
    """Pull in an environment without the extra `convert`."""
    if not install:
        print(json.dumps({"error": "models pull needs the extra.", "advice": "Install.", "missing_extra": "convert"}))
        return 1
    print(json.dumps({"message": "Collecting torch", "fraction": 0.0}), flush=True)
    time.sleep(0.5)
    print(json.dumps({"name": "extra-sized", "path": "/models/extra-sized"}))
    return 0


def main(command: list[str]) -> int:
    if command == ["serve"]:
        return serve()
    if command == ["models", "list", "--json"]:
        print(json.dumps([{"license": "Apache-2.0", "languages": ["python"], **model} for model in MODELS]))
        return 0
    if command[:2] == ["models", "pull"]:
        return pull(*command[2:])
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
