"""The forward pass in C agrees with the one in torch, for all instruction sets of this machine."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import attrs
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from codegen_lsp.benchmarks.random_build import write_random_build
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import WeightFormat
from codegen_lsp.inference.engines.native import c_forward as native
from codegen_lsp.inference.engines.native import c_structs, engine
from codegen_lsp.inference.engines.native import compile_decoder as native_build
from codegen_lsp.inference.engines.native.arrays import Floats, address
from codegen_lsp.inference.engines.native.attention import SMALLEST, attention_weights
from codegen_lsp.inference.engines.native.c_forward import CForwardPass
from codegen_lsp.inference.engines.native.forward import Chunk, ForwardPass
from codegen_lsp.inference.engines.native.matrices import FourBitMatrix, Matrix
from codegen_lsp.inference.engines.native.torch_forward import TorchForwardPass
from codegen_lsp.inference.engines.native.torch_kernels import Mapped
from codegen_lsp.inference.engines.native.weights import ModelWeights, read_weights

SHAPES = {
    "grouped": Architecture(
        "llama", 3, 6, 96, 176, 32, 160, 512, 1e-6, kv_heads=2, head_width=32, qkv_bias=True, tied=True, rotary_base=1e6
    ),
    "one for all": Architecture(
        "llama",
        2,
        5,
        96,
        176,
        16,
        160,
        512,
        1e-5,
        kv_heads=1,
        head_width=16,
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        rotary_factor=4.0,
    ),
    "gptj": Architecture("codegen", 3, 4, 64, 256, 8, 160, 512, 1e-5, 4),
    "llama": Architecture("llama", 3, 4, 64, 176, 16, 160, 512, 1e-6),
    "wide blocks": Architecture("llama", 2, 4, 256, 320, 64, 160, 512, 1e-6, kv_heads=2, tied=True),
    "wide heads": Architecture("codegen", 2, 2, 160, 640, 64, 160, 512, 1e-5, 2),
}
LIBRARIES = {variant: native.library((variant,)) for variant in native.VARIANTS}
VARIANTS = [variant for variant, found in LIBRARIES.items() if found is not None]
IDS = [(17 * place) % 150 + 1 for place in range(300)]

pytestmark = pytest.mark.skipif(not VARIANTS, reason="the C library was not compiled, or not for this processor")


FORMATS = {
    "int8": None,
    "groups of 32": WeightFormat(4, 32),
    "groups of 64": WeightFormat(4, 64),
}
BUILDS = [
    *((shape, "int8") for shape in SHAPES if shape != "wide blocks"),
    ("grouped", "groups of 32"),
    ("gptj", "groups of 32"),
    ("wide blocks", "groups of 64"),
]
"""In "grouped", the 176 columns of `down_proj` are no multiple of a group, and the others none of a vector."""


@pytest.fixture(scope="module", params=BUILDS, ids=", ".join)
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("build")
    shape, weights = request.param
    write_random_build(directory, shape, SHAPES[shape], FORMATS[weights])
    return directory


@pytest.fixture(scope="module", params=[False, True], ids=["halves", "neighbours"])
def weights(request: pytest.FixtureRequest, build: Path) -> ModelWeights:
    """Weights with both orders of the pairs of rotary embeddings; of 4-bit weights with one, which says enough."""
    found = read_weights(build)
    if request.param and found.has_four_bits:
        pytest.skip("both orders are tested with int8 weights")
    return attrs.evolve(found, rotary_interleaved=request.param)


def made(weights: ModelWeights, variant: str, threads: int = 2, **options: bool) -> CForwardPass:
    found = LIBRARIES[variant]
    assert found is not None
    return CForwardPass(weights, found, threads, **options)


def near(one: Floats, other: Floats) -> bool:
    """Return whether logits are equal but for activations that were rounded to a neighbouring step."""
    apart = np.abs(one - other) / other.std()
    return float(apart.max()) < 0.5 and float(apart.mean()) < 0.02


def logits_of(forward_pass: ForwardPass, pieces: list[int]) -> Floats:
    """Return the logits of IDS, run in pieces of these lengths, and the rest at once."""
    cache = forward_pass.new_cache(len(IDS))
    at, hidden = 0, []
    for length in [*pieces, len(IDS)]:
        ids = IDS[at : at + length]
        if ids:
            hidden.append(forward_pass.forward(ids, cache, at))
        at += len(ids)
    return forward_pass.logits(np.concatenate(hidden))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("pieces", [[], [1] * 40, [2, 3, 4, 5, 6, 7, 8], [9, 15, 16, 17, 31, 32, 33, 100]], ids=str)
def test_it_agrees_with_torch(weights: ModelWeights, variant: str, pieces: list[int]) -> None:
    expected = logits_of(TorchForwardPass(weights, Mapped), [])
    for options in ({"threads": 1}, {"threads": 3}, {"tiles": False}):
        assert near(logits_of(made(weights, variant, **options), pieces), expected)


@pytest.mark.parametrize("pieces", [[], [1] * 40, [2, 3, 4, 5, 6, 7, 8]], ids=str)
def test_all_vectors_of_eight_lanes_give_the_same_numbers(weights: ModelWeights, pieces: list[int]) -> None:
    """The order of all sums is that of the lanes, and fused multiplication is emulated where the processor has none."""
    passes = [made(weights, variant) for variant in VARIANTS]
    eight = [logits_of(one, pieces) for one in passes if one._lanes == 8]
    assert all(np.array_equal(eight[0], other) for other in eight[1:])


def plain_logits(weights: ModelWeights, hidden: Floats) -> NDArray[np.float64]:
    """Return the logits, computed without a kernel: activations rounded to 255 steps, times the dequantised weights."""
    x = hidden.astype(np.float64)
    if weights.norm.beta is not None:
        x -= x.mean(-1, keepdims=True)
    x /= np.sqrt(np.square(x).mean(-1, keepdims=True) + weights.epsilon)
    x = x * weights.norm.gamma + (0 if weights.norm.beta is None else weights.norm.beta)
    step = np.maximum(np.abs(x).max(-1, keepdims=True), SMALLEST) / 127
    rounded: NDArray[np.float64] = np.rint(x / step) * step @ weights.lm_head.floats().T.astype(np.float64)
    return rounded + (0 if weights.lm_head_bias is None else weights.lm_head_bias)


@pytest.mark.parametrize("variant", VARIANTS)
def test_products_agree_with_a_plain_computation(build: Path, variant: str) -> None:
    """Of any number of tokens, and each is the same whatever is computed with it."""
    weights = read_weights(build)
    forward_pass = made(weights, variant)
    hidden = np.random.default_rng(0).normal(size=(16, weights.width)).astype(np.float32)
    hidden[1], hidden[2], hidden[3] = 1.0, 0.0, np.where(np.arange(weights.width) % 2, 1, -1)
    expected, alone = plain_logits(weights, hidden), forward_pass.logits(hidden[:1])
    for count in range(1, 17):
        got = forward_pass.logits(hidden[:count])
        assert np.abs(got - expected[:count]).max() < 0.02 * expected.std()
        assert np.abs(got - expected[:count]).mean() < 1e-4 * expected.std()
        assert np.array_equal(got[:1], alone)


@pytest.mark.parametrize("variant", VARIANTS)
def test_embeddings_are_those_of_the_build(build: Path, variant: str) -> None:
    weights = read_weights(build)
    forward_pass = made(weights, variant)
    ids, expected = list(range(150)), weights.embedding.floats(0, 150)
    for count in (1, 16, 17, 150):
        got = forward_pass._by_token(forward_pass.embed(ids[:count]), count)
        assert np.allclose(got, expected[:count], rtol=1e-6, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_float16_scales_are_read_exactly(tmp_path: Path, variant: str) -> None:
    """Normal ones, denormal ones, zero, and both signs."""
    write_random_build(tmp_path, "scales", SHAPES["wide blocks"], WeightFormat(4, 32))
    weights = read_weights(tmp_path)
    bits = np.arange(weights.embedding.scales.size, dtype=np.uint32) * 0x7BFF // weights.embedding.scales.size
    bits[1::2] |= 0x8000
    scales = bits.astype(np.uint16).view(np.float16).reshape(weights.embedding.scales.shape)
    assert np.isfinite(scales).all()
    embedding = attrs.evolve(weights.embedding, scales=scales)
    forward_pass = made(attrs.evolve(weights, embedding=embedding), variant)
    got = forward_pass._by_token(forward_pass.embed(list(range(160))), 160)
    assert np.array_equal(got, embedding.floats())


HEAD_WIDTHS = {
    "64, grouped": (64, 2, 1e-5),
    "80, one for all": (80, 1, 1e-6),
    "96, grouped": (96, 2, 1e-8),
    "128, one for all": (128, 1, 1e-5),
    "128, each its own": (128, 4, 1e-6),
    "256, grouped": (256, 2, 1e-3),
}
"""Width of a head, heads of keys and values, and epsilon, as other models have them."""


@pytest.mark.parametrize("case", HEAD_WIDTHS)
def test_heads_of_other_models_run_on_every_processor(case: str, tmp_path: Path) -> None:
    """Embeddings are small, so that the epsilon matters."""
    head_width, kv_heads, epsilon = HEAD_WIDTHS[case]
    shape = Architecture(
        "llama", 1, 4, 64, 128, head_width, 160, 512, epsilon, kv_heads=kv_heads, head_width=head_width, qkv_bias=True
    )
    write_random_build(tmp_path, case, shape)
    read = read_weights(tmp_path)
    assert (read.head_width, read.kv_heads) == (head_width, kv_heads)
    assert read.epsilon == pytest.approx(epsilon)
    weights = attrs.evolve(read, embedding=attrs.evolve(read.embedding, scales=read.embedding.scales * 30))
    assert native.suits(weights)
    expected = logits_of(TorchForwardPass(weights, Mapped), [])
    other = attrs.evolve(weights, epsilon=epsilon * 100)
    assert epsilon < 1e-6 or not np.array_equal(logits_of(TorchForwardPass(other, Mapped), []), expected)
    for variant in VARIANTS:
        for pieces in ([], [1] * 9, [2, 5, 8, 17, 40]):
            assert near(logits_of(made(weights, variant), pieces), expected)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("every", [False, True])
def test_a_chunk_gives_what_a_pass_gives(weights: ModelWeights, variant: str, every: bool) -> None:
    """Whatever runs between two of its layers."""
    forward_pass = made(weights, variant)
    whole = forward_pass.forward(IDS[:50], forward_pass.new_cache(300), 0)
    chunk = Chunk(IDS[:50], forward_pass.new_cache(300), 0, every=every)
    while chunk.layer < forward_pass.layers:
        forward_pass.advance(chunk)
        forward_pass.forward(IDS[:3], forward_pass.new_cache(3), 0)
        forward_pass.forward(IDS[:70], forward_pass.new_cache(70), 0)
    assert np.array_equal(forward_pass.output(chunk), whole if every else whole[-1:])


def attention_of(forward_pass: ForwardPass) -> list[Floats]:
    """Return the attention of each layer over IDS, run in two chunks: (heads, tokens of the second, all tokens)."""
    cache, kv_heads, found = forward_pass.new_cache(120), forward_pass.weights.kv_heads, []
    for at, end in ((0, 80), (80, 120)):
        entered: list[Floats] = []
        chunk = Chunk(IDS[at:end], cache, at, every=True, on_layer=lambda _, x, seen=entered: seen.append(x))  # type: ignore[misc]
        while chunk.layer < forward_pass.layers:
            forward_pass.advance(chunk)
        found = [
            attention_weights(forward_pass.queries(layer, x, at), cache[layer, :kv_heads, :end])
            for layer, x in enumerate(entered)
        ]
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_attention_agrees_with_that_of_torch(weights: ModelWeights, variant: str) -> None:
    """Queries are projected in numpy here and by torch's kernel there; heads of a group share keys."""
    expected = attention_of(TorchForwardPass(weights, Mapped))
    for one, other in zip(attention_of(made(weights, variant)), expected, strict=True):
        assert one.shape == (weights.heads, 40, 120)
        assert np.abs(one - other).sum(-1).mean() < 0.02
        if weights.heads > 1:
            assert np.abs(one - np.roll(other, 1, 0)).sum(-1).mean() > 5 * np.abs(one - other).sum(-1).mean()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("candidates", [1, 3, 8, 11])
def test_candidates_attend_to_the_prompt_and_their_own_tokens(
    weights: ModelWeights, variant: str, candidates: int
) -> None:
    attn_mask = np.full((candidates, 60 + candidates), -np.inf, dtype=np.float32)
    attn_mask[:, :60] = 0
    attn_mask[range(candidates), range(60, 60 + candidates)] = 0
    got = []
    for forward_pass in (TorchForwardPass(weights, Mapped), made(weights, variant)):
        cache = forward_pass.new_cache(80)
        forward_pass.forward(IDS[:60], cache, 0)
        hidden = forward_pass.forward(IDS[60 : 60 + candidates], cache, 60, [60] * candidates, attn_mask)
        got.append(forward_pass.logits(hidden))
    assert near(got[1], got[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_text_may_be_longer_than_the_rotary_tables(build: Path, variant: str) -> None:
    weights = read_weights(build)
    short, long = made(weights, variant), made(weights, variant)
    long._open(5000)
    ids = (IDS * 8)[:2100]
    assert np.array_equal(*(one.forward(ids, one.new_cache(2100), 0)[-20:] for one in (short, long)))


@pytest.mark.parametrize("id", [-1, 160, 2**40])
def test_an_id_without_an_embedding_is_refused(build: Path, id: int) -> None:
    forward_pass = made(read_weights(build), VARIANTS[0])
    with pytest.raises(IndexError):
        forward_pass.forward([1, id], forward_pass.new_cache(64), 0)


def test_weights_are_used_in_place(build: Path) -> None:
    """All but a matrix at the end of the file, beyond which nothing may be read."""
    weights = read_weights(build)
    forward_pass = made(weights, VARIANTS[0])
    kept = {address(values) for values in forward_pass._kept if isinstance(values, np.ndarray)}
    layer = weights.layers[0]
    matrices = [matrix.values for matrix in (layer.qkv_proj, layer.o_proj, layer.up_proj, layer.down_proj)]
    assert {address(values) for values in matrices} <= kept
    assert weights.bytes_after(matrices[0]) > native.READ_BEYOND
    assert weights.bytes_after(np.empty(64, dtype=np.int8)) == 0


def test_a_matrix_at_the_end_of_the_file_is_copied(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = read_weights(build)
    expected = logits_of(made(weights, VARIANTS[0]), [])
    monkeypatch.setattr(ModelWeights, "bytes_after", lambda self, values: native.READ_BEYOND - 1)
    assert np.array_equal(logits_of(made(weights, VARIANTS[0]), []), expected)


def test_models_of_unsupported_shapes_run_in_torch(build: Path) -> None:
    weights = read_weights(build)
    assert native.suits(weights)
    assert isinstance(engine.open_forward_pass(weights, 1), CForwardPass)
    parts = weights.head_width // 8
    odd = attrs.evolve(weights, heads=parts * weights.heads, kv_heads=parts * weights.kv_heads, head_width=8, rotary=8)
    assert not native.suits(odd)
    assert isinstance(engine.open_forward_pass(odd, 1), TorchForwardPass)


def test_matrices_of_both_kinds_with_the_same_input_run_in_torch(build: Path) -> None:
    """A file may have them; the library rounds an input for one kind."""
    weights = read_weights(build)
    layer = weights.layers[0]
    rows, columns = layer.up_proj.shape
    other = (
        Matrix(np.ones((rows, columns), np.int8), np.full(rows, 100, np.float32))
        if weights.has_four_bits
        else FourBitMatrix(np.ones((rows, columns // 2), np.uint8), np.ones((rows, columns // 32), np.float16))
    )
    mixed = attrs.evolve(weights, layers=(attrs.evolve(layer, up_proj=other), *weights.layers[1:]))
    assert not native.suits(mixed)
    assert isinstance(engine.open_forward_pass(mixed, 1), TorchForwardPass)


def test_without_a_library_torch_is_used(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)
    assert isinstance(engine.open_forward_pass(read_weights(build), 1), TorchForwardPass)


def test_a_lack_of_memory_is_reported(build: Path) -> None:
    found = LIBRARIES[VARIANTS[0]]
    assert found is not None
    refusing = SimpleNamespace(
        codegen_lanes=found.codegen_lanes,
        codegen_few=found.codegen_few,
        codegen_new=lambda *_: None,
        codegen_free=lambda _: None,
    )
    with pytest.raises(ModelError, match="memory"):
        CForwardPass(read_weights(build), refusing, 1)  # type: ignore[arg-type]


def test_a_file_that_is_not_a_library_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_build, "SOURCE", tmp_path / "decoder.c")
    *_, worst = native_build.VARIANTS
    native_build.library_of(worst).write_bytes(b"no library")
    assert native_build.compiled() == [worst]
    assert native.library.__wrapped__(tuple(native_build.VARIANTS)) is None


class _Reordered(ctypes.Structure):
    _fields_ = tuple(reversed(c_structs.CMatrix._fields_))


@pytest.mark.parametrize("structures", [(_Reordered, *c_structs.STRUCTURES[1:]), c_structs.STRUCTURES[:-1]])
def test_a_library_with_other_structures_is_refused(
    structures: tuple[type[ctypes.Structure], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = c_structs.abi_fingerprint(structures)
    monkeypatch.setattr(native, "abi_fingerprint", lambda: other)
    with pytest.raises(ModelError, match="another version") as caught:
        native.library.__wrapped__((VARIANTS[0],))
    assert "compile_decoder" in caught.value.advice


def test_a_library_of_another_abi_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_structs, "ABI_VERSION", c_structs.ABI_VERSION + 1)
    with pytest.raises(ModelError, match="another version"):
        native.library.__wrapped__((VARIANTS[0],))


def test_a_library_without_a_fingerprint_is_refused() -> None:
    with pytest.raises(ModelError, match="another version"):
        native.check_abi(SimpleNamespace(), Path("decoder_avx2.so"))  # type: ignore[arg-type]


def test_threads_end_with_the_forward_pass(build: Path) -> None:
    weights = read_weights(build)
    process = psutil.Process()
    before = process.num_threads()
    forward_pass = made(weights, VARIANTS[0], threads=4)
    assert process.num_threads() == before + 3
    forward_pass.close()
    forward_pass.close()
    assert process.num_threads() == before


COMPILER = native_build.compiler() if native_build.suits() else None


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copies of the sources, which are compiled there."""
    for path in (*native_build.sources(), native_build.INDEX_SOURCE):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(native_build, "SOURCE", tmp_path / "decoder.c")
    monkeypatch.setattr(native_build, "INDEX_SOURCE", tmp_path / "ngram_index.c")
    return tmp_path


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_it_is_compiled_from_its_source(
    sources: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variant = list(native_build.VARIANTS)[-2]
    other = native_build.Variant("-mno-such-thing")
    monkeypatch.setattr(native_build, "VARIANTS", {variant: native_build.VARIANTS[variant], "other": other})
    assert native_build.build() == [native_build.index_library(), native_build.library_of(variant)]
    assert "mno-such-thing" in capsys.readouterr().err
    compiled = ctypes.CDLL(str(native_build.library_of(variant)))
    assert compiled.codegen_lanes() == 8
    native.check_abi(compiled, native_build.library_of(variant))
    assert {path.name for path in sources.iterdir() if path.suffix not in (".c", ".h")} == {
        native_build.index_library().name,
        native_build.library_of(variant).name,
    }


@pytest.mark.skipif(not native_build.suits(), reason="this machine is no target")
def test_gcc_leaves_out_the_variants_that_it_makes_slow(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_build, "compiler", lambda: ["gcc"])
    monkeypatch.setattr(native_build, "is_clang", lambda command: False)
    monkeypatch.setattr(native_build, "zig", lambda: None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(native_build, "_compile_all", lambda jobs: [target for _, target, _ in jobs])
    x86 = native_build.VARIANTS_OF["x86_64"]
    monkeypatch.setattr(native_build, "VARIANTS", x86)
    assert native_build.library_of("sse41") not in native_build.build()
    assert native_build.library_of("avx2") in native_build.build()
    monkeypatch.setattr(native_build, "VARIANTS", native_build.VARIANTS_OF["arm64"])
    assert native_build.library_of("neon") in native_build.build()
    assert native_build.needs_zig()
    monkeypatch.setattr(native_build, "VARIANTS", x86)
    monkeypatch.setattr(native_build, "is_clang", lambda command: True)
    assert native_build.library_of("sse41") in native_build.build()


def test_zig_is_told_the_target_lest_it_use_all_instructions_of_this_processor(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(native_build, "_compile_all", lambda jobs: commands.extend(job[2] for job in jobs))
    zig = [sys.executable, "-m", "ziglang", "cc"]
    monkeypatch.setattr(native_build, "compiler", lambda: zig)
    monkeypatch.setattr(native_build, "this_machine", lambda: "linux-x86_64")
    native_build.build()
    assert commands
    assert all(command[4:6] == ["-target", "x86_64-linux-gnu.2.17"] for command in commands)


def test_the_instruction_sets_are_those_of_this_machine() -> None:
    machine = native_build.this_machine()
    if machine is None:
        assert native_build.VARIANTS == {}
    else:
        assert native_build.VARIANTS is native_build.VARIANTS_OF[native_build.TARGETS[machine].machine]
        assert list(native_build.VARIANTS)[-1] in ("sse41", "neon")  # what any processor of this kind has


def test_the_compiler_is_chosen_by_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "some-cc -flag")
    assert native_build.compiler() == ["some-cc", "-flag"]
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(native_build.importlib.util, "find_spec", lambda name: None)
    assert native_build.compiler() is None
    monkeypatch.setattr(native_build.importlib.util, "find_spec", lambda name: name)
    assert native_build.compiler() == [sys.executable, "-m", "ziglang", "cc"]


def test_the_source_was_compiled() -> None:
    """Without this test, a failed compilation would skip all tests above."""
    if COMPILER is None and subprocess.run([sys.executable, "-c", "import ziglang"], check=False).returncode:
        pytest.skip("there is no C compiler")
    assert native_build.compiled()
