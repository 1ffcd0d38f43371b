"""Pictures in terminals that can show them: iTerm2's and kitty's protocols."""

from __future__ import annotations

import base64
import os

from rich.console import Console

CHUNK = 4096
"""Bytes of base64 in one escape sequence of kitty's protocol."""


def show_picture(console: Console, name: str, content: bytes) -> bool:
    """Show a PNG in the terminal. Return false where that is not possible."""
    if not console.is_terminal or not name.endswith(".png") or not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    encoded = base64.b64encode(content).decode()
    if os.environ.get("TERM_PROGRAM") in ("iTerm.app", "WezTerm"):
        console.file.write(f"\x1b]1337;File=inline=1;size={len(content)}:{encoded}\a\n")
    elif os.environ.get("KITTY_WINDOW_ID") or os.environ.get("TERM") == "xterm-kitty":
        pieces = [encoded[at : at + CHUNK] for at in range(0, len(encoded), CHUNK)]
        for number, piece in enumerate(pieces):
            head = "a=T,f=100," if number == 0 else ""
            more = int(number < len(pieces) - 1)
            console.file.write(f"\x1b_G{head}m={more};{piece}\x1b\\")
        console.file.write("\n")
    else:
        return False
    console.file.flush()
    return True
