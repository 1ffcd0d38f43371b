from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codegen_lsp.http import infill_marks
from codegen_lsp.http.infill_marks import FORMATS, MASK, MASK_END, InfillFormat, split_prompt
from codegen_lsp.http.mark_filter import ALWAYS
from codegen_lsp.http.problems import RequestProblem
from codegen_lsp.http.requests import ExtraText

PREFIX = "import os\n\n\ndef main(folder):\n    for name in os."
SUFFIX = "(folder):\n        print(name)\n"

STARCODER, QWEN, SANTA, DEEPSEEK, DEEPSEEK_ASCII, GLM, SEED, CODELLAMA, CODESTRAL = FORMATS


@pytest.mark.parametrize(
    ("prompt", "form"),
    [
        # Zed's formats (crates/edit_prediction/src/fim.rs), which are those of Continue and of the models' own pages.
        (f"<fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>", STARCODER),
        (f"<|fim_prefix|>{PREFIX}<|fim_suffix|>{SUFFIX}<|fim_middle|>", QWEN),
        (f"<fim-prefix>{PREFIX}<fim-suffix>{SUFFIX}<fim-middle>", SANTA),
        (f"<｜fim▁begin｜>{PREFIX}<｜fim▁hole｜>{SUFFIX}<｜fim▁end｜>", DEEPSEEK),
        (f"<|fim▁begin|>{PREFIX}<|fim▁hole|>{SUFFIX}<|fim▁end|>", DEEPSEEK_ASCII),
        (f"<PRE> {PREFIX} <SUF>{SUFFIX} <MID>", CODELLAMA),
        (f"[SUFFIX]{SUFFIX}[PREFIX]{PREFIX}", CODESTRAL),
        (f"<|code_prefix|>{PREFIX}<|code_suffix|>{SUFFIX}<|code_middle|>", GLM),
        (f"<[fim-prefix]>{PREFIX}<[fim-suffix]>{SUFFIX}<[fim-middle]>", SEED),
        # Suffix first: Seed-Coder's own page, Mellum's, CodeLlama's and StarCoder's other order, ProxyAI's Codestral.
        (f"<[fim-suffix]>{SUFFIX}<[fim-prefix]>{PREFIX}<[fim-middle]>", SEED),
        (f"<fim_suffix>{SUFFIX}<fim_prefix>{PREFIX}<fim_middle>", STARCODER),
        (f"<fim_prefix><fim_suffix>{SUFFIX}<fim_middle>{PREFIX}", STARCODER),
        (f"<PRE> <SUF>{SUFFIX} <MID> {PREFIX}", CODELLAMA),
        (f"[SUFFIX]{SUFFIX}[PREFIX]{PREFIX}[MIDDLE]", CODESTRAL),
        (f"\n\n[SUFFIX]{SUFFIX}[PREFIX]{PREFIX}", CODESTRAL),
        # The beginning of the answer is given.
        (f"<|fim_prefix|>{PREFIX[:-3]}<|fim_suffix|>{SUFFIX}<|fim_middle|>{PREFIX[-3:]}", QWEN),
        # Tokens for the begin of a text, and GLM's turn.
        (f"<s><PRE> {PREFIX} <SUF>{SUFFIX} <MID>", CODELLAMA),
        (f"<｜begin▁of▁sentence｜><｜fim▁begin｜>{PREFIX}<｜fim▁hole｜>{SUFFIX}<｜fim▁end｜>", DEEPSEEK),
        (f"<|user|>\n<|code_suffix|>{SUFFIX}<|code_prefix|>{PREFIX}<|code_middle|><|assistant|>\n", GLM),
        # ProxyAI's blanks.
        (f"<|fim_prefix|> {PREFIX} <|fim_suffix|>{SUFFIX} <|fim_middle|>", QWEN),
        (f"{PREFIX}{MASK}{SUFFIX}{MASK_END}", infill_marks.CODEGEN2),
    ],
)
def test_the_prompts_of_models_and_clients_are_split(prompt: str, form: InfillFormat) -> None:
    split = split_prompt(prompt)
    assert split is not None
    assert (split.prefix, split.suffix, split.form.models) == (PREFIX, SUFFIX, form.models)


@pytest.mark.parametrize(
    ("prompt", "filename", "extra"),
    [
        # Continue, Qwen2.5-Coder with several files.
        (
            f"<|repo_name|>project\n<|file_sep|>a/one.py\nONE = 1\n<|file_sep|>two.py\nTWO = 2\n<|file_sep|>three.py\n"
            f"<|fim_prefix|>{PREFIX}<|fim_suffix|>{SUFFIX}<|fim_middle|>",
            "three.py",
            [("ONE = 1\n", "a/one.py"), ("TWO = 2\n", "two.py")],
        ),
        # Continue, StarCoder2: texts without names.
        (
            f"<file_sep>ONE = 1\n<file_sep>TWO = 2\n<file_sep><fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>",
            "",
            [("ONE = 1\n", ""), ("TWO = 2\n", "")],
        ),
        # StarCoder2's paper, section 5.1: the name is in the prefix.
        (
            f"<repo_name>project<file_sep>one.py\nONE = 1<file_sep><fim_prefix>three.py\n{PREFIX}<fim_suffix>{SUFFIX}"
            "<fim_middle>",
            "three.py",
            [("ONE = 1\n", "one.py")],
        ),
        # Continue, Codestral with several files.
        (
            f"[SUFFIX]{SUFFIX}[PREFIX]+++++ one.py \nONE = 1\n\n+++++ two.py \nTWO = 2\n\n+++++ three.py\n{PREFIX}",
            "three.py",
            [("ONE = 1\n", "one.py"), ("TWO = 2\n", "two.py")],
        ),
        # ProxyAI: CodeGemma, CodeQwen1.5, StarCoder2, and comments for the others.
        (
            f"<|file_separator|>one.py \nONE = 1\n<|file_separator|>three.py \n"
            f"<|fim_prefix|>{PREFIX}<|fim_suffix|>{SUFFIX}<|fim_middle|>",
            "three.py",
            [("ONE = 1\n", "one.py")],
        ),
        (
            f"<reponame>project\n<file_sep>one.py \nONE = 1\n<file_sep>three.py \n"
            f"<fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>",
            "three.py",
            [("ONE = 1\n", "one.py")],
        ),
        (
            f"<reponame>project<filename>one.py\nONE = 1<|endoftext|>\n<filename>three.py \n"
            f"<fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>",
            "three.py",
            [("ONE = 1\n", "one.py")],
        ),
        (
            f"# src/one.py \nONE = 1\n# three.py \n<PRE> {PREFIX} <SUF>{SUFFIX} <MID>",
            "three.py",
            [("ONE = 1\n", "src/one.py")],
        ),
        (
            f"#one.py\nONE = 1\n#three.py\n<｜fim▁begin｜>{PREFIX}<｜fim▁hole｜>{SUFFIX}<｜fim▁end｜>",
            "three.py",
            [("ONE = 1\n", "one.py")],
        ),
        # minuet with VectorCode: no name of the document.
        (
            f"<|file_sep|>one.py\nONE = 1\n<|fim_prefix|>{PREFIX}<|fim_suffix|>{SUFFIX}<|fim_middle|>",
            "",
            [("ONE = 1\n", "one.py")],
        ),
        # Mellum's page.
        (
            f"<filename>one.py\nONE = 1\n<filename>three.py\n<fim_suffix>{SUFFIX}<fim_prefix>{PREFIX}<fim_middle>",
            "three.py",
            [("ONE = 1\n", "one.py")],
        ),
        # CodeGeeX4's page, as Continue follows it.
        (
            "<|user|>\n###REFERENCE:\n###PATH:one.py\nONE = 1\n\n###PATH:three.py\n###LANGUAGE:Python\n###MODE:BLOCK\n"
            f"<|code_suffix|>{SUFFIX}<|code_prefix|>{PREFIX}<|code_middle|><|assistant|>\n",
            "three.py",
            [("ONE = 1\n", "one.py")],
        ),
        # twinny: comments with language and file, and blanks of its own around CodeLlama's marks.
        (
            "<PRE> \n\n# Language: Python (python) \n# File uri: file:///home/me/my%20code/three.py (python) \n"
            f"{PREFIX} <SUF> {SUFFIX} <MID>",
            "/home/me/my code/three.py",
            [],
        ),
        (
            "<fim_prefix>\n\n# Language: Python (python) \n# File uri: file:///three.py (python) \n"
            f"{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>",
            "/three.py",
            [],
        ),
        # StarCoder's header.
        (f"<fim_prefix><filename>three.py\n{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>", "three.py", []),
    ],
)
def test_the_other_files_of_a_prompt_are_taken_apart(prompt: str, filename: str, extra: list[tuple[str, str]]) -> None:
    split = split_prompt(prompt)
    assert split is not None
    assert (split.prefix, split.suffix, split.filename) == (PREFIX, SUFFIX, filename)
    assert split.extra == tuple(ExtraText(*one) for one in extra)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "def f():\n    return 1\n",
        "MARKS = ('<fim_prefix>', '<fim_suffix>', '<fim_middle>')\n",
        'prompt = f"<fim_prefix>{before}<fim_suffix>{after}<fim_middle>',
        "Use <|fim_prefix|> before, <|fim_suffix|> between and <|fim_middle|>",
        "<fim_prefix>\n<fim_middle>\n<fim_suffix>\n<fim_pad>\n",  # a list of special tokens
        "<fim_prefix> is the first mark",
        "<PRE>\nold HTML\n</PRE>\n",
        "usage: rename [PREFIX] [SUFFIX]\n",
        "[PREFIX]\nname = a\n[SUFFIX]\nname = b\n",
        "# one.py\nx = 1\nprint('<fim_prefix>a<fim_suffix>b<fim_middle>",
        f"The mask is {MASK}, and once more {MASK}",
    ],
)
def test_a_text_that_mentions_marks_is_a_text(text: str) -> None:
    assert split_prompt(text) is None


def test_the_module_about_marks_is_a_text_wherever_the_cursor_is() -> None:
    """A client may send the beginning of this project's own table of marks."""
    source = Path(infill_marks.__file__).read_text()
    for end in range(0, len(source), 7):
        assert split_prompt(source[:end]) is None


def test_a_document_with_the_marks_of_another_format_is_split() -> None:
    prefix = "MARKS = {'codellama': ('<PRE>', '<SUF>', '<MID>'), 'qwen': '<|fim_prefix|><|fim_suffix|>', 'next': "
    split = split_prompt(f"<fim_prefix>{prefix}<fim_suffix>}}\n<fim_middle>")
    assert split is not None
    assert (split.form, split.prefix, split.suffix) == (STARCODER, prefix, "}\n")


def test_marks_in_a_document_that_divide_nothing_stay_text() -> None:
    prefix, suffix = "FIRST, LAST = '<fim_prefix>', '<fim_middle>'\nx = ", "\nprint('<fim_middle>')\n"
    split = split_prompt(f"<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>")
    assert split is not None
    assert (split.prefix, split.suffix) == (prefix, suffix)


@pytest.mark.parametrize(
    "prompt",
    [
        "<fim_prefix>MARK = '<fim_suffix>'\nx = <fim_suffix>\n<fim_middle>",
        "<fim_prefix>x = <fim_suffix>\nMARK = '<fim_suffix>'\n<fim_middle>",
        "<fim_prefix><fim_suffix>\nMARK = '<fim_middle>'\n<fim_middle>x = ",
        "<fim_prefix>x = <fim_suffix>\nMARK = '<fim_middle>'\n<fim_middle>1",
        "[SUFFIX]\n# [PREFIX]\n[PREFIX]x = ",
        "<|file_sep|>one.py\nMARK = '<|fim_prefix|>'\n<|fim_prefix|>x = <|fim_suffix|>\n<|fim_middle|>",
        f"MASK = '{MASK}'\nx = {MASK}\n{MASK_END}",
    ],
)
def test_a_document_that_repeats_the_dividing_mark_is_refused(prompt: str) -> None:
    with pytest.raises(RequestProblem, match=r"several times.*`suffix`"):
        split_prompt(prompt)


documents = st.text(
    st.one_of(st.sampled_from("<>[]|_ \n\t#/.'\"fimPREx▁｜"), st.characters(exclude_categories=("Cs",))), max_size=40
)


def marked(form: InfillFormat, prefix: str, suffix: str) -> list[str]:
    """All orders in which a prompt can be made."""
    before, after, middle = form.marks
    if form.blanks:
        return [
            f"{before} {prefix} {after}{suffix} {middle}",
            *([f"{before} {after}{suffix} {middle} {prefix}"] if prefix.strip() else []),
        ]
    if form.ends_with_prefix:
        return [f"{after}{suffix}{before}{prefix}", f"{after}{suffix}{before}{prefix}{middle}"]
    return [
        f"{before}{prefix}{after}{suffix}{middle}",
        f"{after}{suffix}{before}{prefix}{middle}",
        *([f"{before}{after}{suffix}{middle}{prefix}"] if prefix.strip() else []),
    ]


@given(st.sampled_from(FORMATS), documents, documents)
@example(CODELLAMA, " x ", " ")
@example(QWEN, "", "")
def test_every_document_without_marks_is_split_where_it_was_put_together(
    form: InfillFormat, prefix: str, suffix: str
) -> None:
    if form is QWEN and prefix.startswith(" ") and prefix.endswith(" ") and suffix.endswith(" "):
        return  # taken for ProxyAI's blanks
    if prefix.startswith(("+++++ ", "<filename>", "<reponame>")):
        return  # the name of a file
    if any(mark in prefix + suffix for mark in form.marks):
        return
    for prompt in marked(form, prefix, suffix):
        split = split_prompt(prompt)
        assert split is not None, prompt
        assert (split.form, split.prefix, split.suffix) == (form, prefix, suffix), prompt


@given(st.lists(st.one_of(st.sampled_from([mark for form in FORMATS for mark in form.marks]), documents), max_size=9))
def test_a_split_prompt_gives_back_all_of_its_text(parts: list[str]) -> None:
    """Whatever is put together is split without loss, refused, or left alone."""
    text = "".join(parts)
    try:
        split = split_prompt(text)
    except RequestProblem:
        return
    if split is not None and not split.extra and not split.filename:
        rest = text
        for mark in (*split.form.marks, " ", "\n", "\t"):
            rest = rest.replace(mark, "")
        kept = split.prefix + split.suffix
        for mark in (*split.form.marks, " ", "\n", "\t"):
            kept = kept.replace(mark, "")
        assert sorted(kept.replace("<s>", "")) == sorted(rest.replace("<s>", ""))


def test_a_prefix_of_plus_signs_has_no_header() -> None:
    split = split_prompt("[SUFFIX]\n[PREFIX]+++++ x")
    assert split is not None
    assert (split.prefix, split.extra) == ("+++++ x", ())


def test_splitting_a_large_prompt_takes_time_in_proportion() -> None:
    """A prompt full of marks is decided at once: 2 MB with quadratic work would not end before the test's limit."""
    for mark in ALWAYS:
        for text in (mark * 100_000, f"<|file_sep|>a.py\n{mark}\n" * 50_000, "<|file_sep|>" * 100_000 + mark):
            try:
                split_prompt(text)
            except RequestProblem:
                continue
    prompt = f"<fim_prefix>{'Language: ' * 200_000}\n{'# a/' * 200_000}<fim_suffix>\n<fim_middle>"
    assert split_prompt(prompt) is not None
