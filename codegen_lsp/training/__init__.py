"""How the embedded model is made: corpus, tokenizer, training, export.

One command rebuilds everything (`python -m codegen_lsp.training`); each stage leaves its result in a folder of its own
and is skipped when that result is already there, so a run that was interrupted goes on where it stopped.
"""
