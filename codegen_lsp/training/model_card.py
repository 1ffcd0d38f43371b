"""Model card of a trained model, generated from the manifest, the training log and the evaluations.

Every number comes from these files, so the card always describes the model it is written beside.
"""

from __future__ import annotations

from typing import Any

from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.model import ModelShape

FRONT_MATTER = """---
license: apache-2.0
language:
- code
tags:
- python
- code-completion
- fill-in-the-middle
- codegen
---
"""


def parameters(shape: ModelShape) -> int:
    """Return the number of weights: embedding, output layer with bias, blocks, last norm."""
    width = shape.width
    block = 12 * width**2 + 7 * width
    return 2 * shape.vocabulary * width + shape.vocabulary + shape.layers * block + 2 * width


def model_card(
    name: str,
    config: TrainingConfig,
    manifest: dict[str, Any],
    log: list[dict[str, Any]],
    command: str,
    *,
    measured: str = "",
    notes: str = "",
) -> str:
    """Return a model card as Markdown.

    `manifest` is the content of the corpus' manifest.json, `log` the entries of the training log, `command` the command
    that makes such a model, `measured` the result of `evaluate.markdown`, and `notes` remarks on this run.
    """
    shape = config.shape
    last = [entry for entry in log if entry["kind"] == "validation"][-1]
    packages = manifest["packages"]
    trained = [p for p in packages if p["split"] == "train"]
    held_out = [p for p in packages if p["split"] == "validation"]
    megabytes = {split: size / 1e6 for split, size in manifest["bytes"].items()}
    rows = "\n".join(
        f"| {p['name']} | {p['version']} | {p['license']} | {p['split']} | {p['files']} | {p['bytes']:,} |"
        for p in packages
    )
    row_lengths = [length for _, length in config.row_lengths]
    lengths = " to ".join(f"{length:,}" for length in dict.fromkeys((min(row_lengths), max(row_lengths))))
    refused = "\n".join(f"| {reason} | {count:,} |" for reason, count in manifest["left out"].items())
    return f"""{FRONT_MATTER}
# {name}

A small language model that completes Python code, trained from scratch by the codegen-lsp project so that a fresh
install completes code offline at once. It has the architecture of CodeGen (`CodeGenForCausalLM`), because it is
converted and run as those checkpoints are. It is not a Salesforce checkpoint, was not trained by Salesforce, and has
none of their weights.

| | |
|---|---|
| parameters | {parameters(shape) / 1e6:.1f} million |
| layers, width, heads | {shape.layers}, {shape.width}, {shape.heads} |
| vocabulary | {shape.vocabulary:,} (byte-level BPE made for code) |
| positions | {shape.positions:,} (trained on rows of {lengths}) |
| infilling | `<fim_suffix>` text after the cursor `<fim_prefix>` text before the cursor; ends with `<|endoftext|>` |
| licence of the weights | Apache-2.0 |

## How good it is

Float weights, measured on packages that were held out whole: {_names(held_out)} ({megabytes["validation"]:.1f} MB in \
all; at most {last["rows"]:,} rows of 1,024 tokens from them).

    {command}

logs the figures in its `run/log.jsonl`; these are from the last line.

| | |
|---|---|
| plain text | {last["bits_per_byte"]:.3f} bits per byte ({last["nats_per_token"]:.3f} nats per token) |
| infilling | {last["infill_nats_per_token"]:.3f} nats per token |

{measured}Limits: it is very small.
It is of use for the rest of a line and for patterns that the file already shows; it is bad at logic, at long blocks,
and at libraries it has not seen. It knows Python and no other language. What it writes can be wrong, insecure, or out
of date: read it before you keep it. It may repeat stretches of its training data, common boilerplate most likely.

## How it was trained

{last["tokens"] / 1e6:,.1f} million tokens in {last["seconds"] / 60:.0f} minutes, {last["step"]:,} steps of \
{config.batch_tokens:,} tokens. NorMuon for
the blocks' matrices, AdamW for the rest; learning rate with warm-up, plateau and a linear decay to zero over the last
{100 * config.decay:.0f} %; averaged weights (EMA); matrix products in bfloat16. Of the samples, \
{100 * config.infill:.0f} % are infilling samples.
The last {100 * config.mixture:.0f} % of the time trained the mixture with the document's n-grams that is served.

    {command}

makes such a model from scratch: corpus, tokenizer, training, export, conversion, evaluation.

{notes}## What it was trained on

{megabytes["train"]:.1f} MB of Python source in {manifest["files"]["train"]:,} files of {len(trained)} packages, each \
with a permissive licence by its own metadata. Copyright and licence comments at the top of files, e-mail addresses and
what looks like a secret were removed. No package is more than a tenth of the whole. Left out:

| reason | files |
|---|---|
{refused}

| package | version | licence | split | files | bytes |
|---|---|---|---|---:|---:|
{rows}
"""


def _names(packages: list[dict[str, Any]]) -> str:
    return ", ".join(p["name"] for p in packages)
