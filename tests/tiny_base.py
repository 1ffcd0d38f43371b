"""A tiny trained model as a build, for tests that train it further."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp import extras
from tests.made_once import MadeOnce


@pytest.fixture(scope="session")
def tiny_base(made_once: MadeOnce) -> Path:
    """The folder of an int8 build of a model of 150,000 parameters, trained for 30 steps."""
    if extras.missing("train"):
        pytest.skip("needs the extra `train`")
    import attrs

    from codegen_lsp.training import pipeline

    preset = attrs.evolve(pipeline.PRESETS["tiny"], library_packages=("json", "logging", "importlib", "urllib"))

    def fill(folder: Path) -> None:
        job = pipeline.Job(folder, preset, steps=30, device="cpu", name="tiny")
        pipeline.run(job, lambda _: None, last="convert")

    return made_once("tiny-base", fill) / "build"
