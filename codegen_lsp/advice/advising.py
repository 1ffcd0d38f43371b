"""Advice: each model with its latencies on this machine, whether they are within the aims, and a recommendation.

Of a model that is installed and was measured, the times are measured; else they are predicted from its sizes
(`speed`). No measuring happens here: the language server calls it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import evolve, frozen

from codegen_lsp.advice.measurement import MachineMeasurement
from codegen_lsp.advice.speed import CONTEXT, INT8, WANTED, ModelTimes, sizes_of, speed_for
from codegen_lsp.checkpoints.catalogue import Checkpoint
from codegen_lsp.checkpoints.store import InstalledBuild

FIRST_TOKEN_MS = 60.0
"""Aim: half of the automatic requests are answered within this time (docs/performance.md)."""
SUGGESTION_MS = 250.0
"""Aim: 19 of 20 automatic requests are answered within this time; `WANTED` tokens are a long line."""
PROMPT_MS = 1000.0
"""Aim: time of a prompt of which nothing is cached. The server shortens prompts that take longer
(`suggest.options.COLD_PREFILL_SECONDS`)."""
SHORTEST_PROMPT = 500
"""Tokens of the shortest prompt to which it does (`suggest.options.MIN_PROMPT_CHARACTERS`, three characters each)."""
PROCESS_MB = 250
"""Memory of the worker beside model and KV cache, in MiB (docs/models.md)."""

State = Literal["embedded", "installed", ""]
Verdict = Literal["within", "slow", "memory", "unknown"]
INSTRUCT = "instruct"
"""Variant that is listed, and not recommended for completing code."""


@frozen
class ModelAdvice:
    """A model that is installed or that the catalogue has."""

    name: str
    state: State
    """Empty if it would have to be pulled."""
    verdict: Verdict
    """`within` the aims; `slow`; `memory`: there is not enough of it; `unknown`: nothing was measured."""
    reason: str
    """The verdict in words: a part of a sentence."""
    parameters: int
    memory_mb: int
    """Memory to run it, the worker's own included, in MiB."""
    download_mb: int | None
    """Of the published weights, in MB (10**6 bytes); None for a model that is installed."""
    license: str
    needs_consent: bool
    languages: list[str]
    good_for: str
    measured: bool
    """True if the times were measured with this model, false if they are predicted, or not known."""
    first_token_ms: float | None = None
    suggestion_ms: float | None = None
    prompt_ms: float | None = None
    command: str = ""
    """The command that installs it."""


@frozen
class LatencyAims:
    """The aims for latency, in milliseconds."""

    first_token_ms: float = FIRST_TOKEN_MS
    suggestion_ms: float = SUGGESTION_MS
    suggestion_tokens: int = WANTED
    prompt_ms: float = PROMPT_MS
    context_tokens: int = CONTEXT


@frozen
class MachineReport:
    """The measurement that the advice relies on."""

    finished: str
    engine: str
    device: str
    threads: int
    busy: bool
    bandwidth_gb_s: float | None
    """Weights that decoding reads in a second, in 10**9 bytes; None if their cost was too small to be seen."""


@frozen
class MachineAdvice:
    """The models for this machine, and which of them to use."""

    recommendation: str
    """In one or two sentences."""
    recommended: str | None
    """Name of the model; None if nothing was measured, or no model is within the aims."""
    models: list[ModelAdvice]
    """The smallest first."""
    machine: MachineReport | None
    """None if nothing was measured yet."""
    note: str = ""
    """The reason why figures are inexact, as sentences; empty if they are not."""
    aims: LatencyAims = LatencyAims()


def advise(
    measurement: MachineMeasurement | None,
    builds: Sequence[InstalledBuild],
    checkpoints: Sequence[Checkpoint],
    free_mb: float,
    running: str | None = None,
) -> MachineAdvice:
    """Return the advice. `free_mb` is the free memory in MiB, beside that of the model `running`."""
    if measurement is not None and measurement.device_memory_mb is not None:
        free_mb = measurement.device_memory_mb
    known = {entry.name: entry for entry in checkpoints}
    rows = [_installed(build, known.get(build.name), measurement, free_mb, running) for build in builds]
    there = {row.name for row in rows}
    rows += [_offered(entry, measurement, free_mb) for entry in checkpoints if entry.name not in there]
    rows.sort(key=lambda row: (row.parameters, row.name))
    if measurement is None:
        text = "This machine was not measured yet: `codegen-lsp doctor` does it."
        return MachineAdvice(text, None, rows, None)
    best = _best(rows, known)
    speed = measurement.speeds[f"{INT8:g}"]
    machine = MachineReport(
        finished=measurement.finished,
        engine=measurement.engine,
        device=measurement.device,
        threads=measurement.threads,
        busy=measurement.busy,
        bandwidth_gb_s=round(speed.bandwidth / 1e9, 1) if speed.step.weight else None,
    )
    text = _recommendation(best, rows, known)
    return MachineAdvice(text, best.name if best else None, rows, machine, _note(measurement))


def _installed(
    build: InstalledBuild,
    entry: Checkpoint | None,
    measurement: MachineMeasurement | None,
    free_mb: float,
    running: str | None,
) -> ModelAdvice:
    info = build.info
    record = measurement.builds.get(build.name) if measurement is not None else None
    if record is not None and record.digest != info.files["model.bin"].sha256:
        record = None
    times = record.times if record else None
    measured = times is not None
    if times is None and measurement is not None:
        sizes = record.sizes if record else sizes_of(entry.architecture, info.bits) if entry else None
        runs = entry is None or _runs_as_measured(entry, measurement)
        times = speed_for(measurement.speeds, sizes).times(sizes) if sizes is not None and runs else None
    kv_cache = entry.memory_mb - entry.architecture.int8_bytes / 2**20 if entry else 0.0
    memory = int(info.bytes / 2**20 + kv_cache) + PROCESS_MB
    verdict, reason = _verdict(times, memory, free_mb if build.name != running else None)
    advice = ModelAdvice(
        name=build.name,
        state="embedded" if build.bundled else "installed",
        verdict=verdict,
        reason=reason,
        parameters=entry.architecture.parameters if entry else info.parameters,
        memory_mb=memory,
        download_mb=None,
        license=info.license,
        needs_consent=False,
        languages=list(info.languages),
        good_for=entry.good_for if entry else "",
        measured=measured,
    )
    return _timed(advice, times)


def _offered(entry: Checkpoint, measurement: MachineMeasurement | None, free_mb: float) -> ModelAdvice:
    times = None
    if measurement is not None and _runs_as_measured(entry, measurement):
        times = measurement.speeds[f"{INT8:g}"].times(sizes_of(entry.architecture))
    memory = entry.memory_mb + PROCESS_MB
    verdict, reason = _verdict(times, memory, free_mb)
    consent = " --accept-license" if entry.needs_consent else ""
    advice = ModelAdvice(
        name=entry.name,
        state="",
        verdict=verdict,
        reason=reason,
        parameters=entry.architecture.parameters,
        memory_mb=memory,
        download_mb=entry.download_mb,
        license=entry.license,
        needs_consent=entry.needs_consent,
        languages=list(entry.languages),
        good_for=entry.good_for,
        measured=False,
        command=f"codegen-lsp models pull {entry.name}{consent}",
    )
    return _timed(advice, times)


def _runs_as_measured(entry: Checkpoint, measurement: MachineMeasurement) -> bool:
    """Return whether the engine that was measured runs a model: only CTranslate2 runs other blocks than these."""
    return measurement.engine != "native" or entry.architecture.block in ("codegen", "llama")


def _timed(advice: ModelAdvice, times: ModelTimes | None) -> ModelAdvice:
    """Return the advice with times, if there are any."""
    if times is None:
        return advice
    first, suggestion, prompt = times.first_token * 1e3, times.suggestion * 1e3, times.prompt * 1e3
    return evolve(advice, first_token_ms=first, suggestion_ms=suggestion, prompt_ms=prompt)


def _verdict(times: ModelTimes | None, memory_mb: int, free_mb: float | None) -> tuple[Verdict, str]:
    """Return the verdict on a model, and the reason. `free_mb` is None for the model that runs."""
    if free_mb is not None and memory_mb > free_mb:
        return "memory", f"takes {memory_mb / 1024:.1f} GiB of memory, {max(free_mb, 0) / 1024:.1f} are free"
    if times is None:
        return "unknown", "its speed is not known"
    shortest = times.prompt * SHORTEST_PROMPT / CONTEXT
    excess = [
        (f"{name} {seconds * 1e3:.0f} ms instead of {aim:.0f}")
        for name, seconds, aim in (
            ("first token", times.first_token, FIRST_TOKEN_MS),
            (f"{WANTED} tokens", times.suggestion, SUGGESTION_MS),
            (f"{SHORTEST_PROMPT} tokens of a prompt", shortest, PROMPT_MS),
        )
        if seconds * 1e3 > aim
    ]
    return ("slow", ", ".join(excess)) if excess else ("within", "within the aims")


def _best(rows: Sequence[ModelAdvice], known: Mapping[str, Checkpoint]) -> ModelAdvice | None:
    """Return the model to recommend: of those within the aims the largest; of equal ones, one for more languages."""
    fitting = [row for row in rows if row.verdict == "within" and _completes(row, known)]
    return max(fitting, key=_rank, default=None)


def _rank(row: ModelAdvice) -> tuple[int, bool, int, str]:
    return row.parameters, bool(row.state), len(row.languages), row.name


def _completes(row: ModelAdvice, known: Mapping[str, Checkpoint]) -> bool:
    """Return whether a model may be recommended: it was trained to complete code, and needs no consent to a licence.

    A model that names no languages was trained on text; a user's own one may name none.
    """
    entry = known.get(row.name)
    if entry is None:
        return True
    return bool(entry.languages) and entry.variant != INSTRUCT and (bool(row.state) or not entry.needs_consent)


def _recommendation(best: ModelAdvice | None, rows: Sequence[ModelAdvice], known: Mapping[str, Checkpoint]) -> str:
    if best is None:
        return _next_best(rows, known) or "No model has enough memory here: close other programs."
    use = f" (for {best.good_for})" if best.good_for else ""
    text = (
        f"On this machine {best.name}{use} is the largest model that answers within the aims: its first token takes "
        f"{best.first_token_ms:.0f} ms and {WANTED} tokens {best.suggestion_ms:.0f} ms."
    )
    if best.state == "installed":
        return f"{text} It is installed."
    if best.state:
        return f"{text} It comes with codegen-lsp. {_next_best(rows, known)}".strip()
    text += f" Install it with `{best.command}`."
    twin = next((row for row in rows if _is_twin(row, best) and _completes(row, known)), None)
    return text + (f" {twin.name}, for {twin.good_for}, is as fast." if twin is not None else "")


def _is_twin(row: ModelAdvice, best: ModelAdvice) -> bool:
    """Return whether a model is of the same size, for other languages."""
    return row.name != best.name and row.parameters == best.parameters and row.languages != best.languages


def _next_best(rows: Sequence[ModelAdvice], known: Mapping[str, Checkpoint]) -> str:
    """Return a sentence about the fastest of the models that are too slow; empty if there is none."""
    slow = [row for row in rows if row.verdict == "slow" and _completes(row, known) and row.suggestion_ms is not None]
    if not slow:
        return ""
    fastest = min(slow, key=lambda row: (row.suggestion_ms or 0.0, -len(row.languages)))
    return f"The next one, {fastest.name}, is too slow to come while you type: {fastest.reason}."


def _note(measurement: MachineMeasurement) -> str:
    """Return the reason why figures are inexact; empty if they are not."""
    if not measurement.busy:
        return ""
    load = f" (load {measurement.load:.1f} on {measurement.processors} processors)" if measurement.load else ""
    return (
        f"The machine was busy{load}, so processor times were taken: about what an idle machine needs for first tokens "
        "and for 16; new prompts may take up to twice as long. While other programs run, suggestions come later."
    )
