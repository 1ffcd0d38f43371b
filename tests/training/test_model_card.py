"""The card's numbers come from the files, and it says whose model this is."""

from __future__ import annotations

from tests import needs

needs.extra("train")

from codegen_lsp.training import model_card
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.model import ModelShape, TrainableCodeGen

MANIFEST = {
    "packages": [
        {"name": "flask", "version": "3.1", "license": "BSD-3-Clause", "split": "train", "files": 9, "bytes": 12345},
        {
            "name": "requests",
            "version": "2.3",
            "license": "Apache-2.0",
            "split": "validation",
            "files": 3,
            "bytes": 678,
        },
    ],
    "bytes": {"train": 12345, "validation": 678},
    "files": {"train": 9, "validation": 3},
    "left out": {"generated": 17},
}
LOG = [
    {"kind": "validation", "step": 1, "tokens": 10, "seconds": 5.0, "nats_per_token": 9.0, "bits_per_byte": 3.0,
     "infill_nats_per_token": 9.0},
    {"kind": "train", "step": 2, "tokens": 20, "seconds": 6.0, "nats_per_token": 8.0, "rate": 0.1},
    {"kind": "validation", "step": 3, "tokens": 5_400_000, "seconds": 600.0, "nats_per_token": 2.5,
     "bits_per_byte": 0.987, "infill_nats_per_token": 2.25, "rows": 192},
]  # fmt: skip

CONFIG = TrainingConfig(ModelShape(), steps=3, row_lengths=((0, 512), (9, 2048)))


def test_the_card_tells_what_the_files_say() -> None:
    text = model_card.model_card("small-one", CONFIG, MANIFEST, LOG, "python -m codegen_lsp.training --minutes 10")
    assert text.startswith("---\nlicense: apache-2.0\n")
    assert "0.987 bits per byte" in text
    assert "at most 192 rows" in text
    assert "5.4 million tokens in 10 minutes" in text
    assert "trained on rows of 512 to 2,048" in text
    assert "| flask | 3.1 | BSD-3-Clause | train | 9 | 12,345 |" in text
    assert "| generated | 17 |" in text
    assert "python -m codegen_lsp.training --minutes 10" in text
    assert "not a Salesforce checkpoint" in text


def test_parameters_are_those_of_the_model() -> None:
    for shape in (ModelShape(), ModelShape(vocabulary=300, width=64, layers=3, heads=4, rotary=16)):
        assert model_card.parameters(shape) == sum(p.numel() for p in TrainableCodeGen(shape).parameters())
