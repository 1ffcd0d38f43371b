"""`codegen-lsp demo`: completions of real code with their timing, and the lines that set up an editor.

The code is this package's own source: real, available without a network, and not in the embedded model's training data.
After it come the first lines of new programs.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from attrs import frozen
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from codegen_lsp.checkpoints.store import find
from codegen_lsp.cli.options import Device, Model, Threads
from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.settings import Settings

if TYPE_CHECKING:
    from codegen_lsp.cli.session import ModelSession
    from codegen_lsp.suggest.request import SuggestionResult

FRAME: str = inspect.signature(Console.save_svg).parameters["code_format"].default
WITHOUT_WEB_FONT = re.sub(r"@font-face\s*\{\{.*?\}\}\s*", "", FRAME, flags=re.DOTALL)
"""rich's frame for SVG pictures, without the web fonts that a browser would fetch."""


@frozen
class Scene:
    """A place in real code: the cursor stands after the first occurrence of `before` in the module's source."""

    module: str
    before: str
    rest_of_line: bool = False
    """Keep the text after the cursor on its line."""


@frozen
class NewProgram:
    """The beginning of a new program: the cursor stands at its end."""

    name: str
    text: str


SCENES: tuple[Scene | NewProgram, ...] = (
    Scene("codegen_lsp.inference.build", "        raw: dict[str, Any] = json.lo"),
    Scene("codegen_lsp.inference.worker.scheduler", "        with self._chan"),
    Scene("codegen_lsp.inference.client.client", "        if self._connection is "),
    NewProgram("connect.py", "import logging\n\nlogger = logging."),
    NewProgram(
        "stack.py",
        "class Stack:\n    def __init__(self):\n        self.items = []\n\n"
        "    def push(self, item):\n        self.items.app",
    ),
    NewProgram(
        "mean.py",
        'def mean(values):\n    if not values:\n        raise ValueError("values must not be empty")\n'
        "    return sum(val",
    ),
    NewProgram(
        "ensure.py",
        "import os\n\n\ndef ensure_directory(path):\n    if not os.path.",
    ),
    NewProgram("number.py", "def parse(text):\n    try:\n        return int(text)\n    except Val"),
)


def snapshot_of(scene: Scene | NewProgram) -> Snapshot:
    """Return the document of a scene. Raises: ValueError when the source does not contain the place any more."""
    if isinstance(scene, NewProgram):
        return Snapshot(f"untitled:{scene.name}", 0, "python", scene.text, len(scene.text))
    path = Path(import_module(scene.module).__file__ or "")
    text = path.read_text(encoding="utf-8")
    offset = text.index(scene.before) + len(scene.before)
    end = offset if scene.rest_of_line else text.index("\n", offset)
    return Snapshot(path.as_uri(), 0, "python", text[:offset] + text[end:], offset)


def demo(
    model: Model = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Also save the output as a picture.")] = None,
) -> None:
    """Complete real code with the model, and show the timing and how to set up an editor."""
    console = Console(record=True, width=100, force_terminal=True) if svg else Console()
    settings = Settings(model=model, device=device, threads=threads, candidates=1)
    if not asyncio.run(_show_scenes(console, settings, picture=svg)):
        raise SystemExit(1)


async def _show_scenes(console: Console, settings: Settings, *, picture: Path | None) -> int:
    """Print the completion of each scene with its timing; return the number of scenes with a suggestion.

    With `picture`, the console must be recording, and its output is saved as SVG. Raises: ModelError and WorkerError.
    """
    import statistics

    from codegen_lsp.cli.session import open_session, private_worker

    build = find(settings.model)
    started = time.perf_counter()
    console.print(
        f"\n[bold]codegen-lsp[/bold] with [bold]{escape(build.name)}[/bold] "
        f"({build.info.bytes / 2**20:.0f} MB, int8) on this machine. Nothing leaves it.\n",
        highlight=False,
    )
    outcomes: list[SuggestionResult] = []
    async with open_session(build, private_worker(settings)) as session:
        console.print(
            f"[dim]Worker started and model loaded in {session.start_seconds:.2f} s.[/dim]\n", highlight=False
        )
        for scene in SCENES:
            outcomes.append(await _show(console, session, scene, started if not outcomes else None))
    shown = [outcome for outcome in outcomes if outcome.suggestions]
    if shown:
        times = sorted(outcome.seconds * 1e3 for outcome in shown)
        console.print(
            f"{len(shown)} of {len(outcomes)} places got a suggestion; median {statistics.median(times):.0f} ms, "
            f"slowest {times[-1]:.0f} ms. The text before the cursor was read when the file was opened.\n",
            highlight=False,
        )
    if picture is not None:
        console.save_svg(str(picture), title="make demo", code_format=WITHOUT_WEB_FONT)
    print_editor_setup(console)
    return len(shown)


async def _show(
    console: Console, session: ModelSession, scene: Scene | NewProgram, since: float | None
) -> SuggestionResult:
    from codegen_lsp.cli.render import code_with_suggestion

    snapshot = snapshot_of(scene)
    prefill_seconds = await session.prefill(snapshot)
    outcome = await session.complete(snapshot)
    suggestion = outcome.suggestions[0] if outcome.suggestions else None
    name = scene.name if isinstance(scene, NewProgram) else scene.module.replace(".", "/") + ".py"
    line = snapshot.text.count("\n", 0, snapshot.offset) + 1
    console.print(
        Panel(
            code_with_suggestion(snapshot, suggestion, before=5, after=2),
            title=f"[bold]{escape(name)}[/bold]:{line}",
            title_align="left",
            subtitle=f"[bold]{outcome.seconds * 1e3:.0f} ms[/bold][dim], {_tokens(outcome, prefill_seconds)}[/dim]",
            subtitle_align="right",
            border_style="green" if suggestion else "yellow",
        )
    )
    if suggestion is None and outcome.refusal is not None:
        console.print(f"[yellow]No suggestion: {escape(outcome.refusal.reason)}[/yellow]", highlight=False)
    if since is not None:
        seconds = time.perf_counter() - since
        console.print(f"[dim]First completion {seconds:.2f} s after the start.[/dim]", highlight=False)
    console.print()
    return outcome


def _tokens(outcome: SuggestionResult, prefill_seconds: float) -> str:
    stats = outcome.stats
    if stats is None:
        return "without the model"
    ahead = (
        f", {stats.cached_tokens} of them when opening ({prefill_seconds * 1e3:.0f} ms)" if stats.cached_tokens else ""
    )
    return f"{stats.generated_tokens} tokens written; {stats.prompt_tokens} read{ahead}"


def print_editor_setup(console: Console) -> None:
    """Print the lines that make an editor use this server, without a frame, so that they can be copied."""
    command = str(Path(sys.executable).with_name("codegen-lsp"))
    plugin = Path(__file__).parents[2] / "editors" / "neovim"
    in_clone = (plugin / "plugin").is_dir()
    console.rule("[bold green]The server is ready[/bold green]", align="left", style="green")
    version = "0.10 and later" if in_clone else "0.12"
    console.print(f"[bold]Neovim {version}[/bold]: paste into [bold]init.lua[/bold]\n", highlight=False)
    lines = neovim_plugin_setup(plugin) if in_clone else neovim_setup(command)
    console.print(lines, soft_wrap=True, highlight=False, markup=False)
    if in_clone:
        console.print("\n[bold]VS Code[/bold]: run in this folder\n", highlight=False)
        lines = "make vsix\ncode --install-extension editors/vscode/codegen-lsp.vsix"
        console.print(lines, soft_wrap=True, highlight=False, markup=False)
    console.print("\nThen open a Python file and type. Tab accepts.", highlight=False)
    console.print("\n[bold]Any other editor[/bold] that speaks LSP 3.18 starts this:\n", highlight=False)
    console.print(f"{command} serve\n", soft_wrap=True, highlight=False, markup=False)


def neovim_plugin_setup(plugin: Path) -> str:
    """Return the configuration for the plugin in a clone of the repository."""
    return f'vim.opt.runtimepath:append("{plugin}")\nrequire("codegen").setup {{}}'


def neovim_setup(command: str) -> str:
    """Return the configuration for Neovim's own client, which has inline completion since 0.12, without a clone."""
    return (
        f'vim.lsp.config("codegen-lsp", {{\n'
        f'  cmd = {{ "{command}", "serve" }},\n'
        f'  filetypes = {{ "python", "c", "cpp", "go", "java", "javascript" }},\n'
        f"}})\n"
        f'vim.lsp.enable("codegen-lsp")\n'
        f"vim.lsp.inline_completion.enable()\n"
        f'vim.keymap.set("i", "<Tab>", function()\n'
        f'  if not vim.lsp.inline_completion.get() then return "<Tab>" end\n'
        f"end, {{ expr = true }})"
    )
