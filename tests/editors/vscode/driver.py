"""Opens files and runs commands in a window of VS Code, through an extension of the tests (`driver_extension/`)."""

from __future__ import annotations

import json
import socket
import zipfile
from pathlib import Path
from typing import Any

from tests.editors.scenarios import PATIENCE

SOURCE = Path(__file__).with_name("driver_extension")


def package(folder: Path) -> Path:
    """Package the extension, and return the package's path."""
    path = folder / "driver.vsix"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("package.json", "driver.js"):
            archive.write(SOURCE / name, f"extension/{name}")
    return path


class Driver:
    """The driver at a port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    def request(self, name: str, *arguments: Any) -> Any:
        """Make a request and return its result. Raise AssertionError with VS Code's error, or TimeoutError."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            connection.sendall(json.dumps([name, *arguments]).encode() + b"\n")
            with connection.makefile(encoding="utf-8") as answers:
                line = answers.readline()
        assert line, f"no answer to {name!r}"
        answer = json.loads(line)
        assert "error" not in answer, f"{name!r}: {answer['error']}"
        return answer["result"]
