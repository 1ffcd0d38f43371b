"""The real worker, which logs its generations to files and can be slowed down. Run by tests in place of the worker.

The environment variable `OBSERVED` names a folder. Each generation appends a line to `generations` there when it ends;
`first-token` appears with the first token. While the file `slow` exists, each token takes `SECONDS` more, and
generations end only at the token limit.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from attrs import evolve

from codegen_lsp.inference import loading
from codegen_lsp.inference.engines.base import CancellationToken, Generation, OnToken, SamplingParams, Steps
from codegen_lsp.inference.worker.__main__ import main

FOLDER = Path(os.environ["OBSERVED"])
SECONDS = 0.03


def observe(engine: Any) -> Any:
    generate = engine.generating

    def observed(
        prompt: list[int], sampling: SamplingParams, cancellation: CancellationToken, on_token: OnToken
    ) -> Steps[Generation]:
        if sampling.max_tokens == 1:  # the measurement of prefill speed while loading
            return (yield from generate(prompt, sampling, cancellation, on_token))
        tokens = {"before": 0, "after": 0}
        if (FOLDER / "slow").exists():
            sampling = evolve(sampling, end_tokens=frozenset())

        def noted(candidate: int, id: int, log_probability: float) -> bool:
            tokens["after" if cancellation.cancelled else "before"] += 1
            (FOLDER / "first-token").touch()
            if not (FOLDER / "slow").exists():
                return on_token(candidate, id, log_probability)
            time.sleep(SECONDS)
            on_token(candidate, id, log_probability)
            return False

        try:
            return (yield from generate(prompt, sampling, cancellation, noted))
        finally:
            with (FOLDER / "generations").open("a") as log:
                log.write(
                    json.dumps(tokens | {"limit": sampling.max_tokens, "cancelled": cancellation.cancelled}) + "\n"
                )

    engine.generating = observed
    return engine


open_engine = loading.open_engine
loading.open_engine = lambda *arguments: observe(open_engine(*arguments))
main()
