"""Checks of an exported model: it is run by the engine that it was exported for, and compared with its source.

The logits at every position of a text, and so the most likely next token there, are compared with those of the
reference forward pass, and the token ids of various texts with those of this project's tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from torch import Tensor

from codegen_lsp.checkpoints.agreement import relative_error
from codegen_lsp.checkpoints.export.source import ExportSource
from codegen_lsp.checkpoints.snippet import SNIPPET
from codegen_lsp.checkpoints.vocabulary import PROBES
from codegen_lsp.errors import ConversionError

TRANSFORMERS_LIMITS = {"f32": 1e-4, "f16": 5e-3, "bf16": 4e-2}
"""Largest relative error of the logits, by the type of the exported weights. Measured (`docs/lab.md`): 1e-6 where
nothing is rounded, and about 1 for rows in another order."""

LLAMA_CPP_LIMITS = {"f32": 2e-3, "f16": 1e-2, "q8_0": 0.1}
"""The same in llama.cpp, which rounds activations to the type of the weights, and the GELU to f16."""

MAX_TOKENS = 512
"""Tokens of the compared text."""

SAMPLES = (
    SNIPPET,
    *PROBES,
    "for (int i = 0; i < n; ++i) {\n        sum += a[i]*0x1F;  /* 12345 */\n}\n",
    "func main() {\n\tif err != nil {\n\t\t\treturn 3.14e-10, err\n\t}\n}\n",
    "const f = async (x) => `${x}\\n`;\r\nexport default f;\r\n",
    "x = {'a': [1,2,  3], \"b\": None}   \n\n\n\n    # ---- ==== ####\n",
    "if True:\n" + "".join(f"{' ' * (4 * depth)}if x{depth}:\n" for depth in range(1, 8)) + " " * 32 + "pass\n",
    "SELECT_ALL=__init__.__name__ snake_case camelCase HTTPServer2Go I'm they'll don't\n",
    "Ελληνικά, русский, 中文 и עברית\u00a0— “quotes” … ½ ² Ⅷ ٣\n",
    "\ttabs\t\tbetween\t   and spaces   at the end   ",
)
"""Texts on which tokenizers are compared: languages, indentation, white space, numbers, scripts."""

MARKS = "text with <fim_prefix>, <mask_1> and <|endoftext|> spelt out"
"""A text with special tokens, which are ordinary text here and in llama.cpp, but not for transformers' tokenizers."""


@frozen
class ExportCheck:
    """Result of a comparison with the source."""

    engine: str
    """Name and version of the engine that ran the exported model."""
    tokens: int
    """Positions at which the logits were compared."""
    error: float
    """Relative error of the logits."""
    agreement: float
    """Share of the positions with the same most likely token."""
    cut_tokens: int
    """Tokens of the sample texts."""
    cut_otherwise: int
    """Those in texts' places that the engine's tokenizer cuts in another way."""


def check_transformers_folder(source: ExportSource, folder: Path, type: str) -> ExportCheck:
    """Run an exported folder with transformers in float32, and compare it with its source.

    Raises: ConversionError when logits or token ids differ.
    """
    import torch
    import transformers

    library: Any = transformers  # typed in part
    library.utils.logging.disable_progress_bar()
    model = library.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def logits(ids: list[int]) -> Tensor:
        with torch.no_grad():
            found: Tensor = model(torch.tensor([ids])).logits[0]
        return found

    def cut(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return ids

    name = f"transformers {transformers.__version__}"
    return _compare(source, name, logits, cut, SAMPLES, TRANSFORMERS_LIMITS[type], exact=True)


def check_gguf_file(source: ExportSource, path: Path, type: str, *, exact: bool, threads: int) -> ExportCheck:
    """Run an exported file with llama.cpp, and compare it with its source.

    `exact` says that the tokenizer has to give the same ids for every text. Raises: ConversionError when logits or
    token ids differ, or llama.cpp refuses the file.
    """
    import llama_cpp
    import numpy as np
    import torch

    try:
        model: Any = llama_cpp.Llama(
            str(path),
            n_ctx=min(source.info.context_length, MAX_TOKENS),
            n_batch=MAX_TOKENS,
            n_threads=threads,
            n_threads_batch=threads,
            logits_all=True,
            type_k=0,  # keys and values in f32
            type_v=0,
            verbose=False,
        )
    except (ValueError, RuntimeError) as error:
        raise ConversionError(
            f"llama.cpp refuses the exported file: {error}.", "Update llama-cpp-python, or export with --no-verify."
        ) from error

    def logits(ids: list[int]) -> Tensor:
        model.reset()
        model.eval(ids)
        return torch.from_numpy(np.array(model.scores[: len(ids)], dtype=np.float32))

    def cut(text: str) -> list[int]:
        ids: list[int] = model.tokenize(text.encode(), add_bos=False, special=False)
        return ids

    name = f"llama.cpp (llama-cpp-python {llama_cpp.__version__})"
    try:
        return _compare(source, name, logits, cut, (*SAMPLES, MARKS), LLAMA_CPP_LIMITS[type], exact=exact)
    finally:
        model.close()


def _compare(
    source: ExportSource,
    engine: str,
    logits: Callable[[list[int]], Tensor],
    cut: Callable[[str], list[int]],
    samples: Sequence[str],
    limit: float,
    *,
    exact: bool,
) -> ExportCheck:
    ours = source.tokenizer
    total = differing = 0
    for text in samples:
        expected, found = ours.encode(text), cut(text)
        total += len(expected)
        if found != expected:
            differing += count_otherwise(source, expected, found)
            if exact:
                raise ConversionError(
                    f"{engine} cuts {text[:40]!r} into the tokens {found[:12]} instead of {expected[:12]}.",
                    "This is a fault of the export: report it. --no-verify leaves the check out.",
                )
    ids = ours.encode(SNIPPET)[: min(MAX_TOKENS, source.info.context_length)]
    expected_logits, found_logits = source.logits(ids), logits(ids)[:, : source.info.vocabulary_size]
    error = relative_error(found_logits, expected_logits)
    if not error <= limit or not math.isfinite(error):
        raise ConversionError(
            f"{engine} does not compute what the model computes: its logits are off by {error:.2%} of their spread, "
            f"where at most {limit:.2%} is rounding.",
            "This is a fault of the export: report it. --no-verify leaves the check out.",
        )
    same = float((found_logits.argmax(-1) == expected_logits.argmax(-1)).float().mean())
    return ExportCheck(engine, len(ids), error, same, total, differing)


def count_otherwise(source: ExportSource, expected: list[int], found: list[int]) -> int:
    """Return how many tokens of a text another tokenizer does not cut out at the same place."""
    return len(_spans(source, expected) - _spans(source, found))


def _spans(source: ExportSource, ids: list[int]) -> set[tuple[int, int]]:
    """Return start and end of each token, in bytes of the text."""
    table = source.tokenizer.all_bytes
    spans = set()
    start = 0
    for id in ids:
        end = start + len(table[id])
        spans.add((start, end))
        start = end
    return spans
