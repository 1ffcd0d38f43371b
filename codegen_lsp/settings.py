"""All settings with their defaults.

The names are those of the section `codegen-lsp`, in snake case and nested by a dot: `codegen-lsp.cache.memory_mb` in an
editor's settings, `{"cache": {"memory_mb": 512}}` as JSON, `cache.memory_mb = 512` as TOML. Input from editors is
untrusted: a wrong value is reported with its name, its default is used, and everything else stays in force.
"""

from __future__ import annotations

import difflib
import json
import logging
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import attrs
from attrs import frozen

from codegen_lsp.former_settings import with_current_names

logger = logging.getLogger(__name__)

SECTION = "codegen-lsp"

T = TypeVar("T")

RULE = "rule"
"""Key of a field's metadata for its rule."""
FOR_MEASUREMENTS = "for_measurements"
"""Key of a field's metadata, true for a setting that editors do not offer to users."""
USER_ONLY = ("remote",)
"""Tables of settings that a workspace must not have a say in: with them it could send the user's text to a stranger.
Editors that know the origin of a value take these from the user alone; the server has each confirmed
(`lsp.remote_consent`), since it does not know it."""

ABLATIONS: dict[str, str] = {
    "window": "the prompt begins at a definition and stays there while you type; without, it is the last characters",
    "infilling": "text after the cursor is part of the prompt, as the setting `infilling` says",
    "ngrams": "n-grams of the document are mixed into the model's probabilities, if the engine supports it",
    "rest_of_document": "n-grams of a long document outside of the prompt are mixed in, too",
    "threshold": "suggestions that the model itself finds unlikely are not shown",
    "correctness": "suggestions that do not parse, or use undefined names, are not shown",
    "modules": "names that imported modules of the workspace lack count as undefined, too",
    "context": "n-grams of similar files of the workspace are mixed in, too",
    "workspace": "n-grams of all files of the workspace are mixed in, in place of those of similar files",
    "related_files": "the prompt begins with other files, as the setting `prompt.related_files` says",
    "coalescing": "a request waits for a generation under way when what was typed meanwhile may be its beginning",
    "prefetch": "after a suggestion was shown, the one that would follow it is generated",
}
"""Parts of a completion, by name, that the setting `ablate` and the option `--ablate` turn off to measure the effect of
each. A part should improve some figure."""


@frozen
class _Rule:
    """The accepted values of a setting."""

    expected: str
    """Description for messages."""
    read: Callable[[object], object]
    """Return the value, or raise ValueError."""
    schema: Mapping[str, object]
    """JSON Schema, for editors that check settings while the user writes them."""


def _switch(default: bool) -> bool:
    def read(value: object) -> object:
        if isinstance(value, bool):
            return value
        raise ValueError

    return _field(default, _Rule("true or false", read, {"type": "boolean"}))


def _whole_number(default: int, low: int, high: int) -> int:
    def read(value: object) -> object:
        # Some editors' JSON (Lua's) has one type of number only, so 4.0 is a whole number.
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
        # Lua can't tell empty lists from empty tables, and sends the latter.
        if value == {}:
            return ()
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            if among is not None and not set(value) <= set(among):
                raise ValueError
            return tuple(value)
        raise ValueError

    rule = _Rule(expected, read, {"type": "array", "items": {"type": "string"}})
    return _field((), rule, for_measurements=for_measurements)


def _table(expected: str, values: type[T]) -> Mapping[str, T]:
    def read(value: object) -> object:
        if value == []:
            return {}
        if isinstance(value, dict) and all(isinstance(item, values) and item != "" for item in value.values()):
            return dict(value)
        raise ValueError

    default: Any = attrs.Factory(dict)
    schema = {"type": "object", "additionalProperties": {"type": "boolean" if values is bool else "string"}}
    declared: Mapping[str, T] = _field(default, _Rule(expected, read, schema))
    return declared


def _field(default: T, rule: _Rule, *, for_measurements: bool = False) -> T:
    declared: T = attrs.field(default=default, metadata={RULE: rule, FOR_MEASUREMENTS: for_measurements})
    return declared


@frozen
class CacheSettings:
    """`codegen-lsp.cache`."""

    memory_mb: int = _whole_number(0, 0, 1 << 20)
    """Memory in MiB for the states of cached prompts, in addition to the model's weights. 0 takes as much as two
    prompts of the model's full context need, at least 256 MiB and at most a quarter of the machine's memory; for small
    models one prompt, at least 48 MiB."""


@frozen
class PromptSettings:
    """`codegen-lsp.prompt`: smaller is faster on a slow machine."""

    prefix_characters: int = _whole_number(6_000, 100, 100_000)
    """Maximum number of characters before the cursor in the prompt."""
    suffix_characters: int = _whole_number(1_500, 0, 100_000)
    """Maximum number of characters after the cursor in the prompt, for models that infill."""
    related_files: str = _word("auto", ("auto", "on", "off"))
    """Begin the prompt with similar passages of other files, for models that were trained to read several
    (Qwen2.5-Coder, Mellum). They are read once, while you pause, and again when others fit better. `auto` takes only as
    much as the model reads within a second together with the document: nothing on most processors. `on` takes
    `related_characters`, however long that takes."""
    related_characters: int = _whole_number(4_000, 0, 100_000)
    """Maximum number of characters of other files in the prompt."""


@frozen
class IndexSettings:
    """The n-gram index of the workspace."""

    enabled: bool = _switch(True)
    """Count the n-grams of the workspace's files, and mix them into the model's probabilities where that pays. The
    counts are kept in the user's cache folder; `codegen-lsp index clear` removes them."""
    max_tokens: int = _whole_number(5_000_000, 0, 100_000_000)
    """Tokens of a workspace that are indexed, those of the nearest and newest files first; each takes 8.5 bytes of
    memory."""


@frozen
class WorkerSettings:
    """`codegen-lsp.worker`: the process that runs the model."""

    shared: bool = _switch(True)
    """Share one worker among all windows that run the same model in the same way. If off, each window has its own
    worker, which takes the model's memory again. Without Unix sockets (Windows), each window always has its own."""


@frozen
class RemoteSettings:
    """`codegen-lsp.remote`: a server that runs the model instead of this machine."""

    url: str = _text("", "the URL of a server, like https://codegen.example:8012, or an empty string")
    """Address of a server (`codegen-lsp serve --http`) that runs the model: the text around the cursor is sent to it.
    Files that may hold secrets, and those that `exclude` names, are not. While it is away or late, the local model
    answers. Empty: nothing leaves this machine. Each address is confirmed once, in the editor or with `codegen-lsp
    remote allow`."""
    key_file: str = _text("", "the path of a file, or an empty string")
    """File with the server's key, which no other user may be able to read. The variable CODEGEN_LSP_REMOTE_KEY in the
    environment of the language server has precedence."""
    ca_file: str = _text("", "the path of a file, or an empty string")
    """File of certificates (PEM) by one of which the server's certificate is signed, instead of those of the system. It
    is checked in any case."""
    allow_http: bool = _switch(False)
    """Send text to another machine without encryption, too: who can read the network can read it."""
    send: str = _word("document", ("document", "document+workspace"))
    """Text that may be sent: that of the document, or also similar passages of other files of the workspace, which make
    its names likelier."""


@frozen
class LogSettings:
    """`codegen-lsp.log`."""

    level: str = _word("warning", ("error", "warning", "info", "debug"))
    """Minimum severity of messages in the log. `debug` logs every message, including the text of documents."""
    file: str = _text("", "the path of a file, or an empty string for the standard error stream")
    """File for the log; empty for the standard error stream, which editors show as the server's output."""


@frozen
class Settings:
    """`codegen-lsp`: the settings in force."""

    enabled: bool = _switch(True)
    """Give suggestions. If off, no model is loaded."""
    model: str = _text("auto", "the name of an installed model, the folder of a build, or auto")
    """Model to run: a name as `codegen-lsp models list` shows it, a folder, or `auto`."""
    model_by_folder: Mapping[str, str] = _table('a table of folders and models, like {"~/src/app": "base+app"}', str)
    """Models for some folders, as in `model`, by absolute path or from `~`. A model that was adapted to a folder
    (`codegen-lsp adapt`) is offered there once; this setting decides without a question."""
    engine: str = _word("auto", ("auto", "ct2", "native"))
    """Engine that runs the model: CTranslate2 (`ct2`), or `native`, which runs the same build in C (in PyTorch if the C
    library is missing) and computes only the tokens that changed, on the CPU only. `auto` is `native` where its C
    library runs (x86-64 with SSE4.1 and 64-bit ARM), without a GPU, and `ct2` elsewhere."""
    device: str = _word("auto", ("auto", "cpu", "cuda"))
    """Device that the model runs on."""
    compute_type: str = _word(
        "auto",
        ("auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16", "float32"),
    )
    """Number type of the model's computation; `auto` takes the fastest that the device supports."""
    threads: int = _whole_number(0, 0, 256)
    """Processor threads per generation; 0 takes the physical cores, at most 8."""
    cache: CacheSettings = CacheSettings()
    ngrams: str = _word("auto", ("auto", "on", "off"))
    """Mix n-grams of document and workspace into the model's probabilities, so that repetitions become more likely;
    with the engine `native` only. For models of more than 100 million parameters, `auto` uses only long, unambiguous
    matches in the workspace, unless `codegen-lsp models tune` has fitted the weights."""
    infilling: str = _word("auto", ("auto", "on", "off"))
    """Give text after the cursor to models that were trained for it. `auto` leaves it out for models of less than 100
    million parameters: measurements show no gain for the embedded one."""
    candidates: int = _whole_number(3, 1, 8)
    """Number of different suggestions to choose from when you ask by a key or command."""
    languages: Mapping[str, bool] = _table('a table of languages and true or false, like {"rust": true}', bool)
    """Languages switched on or off in addition to the defaults, by LSP identifier; `"*"` stands for all that are not
    named."""
    exclude: tuple[str, ...] = _texts('a list of patterns of files, like ["**/generated/**"]')
    """Files in which nothing is suggested, as patterns with `*`, `**` and `?`. Files with secrets are always
    excluded."""
    multi_line: str = _word("auto", ("auto", "never"))
    """Allow suggestions of several lines where the code calls for it, or never."""
    max_lines: int = _whole_number(10, 1, 100)
    """Maximum number of lines of a multi-line suggestion."""
    max_tokens: int = _whole_number(160, 1, 1024)
    """Maximum number of tokens of a multi-line suggestion; a token is three to four characters of code."""
    line_tokens: int = _whole_number(48, 1, 512)
    """Maximum number of tokens of a one-line suggestion."""
    refactor: bool = _switch(True)
    """Offer refactorings as code actions, which do nothing until they are chosen."""
    verify_refactorings: str = _word("auto", ("auto", "on", "off"))
    """Run a file's doctests and tests in a sandbox before the result of a refactoring is offered, and reject results
    with which they fail. `auto` does so where the model writes code."""
    prompt: PromptSettings = PromptSettings()
    temperature: float = _number(0.0, 0.0, 2.0)
    """Temperature of sampling: 0 takes the most likely tokens; above 0, suggestions vary."""
    top_p: float = _number(0.95, 0.01, 1.0)
    """Nucleus sampling, with a temperature above 0: only the most likely tokens with this sum of probabilities are
    used."""
    warm: bool = _switch(True)
    """Let the model work ahead while you pause, so that the next suggestion comes faster: it reads the document, and
    makes the suggestion that follows the one on the screen."""
    metrics: bool = _switch(True)
    """Count on this machine how many suggestions are shown and accepted, and how long answers take, for `codegen-lsp
    stats`. Numbers only, no text; nothing is sent."""
    debounce: str = _word("auto", ("auto", "off"))
    """Delay requests to the model while you type faster than it answers, based on measured times of both; or never.
    Cached suggestions are shown at once in any case, and so are those you ask for by a key."""
    threshold: float = _number(0.3, 0.0, 1.0)
    """Minimum probability, by the model's own estimate, of a suggestion that you did not ask for. Of its beginnings
    that are likely enough, the one with the most expected saved keys is shown. 0 shows everything."""
    ablate: tuple[str, ...] = _texts("a list of these: " + ", ".join(ABLATIONS), ABLATIONS, for_measurements=True)
    """Parts of a completion to leave out in measurements (docs/evaluation.md)."""
    index: IndexSettings = IndexSettings()
    remote: RemoteSettings = RemoteSettings()
    worker: WorkerSettings = WorkerSettings()
    log: LogSettings = LogSettings()


def structure_settings(*layers: object) -> tuple[Settings, list[str]]:
    """Read settings as editors send them: nested tables, names joined by dots, or both. Later layers win.

    Never raises. Each problem names the setting, the error, and the value used instead.
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
    """Return a table of settings in nested form: `{"cache.memory_mb": 1}` becomes `{"cache": {"memory_mb": 1}}`.

    The section's name may precede the names or enclose the table. Anything but a table gives an empty one.
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
    """Merge two tables of settings; `over` wins where both have a value. A null in `over` is ignored."""
    table = dict(under)
    for name, value in over.items():
        below = table.get(name)
        if value is None and name in table:
            continue
        table[name] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return table


_TABLES: dict[str, type] = {
    "cache": CacheSettings,
    "prompt": PromptSettings,
    "index": IndexSettings,
    "remote": RemoteSettings,
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
    """Return the full names of all settings: `codegen-lsp.enabled` and so on."""
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
