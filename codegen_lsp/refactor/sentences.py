"""Filter for generated text that reads like a sentence about code.

A small model that is asked for a sentence may write code, a fragment, or the same words again and again; such text is
dropped here. A sentence that passes may still be wrong, which only its reader can tell.
"""

from __future__ import annotations

import re

_MOST_CHARACTERS = 100
_CODE = re.compile(r"[=;{}<>|\\]|\(\)|^\W|>>>|TODO|FIXME|\bdef\b|https?:")


def as_sentence(text: str, *, words: int = 2) -> str | None:
    """Return the first sentence of the text with a full stop, or None if it does not read like one.

    `words` is the least number of words.
    """
    text = text.strip().strip('"').strip()
    first = re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]
    found = re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)?", first)
    if len(found) < words or len(first) > _MOST_CHARACTERS or _CODE.search(first):
        return None
    letters = sum(character.isalpha() or character.isspace() for character in first)
    if letters < 0.7 * len(first) or len({word.lower() for word in found}) * 2 <= len(found):
        return None
    if first.endswith((":", ",", "(", "-")) or first.count("(") != first.count(")") or first.count("`") % 2:
        return None
    first = first[0].upper() + first[1:]
    return first if first.endswith((".", "!", "?")) else first + "."
