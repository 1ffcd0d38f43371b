"""Call a function of another process, with plain values alone. Its source is sent into the sandbox, to both sides.

It uses the standard library only. Neither side trusts the other: a message is one line of JSON, from which only plain
values are made, and a value that is none arrives as an `OpaqueValue`. Nothing of the other side is executed.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, BinaryIO

MAX_MESSAGE = 1 << 25
"""Bytes of one message."""
SAFE_DIGITS = 1 << 63
"""Larger integers are written in hexadecimal, since Python refuses to read very long decimal ones."""
GREETING = b"ready\n"


class OpaqueValue:
    """A value of a class that is not known here. It equals nothing, and has the truth, text and items of the other."""

    def __init__(self, truth: bool, text: str, items: list[object] | None) -> None:
        self.truth, self.text, self.items = truth, text, items

    def __bool__(self) -> bool:
        return self.truth

    def __str__(self) -> str:
        return self.text

    def __iter__(self) -> Any:
        if self.items is None:
            raise TypeError(f"{self.text:.80} is not iterable")
        return iter(self.items)


def encode(value: Any) -> Any:
    """Return a value as one of JSON. A subclass becomes its base class. Raises RecursionError for endless values."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        whole = int(value)
        return whole if -SAFE_DIGITS < whole < SAFE_DIGITS else ["int", hex(whole)]
    if isinstance(value, float):
        return float(value)
    if isinstance(value, dict):
        return ["dict", [[encode(key), encode(one)] for key, one in dict.items(value)]]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [encode(one) for one in value]]
    if isinstance(value, bytes | bytearray):
        return ["bytes", value.hex()]
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    if isinstance(value, Decimal | Fraction):
        return [type(value).__name__, str(value)]
    items = [encode(one) for one in value] if isinstance(value, Iterable) else None
    return ["opaque", [bool(value), str(value), items]]


def decode(found: Any) -> Any:
    """Return the value of what `encode` returned. Raises ValueError and TypeError for anything else."""
    if found is None or isinstance(found, bool | int | float | str):
        return found
    kind, content = found
    if kind == "dict":
        return {decode(key): decode(one) for key, one in content}
    if kind in ("list", "tuple", "set", "frozenset"):
        return getattr(builtins, kind)(decode(one) for one in content)
    if kind == "int":
        return int(content, 16)
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "complex":
        return complex(*content)
    if kind in ("Decimal", "Fraction"):
        return {"Decimal": Decimal, "Fraction": Fraction}[kind](content)
    if kind == "opaque":
        truth, text, items = content
        return OpaqueValue(bool(truth), str(text), None if items is None else [decode(one) for one in items])
    raise ValueError(f"{kind!r:.40} is no kind of value")


def open_channel(descriptor: int) -> tuple[BinaryIO, BinaryIO]:
    """Return the reading and the writing side of one end of a pair of sockets."""
    return open(descriptor, "rb"), open(os.dup(descriptor), "wb", 0)  # noqa: PTH123


def send(writing: BinaryIO, message: object) -> None:
    """Send a message."""
    line = json.dumps(message).encode() + b"\n"
    sent = 0
    while sent < len(line):
        sent += writing.write(line[sent : sent + 65536]) or 0


def serve(program: str, name: str, descriptor: int) -> None:
    """Run a program, and answer the calls of a function that it defines until the other side ends."""
    reading, writing = open_channel(descriptor)
    reading.readline()
    names: dict[str, Any] = {"__name__": "__main__"}
    failure = ""
    try:
        exec(compile(program, "<program>", "exec"), names)  # noqa: S102 - what the sandbox is for
    except BaseException as error:
        failure = f"{type(error).__name__}: {error}"
    while call := reading.readline():
        try:
            if failure:
                answer: object = ["raised", failure]
            elif name not in names:
                answer = ["raised", f"NameError: name {name!r} is not defined"]
            else:
                positional, named = decode(json.loads(call))
                answer = ["returned", encode(names[name](*positional, **named))]
        except BaseException as error:
            answer = ["raised", f"{type(error).__name__}: {error}"]
        send(writing, answer)


def connect(descriptor: int) -> Callable[..., Any]:
    """Return a function that calls the function of the other side, and tell that it may begin.

    It raises an exception of the class of the function's own, or RuntimeError.
    """
    reading, writing = open_channel(descriptor)
    writing.write(GREETING)

    def call(*positional: object, **named: object) -> Any:
        line = b""
        with contextlib.suppress(OSError):
            send(writing, encode((list(positional), named)))
            line = reading.readline(MAX_MESSAGE)
        if not line.endswith(b"\n"):
            raise RuntimeError("it sent too much" if line else "it ended without a result")
        kind, content = json.loads(line)
        if kind == "returned":
            return decode(content)
        name, _, text = str(content).partition(": ")
        known = getattr(builtins, name, None)
        if not isinstance(known, type) or not issubclass(known, Exception):
            raise RuntimeError(str(content))
        try:
            error = known(text)
        except TypeError:  # UnicodeDecodeError takes five arguments
            error = RuntimeError(str(content))
        raise error

    return call
