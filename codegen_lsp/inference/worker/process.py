"""The inference worker, the process that owns the model.

It is a process of its own so that the language server answers at once whatever the model does, and survives when the
model takes too much memory and is killed. It speaks JSON-RPC with one server on its standard streams, or with several
on a socket that it inherits.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from codegen_lsp.inference.rpc.endpoint import Endpoint
from codegen_lsp.inference.worker.server import claim_stdout, serve_socket, serve_stdio
from codegen_lsp.log_format import LogFormatter

LOG_VARIABLE = "CODEGEN_LSP_LOG"
"""Environment variable with the log level of the worker's standard error."""


def main() -> None:
    """Serve on the standard streams, or on the socket of `--listen`."""
    set_signals()
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("codegen_lsp").setLevel(os.environ.get(LOG_VARIABLE, "warning").upper())
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=int, help="descriptor of a listening socket")
    parser.add_argument("--folder", type=Path, help="folder of the endpoint")
    parser.add_argument("--digest", help="digest of the endpoint")
    arguments = parser.parse_args()
    if arguments.listen is None:
        asyncio.run(serve_stdio(claim_stdout()))
    else:
        listening = socket.socket(fileno=arguments.listen)
        asyncio.run(serve_socket(listening, Endpoint(arguments.folder, arguments.digest)))


def set_signals() -> None:
    """Set the worker's own signal dispositions in place of inherited ones.

    A terminal's SIGINT and SIGHUP go to the whole process group, but are for the server, which then ends the worker.
    SIGTERM ends the worker, even when the server was started with SIGTERM ignored.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
