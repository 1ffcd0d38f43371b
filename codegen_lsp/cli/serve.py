"""`codegen-lsp serve`: run the language server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from codegen_lsp.cli.options import Device, Model, Threads

if TYPE_CHECKING:
    from codegen_lsp.http.config import HttpConfig


def serve(
    tcp: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Listen on TCP instead of stdio.")] = None,
    ws: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Listen for WebSocket clients instead.")] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the token that clients must give, made if it is missing. Without it, a new token is "
            "printed at each start.",
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Serve clients of HTTP instead, such as llama.vim (port 8012 by default), in the dialects of "
            "llama.cpp, OpenAI and others. HOST is 127.0.0.1 by default.",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN", help="With --ws or --http, also admit web pages of this origin. May be repeated."
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --http, the file with the keys that clients must give, one on each line. Needed on another "
            "address than loopback.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="With --http, a name under which clients without a key may ask, beside the address. May be repeated.",
        ),
    ] = None,
    workspace: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="With --http, a folder whose files the page at / may count. May be repeated.",
            file_okay=False,
            exists=True,
        ),
    ] = None,
    programs: Annotated[
        bool,
        typer.Option(
            "--programs",
            help="With --http, let the page at /sessions run programs in the sandbox, for everybody who may use the "
            "server.",
        ),
    ] = False,
    model: Model = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    stdio: Annotated[bool, typer.Option("--stdio", help="Use stdio, the default; some editors pass this.")] = False,
) -> None:
    """Run the language server; editors start this."""
    if sum((tcp is not None, ws is not None, http is not None, stdio)) > 1:
        raise typer.BadParameter("choose one of --stdio, --tcp, --ws and --http")
    if http is None and (
        api_key_file is not None
        or allow_host
        or workspace
        or programs
        or (model, device, threads) != ("auto", "auto", 0)
    ):
        raise typer.BadParameter(
            "--api-key-file, --allow-host, --workspace, --programs, --model, --device and --threads go with --http"
        )
    if token_file is not None and tcp is None and ws is None:
        raise typer.BadParameter("--token-file goes with --tcp or --ws")
    if allow_origin and ws is None and http is None:
        raise typer.BadParameter("--allow-origin goes with --ws or --http")
    if http is not None:
        from attrs import evolve

        config = _http_config(http, api_key_file, allow_origin or [], allow_host or [], workspace or [])
        config = evolve(config, programs=programs)
        _serve_http(config, model, device, threads)
    if tcp is None and ws is None:
        from codegen_lsp.cli.stdio_server import serve_on_stdio

        serve_on_stdio()
    from codegen_lsp.lsp.sockets import serve_tcp, serve_ws
    from codegen_lsp.lsp.watchdog import end_process

    if tcp is not None:
        end_process(serve_tcp(tcp, token_file))
    assert ws is not None
    end_process(serve_ws(ws, token_file, allow_origin or []))


def _http_config(
    address: str, key_file: Path | None, origins: list[str], hosts: list[str], workspaces: list[Path]
) -> HttpConfig:
    """Return the configuration of the HTTP server. Raises: AddressError."""
    from codegen_lsp.http.config import HttpConfig, parse_address

    host, port = parse_address(address)
    return HttpConfig(
        host=host,
        port=port,
        key_file=key_file,
        allowed_origins=tuple(origins),
        allowed_hosts=tuple(name.lower() for name in hosts),
        workspaces=tuple(workspaces),
    )


def _serve_http(config: HttpConfig, model: str, device: str, threads: int) -> NoReturn:
    """Serve HTTP until a signal. Raises: CodegenError."""
    from codegen_lsp import extras

    extras.require("serve", "codegen-lsp serve --http")
    from codegen_lsp.http.serve import serve_http
    from codegen_lsp.settings import Settings

    raise SystemExit(serve_http(config, Settings(model=model, device=device, threads=threads)))
