"""Small random checkpoints in the real formats, for all families and file forms."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from codegen_lsp import extras
from codegen_lsp.checkpoints.architecture import Architecture
from tests import needs
from tests.checkpoints.local_hub import CHUNK, Hub

if TYPE_CHECKING or not extras.missing("convert"):
    import torch
    from safetensors.torch import save_file

    from codegen_lsp.checkpoints.snippet import SNIPPET

    State = dict[str, torch.Tensor]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "codegen-tokenizer"

SHAPES = {
    "codegen": Architecture("codegen", 2, 4, 64, 256, 8, 640, 512, 1e-5, 4),
    "codegen2": Architecture("codegen", 2, 8, 128, 512, 8, 640, 512, 1e-5, 8),
    "codegen25": Architecture("llama", 2, 4, 64, 176, 16, 640, 512, 1e-6),
}
OTHER_SHAPES = {
    "qwen2": Architecture(
        "llama", 2, 6, 96, 176, 16, 640, 512, 1e-6, kv_heads=2, qkv_bias=True, tied=True, rotary_base=1e6
    ),
    "deepseek": Architecture("llama", 2, 4, 64, 176, 16, 640, 512, 1e-6, rotary_base=1e5, rotary_factor=4.0),
    "granite": Architecture(
        "llama", 2, 4, 64, 176, 16, 640, 512, 1e-5, kv_heads=1, qkv_bias=True, o_bias=True, mlp_bias=True, tied=True
    ),
    "mellum": Architecture("llama", 2, 6, 96, 176, 16, 640, 512, 1e-6, kv_heads=2),
    "smollm2": Architecture("llama", 2, 6, 96, 176, 16, 640, 512, 1e-5, kv_heads=2, tied=True, rotary_base=1e5),
    "mistral": Architecture("llama", 2, 4, 64, 176, 32, 640, 512, 1e-5, kv_heads=2, head_width=32, rotary_base=1e6),
    "wide heads": Architecture("llama", 2, 4, 64, 176, 32, 640, 512, 1e-5, head_width=32),
    "starcoder": Architecture(
        "gpt_bigcode", 2, 4, 64, 256, 0, 640, 512, 1e-5,
        kv_heads=1, qkv_bias=True, o_bias=True, mlp_bias=True, tied=True,
    ),
    "santacoder": Architecture(
        "gpt_bigcode", 2, 6, 96, 384, 0, 640, 512, 1e-5,
        kv_heads=1, qkv_bias=True, o_bias=True, mlp_bias=True, tied=True,
    ),
    "starcoder 7B": Architecture(
        "gpt_bigcode", 2, 4, 64, 256, 0, 640, 512, 1e-5,
        kv_heads=1, qkv_bias=True, o_bias=True, mlp_bias=True, tied=True, exact_gelu=True,
    ),
}  # fmt: skip
"""Other models: Qwen2.5-Coder, DeepSeek-Coder, Granite Code with one head of keys, Mellum, SmolLM2, Mistral, and one
whose heads are wider than its hidden state, which have Llama's block; StarCoder and SantaCoder, which have
GPTBigCode's."""
BIGCODES = ("starcoder", "starcoder 7B", "santacoder")
"""Those with GPTBigCode's block, whose tokenizers cut numbers into digits."""
MARKS = {
    "codegen": (),
    "codegen2": ("<sep>", "<eom>", "<mask_2>", "<mask_1>"),
    "codegen25": ("<sep>", "<eom>", "<mask_2>", "<mask_1>"),
    "qwen2": ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
    "deepseek": ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", "<｜begin▁of▁sentence｜>"),
    "granite": ("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<filename>", "<reponame>"),
    "mellum": ("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<filename>", "<system>", "<user>", "<assistant>"),
    "smollm2": ("<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>"),
    "mistral": ("<s>", "</s>", "[INST]", "[/INST]"),
    "wide heads": (),
    "starcoder": ("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<filename>", "<reponame>"),
    "starcoder 7B": ("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>"),
    "santacoder": ("<fim-prefix>", "<fim-middle>", "<fim-suffix>", "<fim-pad>"),
}
"""Special tokens of the families. The real files of Qwen2.5-Coder do not declare those for infilling as special."""


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Models of this size are fastest with one thread, most of all on a busy machine."""
    if not extras.missing("convert"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def codegen_files() -> Path:
    """The tokenizer files of CodeGen1 multi and mono."""
    if not (DATA / "vocab.json").is_file():
        pytest.skip(f"needs CodeGen's tokenizer files in {DATA}")
    return DATA


@pytest.fixture(scope="session")
def small_tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """tokenizer.json by family: byte-level BPE learned from a snippet, with the family's marks."""
    needs.extra("convert")
    folder = tmp_path_factory.mktemp("tokenizers")
    paths = {}
    for family, marks in MARKS.items():
        tokenizer = Tokenizer(models.BPE())
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = (
            pre_tokenizers.Sequence([digits, byte_level])
            if family in ("starcoder", "starcoder 7B", "santacoder")
            else byte_level
        )
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
        )
        tokenizer.train_from_iterator([SNIPPET], trainer)
        tokenizer.add_tokens([AddedToken(" " * length, normalized=True) for length in (4, 3, 2)])
        tokenizer.add_tokens([AddedToken(mark, normalized=True) for mark in marks])
        if family == "deepseek":
            begin = marks[-1]
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
            )
        paths[family] = folder / f"{family}.json"
        tokenizer.save(str(paths[family]))
    return paths


CONFIGS = {"mistral": {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": None}}
"""What a family's config.json has beside the sizes, where these do not tell the family."""


def config_of(shape: Architecture, **extra: Any) -> dict[str, Any]:
    if shape.block == "llama":
        config = {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": shape.width,
            "intermediate_size": shape.hidden,
            "num_attention_heads": shape.heads,
            "num_hidden_layers": shape.layers,
            "max_position_embeddings": shape.context,
            "rms_norm_eps": shape.epsilon,
            "vocab_size": shape.rows,
            "hidden_act": "silu",
            "tie_word_embeddings": shape.tied,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_width,
            "rope_theta": shape.rotary_base,
        }
        if shape.rotary_factor != 1:
            config["rope_scaling"] = {"type": "linear", "factor": shape.rotary_factor}
        if shape.qkv_bias and not shape.o_bias:
            config |= {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "use_sliding_window": False}
        else:
            config |= {"attention_bias": shape.qkv_bias, "mlp_bias": shape.mlp_bias}
    elif shape.block == "gpt_bigcode":
        config = {
            "model_type": "gpt_bigcode",
            "architectures": ["GPTBigCodeForCausalLM"],
            "n_embd": shape.width,
            "n_head": shape.heads,
            "n_layer": shape.layers,
            "n_positions": shape.context,
            "n_inner": shape.hidden,
            "vocab_size": shape.rows,
            "activation_function": "gelu" if shape.exact_gelu else "gelu_pytorch_tanh",
            "layer_norm_epsilon": shape.epsilon,
            "multi_query": True,
            "scale_attn_weights": True,
            "attention_softmax_in_fp32": True,
            "scale_attention_softmax_in_fp32": True,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
    else:
        config = {
            "model_type": "codegen",
            "architectures": ["CodeGenForCausalLM"],
            "n_embd": shape.width,
            "n_head": shape.heads,
            "n_layer": shape.layers,
            "n_positions": shape.context,
            "n_ctx": shape.context,
            "n_inner": None,
            "rotary_dim": shape.rotary,
            "vocab_size": shape.rows,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": shape.epsilon,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "tie_word_embeddings": False,
        }
        if shape.qkv_groups == 8:
            config["head_dim"] = 128  # as CodeGen2's 1B has it; the head width follows from the other numbers
    return config | extra


def random_state(shape: Architecture, seed: int = 0, strength: float = 1.0) -> State:
    """Return weights of unit gain, so that attention matters; `strength` scales all but the embedding (of a tied
    one, all)."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, size in shape.shapes().items():
        weight = torch.randn(size, generator=generator)
        if len(size) == 2 and (shape.tied or ("wte" not in name and "embed_tokens" not in name)):
            weight *= strength / size[1] ** 0.5
        elif len(size) == 1:
            weight = weight * 0.1 + (1.0 if name.endswith("weight") else 0.0)
        state[name] = weight
    return state


def regrouped(state: State, groups_from: int, groups_to: int) -> State:
    """Return the same model with its fused projections stored in another number of groups."""
    out = dict(state)
    for name, fused in state.items():
        if name.endswith("qkv_proj.weight"):
            width = fused.shape[1]
            parts = [part.chunk(3) for part in fused.chunk(groups_from)]
            whole = [torch.cat([part[kind] for part in parts]) for kind in range(3)]
            pieces = zip(*(matrix.chunk(groups_to) for matrix in whole), strict=True)
            out[name] = torch.cat([piece for group in pieces for piece in group]).contiguous()
            assert out[name].shape == (3 * width, width)
    return out


def with_buffers(state: State, shape: Architecture) -> State:
    """Add the buffers that old checkpoints have beside their weights."""
    if shape.block == "llama":
        return state | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(8) for i in range(shape.layers)}
    mask = torch.ones(1, 1, shape.context, shape.context, dtype=torch.bool)
    if shape.block == "gpt_bigcode":
        return state | {"lm_head.weight": state["transformer.wte.weight"]}
    return state | {f"transformer.h.{i}.attn.causal_mask": mask for i in range(shape.layers)}


def save_weights(folder: Path, state: State, form: str) -> None:
    names = sorted(state)
    halves = [{name: state[name] for name in half} for half in (names[::2], names[1::2])]
    if form == "safetensors":
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    elif form == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    elif form == "old-bin":
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    elif form == "sharded-safetensors":
        for number, half in enumerate(halves, 1):
            save_file(half, folder / f"model-{number:05}-of-00002.safetensors", metadata={"format": "pt"})
        _save_index(folder / "model.safetensors.index.json", halves, "model-{:05}-of-00002.safetensors")
    elif form == "sharded-bin":
        for number, half in enumerate(halves, 1):
            torch.save(half, folder / f"pytorch_model-{number:05}-of-00002.bin")
        _save_index(folder / "pytorch_model.bin.index.json", halves, "pytorch_model-{:05}-of-00002.bin")
    else:
        raise ValueError(form)


def _save_index(path: Path, parts: list[State], pattern: str) -> None:
    places = {name: pattern.format(number) for number, part in enumerate(parts, 1) for name in part}
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


MakeCheckpoint = Callable[..., Path]


@pytest.fixture
def make_checkpoint(tmp_path: Path, small_tokenizers: dict[str, Path]) -> MakeCheckpoint:
    """Write a checkpoint's folder: `make_checkpoint(family, form=..., shape=..., state=..., config=...)`."""
    needs.extra("convert")

    def make(
        family: str = "codegen",
        *,
        form: str = "safetensors",
        shape: Architecture | None = None,
        state: State | None = None,
        name: str = "checkpoint",
        config: dict[str, Any] | None = None,
    ) -> Path:
        shape = shape or (SHAPES | OTHER_SHAPES)[family]
        folder = tmp_path / name
        folder.mkdir()
        state = random_state(shape) if state is None else state
        save_weights(folder, with_buffers(state, shape) if "bin" in form else state, form)
        (folder / "config.json").write_text(json.dumps(config_of(shape, **(CONFIGS.get(family, {}) | (config or {})))))
        shutil.copyfile(small_tokenizers[family], folder / "tokenizer.json")
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
        (folder / "LICENSE").write_text("Do as you like.\n")
        (folder / "README.md").write_text("---\nlicense: mit\ntags: [python, c++, code]\n---\n# A model\n")
        return folder

    return make


@pytest.fixture(scope="session")
def learned(small_tokenizers: dict[str, Path]) -> tuple[Architecture, State]:
    """A model with eight qkv groups, trained for a few seconds to memorize the snippet.

    Only the loss of a trained model shows whether its weights and tokens are read correctly.
    """
    from transformers import CodeGenConfig, CodeGenForCausalLM

    torch.manual_seed(0)
    shape = attrs.evolve(SHAPES["codegen2"], layers=1, width=64, hidden=256)
    model = CodeGenForCausalLM(CodeGenConfig(**(config_of(shape) | {"head_dim": 8})))
    ids = Tokenizer.from_file(str(small_tokenizers["codegen2"])).encode(SNIPPET).ids
    batch = torch.tensor([ids])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(50):
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5
    state = {name: weight.detach().clone() for name, weight in model.state_dict().items() if name in shape.shapes()}
    return shape, regrouped(state, 4, 8)


@pytest.fixture(scope="session")
def small() -> SimpleNamespace:
    """The functions above, for tests."""
    return SimpleNamespace(
        SHAPES=SHAPES,
        OTHER_SHAPES=OTHER_SHAPES,
        config_of=config_of,
        random_state=random_state,
        regrouped=regrouped,
        save_weights=save_weights,
        with_buffers=with_buffers,
    )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, and no bundled models."""
    from codegen_lsp.checkpoints import store as store_module

    folder = tmp_path / "store"
    monkeypatch.setenv("CODEGEN_LSP_MODELS", str(folder))
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    monkeypatch.setattr(store_module, "bundled_directory", lambda: bundled)
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A local hub; without delays between attempts and the user's settings, with small chunks and short timeouts."""
    needs.extra("convert")
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1.0)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: None))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    server = Hub()
    yield server
    server.close()
