from __future__ import annotations

import itertools

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.advice.probes import probes
from codegen_lsp.advice.speed import (
    CONTEXT,
    TYPED,
    MachineSpeed,
    ModelSizes,
    PassKind,
    PassSpeed,
    TimedPass,
    fit,
    sizes_of,
)
from codegen_lsp.checkpoints.catalogue import checkpoints, resolve
from codegen_lsp.errors import ModelError
from tests.advice.measured import speed_of

PASSES: list[tuple[PassKind, int, int]] = [
    *(("prompt", context, 0) for context in (128, 512)),
    *(("typed", TYPED, context) for context in (128, 512)),
    *(("step", 1, context) for context in (132, 516)),
]


def passes_on(machine: MachineSpeed) -> list[TimedPass]:
    """The passes over the probes, with the times that this machine takes."""
    speeds = {"step": machine.step, "typed": machine.typed, "prompt": machine.prompt}
    found = []
    for architecture in probes(32 << 20).values():
        sizes = sizes_of(architecture)
        found += [
            TimedPass(sizes, kind, tokens, cached, speeds[kind].seconds(sizes.costs(kind, tokens, cached)))
            for kind, tokens, cached in PASSES
        ]
    return found


costs = st.builds(
    PassSpeed,
    weight=st.floats(1e-12, 1e-9),
    attended=st.just(0.0) | st.floats(1e-12, 1e-9),
    layer=st.just(0.0) | st.floats(1e-6, 1e-3),
    row=st.just(0.0) | st.floats(1e-10, 1e-8),
    fixed=st.just(0.0) | st.floats(1e-5, 1e-2),
)


@given(costs, costs, costs)
def test_the_costs_of_a_machine_are_found_from_times_of_the_probes(
    step: PassSpeed, typed: PassSpeed, prompt: PassSpeed
) -> None:
    machine = MachineSpeed(step, typed, prompt)
    found = fit(passes_on(machine))
    for entry in checkpoints():
        sizes = sizes_of(entry.architecture)
        expected, times = machine.times(sizes), found.times(sizes)
        assert times.step == pytest.approx(expected.step, rel=0.01)
        assert times.first_token == pytest.approx(expected.first_token, rel=0.01)
        assert times.prompt == pytest.approx(expected.prompt, rel=0.01)


@given(st.lists(st.floats(0.8, 1.25), min_size=30, max_size=30))
def test_no_cost_is_negative_however_the_times_waver(factors: list[float]) -> None:
    wavering = [
        evolve(one, seconds=one.seconds * factor)
        for one, factor in zip(passes_on(speed_of(40e9, 500e9)), factors, strict=True)
    ]
    found = fit(wavering)
    for speed in (found.step, found.typed, found.prompt):
        assert min(speed.weight, speed.attended, speed.layer, speed.row, speed.fixed) >= 0
    sizes = sizes_of(resolve("codegen-350M-mono").architecture)
    true = speed_of(40e9, 500e9).times(sizes)
    assert found.times(sizes).step == pytest.approx(true.step, rel=0.5)


def test_a_step_takes_its_bytes_by_the_bandwidth() -> None:
    sizes = sizes_of(resolve("qwen2.5-coder-0.5B").architecture)
    # 24 layers of 896 x 1152, 896 x 896 and three times 896 x 4864, and a tied output layer of 151,936 x 896
    assert sizes.block_weights == 24 * (896 * 1152 + 896 * 896 + 3 * 896 * 4864)
    assert sizes.head_weights == 151936 * 896
    machine = speed_of(40e9, 500e9)
    times = machine.times(sizes)
    cached = 24 * 2 * 128 * 4 * (CONTEXT + 5)  # keys and values of 2 heads of 64 entries, in float32
    assert times.step == pytest.approx((494e6 + cached) / 40e9, rel=0.01)
    assert times.prompt == pytest.approx(CONTEXT * sizes.block_weights / 500e9)
    assert times.suggestion == pytest.approx(times.first_token + 15 * times.step)
    assert machine.bandwidth == pytest.approx(40e9)
    assert machine.times(evolve(sizes, bits=4)).step == pytest.approx((247e6 + cached) / 40e9, rel=0.01)


def test_larger_models_take_longer() -> None:
    machine = MachineSpeed(*[PassSpeed(1e-11, 1e-11, 1e-5, 1e-9, 1e-4)] * 3)
    every = [machine.times(sizes_of(resolve(f"codegen-{size}-mono").architecture)) for size in ("350M", "2B", "6B")]
    for smaller, larger in itertools.pairwise(every):
        assert smaller.first_token < larger.first_token
        assert smaller.step < larger.step
        assert smaller.prompt < larger.prompt
    sizes = sizes_of(resolve("codegen-350M-mono").architecture)
    assert machine.times(sizes, 512).step < machine.times(sizes, 1024).step


def test_what_was_not_measured_is_not_guessed() -> None:
    sizes = ModelSizes(2, 64, 100, 1000, 100, 256)
    with pytest.raises(ModelError, match="typed"):
        fit([TimedPass(sizes, "step", 1, 10, 0.1), TimedPass(sizes, "prompt", 10, 0, 0.1)])


@pytest.mark.parametrize("cache", [1 << 20, 32 << 20, 96 << 20, 1 << 30])
def test_the_large_probes_outgrow_the_cache(cache: int) -> None:
    made = probes(cache)
    outgrown = min(cache, 192 << 20)
    for name, architecture in made.items():
        assert name == "fixed" or architecture.int8_bytes > max(1.5 * outgrown, 128 << 20) * 0.99
    assert sum(architecture.int8_bytes for architecture in made.values()) < 2 << 30
