"""One sandboxed interpreter that runs many programs, so that a program costs a message and not a process."""

from __future__ import annotations

import json
import logging
import socket
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from codegen_lsp.sandbox.sandbox import Confinement, Limits, SandboxError, Verdict, run_program

HERE = Path(__file__).parent
LIMITS = Limits(seconds=12 * 3600.0, memory_mb=2048)
START_SECONDS = 60.0
CONFINEMENTS: tuple[Confinement, ...] = ("namespaces", "limits")

logger = logging.getLogger(__name__)

Files = dict[str, str]
"""The texts of a program by path."""
Observation = list[Any] | None
"""What is seen of a program for each input; None where it ran too long or too deep."""


class Interpreter:
    """A context manager around the sandboxed process. It listens at a Unix socket, the only way out of the sandbox."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="codegen-lsp-fuzz-")
        self._verdicts: list[Verdict] = []

    def __enter__(self) -> Interpreter:
        folder = Path(self._folder.name)
        folder.chmod(0o755)
        path = folder / "socket"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen(1)
        listener.settimeout(0.5)
        source = (HERE / "executor.py").read_text(encoding="utf-8")
        effects = (HERE / "effects.py").read_text(encoding="utf-8")
        program = f"{source}\n\nserve({str(path)!r}, {effects!r})\n"
        self._thread = threading.Thread(target=self._run, args=(program, folder), daemon=True)
        self._thread.start()
        for _ in range(int(START_SECONDS / 0.5)):
            try:
                self._connection, _ = listener.accept()
                break
            except TimeoutError:
                if self._verdicts:
                    raise RuntimeError(f"the interpreter ended: {self._verdicts[0]}") from None
        else:
            raise RuntimeError("the interpreter did not start")
        listener.close()
        self._stream = self._connection.makefile("rw", encoding="utf-8")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError):
            self._stream.close()
        self._connection.close()
        self._thread.join()
        self._folder.cleanup()

    def observe(self, versions: Sequence[Files], names: Sequence[str] = ()) -> list[Observation]:
        """Run each version of a program; in the messages of errors, `names` count as one name."""
        line = ""
        with suppress(OSError):
            self._stream.write(json.dumps({"versions": list(versions), "names": list(names)}) + "\n")
            self._stream.flush()
            line = self._stream.readline()
        if not line:
            self._thread.join()
            raise RuntimeError(f"the interpreter ended: {self._verdicts[0]}\n{versions}")
        answers: list[Observation] = json.loads(line)
        return answers

    def _run(self, program: str, folder: Path) -> None:
        # Where there are no namespaces, limits must do: the programs are harmless by their grammar.
        for confinement in CONFINEMENTS:
            try:
                self._verdicts.append(run_program(program, LIMITS, confinement, shown=[folder]))
                return
            except SandboxError as error:
                logger.warning("Programs run without %s: %s", confinement, error.message)
        self._verdicts.append(Verdict("failed", "programs can't be confined on this system"))
