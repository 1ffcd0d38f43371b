"""Convert a checkpoint's folder, or a GGUF file, to a verified int8 CTranslate2 build.

CTranslate2's loaders do the conversion. They get the weights from the memory-mapped files instead of from a
transformers model, so that a checkpoint is never in memory as a whole, needs no class of transformers, and none of its
code runs. Corrected here: the number of qkv groups, which CTranslate2 guesses from a name in config.json, and the
vocabulary, whose gaps it would close.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import ctranslate2
import numpy as np
import psutil
import torch
from ctranslate2.converters.converter import Converter
from ctranslate2.converters.transformers import CodeGenLoader, GPTBigCodeMHALoader, LlamaLoader
from ctranslate2.specs.attention_spec import RotaryScalingType
from ctranslate2.specs.model_spec import PyTorchVariable, visit_spec
from numpy.typing import NDArray
from tokenizers import Tokenizer

from codegen_lsp.checkpoints import agreement, store
from codegen_lsp.checkpoints.architecture import CODEGENS, Architecture, Family, read_architecture
from codegen_lsp.checkpoints.build_losses import native_logits
from codegen_lsp.checkpoints.card_metadata import read_card_metadata
from codegen_lsp.checkpoints.catalogue import Checkpoint, look_up
from codegen_lsp.checkpoints.infill_formats import begin_of, infill_format
from codegen_lsp.checkpoints.opening import TERM_FILES, DescribedSource, describe_source, is_gguf
from codegen_lsp.checkpoints.quantize import install_made
from codegen_lsp.checkpoints.reference import Reading, float_logits
from codegen_lsp.checkpoints.snippet import SNIPPET
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.checkpoints.vocabulary import (
    build_tokenizers,
    check_tokenizer,
    end_of_text,
    family_of,
    padded_vocabulary,
    vocabulary_size,
    without_additions,
)
from codegen_lsp.checkpoints.weights import CheckpointWeights, check_shapes
from codegen_lsp.errors import ConversionError
from codegen_lsp.inference.build import METADATA, BuildInfo, Verification, read_info, write_info
from codegen_lsp.progress import ProgressReport

QUANTIZATION = "int8_float32"
"""int8 matrices, and float32 norms and biases. With plain `int8`, norms and biases of a float16 checkpoint would stay
float16, in which CPUs don't compute."""

GIBIBYTE = 1 << 30


@attrs.frozen
class CheckpointSource:
    """A checkpoint's folder, and the interpretation of its weights and tokens."""

    directory: Path
    architecture: Architecture
    family: Family
    tokenizers: tuple[Tokenizer, ...]
    """The declared tokenizer, then another possible one where the folder leaves it open."""
    entry: Checkpoint | None
    """The catalogue's entry for the checkpoint, if any."""

    @property
    def tokenizer(self) -> Tokenizer:
        return self.tokenizers[0]

    @property
    def end(self) -> int:
        """Id of the token that ends a document."""
        return end_of_text(self.tokenizer, self.directory)

    def alternatives(self) -> list[CheckpointSource]:
        """Return all possible interpretations of the checkpoint, this one first."""
        groupings = agreement.possible_groupings(self.architecture.qkv_groups, self.architecture.heads)
        return [
            attrs.evolve(self, architecture=attrs.evolve(self.architecture, qkv_groups=groups), tokenizers=(tokenizer,))
            for tokenizer in self.tokenizers
            for groups in groupings
        ]

    def reading(self, text: str) -> Reading:
        """Return the input of the reference forward pass for a text."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return Reading(tuple(ids), self.architecture.qkv_groups)


def convert_checkpoint(
    source: Path,
    output: Path,
    *,
    name: str,
    progress: ProgressReport | None = None,
    origin: str | None = None,
    terms: Path | None = None,
) -> BuildInfo:
    """Convert a checkpoint's folder, or a GGUF file, to an int8 build at `output`, and verify it.

    `name` is the name of the build. Licence and languages are the catalogue's if it has that name, else those of the
    folder's model card (README.md), or for a GGUF file those of the card in the folder `terms`, if given. `origin` is
    the source that build.json states, by default the folder's name. The build appears complete or not at all, and
    replaces an existing one.

    Raises ConversionError when the folder is incomplete, damaged, or not a CodeGen model, when memory does not suffice,
    or when the build does not agree with the float model.
    """
    report = progress or (lambda message, fraction: None)
    report("reading the checkpoint", 0.0)
    with describe_source(source, terms) as described:
        return _convert(described, output, name, report, origin or source.name)


def _convert(source: DescribedSource, output: Path, name: str, report: ProgressReport, origin: str) -> BuildInfo:
    partial = output.with_name(f".{output.name}.partial")
    read = read_source(source.folder, name)
    check_memory(read.architecture)
    alternatives = read.alternatives()
    readings = [one.reading(SNIPPET) for one in alternatives]
    try:
        shutil.rmtree(partial, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        with source.open_weights(read.architecture, scratch=output.parent) as weights:
            check_shapes(weights, read.architecture.shapes())
            running = _part(report, "running the float model", 0.02, 0.4)
            logits = float_logits(weights, read.architecture, readings, running)
            chosen = agreement.choose_reading(readings, logits)
            agreement.check_checkpoint(logits[chosen], readings[chosen].ids, f"The checkpoint in {source.path}")
            read = alternatives[chosen]
            write_model(weights, read, partial, _part(report, "quantizing", 0.4, 0.9))
        # The library has no class of its own for the error of a full disk.
        (partial / "tokenizer.json").write_text(read.tokenizer.to_str(pretty=True), encoding="utf-8")
        for file in TERM_FILES:
            if (source.folder / file).is_file():
                shutil.copyfile(source.folder / file, partial / file)
        report("comparing the build with the float model", 0.9)
        built = build_logits(partial, readings[chosen].ids)
        figures = agreement.compare(built, readings, logits, chosen, "The build")
        write_info(partial, describe(read, name, origin, figures))
        _replace(partial, output)
    except OSError as error:
        raise ConversionError(
            f"The build could not be made at {output}: {error}.", "Make room there, or choose another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    report("done", 1.0)
    return read_info(output)


def convert_into_store(
    source: Path, *, name: str | None = None, group: int | None = None, progress: ProgressReport | None = None
) -> InstalledBuild:
    """Convert a checkpoint's folder, or a GGUF file, and install the build in the user's store.

    By default it gets the folder's name, or the file's without its suffix. With `group` its weights have 4 bits, in
    groups of this many, and the default name ends accordingly.

    Raises ConversionError as `convert_checkpoint` and `quantize_build` do, and ModelError when the store can't be
    written to.
    """
    given = name or (source.stem if is_gguf(source) else source.resolve().name)
    given = given if group is None else store.int8_name(given)
    entry = look_up(given)
    chosen = store.checked_name(entry.name if entry else given)
    with store.workspace(chosen) as folder:
        convert_checkpoint(source, folder / "build", name=chosen, progress=progress)
        return install_made(folder / "build", chosen, group, progress)


def read_source(source: Path, name: str) -> CheckpointSource:
    """Read everything but the weights of a checkpoint's folder.

    Raises ConversionError when it is not a checkpoint's, or not that of the catalogue's entry `name`.
    """
    entry = look_up(name)
    architecture = read_architecture(source)
    if entry is not None:
        declared = attrs.evolve(architecture, qkv_groups=entry.architecture.qkv_groups)
        if declared != entry.architecture:
            raise ConversionError(
                f"{source} is not {entry.name}: its config.json declares {_differences(declared, entry.architecture)}.",
                "Give the build another name with --name.",
            )
        architecture = declared
    tokenizers = build_tokenizers(source, architecture)
    if entry is not None and entry.variant == "nl":
        tokenizers = [without_additions(tokenizers[0])]
    family = family_of(architecture, tokenizers[0])
    if entry is not None and entry.family != family:
        raise ConversionError(
            f"{source} is not {entry.name}: its tokenizer is that of {family}.",
            "Use the tokenizer files of the checkpoint itself.",
        )
    for tokenizer in tokenizers:
        check_tokenizer(tokenizer, family, source, architecture.rows)
    return CheckpointSource(source, architecture, family, tuple(tokenizers), entry)


def check_memory(architecture: Architecture) -> None:
    """Raise ConversionError when free memory does not suffice to convert a model of this architecture."""
    needed, available = architecture.conversion_bytes, psutil.virtual_memory().available
    if needed > available:
        raise ConversionError(
            f"Converting this model takes {needed / GIBIBYTE:.1f} GiB of memory, {available / GIBIBYTE:.1f} are free.",
            "Close other programs, or convert it on a larger machine and copy the build.",
        )


def describe(read: CheckpointSource, name: str, origin: str, figures: Verification | None) -> BuildInfo:
    """Return the content of build.json, but for the list of files."""
    card = read_card_metadata(read.directory)
    infill = infill_format(read.tokenizer, codegens=read.family in CODEGENS)
    return BuildInfo(
        name=name,
        family=read.family,
        source=origin,
        license=read.entry.license if read.entry else card.license,
        context_length=read.architecture.context,
        vocabulary_size=vocabulary_size(read.tokenizer),
        layers=read.architecture.layers,
        heads=read.architecture.heads,
        width=read.architecture.width,
        end_of_text=read.end,
        languages=list(read.entry.languages if read.entry else card.languages),
        infill=(read.entry.infill if read.entry else None) or infill.style,
        infill_end=infill.end,
        infill_marks=infill.marks,
        file_marks=infill.files,
        ends=infill.ends,
        begin=begin_of(read.tokenizer),
        kv_width=read.architecture.kv_width,
        converter=f"ctranslate2 {ctranslate2.__version__}",
        verification=figures,
    )


def build_logits(build: Path, ids: Sequence[int]) -> torch.Tensor:
    """Return float32 logits (tokens, rows) of a build, computed on the CPU by CTranslate2, or in 4 bits by the native
    engine.

    Raises ConversionError when CTranslate2 can't load or run the build, ModelError when the native engine can't.
    """
    if (build / METADATA).is_file() and read_info(build).bits != 8:
        return torch.from_numpy(native_logits(build, ids))
    threads = max(1, min(8, psutil.cpu_count(logical=False) or 1))
    try:
        generator = ctranslate2.Generator(str(build), device="cpu", compute_type="default", intra_threads=threads)
        output = np.array(generator.forward_batch([list(ids)]), dtype=np.float32)
    except (RuntimeError, ValueError) as error:
        raise ConversionError(f"{build} can't be run: {error}.", "Convert the checkpoint again.") from error
    return torch.from_numpy(output[0])


def write_model(
    weights: CheckpointWeights, read: CheckpointSource, output: Path, on_weight: Callable[[float], None]
) -> None:
    """Write model.bin, config.json and vocabulary.json of an int8 build to `output`, which must not exist."""
    _SpecConverter(weights, read, on_weight).convert(str(output), quantization=QUANTIZATION)


class _SpecConverter(Converter):  # type: ignore[misc]  # ctranslate2 has no types
    """CTranslate2's steps load, validate, quantize and save, with weights that stay on disk."""

    def __init__(self, weights: CheckpointWeights, read: CheckpointSource, on_weight: Callable[[float], None]) -> None:
        self._weights = weights
        self._read = read
        self._on_weight = on_weight

    def _load(self) -> Any:
        architecture, tokenizer = self._read.architecture, self._read.tokenizer
        end = tokenizer.id_to_token(self._read.end)
        loader = _loader(architecture)
        names = SimpleNamespace(
            bos_token=end, eos_token=end, unk_token=end, rows=padded_vocabulary(tokenizer, architecture.rows)
        )
        with torch.no_grad():
            spec = loader(_as_modules(self._weights, architecture), names)
        spec.config.layer_norm_epsilon = architecture.epsilon
        spec.validate()
        self._watch(spec)
        return spec

    def _watch(self, spec: Any) -> None:
        """Replace the weights that will be quantized by ones that are copied before and report progress."""
        total = len(self._read.architecture.matrices())
        done = 0

        def quantized() -> None:
            nonlocal done
            done += 1
            self._on_weight(min(1.0, done / total))

        def replace(part: Any, path: str, value: object) -> None:
            key = path.rsplit("/", 1)[-1]
            if isinstance(value, PyTorchVariable) and hasattr(part, f"{key}_scale"):
                setattr(part, key, _MappedWeight(value.tensor, quantized))

        visit_spec(spec, replace)


class _MappedWeight(PyTorchVariable):  # type: ignore[misc]
    """A weight that is quantized from a copy.

    CTranslate2 scales in place; a float32 weight would be scaled in the memory map, whose pages would all become
    private copies.
    """

    def __init__(self, tensor: torch.Tensor, quantized: Callable[[], None]) -> None:
        super().__init__(tensor)
        self._quantized = quantized

    def to(self, dtype: str) -> _MappedWeight:
        return _MappedWeight(self.tensor.to(getattr(torch, dtype)), self._quantized)

    def numpy(self) -> NDArray[Any]:
        self._quantized()
        return np.array(self.tensor.numpy())


def divided_frequencies(divisors: Sequence[float]) -> dict[str, Any]:
    """Return the variables of an attention layer with these divisors: in CTranslate2's terms a scaling by LongRoPE
    whose divisors are the same for every length."""
    values = np.array(divisors, np.float32)
    return {
        "rotary_scaling_type": np.int8(RotaryScalingType.Su),
        "rotary_scaling_long_factor": values,
        "rotary_scaling_short_factor": values,
    }


def _loader(architecture: Architecture) -> Any:
    """Return CTranslate2's loader of a block."""
    if architecture.block == "llama":
        return _LlamaLoader(architecture)
    return _BigCodeLoader() if architecture.block == "gpt_bigcode" else _CodeGenLoader(architecture.qkv_groups)


class _CodeGenLoader(CodeGenLoader):  # type: ignore[misc]
    def __init__(self, groups: int) -> None:
        self._groups = groups

    def set_decoder(self, spec: Any, module: Any, rotary_dim: int, num_heads: int, embed_dim: int, mp_num: int) -> None:
        super().set_decoder(spec, module, rotary_dim, num_heads, embed_dim, self._groups)

    def get_vocabulary(self, model: Any, tokenizer: Any) -> list[str]:
        rows: list[str] = tokenizer.rows
        return rows


class _LlamaLoader(LlamaLoader):  # type: ignore[misc]
    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture

    def get_model_spec(self, model: Any) -> Any:
        spec = super().get_model_spec(model)
        for layer in spec.decoder.layer:
            # CTranslate2's loader leaves it out, and then assumes the width divided by the heads.
            vars(layer.self_attention)["head_dim"] = np.dtype("int32").type(self._architecture.head_width)
            if self._architecture.rotary_divisors:
                vars(layer.self_attention).update(divided_frequencies(self._architecture.rotary_divisors))
        return spec

    def get_vocabulary(self, model: Any, tokenizer: Any) -> list[str]:
        rows: list[str] = tokenizer.rows
        return rows


class _BigCodeLoader(GPTBigCodeMHALoader):  # type: ignore[misc]
    def get_vocabulary(self, model: Any, tokenizer: Any) -> list[str]:
        rows: list[str] = tokenizer.rows
        return rows


def _as_modules(weights: CheckpointWeights, architecture: Architecture) -> SimpleNamespace:
    """Return the weights as a tree of attributes such as `transformer.h[0].ln_1.weight`, with the settings that
    CTranslate2's loaders read."""
    root = SimpleNamespace()
    for name in architecture.shapes():
        *path, leaf = name.split(".")
        part = root
        for step in path:
            part = vars(part).setdefault(step, SimpleNamespace(bias=None))
        weight = weights[name]
        if architecture.attention_factor != 1 and ".q_proj." in name:
            weight = weight.float() * architecture.attention_factor**2
        setattr(part, leaf, weight)
    decoder, layers = ("model", "layers") if architecture.block == "llama" else ("transformer", "h")
    if architecture.tied:
        root.lm_head = root.model.embed_tokens if architecture.block == "llama" else root.transformer.wte
    stack = vars(getattr(vars(root)[decoder], layers))
    setattr(vars(root)[decoder], layers, [stack[str(index)] for index in range(architecture.layers)])
    root.config = SimpleNamespace(
        n_layer=architecture.layers,
        n_head=architecture.heads,
        n_embd=architecture.width,
        rotary_dim=architecture.rotary,
        activation_function="gelu" if architecture.exact_gelu else "gelu_new",
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.kv_heads,
        rms_norm_eps=architecture.epsilon,
        rope_theta=architecture.rotary_base,
        rope_scaling=_scaling(architecture),
    )
    return root


def _scaling(architecture: Architecture) -> dict[str, Any] | None:
    """Return the scaling of rotary positions in the form of config.json; None if there is none."""
    if architecture.rotary_factor == 1:
        return None
    return {"rope_type": "linear", "factor": architecture.rotary_factor, "rope_theta": architecture.rotary_base}


def _differences(found: Architecture, expected: Architecture) -> str:
    pairs = attrs.asdict(found).items() ^ attrs.asdict(expected).items()
    names = sorted({name for name, _ in pairs})
    return ", ".join(f"{name} {getattr(found, name)} instead of {getattr(expected, name)}" for name in names)


def _part(report: ProgressReport, message: str, start: float, end: float) -> Callable[[float], None]:
    """Return a callback for one stage, whose share 0 to 1 is `start` to `end` of the whole."""
    return lambda fraction: report(message, start + (end - start) * fraction)


def _replace(partial: Path, output: Path) -> None:
    """Move a finished build to its place. An existing one is moved aside first: a directory can't be replaced in one
    step."""
    old = output.with_name(f".{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    partial.rename(output)
    shutil.rmtree(old, ignore_errors=True)
