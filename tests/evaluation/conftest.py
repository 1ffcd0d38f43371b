"""Models that answer from a script, and documents to ask them about."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import define, field

from codegen_lsp.evaluation.documents import SourceDocument
from codegen_lsp.inference.rpc.messages import Candidate, GenerateParams, GenerateResult, GenerationStats, WarmParams
from tests.tiny_base import tiny_base

__all__ = ["tiny_base"]

SOURCE = '''"""A module."""

import os
import sys


def folders(path):
    """The folders in a folder.

    Sorted by name.
    """
    found = []
    for name in sorted(os.listdir(path)):
        # only folders
        if os.path.isdir(os.path.join(path, name)):
            found.append(name)  # noted
    return found


def main():
    for folder in folders(sys.argv[1]):
        print(folder)
    "a text alone"
    message = """several
    lines of text"""
    print(
        message,
    )


if __name__ == "__main__":
    main()
'''


@define
class Scripted:
    """A model whose answer is a function of what it is asked."""

    answer: Callable[[GenerateParams], str]
    asked: list[GenerateParams] = field(factory=list)

    async def generate(self, params: GenerateParams) -> GenerateResult:
        self.asked.append(params)
        candidate = Candidate(self.answer(params), 1, -0.1, "stop")
        return GenerateResult([candidate], GenerationStats(1, 0, 1, 0.0, 0.0, 0.0))

    async def warm(self, params: WarmParams) -> None:
        raise AssertionError("nothing is warmed here")


@pytest.fixture
def document() -> SourceDocument:
    return SourceDocument("package", "module.py", "python", SOURCE)
