"""The real server on stdio with a played model, so that tests of refactorings in editors need no worker.

    python refactoring_server.py ANSWER...
    python refactoring_server.py @FILE

Each request to the model gets all answers as candidates; all texts are equally likely. FILE holds the answers as a JSON
list, and is read for each request.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from codegen_lsp.inference.rpc.messages import GenerateParams
from codegen_lsp.lsp.serve import serve_stdio
from codegen_lsp.lsp.server import create_server
from tests.played_model import PlayedModel


def answers(params: GenerateParams) -> list[str]:
    given = sys.argv[1:]
    if given and given[0].startswith("@"):
        return list(json.loads(Path(given[0][1:]).read_text(encoding="utf-8")))
    return [answer.replace("\\n", "\n") for answer in given]


if __name__ == "__main__":
    make = partial(PlayedModel, answer=answers)
    sys.exit(serve_stdio(lambda: create_server(make, lambda name: Path("/models/scripted-infill"))))
