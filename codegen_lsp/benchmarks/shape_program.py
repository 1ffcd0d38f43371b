"""The main function of programs that time one shape: they are started by `isolated` and print their figures as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from codegen_lsp.benchmarks.engines import build_of_shape
from codegen_lsp.errors import CodegenError
from codegen_lsp.temporary_folder import TemporaryFolder

Measure = Callable[[Path, int, int, int], Any]
"""From a build, the context in tokens, threads and rounds to an attrs value of figures."""


def main(measure: Measure) -> None:
    """Make a build of the shape on the command line, measure it, and print the figures or the error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("shape")
    parser.add_argument("context", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("rounds", type=int)
    given = parser.parse_args()
    try:
        with TemporaryFolder() as folder:
            build = build_of_shape(given.shape, folder)
            found = measure(build, given.context, given.threads, given.rounds)
    except CodegenError as error:
        sys.exit(json.dumps([error.message, error.advice]))
    sys.stdout.write(json.dumps(attrs.asdict(found)) + "\n")
