"""Start the server on stdio as soon as possible: an editor waits for its answer to `initialize`."""

from __future__ import annotations

import gc
import warnings
from typing import NoReturn


def serve_on_stdio() -> NoReturn:
    """Serve the editor that started this process, and exit.

    The imports make a hundred thousand objects that stay, most of them lsprotocol's. The garbage collector would
    traverse them several times meanwhile, and at each full collection afterwards: `gc.freeze` exempts them.
    """
    # The user's source is compiled in several threads, and `warnings.catch_warnings` is not thread-safe.
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    gc.disable()
    from codegen_lsp.lsp.serve import serve_stdio
    from codegen_lsp.lsp.watchdog import end_process

    gc.freeze()
    gc.enable()
    end_process(serve_stdio())
