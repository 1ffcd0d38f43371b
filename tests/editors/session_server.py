"""The real server on stdio with a scripted model, so that sessions in editors need no worker.

    python session_server.py FILE [--unconfined]

FILE is a JSON object: the candidates for each request, the most likely first. They are rotated by the seed, so that a
retry has others. What the model gets last, without its comment signs, is the request. With `--unconfined`, the sandbox
is unavailable, as on other systems than Linux.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from codegen_lsp.inference.rpc.messages import GenerateParams
from codegen_lsp.lsp.serve import serve_stdio
from codegen_lsp.lsp.server import create_server
from codegen_lsp.sandbox import sandbox
from tests.played_model import PlayedModel


def answers(params: GenerateParams) -> list[str]:
    """Return the candidates for a request."""
    script: dict[str, list[str]] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    request = params.prefix.rstrip("\n").rpartition("\n\n")[2]
    lines = [line.removeprefix("#").removeprefix(" ") for line in request.split("\n") if not line.startswith("#>")]
    found = script.get("\n".join(lines), [])
    turned = (params.seed or 0) % max(1, len(found))
    return found[turned:] + found[:turned]


if __name__ == "__main__":
    if "--unconfined" in sys.argv:
        sandbox.sys = SimpleNamespace(platform="darwin", executable=sys.executable)  # type: ignore[assignment]
    make = partial(PlayedModel, answer=answers)
    sys.exit(serve_stdio(lambda: create_server(make, lambda name: Path("/models/scripted"))))
