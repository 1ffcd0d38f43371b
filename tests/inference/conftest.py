"""The embedded build and its parts, opened once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codegen_lsp.checkpoints.quantize import quantize_build
from codegen_lsp.inference.build import BuildInfo, read_info
from codegen_lsp.inference.client import launch
from codegen_lsp.inference.engines.base import Engine
from codegen_lsp.inference.engines.factory import ENGINES, open_engine
from codegen_lsp.inference.engines.native import c_forward as native
from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.inference.text_model import TextModel
from codegen_lsp.inference.tokenizer import Tokenizer
from tests import needs
from tests.made_once import MadeOnce


@pytest.fixture(scope="session")
def embedded_build() -> Path:
    """A model of 7 million parameters in the real format. Bounds on rounding hold for one model, so engines are tested
    on this one whatever model is embedded."""
    return Path(__file__).parents[1] / "models" / "small"


@pytest.fixture(scope="session")
def info(embedded_build: Path) -> BuildInfo:
    return read_info(embedded_build)


@pytest.fixture(scope="session")
def tokenizer(embedded_build: Path, info: BuildInfo) -> Tokenizer:
    return Tokenizer.from_build(embedded_build, info)


WITHOUT_LIBRARY = "native, torch's kernels"
FOUR_BITS = "native, 4 bits"
"""In groups of 32; builds in groups of 64 run in `test_native_engine` and `test_continuous_batch`."""


@pytest.fixture(scope="session")
def four_bit_build(embedded_build: Path, made_once: MadeOnce) -> Callable[[int], Path]:
    """Return a function of the size of groups that returns the model with 4-bit weights."""

    def made(group: int) -> Path:
        def fill(folder: Path) -> None:
            quantize_build(embedded_build, folder / "build", name="small-4bit", group=group)

        return made_once(f"small-in-groups-of-{group}", fill) / "build"

    return made


@pytest.fixture(
    scope="session", params=[*ENGINES, pytest.param(WITHOUT_LIBRARY, marks=needs.mark("convert")), FOUR_BITS]
)
def engine_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def engine_build(engine_kind: str, embedded_build: Path, four_bit_build: Callable[[int], Path]) -> Path:
    """The build that `engine` runs."""
    return four_bit_build(32) if engine_kind == FOUR_BITS else embedded_build


@pytest.fixture(scope="session")
def engine(engine_kind: str, engine_build: Path, tokenizer: Tokenizer) -> Iterator[Engine]:
    name = engine_kind.split(",")[0]
    with pytest.MonkeyPatch.context() as patch:
        if engine_kind == WITHOUT_LIBRARY:
            patch.setattr(native, "library", lambda: None)
        params = LoadParams(str(engine_build), engine=name, threads=2)
        opened = open_engine(params, engine_build, read_info(engine_build), tokenizer)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def model(engine_build: Path, tokenizer: Tokenizer, engine: Engine) -> TextModel:
    return TextModel(read_info(engine_build), tokenizer, engine)


class ObservedWorker:
    """Controls and observes the worker of `tests/end_to_end/observed_worker.py` through a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def slow_down(self) -> None:
        """Let generations take their time, and wait for the first token of the next one."""
        (self._folder / "first-token").unlink(missing_ok=True)
        (self._folder / "slow").touch()

    def speed_up(self) -> None:
        (self._folder / "slow").unlink()

    async def first_token(self) -> None:
        """Wait until a generation has chosen its first token."""
        async with asyncio.timeout(60):
            while not (self._folder / "first-token").exists():  # noqa: ASYNC110 - the signal is a file
                await asyncio.sleep(0.01)


@pytest.fixture
def observed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObservedWorker:
    """Have clients start the observed worker."""
    program = Path(__file__).parents[1] / "end_to_end" / "observed_worker.py"
    monkeypatch.setenv("OBSERVED", str(tmp_path))
    monkeypatch.setattr(launch, "worker_command", lambda: [sys.executable, str(program)])
    return ObservedWorker(tmp_path)
