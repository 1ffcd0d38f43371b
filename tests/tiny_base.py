"""A tiny trained model as a build, for tests that train it further."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp import extras


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an int8 build of a model of 150,000 parameters, trained for 30 steps."""
    if extras.missing("train"):
        pytest.skip("needs the extra `train`")
    import attrs

    from codegen_lsp.training import pipeline

    folder = tmp_path_factory.mktemp("base")
    preset = attrs.evolve(pipeline.PRESETS["tiny"], library_packages=("json", "logging", "importlib", "urllib"))
    pipeline.run(pipeline.Job(folder, preset, steps=30, device="cpu", name="tiny"), lambda _: None, last="convert")
    return folder / "build"
