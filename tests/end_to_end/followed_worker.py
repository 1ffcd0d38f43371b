"""The real worker, which writes the hops of its first generation to the file that `FOLLOWED` names."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from codegen_lsp.inference.engines.base import Steps
from codegen_lsp.inference.rpc.messages import GenerateParams, GenerateResult
from codegen_lsp.inference.text_model import TextModel
from codegen_lsp.inference.worker.__main__ import main
from tests.end_to_end.hops import HopRecorder

recorder = HopRecorder()
generating = TextModel.generating


def followed(self: TextModel, params: GenerateParams, *arguments: object) -> Steps[GenerateResult]:
    result = yield from generating(self, params, *arguments)  # type: ignore[arg-type]
    if not params.background:
        file = Path(os.environ["FOLLOWED"])
        hops = recorder.hops
        started = len(hops) - 1 - hops[::-1].index("inference.worker.service:InferenceService.generate")
        file.with_suffix(".new").write_text("\n".join(hops[started:]))
        file.with_suffix(".new").replace(file)
    return result


TextModel.generating = followed  # type: ignore[method-assign]
threading.setprofile(recorder)
recorder.start()
main()
