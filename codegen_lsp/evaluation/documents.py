"""The files that figures are measured on."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import frozen

from codegen_lsp.errors import CodegenError

HELD_OUT = "validation.jsonl"
"""The held-out packages in a corpus made by `codegen_lsp.training`."""


class EvaluationError(CodegenError):
    """There is nothing to measure on, or it can't be read."""


@frozen
class Document:
    """One file of source, line ends as LF."""

    package: str
    """Files of one package resemble each other; packages take turns."""
    path: str
    language: str
    """LSP language identifier."""
    text: str


def held_out(folder: Path) -> list[Document]:
    """The held-out packages of a corpus, which a model trained on it never saw.

    `folder` is the corpus or the training's folder around it. Raises EvaluationError.
    """
    path = next((place / HELD_OUT for place in (folder, folder / "corpus") if (place / HELD_OUT).is_file()), None)
    if path is None:
        raise EvaluationError(
            f"{folder} is no corpus: it has no {HELD_OUT}.",
            "Make one with `python -m codegen_lsp.training --out DIR --until corpus`, then give --corpus DIR; or give "
            "files or folders of source that the model was not trained on.",
        )
    from codegen_lsp.training.corpus import documents

    try:
        return [Document(d.package, d.path, "python", d.text) for d in documents(path)]
    except (OSError, ValueError, TypeError) as error:
        raise EvaluationError(f"{path} can't be read: {error}.", "Delete the corpus and make it again.") from error


def in_turn(documents: Iterable[Document], dice: random.Random) -> Iterator[Document]:
    """The documents in random order, one of each package in turn, each once."""
    packages: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        packages[document.package].append(document)
    waiting = [packages[name] for name in sorted(packages)]
    dice.shuffle(waiting)
    for files in waiting:
        dice.shuffle(files)
    while waiting:
        for files in waiting:
            yield files.pop()
        waiting = [files for files in waiting if files]
