"""The module `effects` that generated programs import: values and functions whose use can be seen from outside.

It runs in the sandbox, so it needs the standard library alone.
"""

from __future__ import annotations

import re
import types

EVENTS: list[str] = []
"""Everything that was done so far, in order."""
NAMES: list[str] = []
"""Names that count as one in the messages of errors: the old and the new name of a renamed symbol."""
NAMING_ERRORS = (NameError, AttributeError, TypeError)
LONGEST = 300
"""Characters of a representation."""
FUEL = [0]
"""Steps that loops may still make."""


class OutOfFuelError(BaseException):
    """A program makes more steps than it should; it says nothing of a refactoring."""


def show(value: object, depth: int = 0) -> str:
    """Return a representation without addresses and without the names of functions and classes."""
    if isinstance(value, Thing):
        return f"Thing({value.__dict__['label']})"
    if isinstance(value, BaseException):
        kind = "NAME" if type(value).__name__ in NAMES else type(value).__name__
        return f"{kind}({_message(value)})"
    if depth > 4:
        return "..."
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(map(str, value)) if isinstance(value, set | frozenset) else value
        kind = next(one.__name__ for one in (list, tuple, set, frozenset) if isinstance(value, one))
        return f"{kind}[{', '.join(show(one, depth + 1) for one in list(items)[:20])}]"
    if isinstance(value, dict):
        pairs = list(value.items())[:20]
        return f"dict[{', '.join(f'{show(one, depth + 1)}: {show(two, depth + 1)}' for one, two in pairs)}]"
    if isinstance(value, str):
        return re.sub(r"0x[0-9a-f]+", "0x", repr(value)[:LONGEST])
    if isinstance(value, bool | int | float | bytes | type(None) | range):
        try:
            return repr(value)[:LONGEST]
        except ValueError:
            return "a large number"
    if isinstance(value, type):
        return "a class"
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if callable(value):
        return "a function"
    members = vars(value) if hasattr(value, "__dict__") else {}
    return f"object{{{', '.join(f'{key}={show(one, depth + 1)}' for key, one in members.items() if key[:2] != '__')}}}"


def _message(error: BaseException) -> str:
    text = ", ".join(show(one, 1) for one in error.args)
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    if isinstance(error, NAMING_ERRORS):
        for name in NAMES:
            text = re.sub(rf"\b{re.escape(name)}\b", "NAME", text)
    return text


def emit(value: object = None) -> object:
    """Record a value, and return it."""
    EVENTS.append(show(value))
    return value


def boom(value: object = 0) -> object:
    """Record a value, and fail where it is false."""
    EVENTS.append(f"boom {show(value)}")
    if not value:
        raise ValueError(value)
    return value


def fuel() -> bool:
    """Return whether a loop may go on."""
    FUEL[0] -= 1
    if FUEL[0] < -20:
        raise OutOfFuelError
    return FUEL[0] > 0


class manager:  # noqa: N801 - used like contextlib's functions
    """A context manager that records when it is entered and left."""

    def __init__(self, quiet: object = False) -> None:
        self.quiet = quiet

    def __enter__(self) -> int:
        EVENTS.append("enter")
        return 7

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> bool:
        EVENTS.append(f"exit {show(error)}")
        return bool(self.quiet)


class Counter:
    """An object with state, and a property with an effect."""

    def __init__(self, n: int = 0) -> None:
        self.n = n

    def bump(self, by: int = 1) -> int:
        """Change the state, and return it."""
        self.n += by
        return self.n

    @property
    def seen(self) -> int:
        """Record a read."""
        EVENTS.append("seen")
        return self.n


class Thing:
    """An object whose every operation is recorded."""

    def __init__(self, label: str) -> None:
        self.__dict__["label"] = label

    def _did(self, what: str, *others: object) -> Thing:
        EVENTS.append(f"{self.__dict__['label']}.{what}({', '.join(show(one) for one in others)})")
        if len(self.__dict__["label"]) > 30:
            raise ArithmeticError("too long")
        return Thing(f"{self.__dict__['label']}{what[:3]}")

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._did(f"get_{name}")

    def __setattr__(self, name: str, value: object) -> None:
        self._did(f"set_{name}", value)

    def __call__(self, *args: object, **kwargs: object) -> Thing:
        return self._did("call", *args, *kwargs.values())

    def __getitem__(self, key: object) -> Thing:
        if isinstance(key, int) and key > 2:
            raise IndexError(key)
        return self._did("item", key)

    def __setitem__(self, key: object, value: object) -> None:
        self._did("set", key, value)

    def __bool__(self) -> bool:
        # `if a or b` tests a true `a` once or twice, depending on the compiler: both look alike.
        event = f"{self.__dict__['label']}.bool()"
        if EVENTS[-1:] != [event]:
            EVENTS.append(event)
        return len(self.__dict__["label"]) % 2 == 1

    def __len__(self) -> int:
        self._did("len")
        return 2

    def __hash__(self) -> int:
        return hash(self.__dict__["label"])

    def __contains__(self, other: object) -> bool:
        self._did("in", other)
        return True

    def __str__(self) -> str:
        self._did("str")
        return f"<{self.__dict__['label']}>"

    def __neg__(self) -> Thing:
        return self._did("neg")

    def __abs__(self) -> Thing:
        return self._did("abs")

    def __int__(self) -> int:
        self._did("int")
        return 5

    __index__ = __int__


def _binary(name: str) -> object:
    def method(self: Thing, other: object) -> Thing:
        return self._did(name.strip("_"), other)

    return method


for _name in ("add", "sub", "mul", "floordiv", "mod", "radd", "rsub", "rmul", "rfloordiv", "rmod", "iadd"):
    setattr(Thing, f"__{_name}__", _binary(_name))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Thing, f"__{_name}__", _binary(_name))
