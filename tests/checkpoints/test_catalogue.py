"""The catalogue: all checkpoints, correct sizes, names in several spellings."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from codegen_lsp.checkpoints.architecture import COUNTED_CONTEXT
from codegen_lsp.checkpoints.catalogue import (
    bundled_directory,
    checkpoints,
    look_up,
    markdown_table,
    read_catalogue,
    resolve,
)
from codegen_lsp.errors import ModelError

NOMINAL = {
    "135M": 0.135e9,
    "350M": 0.35e9,
    "360M": 0.36e9,
    "0.5B": 0.5e9,
    "1B": 1e9,
    "1.3B": 1.35e9,
    "1.5B": 1.5e9,
    "1.7B": 1.7e9,
    "2B": 2.7e9,
    "3B": 3.5e9,
    "3.7B": 3.7e9,
    "4B": 4e9,
    "6B": 6.7e9,
    "7B": 7e9,
    "16B": 16e9,
}
"""Sizes that the names promise; CodeGen's papers call the 2B model 2.7B and the 6B model 6.1B, Granite Code's 3B has
3.48B."""
PUBLISHED = {
    "codegen-350M-mono": 356_712_448,
    "deepseek-coder-1.3B": 1_346_471_936,
    "smollm2-135M": 134_515_008,
    "smollm2-360M": 361_821_120,
    "smollm2-1.7B": 1_711_376_384,
    "starcoderbase-1B": 1_137_207_296,
}
"""Numbers of parameters that are published with the weights."""

DOCS = Path(__file__).parents[2] / "docs" / "models.md"


def test_every_checkpoint_is_there() -> None:
    names = {entry.name for entry in checkpoints()}
    first = {f"codegen-{size}-{kind}" for size in ("350M", "2B", "6B", "16B") for kind in ("nl", "multi", "mono")}
    second = {f"codegen2-{size}" for size in ("1B", "3.7B", "7B", "16B")}
    third = {f"codegen25-7B-{kind}" for kind in ("multi", "mono", "instruct")}
    others = {
        *(f"qwen2.5-coder-{size}" for size in ("0.5B", "1.5B")),
        *(f"smollm2-{size}" for size in ("135M", "360M", "1.7B")),
        *("deepseek-coder-1.3B", "granite-code-3B", "mellum-4B-sft-python", "starcoderbase-1B"),
    }
    assert names == first | second | third | others
    assert len(checkpoints()) == len(names)


@pytest.mark.parametrize("entry", checkpoints(), ids=lambda entry: entry.name)
def test_sums(entry) -> None:  # type: ignore[no-untyped-def]
    architecture = entry.architecture
    size = re.search(r"-([\d.]+[MB])", entry.name)
    assert size is not None
    assert architecture.parameters == pytest.approx(PUBLISHED.get(entry.name, NOMINAL[size[1]]), rel=0.08)
    width = 4 if entry.family in ("codegen2", "codegen25", "gpt_bigcode") else 2
    masks = architecture.layers * 2048 * 2048 if architecture.block == "codegen" else 0
    assert entry.download_mb == round((architecture.parameters * width + masks) / 1e6)
    assert entry.memory_mb == round(architecture.memory_bytes / 2**20)
    learned_positions = 3 * architecture.context * architecture.width if architecture.block == "gpt_bigcode" else 0
    assert architecture.int8_bytes - learned_positions == pytest.approx(architecture.parameters, rel=0.01)
    assert architecture.width % architecture.heads == 0
    assert architecture.heads % architecture.kv_heads == 0
    assert architecture.rotary <= architecture.head_width
    if entry.family.startswith("codegen"):
        assert (architecture.rows, architecture.context) == (51200, 2048)


def test_the_memory_of_a_long_context_counts_up_to_a_prompts() -> None:
    shape = resolve("qwen2.5-coder-0.5B").architecture
    token = 2 * 4 * 24 * 2 * 64
    assert shape.memory_bytes == shape.int8_bytes + COUNTED_CONTEXT * token
    assert attrs.evolve(shape, context=1024).memory_bytes == shape.int8_bytes + 1024 * token


@pytest.mark.parametrize("entry", checkpoints(), ids=lambda entry: entry.name)
def test_terms(entry) -> None:  # type: ignore[no-untyped-def]
    restricted = {
        "codegen25-7B-instruct": "research-only",
        "deepseek-coder-1.3B": "DeepSeek",
        "starcoderbase-1B": "BigCode-OpenRAIL-M",
    }
    permissive = "BSD-3-Clause" if entry.family == "codegen" else "Apache-2.0"
    assert entry.license == restricted.get(entry.name, permissive)
    assert entry.needs_consent == (entry.name in restricted)
    assert bool(entry.vocabulary_from) == (entry.family == "codegen25")
    if entry.variant == "mono":
        assert entry.languages == ("python",)
    elif entry.variant == "nl" or entry.name.startswith("smollm2"):
        assert entry.languages == ()
    else:
        assert {"c", "cpp", "go", "java", "javascript", "python"} <= set(entry.languages)


def test_qkv_groups() -> None:
    groups = {entry.name: entry.architecture.qkv_groups for entry in checkpoints()}
    assert {name for name, count in groups.items() if count == 8} == {"codegen2-1B", "codegen2-3.7B"}
    others = {entry.name for entry in checkpoints() if entry.architecture.block != "codegen"}
    assert {name for name, count in groups.items() if count == 0} == others


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_number_of_parameters(name: str) -> None:
    assert resolve(name).architecture.parameters == PUBLISHED[name]


@pytest.mark.parametrize("entry", checkpoints(), ids=lambda entry: entry.name)
def test_uses_are_short(entry) -> None:  # type: ignore[no-untyped-def]
    """They share a line of a terminal with a name and four numbers."""
    assert 5 < len(entry.good_for) <= 31
    assert entry.good_for[-1] != "."


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("350M-mono", "codegen-350M-mono"),
        ("350m-MONO", "codegen-350M-mono"),
        ("codegen-350M-mono", "codegen-350M-mono"),
        ("Salesforce/codegen-350M-mono", "codegen-350M-mono"),
        (" salesforce/CodeGen-16B-nl ", "codegen-16B-nl"),
        ("codegen2-3_7B", "codegen2-3.7B"),
        ("Salesforce/codegen2-3_7B_P", "codegen2-3.7B"),
        ("codegen2-1b", "codegen2-1B"),
        ("codegen2.5-7B-mono", "codegen25-7B-mono"),
        ("Salesforce/codegen25-7b-instruct_P", "codegen25-7B-instruct"),
        ("deepseek-ai/deepseek-coder-1.3b-base", "deepseek-coder-1.3B"),
        ("granite-3b-code-base", "granite-code-3B"),
        ("Mellum-4b-sft-python", "mellum-4B-sft-python"),
        ("SmolLM2-135M", "smollm2-135M"),
        ("bigcode/starcoderbase-1b", "starcoderbase-1B"),
    ],
)
def test_names(written: str, meant: str) -> None:
    assert resolve(written).name == meant


@pytest.mark.parametrize("entry", checkpoints(), ids=lambda entry: entry.name)
def test_own_names(entry) -> None:  # type: ignore[no-untyped-def]
    for name in (entry.name, entry.repository, *entry.aliases):
        assert resolve(name) is entry


@pytest.mark.parametrize(
    ("written", "suggested"),
    [("codegen-350-mono", "codegen-350M-mono"), ("codgen2-7b", "codegen2-7B"), ("350M-mona", "codegen-350M-mono")],
)
def test_near_misses(written: str, suggested: str) -> None:
    assert look_up(written) is None
    with pytest.raises(ModelError) as caught:
        resolve(written)
    assert suggested in caught.value.advice


@pytest.mark.parametrize("written", ["", "gpt-4", "../../etc", "日本"])
def test_far_misses(written: str) -> None:
    with pytest.raises(ModelError, match="no checkpoint called") as caught:
        resolve(written)
    assert "models list" in caught.value.advice


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("checkpoint = [", "can't be read"),
        ("[[checkpoint]]\nname = 'x'\n", "damaged.*repository"),
        ("[[checkpoints]]\n", "damaged.*checkpoint"),
    ],
)
def test_a_damaged_catalogue(content: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(content)
    with pytest.raises(ModelError, match=match):
        read_catalogue(path)
    with pytest.raises(ModelError, match="can't be read"):
        read_catalogue(tmp_path / "none.toml")


def test_an_entry_with_a_misspelt_field(tmp_path: Path) -> None:
    text = (bundled_directory() / "catalogue.toml").read_text()
    path = tmp_path / "catalogue.toml"
    path.write_text(text.replace("variant =", "varient =", 1))
    with pytest.raises(ModelError, match=r"damaged.*variant"):
        read_catalogue(path)


def test_the_table_in_the_docs() -> None:
    assert markdown_table() in DOCS.read_text(encoding="utf-8"), "print it again with the command next to it"
