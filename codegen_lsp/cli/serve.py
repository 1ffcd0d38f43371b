"""`codegen-lsp serve`: run the language server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="With --ws, also admit web pages of this origin. May be repeated."),
    ] = None,
    stdio: Annotated[bool, typer.Option("--stdio", help="Use stdio, the default; some editors pass this.")] = False,
) -> None:
    """Run the language server; editors start this."""
    if sum((tcp is not None, ws is not None, stdio)) > 1:
        raise typer.BadParameter("choose one of --stdio, --tcp and --ws")
    if token_file is not None and tcp is None and ws is None:
        raise typer.BadParameter("--token-file goes with --tcp or --ws")
    if allow_origin and ws is None:
        raise typer.BadParameter("--allow-origin goes with --ws")
    if tcp is None and ws is None:
        from codegen_lsp.cli.stdio_server import serve_on_stdio

        serve_on_stdio()
    from codegen_lsp.lsp.sockets import serve_tcp, serve_ws
    from codegen_lsp.lsp.watchdog import end_process

    if tcp is not None:
        end_process(serve_tcp(tcp, token_file))
    assert ws is not None
    end_process(serve_ws(ws, token_file, allow_origin or []))
