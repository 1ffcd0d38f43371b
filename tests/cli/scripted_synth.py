"""`codegen-lsp synth` with a scripted model, for tests in a real terminal.

    python -m tests.cli.scripted_synth ANSWERS [FILE] [--tutor PATH]

ANSWERS is a JSON file: the candidates for each request, the most likely first; what is not in it gets `pass`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from attrs import evolve
from rich.console import Console

from codegen_lsp.cli.synth_screen import SynthScreen
from codegen_lsp.cli.tutor_screen import TutorScreen
from codegen_lsp.inference.rpc.messages import GenerateParams
from codegen_lsp.synthesis.running import LIMITS, TurnRunner
from codegen_lsp.synthesis.session import SynthesisSession
from codegen_lsp.synthesis.synthesizer import Synthesizer
from tests.synthesis.conftest import ScriptedTurns


def main() -> None:
    """Run the terminal until it ends."""
    script: dict[str, list[str]] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))

    def answer(params: GenerateParams) -> list[str]:
        request = params.prefix.rstrip("\n").rpartition("\n\n")[2]
        return script.get("\n".join(line.removeprefix("# ") for line in request.split("\n")), ["pass"])

    synthesizer = Synthesizer(ScriptedTurns(answer), TurnRunner(evolve(LIMITS, seconds=30.0)))
    console, rest = Console(highlight=False), sys.argv[2:]
    if rest[:1] == ["--tutor"]:
        asyncio.run(TutorScreen(console, synthesizer, Path(rest[1])).run())
    else:
        path = Path(rest[0]) if rest else None
        asyncio.run(SynthScreen(console, SynthesisSession(synthesizer, path), "scripted").run())


if __name__ == "__main__":
    main()
