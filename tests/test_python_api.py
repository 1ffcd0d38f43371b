"""The model from Python, with the embedded build."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("options", [{"temperature": -0.5}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1}])
def test_options_without_a_meaning_are_refused(options: dict[str, Any], model: CodeModel) -> None:
    with pytest.raises(GenerationError, match="not negative"):
        model.generate("x", **options)


def test_texts_that_are_not_unicode_are_refused(model: CodeModel) -> None:
    for ask in (model.generate, model.complete, model.score, lambda text: list(model.stream(text))):
        with pytest.raises(GenerationError, match="Character 3 of the text"):
            ask("x \udce9")
    with pytest.raises(GenerationError, match="Character 1"):
        model.generate("x", stop=["\ud800"])


def test_the_lines_of_the_documentation_run(
    embedded_build: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: CodeModel
) -> None:
    """With the embedded build in place of the model that they name."""
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    first, *others = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    load = codegen_lsp.load
    monkeypatch.setattr(codegen_lsp, "load", lambda name: load(str(embedded_build), threads=1))
    exec(compile(first, "python.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) >= 2
    for lines in others:
        exec(compile(lines, "python.md", "exec"), {"model": model})
    documented = dict(re.findall(r"^\| `(\w+)\((.*?)\)` \|", page, re.MULTILINE))
    for name in ("generate", "complete", "score"):
        parameters = inspect.signature(getattr(CodeModel, name)).parameters.values()
        plain = [one.replace(annotation=inspect.Parameter.empty) for one in parameters if one.name != "self"]
        assert str(inspect.Signature(plain)) == f"({documented[name].replace(chr(34), chr(39))})"
