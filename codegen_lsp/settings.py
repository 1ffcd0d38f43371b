"""Everything a user can set, with its default, in one place.

The names are those of the section `codegen-lsp`, in snake case and nested by a dot: `codegen-lsp.cache.memory_mb` in
an editor's settings, `{"cache": {"memory_mb": 512}}` as JSON, `cache.memory_mb = 512` as TOML. What arrives from an
editor is never trusted: a wrong value is reported by name and its default used, and everything else stays in force.
"""

from __future__ import annotations

import difflib
import json
import logging
import math
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, TypeVar

import attrs
from attrs import frozen

logger = logging.getLogger(__name__)

SECTION = "codegen-lsp"

T = TypeVar("T")

RULE = "rule"
"""Key of a field's metadata under which its rule is."""
FOR_MEASUREMENTS = "for_measurements"
"""Key of a field's metadata, true for a setting that editors do not offer to their users."""

ABLATIONS: dict[str, str] = {
    "window": "the prompt begins with a definition and stays there while you type; else it is the last characters",
    "infilling": "text after the cursor is part of the prompt, where the setting `infilling` has it so",
    "ngrams": "n-grams of the document are mixed into the model's probabilities, where its engine can",
    "rest_of_document": "what a long document says beyond the prompt counts for n-gram mixing",
    "threshold": "what the model itself finds unlikely is not shown",
    "correctness": "what would not parse, or uses names that nothing defines, is not shown",
    "modules": "names that imported modules of the workspace do not have count as undefined, too",
    "context": "n-grams of similar files of the workspace are mixed in, too, where the engine can",
    "coalescing": "a request waits for a generation under way when what was typed meanwhile may be its beginning",
    "prefetch": "after a suggestion was shown, what would follow it is prepared",
}
"""Parts of a completion that the setting `ablate` and the option `--ablate` turn off, to measure what each gives; by
name, with what the part does. A part that makes no figure worse when it is left out has not earned its place."""

FORMER_NAMES: dict[str, str] = {"document_cache": "ngrams", "without": "ablate"}
"""Former names of settings, which are still accepted; options of the command line have them, too."""
FORMER_VALUES: dict[str, dict[str, str]] = {
    "engine": {"incremental": "native"},
    "ablate": {
        "document_cache": "ngrams",
        "elsewhere": "rest_of_document",
        "flight": "coalescing",
        "continuation": "prefetch",
    },
}
"""For each setting with renamed values: the former values, which are still accepted."""


@frozen
class _Rule:
    """What a setting accepts."""

    expected: str
    """In words, for a message."""
    read: Callable[[object], object]
    """Returns the value, or raises ValueError."""
    schema: Mapping[str, object]
    """As JSON Schema, for editors that check while one writes."""


def _switch(default: bool) -> bool:
    def read(value: object) -> object:
        if isinstance(value, bool):
            return value
        raise ValueError

    return _field(default, _Rule("true or false", read, {"type": "boolean"}))


def _whole_number(default: int, low: int, high: int) -> int:
    def read(value: object) -> object:
        # JSON of some editors (Lua's, for one) has only one type of number, so 4.0 is a whole number.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise ValueError

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return _field(default, _Rule(f"a whole number from {low} to {high}", read, schema))


def _number(default: float, low: float, high: float) -> float:
    def read(value: object) -> object:
        right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if right and low <= float(value) <= high:  # type: ignore[arg-type]
            return float(value)  # type: ignore[arg-type]
        raise ValueError

    schema = {"type": "number", "minimum": low, "maximum": high}
    return _field(default, _Rule(f"a number from {low:g} to {high:g}", read, schema))


def _word(default: str, words: tuple[str, ...]) -> str:
    def read(value: object) -> object:
        if isinstance(value, str) and value in words:
            return value
        raise ValueError

    return _field(default, _Rule("one of " + ", ".join(words), read, {"type": "string", "enum": list(words)}))


def _text(default: str, expected: str) -> str:
    def read(value: object) -> object:
        if isinstance(value, str) and "\0" not in value:
            return value.strip() or default
        raise ValueError

    return _field(default, _Rule(expected, read, {"type": "string"}))


def _texts(expected: str, among: Collection[str] | None = None, *, for_measurements: bool = False) -> tuple[str, ...]:
    def read(value: object) -> object:
        # Lua has one type for empty lists and empty tables, and sends the latter.
        if value == {}:
            return ()
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            if among is not None and not set(value) <= set(among):
                raise ValueError
            return tuple(value)
        raise ValueError

    rule = _Rule(expected, read, {"type": "array", "items": {"type": "string"}})
    return _field((), rule, for_measurements=for_measurements)


def _switches(expected: str) -> Mapping[str, bool]:
    def read(value: object) -> object:
        if value == []:
            return {}
        if isinstance(value, dict) and all(isinstance(item, bool) for item in value.values()):
            return dict(value)
        raise ValueError

    default: Any = attrs.Factory(dict)
    schema = {"type": "object", "additionalProperties": {"type": "boolean"}}
    declared: Mapping[str, bool] = _field(default, _Rule(expected, read, schema))
    return declared


def _field(default: T, rule: _Rule, *, for_measurements: bool = False) -> T:
    declared: T = attrs.field(default=default, metadata={RULE: rule, FOR_MEASUREMENTS: for_measurements})
    return declared


@frozen
class CacheSettings:
    """`codegen-lsp.cache`."""

    memory_mb: int = _whole_number(0, 0, 1 << 20)
    """Memory in MiB that the states of cached prompts may take, beside the model's weights; 0 takes room for two
    prompts of the model's full context, at least 256 MiB and at most a quarter of the machine's memory."""


@frozen
class PromptSettings:
    """`codegen-lsp.prompt`: smaller is faster on a slow machine."""

    prefix_characters: int = _whole_number(6_000, 100, 100_000)
    """Characters before the cursor that the model reads, at most."""
    suffix_characters: int = _whole_number(1_500, 0, 100_000)
    """Characters after the cursor that the model reads, at most, if it can fill in."""


@frozen
class WorkerSettings:
    """`codegen-lsp.worker`: the process that runs the model."""

    shared: bool = _switch(True)
    """Whether all windows in which the same model runs in the same way use one worker. Without, each has its own, which
    takes the model's memory again. Where there are no Unix sockets (Windows), each has its own in any case."""


@frozen
class LogSettings:
    """`codegen-lsp.log`."""

    level: str = _word("warning", ("error", "warning", "info", "debug"))
    """What is logged. `debug` shows every message, and with it the text of documents."""
    file: str = _text("", "the path of a file, or an empty string for the standard error stream")
    """Where the log goes; empty is the standard error stream, which editors show as the server's output."""


@frozen
class Settings:
    """`codegen-lsp`: the settings in force."""

    enabled: bool = _switch(True)
    """Whether anything is suggested. When off, no model is loaded."""
    model: str = _text("auto", "the name of an installed model, the folder of a build, or auto")
    """Which model runs: a name as `codegen-lsp models list` shows it, a folder, or `auto`."""
    engine: str = _word("auto", ("auto", "ct2", "native"))
    """Engine that runs the model: CTranslate2 (`ct2`), or `native`, which runs the same build in C (in PyTorch where
    the C library is missing) and computes only the tokens that changed, on the CPU only. `auto` is `native` on x86-64
    processors with AVX2, without a GPU, and `ct2` elsewhere."""
    device: str = _word("auto", ("auto", "cpu", "cuda"))
    """Where the model runs."""
    compute_type: str = _word(
        "auto",
        ("auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16", "float32"),
    )
    """The type of number that the model computes with; `auto` takes the fastest that the device has."""
    threads: int = _whole_number(0, 0, 256)
    """Processor threads of one generation; 0 takes the physical cores, at most 8."""
    cache: CacheSettings = CacheSettings()
    ngrams: str = _word("auto", ("auto", "on", "off"))
    """Whether what the document says again and again is made likelier than the model finds it; the engine `native`
    can. `auto` does so for models of less than 100 million parameters, which gain most."""
    infilling: str = _word("auto", ("auto", "on", "off"))
    """Whether models that were trained for it read the text after the cursor. `auto` leaves it out for models of less
    than 100 million parameters: the embedded one gains nothing by it, as was measured."""
    candidates: int = _whole_number(3, 1, 8)
    """How many different suggestions there are to choose from when you ask by a key or command."""
    languages: Mapping[str, bool] = _switches('a table of languages and true or false, like {"rust": true}')
    """Languages switched on or off beside the usual ones, by LSP identifier; `"*"` is for all that are not named."""
    exclude: tuple[str, ...] = _texts('a list of patterns of files, like ["**/generated/**"]')
    """Files for which nothing is suggested, as patterns with `*`, `**` and `?`; files that hold secrets always are."""
    multi_line: str = _word("auto", ("auto", "never"))
    """Whether a suggestion may have several lines: where the code calls for it, or never."""
    max_lines: int = _whole_number(10, 1, 100)
    """Lines of a suggestion that may have several, at most."""
    max_tokens: int = _whole_number(160, 1, 1024)
    """Tokens of a suggestion that may have several lines, at most; a token is three to four characters of code."""
    line_tokens: int = _whole_number(48, 1, 512)
    """Tokens of a suggestion that has one line, at most."""
    refactor: bool = _switch(True)
    """Whether refactorings are offered as code actions, which do nothing until they are chosen."""
    verify_refactorings: str = _word("auto", ("auto", "on", "off"))
    """Whether a file's doctests and tests are run, in a sandbox, before the result of a refactoring is offered; one
    with which they fail is not. `auto` does so where the model writes code."""
    prompt: PromptSettings = PromptSettings()
    temperature: float = _number(0.0, 0.0, 2.0)
    """0 takes what is most likely; above, suggestions vary."""
    top_p: float = _number(0.95, 0.01, 1.0)
    """With a temperature above 0: tokens outside the most likely ones with this sum of probabilities are left out."""
    warm: bool = _switch(True)
    """Whether the model works ahead while you pause: reads the document, and makes the suggestion that comes after the
    one on the screen, so that the next suggestion comes faster."""
    metrics: bool = _switch(True)
    """Whether it is counted on this machine how many suggestions are shown and accepted, and how long answers take, for
    `codegen-lsp stats`. Numbers only, no text; nothing is sent."""
    debounce: str = _word("auto", ("auto", "off"))
    """Whether the model is asked later while you type faster than it answers: by what you and it are measured to take,
    or never. What is known already is shown at once in any case, and so is what you ask for by a key."""
    threshold: float = _number(0.4, 0.0, 1.0)
    """What you did not ask for is shown as far as the model finds it at least this likely to be right; of several such
    beginnings, the one that can be expected to save most keys. 0 shows everything."""
    ablate: tuple[str, ...] = _texts("a list of these: " + ", ".join(ABLATIONS), ABLATIONS, for_measurements=True)
    """Parts of a completion that are left out, to measure what each gives (docs/evaluation.md)."""
    worker: WorkerSettings = WorkerSettings()
    log: LogSettings = LogSettings()


def structure_settings(*layers: object) -> tuple[Settings, list[str]]:
    """Read settings as editors send them: nested tables, or names joined by dots, or both. Later layers win.

    Never raises. Each problem names the setting, what is wrong, and what is used instead.
    """
    problems: list[str] = []
    table: dict[str, Any] = {}
    for layer in layers:
        # An empty table arrives as an empty list from editors written in Lua.
        if layer is not None and layer != [] and not isinstance(layer, dict):
            problems.append(f"`{SECTION}` must be a table of settings, not {_shown(layer)}; it is ignored.")
        table = merged(table, with_current_names(nested(layer)))
    settings: Settings = _structure(Settings, table, SECTION, problems)
    return settings, problems


def nested(raw: object) -> dict[str, Any]:
    """A table of settings in its nested form, `{"cache.memory_mb": 1}` being `{"cache": {"memory_mb": 1}}`.

    The name of the section may stand before the names or around the table. Anything but a table gives an empty one.
    """
    if not isinstance(raw, dict):
        return {}
    if isinstance(inner := raw.get(SECTION), dict) and len(raw) == 1:
        raw = inner
    table: dict[str, Any] = {}
    for name, value in raw.items():
        first, dot, rest = str(name).removeprefix(f"{SECTION}.").partition(".")
        table = merged(table, {first: {rest: value}} if dot and first in _TABLES else {first + dot + rest: value})
    return table


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables of settings as one; where both have a value, `over` wins. A null in `over` says nothing."""
    table = dict(under)
    for name, value in over.items():
        below = table.get(name)
        if value is None and name in table:
            continue
        table[name] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return table


def with_current_names(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested table of settings with current names and values in place of former ones, noted in the log.

    Where a setting stands under both names, the current one counts.
    """
    current: dict[str, Any] = {}
    for name, value in table.items():
        if name not in FORMER_NAMES:
            current[name] = current_value(name, value)
        elif FORMER_NAMES[name] not in table:
            _note(f"`{SECTION}.{name}` is now called `{SECTION}.{FORMER_NAMES[name]}`")
            current[FORMER_NAMES[name]] = current_value(FORMER_NAMES[name], value)
    return current


def current_value(name: str, value: Any) -> Any:
    """Return the value of a setting, or a list of values, with current words in place of former ones."""
    if isinstance(value, list):
        return [current_value(name, item) for item in value]
    former = FORMER_VALUES.get(name, {})
    if not isinstance(value, str) or value not in former:
        return value
    _note(f'"{value}" in `{SECTION}.{name}` is now called "{former[value]}"')
    return former[value]


@cache
def _note(renamed: str) -> None:
    """Say once per process that something was renamed."""
    logger.warning("%s; the former name is still accepted.", renamed)


_TABLES: dict[str, type] = {
    "cache": CacheSettings,
    "prompt": PromptSettings,
    "worker": WorkerSettings,
    "log": LogSettings,
}


def _structure(cls: type, table: Mapping[str, Any], path: str, problems: list[str]) -> Any:
    fields = attrs.fields_dict(cls)
    values: dict[str, Any] = {}
    for name, value in table.items():
        if value is None:
            continue
        if name not in fields:
            problems.append(_unknown(f"{path}.{name}"))
            continue
        field = fields[name]
        default = getattr(cls(), name)
        if name in _TABLES and cls is Settings:
            if isinstance(value, dict):
                values[name] = _structure(_TABLES[name], value, f"{path}.{name}", problems)
            elif value != []:
                problems.append(f"`{path}.{name}` must be a table, not {_shown(value)}; the defaults are used.")
            continue
        rule: _Rule = field.metadata[RULE]
        try:
            values[name] = rule.read(value)
        except ValueError:
            problems.append(f"`{path}.{name}` must be {rule.expected}, not {_shown(value)}; {_shown(default)} is used.")
    return cls(**values)


def setting_names() -> list[str]:
    """The full names of all settings, `codegen-lsp.enabled` and on."""
    names = []
    for name in attrs.fields_dict(Settings):
        inner = attrs.fields_dict(_TABLES[name]) if name in _TABLES else {}
        names += [f"{SECTION}.{name}.{part}" for part in inner] or [f"{SECTION}.{name}"]
    return names


def _unknown(name: str) -> str:
    bare = [known.removeprefix(f"{SECTION}.") for known in setting_names()]
    near = difflib.get_close_matches(name.removeprefix(f"{SECTION}."), bare, n=1, cutoff=0.7)
    return f"`{name}` is not a setting; " + (f"did you mean `{SECTION}.{near[0]}`?" if near else "it is ignored.")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        value = list(value)
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
