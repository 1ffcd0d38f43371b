"""`codegen-lsp bench http`: the HTTP server under the load of several clients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import attrs
import typer
from rich.console import Console

from codegen_lsp.checkpoints.store import find
from codegen_lsp.cli.install import Install, ensure
from codegen_lsp.cli.options import AsJson, Corpus, Model, Seed, SourcePaths, Threads


def http(
    paths: SourcePaths = None,
    model: Model = "auto",
    corpus: Corpus = None,
    clients: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Users, or requests, at once.")] = 8,
    characters: Annotated[
        int, typer.Option(metavar="N", min=40, help="Characters that each user types, in two stretches of a file.")
    ] = 300,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="SHAPE",
            help="Instead of typing, time tokens a second of one request and of N at once, on random weights of this "
            "shape, as for `bench engine`.",
            show_default=False,
        ),
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="With --shape, also time llama.cpp's llama-server with N slots.")
    ] = False,
    llama_server: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="That program; by default the one that $LLAMA_SERVER names, or llama-server on PATH.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="With --shape, rounds after the warm-up.")] = 3,
    seed: Seed = 0,
    threads: Threads = 0,
    install: Install = False,
    as_json: AsJson = False,
) -> None:
    """Type real files as several users do, through `serve --http`: times of suggestions, and the server's memory."""
    if shape is None and (peers or llama_server):
        raise typer.BadParameter("--peers and --llama-server go with --shape")
    ensure("serve", "bench http", install=install)
    if shape is not None:
        _time_shape(shape, clients, rounds, threads, llama_server, peers=peers, install=install, as_json=as_json)
        return
    from codegen_lsp.benchmarks.http.served import own_command, served
    from codegen_lsp.benchmarks.http.typing_load import type_at_once, typing_sessions
    from codegen_lsp.cli.bench_http_tables import print_typing
    from codegen_lsp.cli.progress_bar import progress_bar
    from codegen_lsp.evaluation.documents import find_documents

    sessions = typing_sessions(find_documents(paths or [], corpus), clients, characters, seed)
    command = own_command(str(find(model).path), threads)
    with progress_bar() as report, served("codegen-lsp", command, own=True) as server:
        figures = type_at_once(server, sessions, report)
    if as_json:
        typer.echo(json.dumps(attrs.asdict(figures)))
    else:
        print_typing(Console(), figures)


def _time_shape(
    shape: str,
    requests: int,
    rounds: int,
    threads: int,
    llama_server: Path | None,
    *,
    peers: bool,
    install: bool,
    as_json: bool,
) -> None:
    if peers:
        ensure("export", "bench http --peers", install=install)
    from codegen_lsp.benchmarks.http.served import find_llama_server
    from codegen_lsp.benchmarks.http.shape import measure_shape
    from codegen_lsp.cli.bench_http_tables import print_throughput
    from codegen_lsp.cli.progress_bar import progress_bar

    program = find_llama_server(llama_server) if peers else None
    with progress_bar() as report:
        figures = measure_shape(
            shape, find("auto").path, program, requests=requests, rounds=rounds, threads=threads, report=report
        )
    if as_json:
        typer.echo(json.dumps(attrs.asdict(figures)))
    else:
        print_throughput(Console(), figures)
