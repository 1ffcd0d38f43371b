"""`codegen-lsp serve`: run the language server."""

from __future__ import annotations

from typing import Annotated

import typer


def serve(
    tcp: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Listen on TCP instead of stdio.")] = None,
    ws: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Listen for WebSocket clients instead.")] = None,
    stdio: Annotated[bool, typer.Option("--stdio", help="Use stdio, the default; some editors pass this.")] = False,
) -> None:
    """Run the language server; editors start this."""
    from codegen_lsp.lsp.serve import serve_stdio, serve_tcp, serve_ws

    if sum((tcp is not None, ws is not None, stdio)) > 1:
        raise typer.BadParameter("choose one of --stdio, --tcp and --ws")
    if tcp is not None:
        raise SystemExit(serve_tcp(tcp))
    if ws is not None:
        raise SystemExit(serve_ws(ws))
    raise SystemExit(serve_stdio())
