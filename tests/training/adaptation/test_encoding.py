"""What is trained on, and what is held out of it."""

from __future__ import annotations

from tests import needs

needs.extra("train")

from pathlib import Path

import numpy as np
import pytest

from codegen_lsp.inference.engines.native.mixing_weights import SMALL_MODEL
from codegen_lsp.training import data
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.adaptation import encoding
from codegen_lsp.training.adaptation.sources import OwnFile


def own_files(count: int) -> list[OwnFile]:
    return [
        OwnFile(Path("/own"), f"{n}.py", "".join(f"own_{n}_{m} = {n * m}\n" for m in range(60))) for n in range(count)
    ]


@pytest.mark.parametrize("replay_is_longer", [True, False])
def test_held_out_text_is_in_no_training_text(tmp_path: Path, replay_is_longer: bool) -> None:
    """Whichever of the general texts is longer: they are written to files that are read while the others are made."""
    training, held_out = encoding.split(own_files(60))
    replay = ["".join(f"replayed_{n}_{m} = 1\n" for m in range(40)) for n in range(50 if replay_is_longer else 5)]
    outside = ["".join(f"outside_{n}_{m} = 1\n" for m in range(40)) for n in range(4 if replay_is_longer else 90)]
    learned = code_tokenizer.train([file.text for file in training], 400)
    encoding.encode(learned, training, held_out, (replay, outside), SMALL_MODEL, tmp_path)

    def text(name: str) -> str:
        return code_tokenizer.decode_bytes(learned, np.asarray(data.read(tmp_path, name).ids).tolist()).decode()

    train, validation = data.read(tmp_path, "train"), data.read(tmp_path, "validation")
    own_tokens = len(data.read(tmp_path, "own").ids) - len(validation.ids)
    assert text("general") == "".join(outside)
    assert text("validation") == "".join(file.text for file in held_out)
    assert text("train").startswith("".join(file.text for file in training))
    rest = text("train").removeprefix("".join(file.text for file in training))
    assert rest
    assert "".join(replay).startswith(rest)
    assert train.gains is not None
    assert not train.gains[own_tokens:].any()
    assert train.gains[:own_tokens].any()
    assert train.starts[-1] == len(train.ids) == len(train.gains)
    if replay_is_longer:
        assert (len(train.ids) - own_tokens) / len(train.ids) == pytest.approx(encoding.GENERAL_SHARE, abs=0.03)
    assert not list(tmp_path.glob("*.partial.*"))
