"""Settings as editors send them: nested, dotted, partly wrong, or no settings at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp import former_settings
from codegen_lsp.former_settings import FORMER_NAMES, FORMER_VALUES
from codegen_lsp.settings import (
    ABLATIONS,
    CacheSettings,
    Settings,
    setting_names,
    structure_settings,
)


@pytest.mark.parametrize("raw", [None, {}, [], {"codegen-lsp": {}}, {"threads": None}, {"cache": []}, {"exclude": {}}])
def test_nothing_set_is_all_defaults(raw: object) -> None:
    assert structure_settings(raw) == (Settings(), [])


@pytest.mark.parametrize(
    "raw",
    [
        {"cache": {"memory_mb": 64}, "threads": 2},
        {"cache.memory_mb": 64, "threads": 2},
        {"codegen-lsp": {"cache": {"memory_mb": 64}, "threads": 2}},
        {"codegen-lsp.cache.memory_mb": 64, "codegen-lsp.threads": 2},
        {"cache": {"memory_mb": 64.0}, "threads": 2.0},
    ],
)
def test_nested_and_dotted_names_are_the_same(raw: object) -> None:
    settings, problems = structure_settings(raw)
    assert problems == []
    assert settings.cache == CacheSettings(memory_mb=64)
    assert settings.threads == 2


@pytest.mark.parametrize(
    ("raw", "name", "shown", "default"),
    [
        ({"threads": "many"}, "codegen-lsp.threads", '"many"', "0 is used"),
        ({"threads": -1}, "codegen-lsp.threads", "-1", "0 is used"),
        ({"threads": 1.5}, "codegen-lsp.threads", "1.5", "0 is used"),
        ({"threads": True}, "codegen-lsp.threads", "true", "0 is used"),
        ({"enabled": "no"}, "codegen-lsp.enabled", '"no"', "true is used"),
        ({"enabled": 0}, "codegen-lsp.enabled", "0", "true is used"),
        ({"candidates": 0}, "codegen-lsp.candidates", "0", "3 is used"),
        ({"temperature": "warm"}, "codegen-lsp.temperature", '"warm"', "0.0 is used"),
        ({"temperature": float("nan")}, "codegen-lsp.temperature", "NaN", "0.0 is used"),
        ({"device": "tpu"}, "codegen-lsp.device", '"tpu"', '"auto" is used'),
        ({"model": 5}, "codegen-lsp.model", "5", '"auto" is used'),
        ({"languages": ["rust"]}, "codegen-lsp.languages", '["rust"]', "{} is used"),
        ({"languages": {"rust": "yes"}}, "codegen-lsp.languages", '{"rust": "yes"}', "{} is used"),
        ({"exclude": "*.gen.py"}, "codegen-lsp.exclude", '"*.gen.py"', "[] is used"),
        ({"cache": {"memory_mb": "1 GB"}}, "codegen-lsp.cache.memory_mb", '"1 GB"', "0 is used"),
        ({"ablate": ["wings"]}, "codegen-lsp.ablate", '["wings"]', "[] is used"),
        ({"cache": 5}, "codegen-lsp.cache", "5", "the defaults are used"),
        ({"log.level": "loud"}, "codegen-lsp.log.level", '"loud"', '"warning" is used'),
    ],
)
def test_a_wrong_value_is_named_and_its_default_used(raw: object, name: str, shown: str, default: str) -> None:
    settings, problems = structure_settings(raw)
    assert settings == Settings()
    assert len(problems) == 1
    assert f"`{name}`" in problems[0]
    assert shown in problems[0]
    assert default in problems[0]


def test_a_wrong_value_leaves_the_others_in_force() -> None:
    settings, problems = structure_settings({"threads": "x", "candidates": 5, "cache": {"memory_mb": [], "x": 1}})
    assert settings.candidates == 5
    assert len(problems) == 3


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("maxLines", "codegen-lsp.max_lines"),
        ("tempratur", "codegen-lsp.temperature"),
        ("cache.memoryMb", "codegen-lsp.cache.memory_mb"),
        ("memory_mb", "codegen-lsp.cache.memory_mb"),
    ],
)
def test_an_unknown_name_brings_the_nearest_known_one(name: str, meant: str) -> None:
    settings, problems = structure_settings({name: 1})
    assert settings == Settings()
    assert problems == [f"`codegen-lsp.{name}` is not a setting; did you mean `{meant}`?"]


def test_an_unknown_name_like_no_other_is_just_reported() -> None:
    assert structure_settings({"zzz": 1})[1] == ["`codegen-lsp.zzz` is not a setting; it is ignored."]


def test_something_else_than_a_table_is_reported() -> None:
    settings, problems = structure_settings("fast please")
    assert settings == Settings()
    assert "fast please" in problems[0]


def test_later_layers_win_setting_by_setting() -> None:
    first = {"threads": 2, "cache": {"memory_mb": 64}, "languages": {"rust": True}}
    settings, problems = structure_settings(first, {"cache.memory_mb": 32, "languages": {"go": False}, "threads": None})
    assert problems == []
    assert (settings.threads, settings.cache.memory_mb) == (2, 32)
    assert settings.languages == {"rust": True, "go": False}


def test_a_wrong_value_in_a_later_layer_is_not_the_earlier_one() -> None:
    settings, problems = structure_settings({"threads": 2}, {"threads": "x"})
    assert settings.threads == 0
    assert len(problems) == 1


@pytest.fixture
def notes(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Notes in the log, each of which comes once per process."""
    former_settings._note.cache_clear()
    yield lambda: [record.getMessage() for record in caplog.records]
    former_settings._note.cache_clear()


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ({"engine": "incremental"}, {"engine": "native"}),
        ({"document_cache": "off"}, {"ngrams": "off"}),
        ({"codegen-lsp.document_cache": "on"}, {"ngrams": "on"}),
        ({"without": ["window"]}, {"ablate": ["window"]}),
        (
            {"without": ["document_cache", "elsewhere", "flight", "continuation", "context"]},
            {"ablate": ["ngrams", "rest_of_document", "coalescing", "prefetch", "context"]},
        ),
    ],
)
def test_former_names_are_accepted_with_a_note_in_the_log(
    former: dict[str, Any], current: dict[str, Any], notes: Callable[[], list[str]]
) -> None:
    settings, problems = structure_settings(former)
    assert problems == []
    assert settings == structure_settings(current)[0]
    (first, *_) = notes()
    assert "is now called" in first
    count = len(notes())
    structure_settings(former)
    assert len(notes()) == count
    assert not structure_settings(current)[1]


def test_current_names_are_not_noted(notes: Callable[[], list[str]]) -> None:
    structure_settings({"engine": "native", "ngrams": "off", "ablate": ["ngrams"]})
    assert notes() == []


def test_the_current_name_goes_before_the_former_one_and_a_later_layer_before_both() -> None:
    assert structure_settings({"document_cache": "on", "ngrams": "off"})[0].ngrams == "off"
    assert structure_settings({"ngrams": "off"}, {"document_cache": "on"})[0].ngrams == "on"


def test_a_wrong_value_under_a_former_name_is_reported_under_the_current_one() -> None:
    (problem,) = structure_settings({"document_cache": "perhaps"})[1]
    assert "`codegen-lsp.ngrams` must be one of" in problem


def test_the_names_of_parts_are_the_same_everywhere() -> None:
    assert set(FORMER_VALUES["ablate"].values()) <= set(ABLATIONS)
    assert set(FORMER_NAMES.values()) <= {name.removeprefix("codegen-lsp.") for name in setting_names()}


def test_names_are_complete() -> None:
    names = setting_names()
    assert "codegen-lsp.cache.memory_mb" in names
    assert "codegen-lsp.cache" not in names
    assert len(names) == len(set(names))


NAMES = st.sampled_from(
    [name.removeprefix("codegen-lsp.") for name in setting_names()] + ["cache", "log", "codegen-lsp"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=10), inner, max_size=6),
    max_leaves=20,
)


@given(ANYTHING, ANYTHING)
def test_nothing_that_arrives_raises(first: Any, second: Any) -> None:
    settings, problems = structure_settings(first, second)
    assert isinstance(settings, Settings)
    assert all(isinstance(problem, str) and "codegen-lsp" in problem for problem in problems)
    assert 0 <= settings.threads <= 256
    assert settings.device in ("auto", "cpu", "cuda")
