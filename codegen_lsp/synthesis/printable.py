"""Text of untrusted origin, without the characters that control a terminal or break a line of a file.

Left in a comment of a Python file, a carriage return would end the comment, and what follows it would be code.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text whose control characters are shown as escapes, as `\\x1b`; line breaks and tabs stay."""
    return "".join(sign if sign in "\n\t" or sign.isprintable() else repr(sign)[1:-1] for sign in text)


def printable_output(text: str) -> str:
    """Return what a program printed as printable text.

    A carriage return inside a line begins the line anew, as in a terminal: a progress bar leaves its last state.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    return printable("\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines))
