"""Training of the embedded model: corpus, tokenizer, training, export.

`python -m codegen_lsp.training` runs all stages. Each stage writes its result into a folder of its own and is skipped
when that result is complete, so an interrupted run continues.
"""
