"""The real server on stdio with a scripted model, so that tests of refactorings in editors need no worker.

    python refactoring_server.py ANSWER…
    python refactoring_server.py @FILE

Each request to the model gets all the answers as candidates; all texts are equally likely. FILE holds them as a list in
JSON, and is read anew for each request.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from codegen_lsp.inference.client.client import WorkerState
from codegen_lsp.inference.rpc.messages import (
    Candidate,
    GenerateParams,
    GenerateResult,
    GenerationStats,
    LoadParams,
    LoadProgress,
    ModelDescription,
    Score,
    ScoreParams,
    ScoreResult,
    WarmParams,
)
from codegen_lsp.lsp.serve import serve_stdio
from codegen_lsp.lsp.server import create_server

MODEL = ModelDescription("scripted", "codegen", "ct2", "cpu", "int8", 1, 2048, True, ["python"], 3.5, 0.1)


def answers() -> list[str]:
    given = sys.argv[1:]
    if given and given[0].startswith("@"):
        return list(json.loads(Path(given[0][1:]).read_text(encoding="utf-8")))
    return [answer.replace("\\n", "\n") for answer in given]


class ScriptedClient:
    """An inference client without a worker."""

    def __init__(self, *, on_state: Callable[[WorkerState], None], on_progress: Callable[[LoadProgress], None]) -> None:
        self.on_state = on_state

    async def load(self, params: LoadParams) -> ModelDescription:
        self.on_state(WorkerState("ready", "Ready.", model=MODEL, pid=1))
        return MODEL

    async def generate(self, params: GenerateParams) -> GenerateResult:
        candidates = [Candidate(answer, 5, -0.1, "stop") for answer in answers()]
        return GenerateResult(candidates, GenerationStats(10, 0, 5, 0.0, 0.0, 0.0))

    async def score(self, params: ScoreParams) -> ScoreResult:
        return ScoreResult([Score(-1.0, 3) for _ in params.texts])

    async def warm(self, params: WarmParams) -> None:
        pass

    async def restart(self) -> None:
        pass

    async def close(self) -> None:
        self.on_state(WorkerState("stopped"))


if __name__ == "__main__":
    sys.exit(serve_stdio(lambda: create_server(ScriptedClient, lambda name: Path("/models") / name)))
