"""Greedy continuations of an int8 build in the native engine, and of its GGUF export in llama.cpp, on many prompts.

Run it by hand for a figure: `python -m tests.checkpoints.export.greedy BUILD FOLDER_OF_TEXTS --prompts 1000`.

The engines round differently: the native engine quantizes activations to int8, llama.cpp rounds them to f16. So at the
first token in which the two differ, the float reference is asked how far apart it has the two tokens. Within a margin
below that of rounding they are a near-tie.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import random
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import llama_cpp
import numpy as np
import torch
import transformers

from codegen_lsp.checkpoints.export.export import export_model
from codegen_lsp.checkpoints.export.source import ExportSource, open_source
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.engines.base import CancellationToken, EngineConfig, SamplingParams
from codegen_lsp.inference.engines.native.engine import NativeEngine
from codegen_lsp.inference.tokenizer import Tokenizer

NEAR_TIE = 0.15
"""Distance of two logits, in standard deviations of all logits of the position, below which their order is rounding:
int8 activations were measured to change logits by 0.03 of these, and two logits are five times that apart at most."""
FLOAT_NEAR_TIE = 0.005
"""The same for two engines that compute with the same float weights."""


@attrs.frozen
class Outcome:
    prompts: int
    tokens: int
    same: int
    """Prompts with the same tokens throughout."""
    near_ties: int
    """Prompts that differ first where the reference has the two tokens closer than `NEAR_TIE`."""
    margins: list[float]
    """Distance of the two tokens at each first difference, in standard deviations."""

    @property
    def wrong(self) -> int:
        return self.prompts - self.same - self.near_ties


class LlamaCpp:
    """Greedy decoding in llama.cpp, among the tokens that the native engine may choose."""

    def __init__(self, path: Path, context: int, forbidden: Sequence[int]) -> None:
        self._model = llama_cpp.Llama(
            str(path),
            n_ctx=context,
            n_threads=1,
            n_threads_batch=1,
            logits_all=False,
            type_k=0,
            type_v=0,
            verbose=False,
        )
        self._forbidden = list(forbidden)

    def continue_greedily(self, prompt: list[int], wanted: int) -> list[int]:
        model = self._model
        model.reset()
        model.eval(prompt)
        found: list[int] = []
        while len(found) < wanted:
            pointer = llama_cpp.llama_get_logits_ith(model.ctx, -1)
            logits = np.ctypeslib.as_array(pointer, shape=(model.n_vocab(),)).copy()
            logits[self._forbidden] = -math.inf
            found.append(int(logits.argmax()))
            model.eval(found[-1:])
        return found


class LlamaServer:
    """Greedy decoding in a running llama-server, which was started with the exported file."""

    def __init__(self, address: str, forbidden: Sequence[int]) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._bias = [[id, False] for id in forbidden]

    def continue_greedily(self, prompt: list[int], wanted: int) -> list[int]:
        body = {
            "prompt": prompt,
            "n_predict": wanted,
            "temperature": 0,
            "return_tokens": True,
            "logit_bias": self._bias,
            "ignore_eos": True,
        }
        with closing(http.client.HTTPConnection(self._host, self._port, timeout=300)) as connection:
            connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
            found: list[int] = json.loads(connection.getresponse().read())["tokens"]
        return found


class FloatModel:
    """Greedy decoding of the exported folder in transformers, in float32."""

    def __init__(self, folder: Path, forbidden: Sequence[int]) -> None:
        self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._forbidden = list(forbidden)

    def continue_greedily(self, prompt: list[int], wanted: int) -> list[int]:
        found: list[int] = []
        step, cache = prompt, None
        with torch.no_grad():
            while len(found) < wanted:
                answer = self._model(torch.tensor([step]), past_key_values=cache, use_cache=True)
                cache, logits = answer.past_key_values, answer.logits[0, -1]
                logits[self._forbidden] = -math.inf
                found.append(int(logits.argmax()))
                step = found[-1:]
        return found


def compare_float(build: Path, folder: Path, gguf: Path, prompts: Sequence[list[int]], wanted: int) -> Outcome:
    """Continue each prompt in transformers, from an exported folder, and in llama.cpp, and compare."""
    info = read_info(build)
    special = sorted(Tokenizer.from_build(build, info).special_ids)
    exact, other = FloatModel(folder, special), LlamaCpp(gguf, info.context_length, special)
    pairs = [
        (prompt, exact.continue_greedily(prompt, wanted), other.continue_greedily(prompt, wanted)) for prompt in prompts
    ]
    return outcome(build, pairs, wanted, FLOAT_NEAR_TIE)


def compare(build: Path, gguf: Path | str, prompts: Sequence[list[int]], wanted: int) -> Outcome:
    """Continue each prompt by a number of tokens in both engines, and compare.

    `gguf` is the exported file, or the address of a llama-server that runs it.
    """
    info = read_info(build)
    tokenizer = Tokenizer.from_build(build, info)
    config = EngineConfig(device="cpu", compute_type="auto", threads=1, cache_bytes=64 << 20)
    engine = NativeEngine(build, info, tokenizer, config)
    special = sorted(id for id in tokenizer.special_ids if id < info.vocabulary_size)
    other = LlamaServer(gguf, special) if isinstance(gguf, str) else LlamaCpp(gguf, info.context_length, special)
    sampling = SamplingParams(max_tokens=wanted, end_tokens=frozenset(), drafts=False)
    pairs = []
    for prompt in prompts:
        answer = engine.generate(prompt, sampling, CancellationToken(), lambda *token: False)
        pairs.append((prompt, answer.completions[0].tokens, other.continue_greedily(prompt, wanted)))
    engine.close()
    return outcome(build, pairs, wanted, NEAR_TIE)


def outcome(
    build: Path, pairs: Sequence[tuple[list[int], list[int], list[int]]], wanted: int, near_tie: float
) -> Outcome:
    """Count the prompts whose two continuations agree, or differ first at a near-tie."""
    with open_source(str(build), None, lambda message, fraction: None) as source:
        margins = [margin(source, *pair) for pair in pairs if pair[1] != pair[2]]
    near = sum(found < near_tie for found in margins)
    return Outcome(len(pairs), wanted, len(pairs) - len(margins), near, margins)


def margin(source: ExportSource, prompt: list[int], ours: list[int], theirs: list[int]) -> float:
    """Return how far apart the float reference has the first two tokens that differ, in standard deviations."""
    place = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
    logits = source.logits(prompt + ours[:place])[-1]
    return float((logits[ours[place]] - logits[theirs[place]]).abs() / logits.std())


def prompts_from(texts: Sequence[str], tokenizer: Tokenizer, count: int, length: int, seed: int) -> list[list[int]]:
    """Return prompts of `length` tokens that begin at random places of random texts."""
    choose = random.Random(seed)
    found: list[list[int]] = []
    while len(found) < count:
        text = choose.choice(texts)
        start = choose.randrange(max(1, len(text) - 6 * length))
        ids = tokenizer.encode(text[start : start + 12 * length])[:length]
        if len(ids) == length:
            found.append(ids)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--weights", default="f16")
    parser.add_argument("--float", action="store_true", help="compare with transformers instead of the native engine")
    parser.add_argument("--server", metavar="HOST:PORT", help="compare with a llama-server that runs the export")
    arguments = parser.parse_args()
    info = read_info(arguments.build)
    tokenizer = Tokenizer.from_build(arguments.build, info)
    texts = [text for path in sorted(arguments.texts.glob("*.py")) if len(text := path.read_text()) > 2000]
    prompts = prompts_from(texts, tokenizer, arguments.prompts, arguments.length, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        done = export_model(str(arguments.build), "gguf", Path(folder) / "gguf", weights=arguments.weights)
        if arguments.float:
            phi = export_model(str(arguments.build), "phi", Path(folder) / "phi", weights="f32", verify=False)
            found = compare_float(arguments.build, phi.path, done.path, prompts, arguments.tokens)
        else:
            found = compare(arguments.build, arguments.server or done.path, prompts, arguments.tokens)
    print(
        f"{info.name}, {arguments.weights}: of {found.prompts} prompts of {arguments.length} tokens, {found.same} have "
        f"the same {found.tokens} greedy tokens, {found.near_ties} differ first at a near-tie, {found.wrong} "
        f"elsewhere; largest margin {max(found.margins, default=0):.3f}, median {np.median(found.margins or [0]):.3f}"
    )


if __name__ == "__main__":
    main()
