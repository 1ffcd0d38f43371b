"""`codegen-lsp models tune`: fit the weights of the n-grams on the user's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
import typer
from rich.console import Console

from codegen_lsp.checkpoints import store
from codegen_lsp.cli.options import AsJson, Threads

if TYPE_CHECKING:
    from codegen_lsp.checkpoints.tune import Tuning


def tune(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An installed model, or the folder of a build.")],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATHS]...", help="Folders of your source code, each a workspace; the current one by default."
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(metavar="N", min=0.1, help="Time in which files are scored.")] = 5.0,
    reset: Annotated[bool, typer.Option("--reset", help="Remove fitted weights instead.")] = False,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Fit how much the n-grams of workspace and document count beside a model, on your own files.

    The weights are kept with the build, in its folder, and used by the engine `native`.
    """
    from codegen_lsp.checkpoints.tune import tune as fit
    from codegen_lsp.cli.progress_bar import progress_bar
    from codegen_lsp.inference.engines.factory import default_threads
    from codegen_lsp.inference.engines.native.mixing_file import remove_tuned

    build = store.find(name)
    if reset:
        remove_tuned(build.path)
        typer.echo(f"{build.name} has no fitted weights now.")
        return
    workspaces = [_texts(path.absolute()) for path in paths or [Path()]]
    with progress_bar() as report:
        tuning = fit(
            build.path, workspaces, seconds=60 * minutes, threads=threads or default_threads(), progress=report
        )
    if as_json:
        typer.echo(json.dumps(attrs.asdict(tuning) | {"path": str(tuning.path) if tuning.path else None}))
    else:
        _print(Console(), build.name, tuning)


def _texts(folder: Path) -> dict[str, str]:
    """Return the texts of a folder's source files by path; no ignored ones, and none that may hold secrets.

    Raises: EvaluationError.
    """
    from codegen_lsp.evaluation.documents import find_documents
    from codegen_lsp.workspace.files import FileAccess

    access = FileAccess(folder if folder.is_dir() else folder.parent)
    documents = find_documents([folder], None, allowed=access.allows)
    return {document.path: document.text for document in documents}


def _print(console: Console, name: str, tuning: Tuning) -> None:
    console.print(
        f"{name}: fitted on {tuning.tokens} tokens of {tuning.files} files, compared on {tuning.held_out_tokens} of "
        f"{tuning.held_out_files} others.\n"
        f"Nats per token there: {tuning.alone:.3f} by the model alone, {tuning.before:.3f} with the weights before, "
        f"{tuning.after:.3f} with the fitted ones.",
        highlight=False,
        soft_wrap=True,
    )
    if tuning.path is None:
        text = "The fitted weights are no better, so nothing was changed."
    else:
        text = f"They are kept in {tuning.path}. Restart the editor's model to use them; --reset removes them."
    console.print(text, highlight=False, soft_wrap=True)
