"""Typing replay: real files typed into the real server, over LSP, as a person types them in an editor.

`typist` chooses the keys, `typing_run` is the editor. There are two paces:

- *real time*: keys come at their times, and a request that is not answered by the next key is cancelled. All that an
  editor sees is measured, and it takes as long as typing.
- *brisk*: every answer is awaited, idle time is cut short once the server has nothing to do, and nothing is cancelled.
  The same seed, files and model give the same edits and requests on any machine. Work that the server does after a
  period of silence (warming the prompt) never runs, and the processor never rests.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codegen_lsp.benchmarks.lsp_client import EditorClient, ReplayError, opened
from codegen_lsp.benchmarks.replay_records import ProcessCost, Replay
from codegen_lsp.benchmarks.typing_run import TypingRun
from codegen_lsp.benchmarks.typist import begin
from codegen_lsp.evaluation.documents import SourceDocument, in_turn
from codegen_lsp.progress import ProgressReport
from codegen_lsp.temporary_folder import TemporaryFolder

_CANCELLED = re.compile(r"cancelled after (\d+) tokens")
_INDEXED = re.compile(r"compared with its index in ([\d.]+) s")
FOLDER_FILES = 100
"""Files in one folder of a workspace that is filled up."""
FILE_CHARACTERS = 1_500
"""Text of such a file."""


def replay_files(
    documents: Sequence[SourceDocument],
    *,
    files: int,
    characters: int,
    seed: int,
    settings: dict[str, Any],
    real_time: bool,
    report: ProgressReport,
    workspace_files: int = 0,
) -> Replay:
    """Type into the documents, packages in turn. Raises: ReplayError."""
    drawn = list(in_turn(documents, random.Random(seed)))  # noqa: S311 - a sample, not a secret
    return asyncio.run(
        replay(
            drawn,
            files=files,
            characters=characters,
            seed=seed,
            settings=settings,
            real_time=real_time,
            report=report,
            workspace_files=workspace_files,
        )
    )


async def replay(
    documents: Sequence[SourceDocument],
    *,
    files: int,
    characters: int,
    seed: int,
    settings: dict[str, Any],
    real_time: bool,
    report: ProgressReport | None = None,
    workspace_files: int = 0,
) -> Replay:
    """Type about `characters` characters into each of the first `files` documents that are long enough.

    Each package is a workspace folder. With `workspace_files`, they all lie in one folder, filled up with beginnings of
    the documents to so many files, and the server begins to index it when the first file is opened.

    Raises: ReplayError.
    """
    sessions = [session for session in (begin(document, characters, seed) for document in documents) if session][:files]
    if not sessions:
        raise ReplayError("No file is long enough.", f"Give files of more than {2 * characters + 200} characters.")
    with TemporaryFolder() as folder:
        log = folder / "log"
        workspace = folder / "workspace"
        packages = {session.document.package: workspace / str(n) for n, session in enumerate(sessions)}
        for document in documents:
            if document.package in packages:
                _write(document, packages[document.package])
        if workspace_files:
            _fill(workspace / "more", documents, workspace_files, report)
        folders = [workspace] if workspace_files else list(packages.values())
        async with opened(settings, log, folders) as editor:
            model = editor.status["model"]
            length = model["charactersPerToken"]
            before = _cpu(editor)
            typed = []
            for number, session in enumerate(sessions):
                place = packages[session.document.package] / session.document.workspace_path
                typed.append(await TypingRun(editor, session, place.as_uri(), real_time, length).run())
                if report:
                    report(f"{number + 1} of {len(sessions)}", (number + 1) / len(sessions))
            cost = _cost(editor, before)
            generated = (await editor.ask("codegen-lsp/explain", {}))["generatedTokens"]
        logged = log.read_text(encoding="utf-8")
        cancelled = sum(int(found) for found in _CANCELLED.findall(logged))
        indexed = [float(found) for found in _INDEXED.findall(logged)]
    shown = sum(request.generated_tokens for file in typed for request in file.requests if request.new)
    return Replay(model, real_time, typed, cost, cancelled, generated + cancelled, shown, max(indexed, default=None))


def _write(document: SourceDocument, folder: Path) -> None:
    """Write a file into a workspace folder, where the server can read it."""
    path = folder / document.workspace_path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document.text, encoding="utf-8")


def _fill(folder: Path, documents: Sequence[SourceDocument], count: int, report: ProgressReport | None) -> None:
    """Write beginnings of documents, each file with a line of its own."""
    for number in range(count):
        document = documents[number % len(documents)]
        suffix = Path(document.path).suffix
        path = folder / str(number // FOLDER_FILES) / f"file{number}{suffix}"
        if number % FOLDER_FILES == 0:
            path.parent.mkdir(parents=True)
            if report:
                report(f"{number} of {count} files written", 0.0)
        path.write_text(f"file{number} = {number}\n{document.text[:FILE_CHARACTERS]}\n", encoding="utf-8")


def _cpu(editor: EditorClient) -> tuple[float, float]:
    server, worker = editor.processes
    return sum(server.cpu_times()[:2]), sum(worker.cpu_times()[:2])


def _cost(editor: EditorClient, before: tuple[float, float]) -> ProcessCost:
    server, worker = editor.processes
    now = _cpu(editor)
    return ProcessCost(
        now[0] - before[0],
        now[1] - before[1],
        server.memory_info().rss / 2**20,
        worker.memory_info().rss / 2**20,
    )
