"""Dialogues as files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.synthesis.dialogue import Dialogue, DialogueTurn, parse, render, revised, shortened

TEXT = """#!/usr/bin/env python3
import sys

# Import libraries.
import numpy as np

# Sum the squares of x.
# `x = [1, 2]` → `5`
squares = np.square(x)

squares.sum()
#> 5
#: edited

# Nothing yet.
"""
DIALOGUE = Dialogue(
    "#!/usr/bin/env python3\nimport sys\n",
    (
        DialogueTurn("Import libraries.", "import numpy as np"),
        DialogueTurn(
            "Sum the squares of x.\n`x = [1, 2]` → `5`", "squares = np.square(x)\n\nsquares.sum()", "5", edited=True
        ),
        DialogueTurn("Nothing yet."),
    ),
)


def test_a_file_is_read_and_written() -> None:
    assert parse(TEXT) == DIALOGUE
    assert render(DIALOGUE) == TEXT


def test_the_model_sees_neither_output_nor_notes() -> None:
    assert DIALOGUE.prompt == (
        "#!/usr/bin/env python3\nimport sys\n\n# Import libraries.\nimport numpy as np\n\n"
        "# Sum the squares of x.\n# `x = [1, 2]` → `5`\nsquares = np.square(x)\n\nsquares.sum()\n\n# Nothing yet.\n\n\n"
    )
    assert Dialogue("", DIALOGUE.turns[:1]).prompt == "# Import libraries.\nimport numpy as np\n\n"


FILES = [
    ("", Dialogue("")),
    ("x = 1\n", Dialogue("x = 1\n")),
    ("# a", Dialogue("", (DialogueTurn("a"),))),
    ("# a\r\nx = 1\r\n", Dialogue("", (DialogueTurn("a", "x = 1"),))),
    (
        "# a\nx = 1  # why\n# not a turn\ny = 2\n",
        Dialogue("", (DialogueTurn("a", "x = 1  # why\n# not a turn\ny = 2"),)),
    ),
    ("# a\nx = 1\n\n# b\n\ny = 2\n", Dialogue("", (DialogueTurn("a", "x = 1"), DialogueTurn("b", "y = 2")))),
    ('# a\nx = """\n\n# b\n"""\n', Dialogue("", (DialogueTurn("a", 'x = """\n\n# b\n"""'),))),
    ("# a\ndef f():\n\n    # b\n    pass\n", Dialogue("", (DialogueTurn("a", "def f():\n\n    # b\n    pass"),))),
    ("# a\nx = (\n\n# b\ny", Dialogue("", (DialogueTurn("a", "x = ("), DialogueTurn("b", "y")))),
    ("#> lost\n\n# a\n", Dialogue("#> lost\n", (DialogueTurn("a"),))),
    ("# a\n#> 1\n#>\n#> 2\n", Dialogue("", (DialogueTurn("a", "", "1\n\n2"),))),
    ("# a\n#: edited\n", Dialogue("", (DialogueTurn("a", edited=True),))),
    ("# 😀\nx = 'é'\n", Dialogue("", (DialogueTurn("😀", "x = 'é'"),))),
]


@pytest.mark.parametrize(("text", "dialogue"), FILES)
def test_every_text_is_a_dialogue(text: str, dialogue: Dialogue) -> None:
    assert parse(text) == dialogue


LINES = st.lists(
    st.sampled_from(["x = 1", "", "    y", "# c", "'''", "print(1)", "a(", "#> o", "#: edited", "é"]), max_size=8
)
REQUESTS = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), max_size=20).map(str.strip)


@given(st.lists(st.tuples(REQUESTS, LINES), max_size=4), st.booleans())
def test_what_is_written_is_read_again(turns: list[tuple[str, list[str]]], edited: bool) -> None:
    """A second time gives the same text: nothing is lost, even where code looks like a turn."""
    dialogue = Dialogue(
        "", tuple(DialogueTurn(request, "\n".join(code).strip("\n"), "out", edited) for request, code in turns)
    )
    text = render(parse(render(dialogue)))
    assert render(parse(text)) == text
    code = [line for _, lines in turns for line in lines if line.strip() and not line.startswith("#")]
    assert [line for line in text.split("\n") if line in code] == code


def test_a_turn_is_inserted_replaced_and_removed() -> None:
    new = DialogueTurn("new")
    assert [one.request for one in DIALOGUE.with_inserted(1, new).turns][1] == "new"
    assert DIALOGUE.with_inserted(1, new).without(1) == DIALOGUE
    assert DIALOGUE.with_turn(3, new).turns == (*DIALOGUE.turns, new)
    assert DIALOGUE.with_turn(1, new).until(2).turns == (DIALOGUE.turns[0], new)


def test_output_is_shortened() -> None:
    assert shortened("") == ""
    assert shortened("a\nb\n") == "a\nb"
    assert shortened("x" * 300) == "x" * 200 + "…"
    assert shortened("\n".join("ab" * 15)).endswith("\n… 10 more lines")


def test_output_with_control_characters_stays_a_comment() -> None:
    for output in ("50 %\r100 %\rimport os", "a\0b", "\x1b[31mred", "a\x0cb\u2028c\x85d", "first\r\nsecond"):
        turn = DialogueTurn("Do it.", "run()", shortened(output))
        text = render(Dialogue("", (turn, DialogueTurn("More."))))
        assert parse(text).turns[0] == turn
        assert all(line[:1] in ("#", "r", "") for line in text.splitlines())
        assert "\0" not in text
    assert shortened("first\r\nsecond") == "first\nsecond"
    assert shortened("50 %\r100 %") == "50 %\\r100 %"


BY_HAND = "import os\n\n\n# a\n\nx = 1\n\n\n# b\ndef f():\n    pass\n#> 3\n\n\n\n# c\ny = 2"
NEW = DialogueTurn("n", "m")
B, C = "# b\ndef f():\n    pass\n#> 3\n\n\n\n", "# c\ny = 2"
A = "import os\n\n\n# a\n\nx = 1\n\n\n"
REVISIONS = {
    "nothing": (parse(BY_HAND), BY_HAND),
    "one more": (parse(BY_HAND).with_turn(3, NEW), BY_HAND + "\n\n# n\nm\n"),
    "output": (
        parse(BY_HAND).with_turn(1, DialogueTurn("b", "def f():\n    pass", "4", edited=True)),
        A + B.replace("#> 3\n", "#> 4\n#: edited\n") + C,
    ),
    "no output": (
        parse(BY_HAND).with_turn(1, DialogueTurn("b", "def f():\n    pass")),
        A + B.replace("#> 3\n", "") + C,
    ),
    "code": (parse(BY_HAND).with_turn(1, NEW), A + "# n\nm\n\n\n\n" + C),
    "inserted": (parse(BY_HAND).with_inserted(1, NEW), A + "# n\nm\n\n" + B + C),
    "removed": (parse(BY_HAND).without(0), "import os\n\n\n" + B + C),
    "last removed": (parse(BY_HAND).without(2), A + B.rstrip("\n") + "\n"),
    "head": (
        Dialogue("import sys", parse(BY_HAND).turns),
        "import sys\n\n" + A.removeprefix("import os\n\n\n") + B + C,
    ),
    "no head": (Dialogue("", parse(BY_HAND).turns), A.removeprefix("import os\n\n\n") + B + C),
    "all removed": (Dialogue(), ""),
}


@pytest.mark.parametrize("change", REVISIONS)
def test_a_revision_keeps_the_lines_of_what_stays(change: str) -> None:
    dialogue, text = REVISIONS[change]
    assert revised(BY_HAND, dialogue) == text


TEXTS = st.lists(
    st.sampled_from(["x = 1", "", "  ", "    y", "# c", "# d", "'''", "a(", "#> o", "#: edited", "é"]), max_size=12
).map("\n".join)


@given(TEXTS, TEXTS)
def test_a_revision_is_read_as_the_dialogue(before: str, after: str) -> None:
    assert revised(before, parse(before)) == before
    dialogue = parse(render(parse(after)))
    if parse(render(dialogue)) == dialogue and "'''" not in before + after:  # an open string takes in what follows it
        assert parse(revised(before, dialogue)).turns == dialogue.turns
