"""Run programs in the sandbox and observe them: a script of its own, which the sandbox executes once for many programs.

It reads requests from a Unix socket, one JSON value a line, and writes an observation of each for every input. It needs
the standard library alone.
"""

from __future__ import annotations

import doctest
import importlib.abc
import importlib.machinery
import io
import json
import signal
import socket
import sys
import types
import typing
from contextlib import redirect_stdout
from typing import Any

SECONDS = 0.2
"""Limit of the processor time of one version of a program, which takes a millisecond unless it runs for ever."""
STEPS = 40
"""Steps that the loops of one call may make."""


class TimeOverError(BaseException):
    """A program takes too long."""


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the modules of a program from texts."""

    def __init__(self) -> None:
        self.codes: dict[str, tuple[types.CodeType, bool]] = {}

    def set(self, files: dict[str, str]) -> None:
        """Compile the files of a program. Raises SyntaxError."""
        self.codes.clear()
        for path, text in files.items():
            name = path.removesuffix(".py").replace("/", ".")
            code = compile(text, path, "exec", dont_inherit=True)
            self.codes[name.removesuffix(".__init__")] = code, name.endswith(".__init__")

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        """Return the spec of a module of the program, or None."""
        if name not in self.codes:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=self.codes[name][1])

    def create_module(self, spec: object) -> None:
        """Let Python create the module."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Execute a module."""
        exec(self.codes[module.__name__][0], vars(module))

    def forget(self) -> None:
        """Remove the modules of the program."""
        for name in self.codes:
            sys.modules.pop(name, None)


def inputs(effects: Any) -> list[tuple[object, object, object]]:
    """Return new arguments `a`, `b`, `xs` for each call."""
    thing = effects.Thing
    shared = [4, 5]
    return [
        (1, 2, [1, 2, 3]),
        (0, 0, []),
        (3, -1, [0, 5]),
        (thing("a"), thing("b"), [thing("p"), 2]),
        ("7", "c", ["x", "y"]),
        (shared, [6], shared),
    ]


def observe(finder: Finder, effects: Any, files: dict[str, str]) -> list[Any]:
    """Return what can be seen of a program from outside, for each input."""
    try:
        finder.set(files)
    except (SyntaxError, ValueError) as error:
        return [["does not compile", str(error)]]
    found = []
    for at, arguments in enumerate(inputs(effects)):
        effects.EVENTS.clear()
        effects.FUEL[0] = STEPS
        given = types.ModuleType("inputs")
        given.a, given.b, given.xs = arguments  # type: ignore[attr-defined]
        sys.modules["inputs"] = given
        finder.forget()
        results = [_imported(name, arguments, effects) for name in finder.codes]
        seen = [*effects.EVENTS, f"xs = {effects.show(arguments[2])}", *results]
        if at == 0 and any(">>>" in text for text in files.values()):
            seen += [_doctests(sys.modules[name]) for name in finder.codes if name in sys.modules]
        found.append(seen)
    finder.forget()
    return found


def _imported(name: str, arguments: tuple[object, ...], effects: Any) -> str:
    """Import a module and call its `target`; return what comes of it."""
    named = bool(effects.NAMES)
    try:
        __import__(name)
        module = sys.modules[name]
        target = getattr(module, "target", None)
        result = effects.show(_called(target, arguments, effects)) if target is not None else ""
        exported = {key: value for key, value in vars(module).items() if key[:1] != "_" and _is_plain(value)}
        exported = {"NAME" if key in effects.NAMES else key: value for key, value in exported.items()}
        shown = effects.show(sorted(exported.items(), key=lambda one: one[0]))
        return f"{name} returned {result}, has {shown}, names {_names(module) if named else ''}"
    except Exception as error:
        return f"{name} raised {effects.show(error)}"


def _called(target: Any, arguments: tuple[object, ...], effects: Any) -> object:
    result = target(*arguments)
    if isinstance(result, types.GeneratorType):
        items = []
        for item in result:
            items.append(effects.emit(item))
            if len(items) > 20:
                raise effects.OutOfFuelError
        return items
    if isinstance(result, types.CoroutineType):
        try:
            while True:
                effects.emit(result.send(None))
        except StopIteration as stop:
            return stop.value
    return result


def _evaluating_cast(kind: Any, value: object) -> object:
    """Cast like `typing.cast`, but fail where the name of a type is not known."""
    if isinstance(kind, str):
        eval(kind, sys._getframe(1).f_globals)
    return value


def _names(module: types.ModuleType) -> list[Any]:
    """Return of each private variable whether its value has its name, and of each function whether hints are known."""
    found: list[Any] = []
    for key, value in vars(module).items():
        if key[:2] != "__" and getattr(value, "__module__", module.__name__) == module.__name__:
            name = getattr(value, "__name__", None)
            hints = None
            if isinstance(value, types.FunctionType):
                try:
                    hints = len(typing.get_type_hints(value))
                except Exception as error:
                    hints = type(error).__name__
            found.append((key[:1] == "_", name == key if isinstance(name, str) else None, hints))
    return sorted(found, key=str)


def _is_plain(value: object) -> bool:
    return isinstance(value, int | str | float | list | tuple | dict | bool | type(None))


def _doctests(module: types.ModuleType) -> str:
    with redirect_stdout(io.StringIO()):
        try:
            failed, tried = doctest.testmod(module)
        except Exception as error:
            return f"doctests: {type(error).__name__}"
    return f"doctests: {failed} of {tried} failed"


def serve(path: str, effects_source: str) -> None:
    """Answer requests until the socket is closed."""
    # Types in strings are looked up, as type checkers do, and so are the imports that only these see.
    typing.cast = _evaluating_cast  # type: ignore[assignment]
    typing.TYPE_CHECKING = True
    effects = types.ModuleType("effects")
    sys.modules["effects"] = effects
    exec(compile(effects_source, "effects", "exec"), vars(effects))
    finder = Finder()
    sys.meta_path.insert(0, finder)

    def over(number: int, frame: object) -> None:
        raise TimeOverError

    signal.signal(signal.SIGVTALRM, over)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    stream = connection.makefile("rw", encoding="utf-8")
    for line in stream:
        request = json.loads(line)
        effects.NAMES[:] = request["names"]
        answers: list[Any] = []
        for files in request["versions"]:
            signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
            try:
                answer = observe(finder, effects, files)
                answers.append(None if "RecursionError" in str(answer) or "MemoryError" in str(answer) else answer)
            except (TimeOverError, effects.OutOfFuelError):
                answers.append(None)
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        stream.write(json.dumps(answers) + "\n")
        stream.flush()
