"""The model from Python, with the embedded build."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import codegen_lsp
from codegen_lsp.errors import ModelError
from codegen_lsp.python_api import CodeModel, GenerationError


@pytest.fixture(scope="module")
def model(embedded_build: Path) -> Iterator[CodeModel]:
    with codegen_lsp.load(str(embedded_build), threads=1) as found:
        yield found


def test_generation_is_repeatable_and_streams_the_same(model: CodeModel) -> None:
    (text,) = model.generate("def hello_world():\n", max_new_tokens=24)
    assert text.tokens <= 24
    assert text.finish in ("length", "end")
    assert str(text) == text.text == "".join(model.stream("def hello_world():\n", max_new_tokens=24))
    assert str(model.generate("def hello_world():\n", max_new_tokens=24)[0]) == text.text


def test_samples_depend_on_the_seed(model: CodeModel) -> None:
    texts = [
        [one.text for one in model.generate("x", max_new_tokens=12, temperature=1.0, n=3, seed=seed)]
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 3


def test_texts_end_where_they_are_told_to(model: CodeModel) -> None:
    prompt = "import os\n\n"
    whole = str(model.generate(prompt, max_new_tokens=40)[0])
    mark = whole.strip()[3:6]
    assert mark
    (cut,) = model.generate(prompt, max_new_tokens=40, stop=[mark])
    assert (cut.text, cut.finish) == (whole[: whole.index(mark)], "stop")
    (cut,) = model.generate(prompt, max_new_tokens=40, truncate_before_pattern=[mark])
    assert (cut.text, cut.finish) == (whole[: whole.index(mark)], "stop")
    assert "".join(model.stream(prompt, max_new_tokens=40, truncate_before_pattern=[mark])) == cut.text


def test_a_closed_iterator_ends_the_generation(model: CodeModel) -> None:
    parts = model.stream("x = [", max_new_tokens=500)
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert model.generate("x", max_new_tokens=1)


def test_other_threads_wait(model: CodeModel) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(str(model.generate("y = ", max_new_tokens=8)[0])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_completion_is_what_an_editor_shows(model: CodeModel) -> None:
    assert model.complete("def add(a, b):\n    return ", "\n").startswith("a")
    assert "\n" not in model.complete("value = 1 if tota", " else 2\n")


def test_likelihoods(model: CodeModel) -> None:
    assert model.score("return x", "def f(x):\n    ") > model.score("zebra x", "def f(x):\n    ")


def test_errors_say_what_to_do(model: CodeModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        codegen_lsp.load(str(tmp_path))
    with pytest.raises(GenerationError, match="temperature"):
        model.generate("x", n=2)
    with pytest.raises(GenerationError, match="nothing to generate"):
        model.generate("x", max_new_tokens=0)
    with pytest.raises(ModelError, match="no room"):
        model.generate("x", max_new_tokens=10**6)
    with pytest.raises(ModelError, match="no regular expression"):
        list(model.stream("x", truncate_before_pattern=["("]))
