from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from codegen_lsp.advice.advising import MachineAdvice, ModelAdvice, advise
from codegen_lsp.advice.measurement import BuildRecord, MachineMeasurement
from codegen_lsp.advice.speed import ModelTimes, sizes_of
from codegen_lsp.checkpoints.catalogue import checkpoints, resolve
from codegen_lsp.checkpoints.store import InstalledBuild, find
from codegen_lsp.inference.build import BuildFile
from tests.advice.measured import entries, measurement

EMBEDDED = "codegen-lsp-python"


def row(advice: MachineAdvice, name: str) -> ModelAdvice:
    return next(one for one in advice.models if one.name == name)


def embedded() -> InstalledBuild:
    return evolve(find("auto"), name=EMBEDDED, bundled=True)


def build_of(name: str, digest: str = "1") -> InstalledBuild:
    """The description of an installed model with the sizes of a checkpoint."""
    shape = resolve(name).architecture
    info = evolve(
        embedded().info,
        name=name,
        layers=shape.layers,
        width=shape.width,
        files={"model.bin": BuildFile(shape.int8_bytes, digest)},
        languages=["python"],
    )
    return InstalledBuild(name, Path("/models") / name, info, bundled=False)


def timed(name: str, times: ModelTimes | None, digest: str = "1") -> MachineMeasurement:
    """A measurement with the record of an installed model."""
    return measurement(builds={name: BuildRecord(digest, sizes_of(resolve("350M-mono").architecture), times)})


def test_the_largest_model_within_the_aims_is_recommended() -> None:
    advice = advise(measurement(), [embedded()], checkpoints(), free_mb=64_000)
    # 494 MB and 25 MB of keys and values by 40 GB/s: 16 tokens in 210 ms, and codegen2-1B's 910 and 268 MB in 470
    assert advice.recommended == "qwen2.5-coder-0.5B"
    assert "`codegen-lsp models pull qwen2.5-coder-0.5B`" in advice.recommendation
    assert row(advice, "codegen2-1B").verdict == "slow"
    assert "16 tokens 47" in row(advice, "codegen2-1B").reason
    assert row(advice, "codegen-350M-mono").verdict == "within"
    assert not advice.note
    assert advice.machine is not None
    assert advice.machine.bandwidth_gb_s == 40.0
    assert [one.parameters for one in advice.models] == sorted(one.parameters for one in advice.models)


@pytest.mark.parametrize(
    ("bandwidth", "recommended"), [(40e9, "codegen-350M-multi"), (80e9, "codegen2-1B"), (1e9, None)]
)
def test_the_recommendation_follows_the_machine(bandwidth: float, recommended: str | None) -> None:
    offered = entries("codegen-350M-nl", "codegen-350M-mono", "codegen-350M-multi", "codegen2-1B", "codegen-6B-mono")
    advice = advise(measurement(bandwidth, operations=2e12), [], offered, free_mb=64_000)
    assert advice.recommended == recommended
    if recommended == "codegen-350M-multi":
        assert "codegen-350M-mono, for lines of Python, is as fast." in advice.recommendation
    if recommended is None:
        assert "The next one, codegen-350M-multi, is too slow" in advice.recommendation


def test_models_of_text_and_models_that_need_consent_are_not_recommended() -> None:
    offered = entries("codegen-350M-mono", "codegen-2B-nl", "codegen25-7B-instruct")
    advice = advise(measurement(4e12, 9e13), [], offered, free_mb=64_000)
    assert {one.verdict for one in advice.models} == {"within"}
    assert advice.recommended == "codegen-350M-mono"
    assert row(advice, "codegen25-7B-instruct").command.endswith(" --accept-license")


def test_memory_that_is_not_free_rules_a_model_out() -> None:
    advice = advise(measurement(), [], entries("codegen-350M-mono", "qwen2.5-coder-0.5B"), free_mb=850)
    assert advice.recommended == "qwen2.5-coder-0.5B"
    advice = advise(measurement(), [], entries("codegen-350M-mono", "qwen2.5-coder-0.5B"), free_mb=600)
    assert {one.verdict for one in advice.models} == {"memory"}
    assert "0.6 are free" in row(advice, "codegen-350M-mono").reason
    assert advice.recommended is None
    running = advise(measurement(), [build_of("codegen-350M-mono")], [], 10, running="codegen-350M-mono")
    assert running.models[0].verdict != "memory"


def test_the_memory_of_the_gpu_counts_where_models_run_there() -> None:
    advice = advise(measurement(device="cuda", device_memory_mb=800), [], entries("codegen-350M-mono"), 64_000)
    assert advice.models[0].verdict == "memory"


def test_measured_times_of_an_installed_model_precede_predicted_ones() -> None:
    name, slow = "codegen-350M-mono", ModelTimes(first_token=0.5, step=0.1, prompt=9.0)
    advice = advise(timed(name, slow), [build_of(name)], entries(name), 64_000)
    (found,) = advice.models
    assert (found.measured, found.state, found.verdict, found.first_token_ms) == (True, "installed", "slow", 500.0)
    assert found.suggestion_ms == pytest.approx(2000)
    assert "first token 500 ms instead of 60" in found.reason
    # another model of that name since, and one whose measuring would have taken long
    for measured in (timed(name, slow, digest="2"), timed(name, None)):
        (found,) = advise(measured, [build_of(name)], entries(name), 64_000).models
        assert (found.measured, found.verdict) == (False, "within")
    (found,) = advise(timed(name, slow, digest="2"), [build_of(name)], [], 64_000).models
    assert (found.measured, found.verdict, found.first_token_ms) == (False, "unknown", None)


def test_the_embedded_model_alone_names_the_next_one() -> None:
    quick = ModelTimes(0.001, 0.001, 0.05)
    digest = embedded().info.files["model.bin"].sha256
    record = BuildRecord(digest, sizes_of(resolve("350M-mono").architecture), quick)
    slow_machine = measurement(2e9, builds={EMBEDDED: record})
    advice = advise(slow_machine, [embedded()], checkpoints(), 64_000)
    assert advice.recommended == EMBEDDED
    assert "comes with codegen-lsp" in advice.recommendation
    assert "The next one, codegen-350M-multi, is too slow to come while you type" in advice.recommendation


def test_the_speed_of_one_engine_is_not_taken_for_that_of_another() -> None:
    (found,) = advise(measurement(), [], entries("starcoderbase-1B"), 64_000).models
    assert (found.verdict, found.first_token_ms) == ("unknown", None)
    (found,) = advise(measurement(engine="ct2"), [], entries("starcoderbase-1B"), 64_000).models
    assert found.first_token_ms is not None


def test_a_busy_machine_is_told() -> None:
    advice = advise(measurement(busy=True, load=7.25, processors=4), [embedded()], checkpoints(), 64_000)
    assert "load 7.2 on 4 processors" in advice.note
    assert "suggestions come later" in advice.note


def test_nothing_is_predicted_before_a_measurement() -> None:
    advice = advise(None, [embedded()], checkpoints(), 64_000)
    assert advice.recommended is None
    assert advice.machine is None
    assert "codegen-lsp doctor" in advice.recommendation
    assert {one.verdict for one in advice.models} == {"unknown"}
    assert all(one.first_token_ms is None for one in advice.models)
