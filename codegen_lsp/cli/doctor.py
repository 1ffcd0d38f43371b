"""`codegen-lsp doctor`: versions, hardware, models and measured speed, with advice."""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from collections.abc import Sequence
from typing import Annotated

import cattrs
import typer
from attrs import frozen
from rich.console import Console
from rich.table import Table

from codegen_lsp.advice.processor import cpu_features, cpu_name
from codegen_lsp.checkpoints.catalogue import look_up
from codegen_lsp.checkpoints.store import InstalledBuild, find, installed, store_directory
from codegen_lsp.cli.doctor_advice import advice_for, print_advice
from codegen_lsp.cli.options import AsJson, Device, Model, Threads
from codegen_lsp.errors import CodegenError
from codegen_lsp.inference.rpc.messages import ModelDescription, Rates
from codegen_lsp.settings import RemoteSettings, Settings
from codegen_lsp.version import __version__

PACKAGES = ("pygls", "lsprotocol", "ctranslate2", "tokenizers", "numpy")
EXTRAS = ("convert", "train", "peers", "plot")
PROMPT_SECONDS = 1.0
"""A cold prompt should not take longer than this."""


@frozen
class ModelTiming:
    """The speed of a loaded model on this machine."""

    model: ModelDescription
    rates: Rates
    start_seconds: float


def doctor(
    model: Model = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    remote: Annotated[
        str,
        typer.Option(metavar="URL", help="Check a server that may run the model instead, as in `remote.url`."),
    ] = "",
    remote_key_file: Annotated[str, typer.Option(metavar="FILE", help="As in `remote.key_file`.")] = "",
    remote_ca_file: Annotated[str, typer.Option(metavar="FILE", help="As in `remote.ca_file`.")] = "",
    remote_allow_http: Annotated[bool, typer.Option("--remote-allow-http", help="As in `remote.allow_http`.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Don't measure this machine: use the last measurement, if there is one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show versions, hardware and measured speed, and say which model suits this machine."""
    import psutil

    console = Console()
    if remote:
        _check_remote(console, RemoteSettings(remote, remote_key_file, remote_ca_file, remote_allow_http))
        return
    settings = Settings(model=model, device=device, threads=threads)
    memory = psutil.virtual_memory()
    features = cpu_features()
    builds = installed()
    if not as_json:
        _print_machine(console, builds, features, memory.available, memory.total)
    try:
        timing = asyncio.run(_measure(find(settings.model), settings))
    except CodegenError as error:
        if as_json:
            raise
        console.print(f"\n[red]No model runs:[/red] {error}", highlight=False)
        raise SystemExit(1) from None
    models = advice_for(settings, builds, memory.available, quick=quick)
    found = advice(timing, settings, features, memory.available)
    if as_json:
        answer = {"timing": cattrs.unstructure(timing), "advice": found} | cattrs.unstructure(models)
        typer.echo(json.dumps(answer, indent=2))
        return
    _print_timing(console, timing)
    print_advice(console, models)
    console.print("\n[bold]Advice[/bold]" if found else "\n[green]All is well.[/green]")
    for line in found:
        console.print(f"  • {line}", highlight=False)


def _check_remote(console: Console, settings: RemoteSettings) -> None:
    """Print what a server answers, and how fast. Raises: SettingsError; RemoteError, which says what is wrong."""
    from codegen_lsp.inference.client.remote_client import measure_server
    from codegen_lsp.lsp.remote import address_of, key_of

    server = address_of(settings, key_of(settings))
    model, seconds = asyncio.run(measure_server(server))
    console.print(
        f"[green]{server.name} runs {model.name}[/green] ({model.engine} on {model.device}, {model.compute_type}).\n"
        f"  answers without work of the model in {seconds * 1000:.1f} ms (median)",
        highlight=False,
    )


async def _measure(build: InstalledBuild, settings: Settings) -> ModelTiming:
    """Load a build and time it, the second time of two. Raises: ModelError and WorkerError."""
    from codegen_lsp.cli.session import open_session, private_worker

    async with open_session(build, private_worker(settings)) as session:
        await session.client.measure()
        return ModelTiming(session.model, await session.client.measure(), session.start_seconds)


def _print_machine(
    console: Console, builds: Sequence[InstalledBuild], features: Sequence[str], available: int, total: int
) -> None:
    """Print versions, hardware and installed models. Memory is in bytes."""
    from codegen_lsp.inference.engines.ct2.devices import capabilities
    from codegen_lsp.inference.engines.factory import default_threads, usable_cores
    from codegen_lsp.inference.engines.native.compile_decoder import compiled

    device = capabilities()
    gpus = f"{device.gpus} CUDA device(s): {', '.join(device.cuda)}" if device.gpus else "none that CUDA can use"
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("codegen-lsp", f"{__version__} on Python {platform.python_version()} ({sys.executable})")
    table.add_row("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    table.add_row("packages", ", ".join(f"{name} {_version(name)}" for name in PACKAGES))
    table.add_row("extras", ", ".join(f"{name} {_extra_state(name)}" for name in EXTRAS))
    table.add_row("processor", f"{cpu_name()}; {usable_cores()} cores usable, {default_threads()} threads by default")
    table.add_row("instructions", ", ".join(features) or "unknown on this system")
    table.add_row("int8 on CPU", "yes" if "int8" in device.cpu else "no")
    table.add_row("C decoder", f"compiled for {', '.join(compiled())}" if compiled() else "not compiled")
    table.add_row("GPU", gpus)
    table.add_row("memory", f"{available / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    table.add_row("models in", str(store_directory()))
    for build in builds:
        where = "comes with codegen-lsp" if build.bundled else str(build.path)
        entry = look_up(build.name)
        use = f", for {entry.good_for}" if entry else ""
        table.add_row("", f"{build.name}  {build.info.bytes / 2**20:.0f} MB{use}  [dim]{where}[/dim]")
    console.print(table, highlight=False)


def _print_timing(console: Console, timing: ModelTiming) -> None:
    model, rates = timing.model, timing.rates
    console.print(
        f"\n[bold]{model.name}[/bold] on {model.device} with {model.threads} threads "
        f"({model.engine}, {model.compute_type}):\n"
        f"  ready in {timing.start_seconds:.2f} s\n"
        f"  prefill  {rates.prefill_tokens_per_second:8.0f} tokens/s  (prompt of {rates.prefill_tokens})\n"
        f"  decode   {rates.decode_tokens_per_second:8.0f} tokens/s\n"
        f"  memory   {rates.resident_mb:8.0f} MiB",
        highlight=False,
    )
    if model.engine_note:
        console.print(f"  without n-grams: {model.engine_note}", highlight=False)


def advice(timing: ModelTiming, settings: Settings, features: Sequence[str], memory: int) -> list[str]:
    """Return recommendations, most useful first. `memory` is the free memory in bytes."""
    from codegen_lsp.inference.engines.native.compile_decoder import compiled, suits

    found = []
    rate, model = timing.rates.prefill_tokens_per_second, timing.model
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
            "The forward pass in C is missing, so a slower engine runs the model. Install codegen-lsp again: wheels "
            "hold it, and elsewhere pip brings a compiler where there is none."
        )
    if model.device == "cpu" and timing.rates.decode_tokens_per_second < 10:
        found.append("Fewer than 10 tokens/s: suggestions will come late. Choose a smaller model.")
    if timing.rates.resident_mb * 2**20 > memory:
        found.append("Little memory is free: a second editor window may not find room for its worker.")
    return found


def _extra_state(name: str) -> str:
    from codegen_lsp import extras

    lacking = extras.missing(name)
    return f"lacks {' and '.join(requirement.name for requirement in lacking)}" if lacking else "installed"


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
