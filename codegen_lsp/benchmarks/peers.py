"""One engine in a process of its own, which `benchmarks/engines.py` times among others.

Each peer is used in its best way for typing: with its own prompt cache, greedy, and without drafts. It reads commands
from its standard input, one JSON array per line, and answers each with one line of JSON.

Run it with the environment of a worker, where waiting of threads and memory allocation are tuned.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from attrs import frozen

from codegen_lsp.errors import CodegenError
from codegen_lsp.inference.build import BuildInfo, read_info
from codegen_lsp.inference.engines.base import CancellationToken, EngineConfig, SamplingParams
from codegen_lsp.inference.engines.factory import default_cache_bytes
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.temporary_folder import TemporaryFolder

TokenTimes = tuple[float, float]
"""Seconds to the first token and to the last."""


@frozen
class Peer:
    """An engine that continues token ids and times itself."""

    run: Callable[[list[int], int], TokenTimes]
    """Continue a prompt by a number of tokens."""
    prepare: Callable[[list[int]], None] = lambda context: None
    """Prepare for prompts that begin with a context."""


def open_native(build: Path, info: BuildInfo, threads: int) -> Peer:
    """Open the native engine as the worker uses it."""
    from codegen_lsp.inference.engines.native.engine import NativeEngine

    engine = NativeEngine(build, info, Tokenizer.from_build(build, info), _config(info, threads))

    def run(prompt: list[int], wanted: int) -> TokenTimes:
        seen: list[float] = []

        def on_token(candidate: int, id: int, log_probability: float) -> bool:
            seen.append(time.perf_counter())
            return False

        started = time.perf_counter()
        sampling = SamplingParams(max_tokens=wanted, end_tokens=frozenset(), drafts=False)
        engine.generate(prompt, sampling, CancellationToken(), on_token)
        return seen[0] - started, seen[-1] - started

    return Peer(run)


def open_ct2(build: Path, info: BuildInfo, threads: int) -> Peer:
    """Open CTranslate2 without a cache."""
    call = _ct2_call(build, info, threads)
    return Peer(lambda prompt, wanted: call(prompt, [], wanted))


def open_ct2_static(build: Path, info: BuildInfo, threads: int) -> Peer:
    """Open CTranslate2 with a `static_prompt` that ends where the typing begins. Cold, it is the same as `open_ct2`."""
    call = _ct2_call(build, info, threads)
    cached: list[int] = []

    def prepare(context: list[int]) -> None:
        cached[:] = context
        call(context[:1], cached, 1)

    return Peer(lambda prompt, wanted: call(prompt[len(cached) :], cached, wanted), prepare)


def _ct2_call(build: Path, info: BuildInfo, threads: int) -> Callable[[list[int], list[int], int], TokenTimes]:
    from codegen_lsp.inference.engines.ct2.engine import Ct2Engine

    engine = Ct2Engine(build, info, Tokenizer.from_build(build, info), _config(info, threads))

    def call(tail: list[int], static: list[int], wanted: int) -> TokenTimes:
        seen: list[float] = []

        def step(result: Any) -> bool:
            seen.append(time.perf_counter())
            return False

        started = time.perf_counter()
        engine.call(tail, static, callback=step, max_length=wanted, end_token=[])
        return seen[0] - started, seen[-1] - started

    return call


def open_llama_cpp(build: Path, info: BuildInfo, threads: int) -> Peer:
    """Open llama.cpp with its prompt cache, on Q8_0 weights of the same shape."""
    return _llama_cpp(build, info, threads, lambda file: file)


def open_llama_cpp_q4(build: Path, info: BuildInfo, threads: int) -> Peer:
    """Open llama.cpp with its prompt cache, on weights of the same shape that it has quantized to Q4_K_M."""
    from codegen_lsp.benchmarks.random_gguf import quantize_to_q4

    return _llama_cpp(build, info, threads, lambda file: quantize_to_q4(file, threads))


def _llama_cpp(build: Path, info: BuildInfo, threads: int, prepare: Callable[[Path], Path]) -> Peer:
    """Open llama.cpp on the file that `prepare` makes of one in Q8_0."""
    import llama_cpp

    from codegen_lsp.benchmarks.random_gguf import write_random_gguf
    from codegen_lsp.inference.engines.native.weights import read_weights

    with TemporaryFolder() as folder:
        file = folder / "model.gguf"
        write_random_gguf(file, read_weights(build), info.context_length)
        file = prepare(file)
        model = llama_cpp.Llama(
            str(file),
            n_ctx=info.context_length,
            n_threads=threads,
            n_threads_batch=threads,
            use_mmap=False,
            verbose=False,
        )

    def run(prompt: list[int], wanted: int) -> TokenTimes:
        seen: list[float] = []
        started = time.perf_counter()
        for _ in model.generate(prompt, top_k=1, temp=0.0):
            seen.append(time.perf_counter())
            if len(seen) == wanted:
                break
        return seen[0] - started, seen[-1] - started

    return Peer(run)


def open_transformers(build: Path, info: BuildInfo, threads: int) -> Peer:
    """Open `generate` of transformers in float32, which computes the whole prompt."""
    return _transformers(build, info, threads, "float32")


def open_transformers_bfloat16(build: Path, info: BuildInfo, threads: int) -> Peer:
    """Open `generate` of transformers in bfloat16."""
    return _transformers(build, info, threads, "bfloat16")


def _transformers(build: Path, info: BuildInfo, threads: int, dtype: str) -> Peer:
    import torch

    torch.set_num_threads(threads)
    model = _random_transformers_model(build, info).to(getattr(torch, dtype)).eval()

    class Clock:
        """A streamer that records the time of each token; the first call is the prompt."""

        def __init__(self) -> None:
            self.seen: list[float] = []

        def put(self, ids: object) -> None:
            self.seen.append(time.perf_counter())

        def end(self) -> None:
            return

    def run(prompt: list[int], wanted: int) -> TokenTimes:
        clock, started = Clock(), time.perf_counter()
        with torch.inference_mode():
            model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=wanted,
                min_new_tokens=wanted,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
                streamer=clock,
            )
        return clock.seen[1] - started, clock.seen[-1] - started

    return Peer(run)


def _random_transformers_model(build: Path, info: BuildInfo) -> Any:
    """Return a model of transformers with random weights in the shape of a build."""
    from transformers import CodeGenConfig, CodeGenForCausalLM, LlamaConfig, LlamaForCausalLM

    from codegen_lsp.inference.engines.native.weights import read_weights

    weights = read_weights(build)
    rows, width, layers, heads = weights.padded_vocab_size, weights.width, len(weights.layers), weights.heads
    if weights.block_type == "llama":
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=rows,
                hidden_size=width,
                intermediate_size=weights.mlp_width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                max_position_embeddings=info.context_length,
            )
        )
    return CodeGenForCausalLM(
        CodeGenConfig(
            vocab_size=rows,
            n_positions=info.context_length,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            rotary_dim=weights.rotary,
        )
    )


PEERS: dict[str, Callable[[Path, BuildInfo, int], Peer]] = {
    "native": open_native,
    "ct2": open_ct2,
    "ct2_static": open_ct2_static,
    "native_int4": open_native,
    "llama.cpp": open_llama_cpp,
    "llama.cpp_q4": open_llama_cpp_q4,
    "transformers": open_transformers,
    "transformers_bfloat16": open_transformers_bfloat16,
}


def memory() -> int:
    """Return the bytes of this process; shared pages count in part, where the system reports that."""
    found = psutil.Process().memory_full_info()
    return int(getattr(found, "pss", 0) or found.rss)


def _config(info: BuildInfo, threads: int) -> EngineConfig:
    cache_bytes = default_cache_bytes(info)
    return EngineConfig(device="cpu", compute_type="auto", threads=threads, cache_bytes=cache_bytes)


def main() -> None:
    """Answer the commands `run` (ids and a number), `prepare` (ids) and `memory` until the input ends."""
    name, build, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    try:
        peer = PEERS[name](build, read_info(build), threads)
    except ImportError as error:  # installed, but broken
        advice = 'Install it anew with `pip install --force-reinstall "codegen-lsp[peers]"`.'
        sys.exit(json.dumps([f"{name} can't be measured: {error}.", advice]))
    except CodegenError as error:
        sys.exit(json.dumps([error.message, error.advice]))
    _answer(True)
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        if command == "run":
            _answer(peer.run(*arguments))
        elif command == "prepare":
            peer.prepare(*arguments)
            _answer(True)
        else:
            _answer(memory())


def _answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
