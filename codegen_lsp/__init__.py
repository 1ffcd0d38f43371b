"""Inline code completion on the user's own machine, from CodeGen checkpoints, over the Language Server Protocol.

import codegen_lsp

with codegen_lsp.load("codegen-350M-mono") as model:
    print(model.generate("def hello_world():")[0])
    print(model.complete("def add(a, b):\n    return ", "\n"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codegen_lsp.version import __version__

if TYPE_CHECKING:
    from codegen_lsp.python_api import CodeModel

__all__ = ["__version__", "load"]


def load(
    model: str = "auto", *, device: str = "auto", threads: int = 0, engine: str = "auto", ngrams: str = "auto"
) -> CodeModel:
    """Load an installed model, or the build in a folder, into this process.

    Args:
        model: the name of an installed model (`codegen-lsp models list`), or a folder; `auto` as in the settings.
        device: `auto`, `cpu` or `cuda`.
        threads: of one generation; 0 means the number of physical cores, at most 8.
        engine: `auto`, `native` or `ct2`.
        ngrams: `off` for the model alone; `auto` mixes in the n-grams of the prompt, as in an editor.

    Raises: `codegen_lsp.errors.ModelError` when there is no such model, or it can't be run.
    """
    from codegen_lsp.python_api import open_model

    return open_model(model, device=device, threads=threads, engine=engine, ngrams=ngrams)
