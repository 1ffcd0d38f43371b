"""Use one thread per test process: small matrices do not gain from more."""

from __future__ import annotations

from codegen_lsp import extras

if not extras.missing("train"):
    import torch

    torch.set_num_threads(1)
