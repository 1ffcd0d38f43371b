"""`codegen-lsp deploy`: run the HTTP server on a cluster."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codegen_lsp.cli.options import Device, Model
from codegen_lsp.errors import ClusterError

if TYPE_CHECKING:
    from codegen_lsp.http.config import HttpConfig
    from codegen_lsp.settings import Settings

app = typer.Typer(help="Run the HTTP server on a cluster.", no_args_is_help=True, add_completion=False)


@app.callback()
def root() -> None:
    """Run the HTTP server on a cluster."""


def replicas_of(text: str) -> int | None:
    """Return a number of replicas; None for `auto`. Raises: BadParameter."""
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise typer.BadParameter(f"{text!r} is neither a number of replicas nor auto", param_hint="--replicas")
    return int(text)


@app.command("ray")
def ray(
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Use the Ray cluster whose head is there, or this machine's with auto; the server stays there until "
            "it is updated or removed. Without it, a cluster is started on this machine and ends with the command.",
        ),
    ] = None,
    replicas: Annotated[
        str,
        typer.Option(metavar="N|auto", help="Number of replicas, each with its own model; auto follows the load."),
    ] = "auto",
    http: Annotated[
        str,
        typer.Option(metavar="[HOST:]PORT", help="Listen there, on each node. HOST is 127.0.0.1 by default."),
    ] = "8012",
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the keys that clients must give, one on each line. Needed on another address than "
            "loopback.",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="Also admit web pages of this origin. May be repeated.")
    ] = None,
    model: Model = "auto",
    device: Device = "auto",
    threads: Annotated[
        int, typer.Option(metavar="N", min=0, help="Threads of each replica; 0 divides the cores, at most 8 for each.")
    ] = 0,
    remove: Annotated[bool, typer.Option("--remove", help="With --address, end the server on that cluster.")] = False,
) -> None:
    """Run the HTTP server on Ray Serve, with several replicas; run it again with --address to update it."""
    number = replicas_of(replicas)
    if remove and address is None:
        raise typer.BadParameter("--remove goes with --address")
    from codegen_lsp import extras

    extras.require("ray", "codegen-lsp deploy ray")
    from codegen_lsp.deploy.environment import prepare
    from codegen_lsp.http.config import HttpConfig, parse_address
    from codegen_lsp.settings import Settings

    host, port = parse_address(http)
    config = HttpConfig(host=host, port=port, key_file=api_key_file, allowed_origins=tuple(allow_origin or []))
    settings = Settings(model=model, device=device)
    config.check_exposure()
    _keys(config)  # before Ray is started
    prepare(address)
    if address is None:
        _run_here(settings, config, number, threads)
    else:
        _update(address, settings, config, number, threads, remove=remove)


def _run_here(settings: Settings, config: HttpConfig, replicas: int | None, threads: int) -> None:
    """Run a cluster on this machine until a signal. Raises: CodegenError."""
    from codegen_lsp.checkpoints.store import find
    from codegen_lsp.deploy import cluster

    find(settings.model)
    typer.echo("Starting Ray; this takes about half a minute.", err=True)
    with cluster.local_cluster():
        _put(settings, config, replicas, threads, every_node=False)
        typer.echo(
            f"Ray's cluster is at {cluster.address()}, for `codegen-lsp deploy ray --address {cluster.address()}`. "
            "Ctrl-C ends it.",
            err=True,
        )
        _wait()
        typer.echo("Ending.", err=True)
        from codegen_lsp.deploy import application

        with contextlib.suppress(ClusterError):  # removed already, by the command with --remove
            application.remove()


def _update(
    address: str, settings: Settings, config: HttpConfig, replicas: int | None, threads: int, *, remove: bool
) -> None:
    """Put the application on a running cluster, or remove it there. Raises: CodegenError."""
    from codegen_lsp.deploy import cluster

    with cluster.joined_cluster(address):
        if remove:
            from codegen_lsp.deploy import application

            application.remove()
            typer.echo("The server is removed from the cluster.", err=True)
            return
        _put(settings, config, replicas, threads, every_node=True)


def _put(settings: Settings, config: HttpConfig, replicas: int | None, threads: int, *, every_node: bool) -> None:
    from attrs import evolve

    from codegen_lsp.deploy import application, cluster
    from codegen_lsp.deploy.capacity import plan_capacity

    capacity = plan_capacity(cluster.node_cpus(), replicas, threads)
    application.put(evolve(settings, threads=capacity.threads), config, _keys(config), capacity, every_node=every_node)
    number = f"{replicas} replicas" if replicas else f"1 to {capacity.most_replicas} replicas"
    typer.echo(f"Serving on http://{config.host}:{config.port}: {number}, {capacity.threads} threads each.", err=True)


def _keys(config: HttpConfig) -> list[str]:
    """Return the keys of which clients must give one. Raises: TokenError."""
    from codegen_lsp.access import TokenError, read_secrets

    if config.key_file is None:
        return []
    try:
        return read_secrets(config.key_file)
    except OSError as error:
        raise TokenError(f"The file {config.key_file} can't be used: {error.strerror or error}.") from error


def _wait() -> None:
    """Return when the process is told to end. Further signals are ignored, so that everything is ended in order."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
