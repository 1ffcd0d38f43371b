"""`codegen-lsp doctor`: what this machine offers, what it measures, and what would make it better."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from attrs import frozen
from rich.console import Console
from rich.table import Table

from codegen_lsp import __version__
from codegen_lsp.checkpoints.store import InstalledBuild, find, installed, store_directory
from codegen_lsp.cli.session import alone, open_session
from codegen_lsp.errors import CodegenError
from codegen_lsp.inference.engines.factory import default_threads, usable_cores
from codegen_lsp.inference.engines.native.compile_decoder import compiled, suits
from codegen_lsp.inference.rpc.messages import ModelDescription, Rates
from codegen_lsp.settings import Settings

PACKAGES = ("pygls", "lsprotocol", "ctranslate2", "tokenizers", "torch", "transformers", "huggingface_hub")
FEATURES = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp", "i8mm")
"""CPU instructions that int8 kernels use, as Linux names them."""
PROMPT_SECONDS = 1.0
"""A cold prompt should not take longer than this."""


@frozen
class Measured:
    """A model that was loaded and timed."""

    model: ModelDescription
    rates: Rates
    start_seconds: float


async def measure(build: InstalledBuild, settings: Settings) -> Measured:
    """Load a build and time it. Raises ModelError and WorkerError."""
    async with open_session(build, alone(settings)) as session:
        await session.client.measure()
        return Measured(session.model, await session.client.measure(), session.start_seconds)


async def doctor(console: Console, settings: Settings) -> bool:
    """Print the report; whether a model runs."""
    from codegen_lsp.inference.engines.ct2 import capabilities

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    device = capabilities()
    memory = psutil.virtual_memory()
    table.add_row("codegen-lsp", f"{__version__} on Python {platform.python_version()} ({sys.executable})")
    table.add_row("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    table.add_row("packages", ", ".join(f"{name} {_version(name)}" for name in PACKAGES))
    table.add_row("processor", f"{cpu_name()}; {usable_cores()} cores usable, {default_threads()} threads by default")
    features = cpu_features()
    table.add_row("instructions", ", ".join(features) or "unknown on this system")
    table.add_row("int8 on CPU", "yes" if "int8" in device.cpu else "no")
    table.add_row("C decoder", f"compiled for {', '.join(compiled())}" if compiled() else "not compiled")
    gpus = f"{device.gpus} CUDA device(s): {', '.join(device.cuda)}" if device.gpus else "none that CUDA can use"
    table.add_row("GPU", gpus)
    table.add_row("memory", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")
    builds = installed()
    table.add_row("models in", str(store_directory()))
    for build in builds:
        where = "comes with codegen-lsp" if build.bundled else str(build.path)
        table.add_row("", f"{build.name}  {build.info.bytes / 2**20:.0f} MB  [dim]{where}[/dim]")
    console.print(table, highlight=False)
    try:
        build = find(settings.model)
        measured = await measure(build, settings)
    except CodegenError as error:
        console.print(f"\n[red]No model runs:[/red] {error}", highlight=False)
        return False
    rates = measured.rates
    console.print(
        f"\n[bold]{measured.model.name}[/bold] on {measured.model.device} with {measured.model.threads} threads "
        f"({measured.model.engine}, {measured.model.compute_type}):\n"
        f"  ready in {measured.start_seconds:.2f} s\n"
        f"  prefill  {rates.prefill_tokens_per_second:8.0f} tokens/s  (prompt of {rates.prefill_tokens})\n"
        f"  decode   {rates.decode_tokens_per_second:8.0f} tokens/s\n"
        f"  memory   {rates.resident_mb:8.0f} MiB",
        highlight=False,
    )
    found = advice(measured, settings, builds, features, int(memory.available))
    console.print("\n[bold]Advice[/bold]" if found else "\n[green]All is well.[/green]")
    for line in found:
        console.print(f"  • {line}", highlight=False)
    return True


def advice(
    measured: Measured, settings: Settings, builds: list[InstalledBuild], features: list[str], memory: int
) -> list[str]:
    """What the user could do, most useful first; `memory` in bytes free."""
    found = []
    rate, model = measured.rates.prefill_tokens_per_second, measured.model
    prompt = (settings.prompt.prefix_characters + settings.prompt.suffix_characters) / model.characters_per_token
    if prompt / rate > PROMPT_SECONDS:
        fitting = int(rate * PROMPT_SECONDS * model.characters_per_token * 0.8 / 100) * 100
        found.append(
            f"A cold prompt takes about {prompt / rate:.1f} s here: set `prompt.prefix_characters` to "
            f"{max(100, fitting)}, or choose a smaller model."
        )
    if features and not {"avx2", "asimd"} & set(features):
        found.append("The processor has no AVX2: int8 runs slowly. A machine from 2013 or later has it.")
    if suits() and not compiled():
        found.append(
            "The forward pass in C is missing, so torch's kernels are used, which take two to three times as long. "
            "Install codegen-lsp again: pip brings a compiler where there is none."
        )
    if model.device == "cpu" and measured.rates.decode_tokens_per_second < 10:
        found.append("Fewer than 10 tokens/s: suggestions will come late. Choose a smaller model.")
    if measured.rates.resident_mb * 2**20 > memory:
        found.append("Little memory is free: a second editor window may not find room for its worker.")
    if all(build.bundled for build in builds):
        found.append(
            "Only the embedded model is installed. With a gigabyte of memory to spare, "
            "`codegen-lsp models pull codegen-350M-mono` gives better suggestions for Python."
        )
    return found


def cpu_name() -> str:
    """The processor's name."""
    match = re.search(r"^model name\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """Instructions that matter here, as far as the system tells."""
    match = re.search(r"^(?:flags|Features)\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    words = match[1].split() if match else _mac_features()
    return [feature for feature in FEATURES if feature in words]


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _mac_features() -> list[str]:
    if sys.platform != "darwin":
        return []
    if platform.machine() == "arm64":
        return ["asimd", "asimddp"]
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, env=dict(os.environ), check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    return result.stdout.lower().split()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
