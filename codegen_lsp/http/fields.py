"""Typed reading of the JSON object that is the body of a request.

A field of a wrong type or outside of its range is a problem that names the field, never a crash or a silent default.
Unknown fields are ignored: the clients of every dialect send some that mean nothing here.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from codegen_lsp.http.problems import invalid

MAX_DEPTH = 32
"""Nesting of a body; requests for completion need five levels."""
MAX_INTEGER_DIGITS = 300
MAX_ITEMS = 1_000
"""Of a list of strings or objects. Clients send some tens."""
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_INNERMOST = re.compile(r"\[\]|\{\}")
_NO_BRACKETS = re.compile(r"[^\[\]{}]+")


class Fields:
    """The fields of a JSON object. `path` precedes their names in messages."""

    def __init__(self, values: dict[str, Any], path: str = "") -> None:
        self.values = values
        self._path = path

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def text(self, name: str, default: str = "") -> str:
        """Return a string, with characters that are not encodable replaced. Raises: RequestProblem."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "a string")
        return well_formed(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean. Raises: RequestProblem."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return a number, raised or lowered to the range. Raises: RequestProblem."""
        value = self._get(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (isinstance(value, float) and not math.isfinite(value)):
            raise self._wrong(name, "a number")
        return float(min(max(value, low), high))  # a whole number may be too large to become a float before

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number, raised or lowered to the range. Raises: RequestProblem."""
        value = self._get(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, "a whole number")
        return min(max(value, low), high)

    def count(self, name: str, default: int, high: int) -> int:
        """Return how many are asked for, from 1 to `high`: fewer would be another answer. Raises: RequestProblem."""
        value = self.whole(name, default, 0, high + 1)
        if not 1 <= value <= high:
            raise self._wrong(name, f"from 1 to {high}")
        return value

    def limit(self, name: str, high: int) -> int | None:
        """Return a limit of tokens; below 0 it is the highest, as clients of local servers mean it; None if missing.

        Raises: RequestProblem.
        """
        if name not in self:
            return None
        value = self.whole(name, 0, -1, high)
        return high if value < 0 else value

    def texts(self, name: str) -> list[str]:
        """Return a list of strings; a single string is a list of one. Raises: RequestProblem."""
        value = self._get(name, [])
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "a list of strings")
        if len(value) > MAX_ITEMS:
            raise self._wrong(name, f"a list of at most {MAX_ITEMS} strings")
        return [well_formed(item) for item in value]

    def table(self, name: str) -> Fields:
        """Return a nested object; an empty one if it is missing. Raises: RequestProblem."""
        value = self._get(name, {})
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return Fields(value, f"{self._path}{name}.")

    def tables(self, name: str) -> list[Fields]:
        """Return a list of nested objects. Raises: RequestProblem."""
        value = self._get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(name, "a list of objects")
        if len(value) > MAX_ITEMS:
            raise self._wrong(name, f"a list of at most {MAX_ITEMS} objects")
        return [Fields(item, f"{self._path}{name}[{number}].") for number, item in enumerate(value)]

    def _get(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        return default if value is None else value

    def _wrong(self, name: str, expected: str) -> Exception:
        return invalid(f"`{self._path}{name}` must be {expected}.")


def well_formed(text: str) -> str:
    """Return a text with lone surrogates, which JSON can hold and UTF-8 can't, replaced."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_object(body: bytes) -> Fields:
    """Return the fields of a body, which is empty or a JSON object in UTF-8. Raises: RequestProblem."""
    if not body.strip():
        return Fields({})
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise invalid("The body is not UTF-8.") from None
    if depth_exceeds(text, MAX_DEPTH):
        raise invalid(f"The body is nested deeper than {MAX_DEPTH} levels.")
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_int=_read_integer)
    except (ValueError, RecursionError):
        raise invalid("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise invalid("The body is not a JSON object.")
    return Fields(value)


def depth_exceeds(text: str, limit: int) -> bool:
    """Return true if brackets outside of strings are nested deeper than `limit`, before anything recurses into them.

    Brackets that are not closed count as nested too deep as well, if there are more than the limit. The work is done by
    functions in C, since a body of millions of brackets would keep the event loop from other requests.
    """
    if text.count("[") + text.count("{") <= limit:
        return False
    brackets = _NO_BRACKETS.sub("", _STRING.sub("", text))
    for _ in range(limit):
        brackets = _INNERMOST.sub("", brackets)
        if not brackets:
            return False
    return brackets.count("[") + brackets.count("{") > 0


def _read_integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise ValueError("a number is too long")
    return int(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
