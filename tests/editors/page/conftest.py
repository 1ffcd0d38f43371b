"""A real Chromium."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.editors.install import environment, run_script
from tests.editors.vscode.conftest import InThread

PATIENCE = 60_000
"""Milliseconds that a page may take for anything."""
REBOUND = "rebound.example"
"""A name of somebody else that leads to this machine."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright.sync_api")
    folder = run_script("install_node.sh")
    variables = environment()
    chromium = run_script("install_chromium.sh", env=variables | {"PATH": f"{folder}{os.pathsep}{variables['PATH']}"})
    thread = ThreadPoolExecutor(1)
    from playwright.sync_api import sync_playwright

    playwright = InThread(thread, thread.submit(lambda: sync_playwright().start()).result())
    browser = playwright.chromium.launch(
        executable_path=chromium,
        args=[
            *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
        ],
    )
    yield browser
    browser.close()
    playwright.stop()
    thread.shutdown()


class EmptyPage(BaseHTTPRequestHandler):
    """A page of another origin."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title><body>")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{other.server_address[1]}/"
        other.shutdown()
