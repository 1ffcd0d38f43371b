"""Text of other files: what looks alike, and what says nothing new."""

from __future__ import annotations

from codegen_lsp.completion.context import (
    Snippet,
    nearest_first,
    similar_windows,
    without_echoes,
)


def test_the_most_similar_window_of_each_file() -> None:
    here = "connection = open_connection(host, port)\nconnection.send(request)\n"
    alike = "def other():\n    connection = open_connection(server, port)\n    connection.send(message)\n"
    files = {
        "far.py": "unrelated = nothing\n" * 100 + alike,
        "near.py": alike,
        "none.py": "completely = different\nwords = everywhere\n",
    }
    found = similar_windows(here, files)
    assert [snippet.path for snippet in found] == ["near.py", "far.py"]
    assert "open_connection" in found[1].text
    assert found[1].text.count("\n") < 60
    assert len(similar_windows(here, {f"{n}.py": alike for n in range(9)})) == 4


def test_what_stands_around_the_cursor_is_left_out_and_the_order_is_stable() -> None:
    around = "a = 1\nb = 2\nc = 3\n"
    kept = without_echoes(
        [
            Snippet("z.py", "new = 1\nother = 2\n", 0.2),
            Snippet("b.py", "a = 1\nb = 2\nx = 3\n"),
            Snippet("a.py", "q\n"),
        ],
        around,
    )
    assert [snippet.path for snippet in kept] == ["a.py", "z.py"]
    assert without_echoes(reversed(kept), around) == kept


def test_near_files_first() -> None:
    others = ["app/models.py", "app/views/forms.py", "setup.py", "app/views/home.py", "app/views/deep/a.py", "x/y.js"]
    assert nearest_first("app/views/home.py", others) == [
        "app/views/forms.py",
        "app/models.py",
        "app/views/deep/a.py",
        "setup.py",
    ]
