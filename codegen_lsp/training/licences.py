"""Rules that decide whether a package's licence admits its source to the corpus.

The metadata fields are those of the core metadata specification: License-Expression (SPDX), License and Classifier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PERMISSIVE = frozenset(
    {
        "MIT", "MIT-0", "MIT-CMU", "X11", "BSD", "0BSD", "BSD-2-CLAUSE", "BSD-3-CLAUSE", "APACHE-2.0", "APACHE",
        "PSF-2.0", "PYTHON-2.0", "PSF", "ISC", "ZLIB", "CC0-1.0",
    }
)  # fmt: skip
"""Admitted licences as SPDX identifiers in capitals. Zlib, 0BSD and CC0 ask for no more than MIT does."""

COPYLEFT = re.compile(r"\b(?:A?GPL|LGPL|MPL|EPL|EUPL|CC-BY|GNU|Mozilla|copyleft)", re.IGNORECASE)

CLASSIFIERS = {
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "BSD License": "BSD",
    "Apache Software License": "Apache-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "ISC License (ISCL)": "ISC",
    "zlib/libpng License": "Zlib",
}

FREE_TEXT = (
    (re.compile(r"^(?:the )?mit(?: license)?(?: \(mit\))?$", re.IGNORECASE), "MIT"),
    (
        re.compile(
            r"^apache(?: software)?(?: license)?,?(?:[ -]*(?:version )?2(?:\.0)?)?(?: license)?$", re.IGNORECASE
        ),
        "Apache-2.0",
    ),
    (re.compile(r"^(?:new |modified |revised )?bsd(?:[ -][23])?(?:[ -]clause)?(?: license)?$", re.IGNORECASE), "BSD"),
    (re.compile(r"^bsd[ -]?([23])[ -]clause(?: license)?$", re.IGNORECASE), "BSD"),
    (re.compile(r"^(?:psf|psf-2\.0|python software foundation license)$", re.IGNORECASE), "PSF-2.0"),
    (re.compile(r"^isc(?: license)?(?: \(iscl\))?$", re.IGNORECASE), "ISC"),
)


def permissive_license(expression: str | None, text: str | None, classifiers: Iterable[str]) -> str | None:
    """Return the licence of a package when it is permissive, or None when it is copyleft, unclear or unknown.

    `expression`, `text` and `classifiers` are the metadata's License-Expression, License and Classifier fields. An
    expression decides alone. Of the older fields none may mention copyleft and one must name a known licence.
    """
    if expression and expression.strip():
        return expression.strip() if _allows(expression) else None
    licenses = [c.split(" :: ")[-1].strip() for c in classifiers if c.startswith("License ::")]
    licenses = [name for name in licenses if name != "OSI Approved"]
    line = (text or "").strip().split("\n")[0].strip()
    if any(COPYLEFT.search(name) for name in [*licenses, line]):
        return None
    if licenses and all(name in CLASSIFIERS for name in licenses):
        return " AND ".join(dict.fromkeys(CLASSIFIERS[name] for name in licenses))
    if line and _allows(line):
        return line
    return next((known for pattern, known in FREE_TEXT if pattern.match(line)), None)


def _allows(expression: str) -> bool:
    """Return True when an SPDX expression (identifiers, AND, OR, parentheses) allows use under permissive licences."""
    words = re.findall(r"[()]|[^\s()]+", expression)
    translated = []
    for word in words:
        upper = word.upper()
        if upper in ("AND", "OR"):
            translated.append(upper.lower())
        elif word in "()":
            translated.append(word)
        elif upper == "WITH" or not re.fullmatch(r"[A-Z0-9.+-]+", upper):
            return False
        else:
            translated.append(str(upper in PERMISSIVE))
    return _boolean_value(translated)


def _boolean_value(words: list[str]) -> bool:
    """Evaluate a Boolean expression in which AND binds tighter than OR (SPDX 2.3, annex D)."""
    position = 0

    def alternatives() -> bool:
        nonlocal position
        value = conjunction()
        while position < len(words) and words[position] == "or":
            position += 1
            value = conjunction() or value
        return value

    def conjunction() -> bool:
        nonlocal position
        value = atom()
        while position < len(words) and words[position] == "and":
            position += 1
            value = atom() and value
        return value

    def atom() -> bool:
        nonlocal position
        if position >= len(words):
            return False
        word = words[position]
        position += 1
        if word != "(":
            return word == "True"
        value = alternatives() and position < len(words)
        position += 1
        return value

    value = alternatives()
    return value and position >= len(words)
