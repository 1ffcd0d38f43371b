"""The record of a typing replay: requests, typed files, and the resources of the processes."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from codegen_lsp.benchmarks.keystrokes import KeyKind


@frozen
class ReplayRequest:
    """One automatic request for a suggestion."""

    at: float
    """Seconds of typing before it."""
    milliseconds: float | None
    """From request to answer; None when it was cancelled."""
    source: str = "cancelled"
    """`cache`, `model`, `none`, or `cancelled`."""
    rule: str | None = None
    """The rule that refused a suggestion."""
    shown: bool = False
    """There was a suggestion."""
    new: bool = False
    """The suggestion differs from the one that was on the screen already."""
    accepted: bool = False
    """The person accepted it or a part of it."""
    right: bool = False
    """All of it, or its first line, is the text that the person wants to write."""
    through: bool = False
    """The key before it continued a right suggestion that was not at its end."""
    after_accepting: bool = False
    """The key before it accepted a suggestion, or was the Enter after that."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    """Tokens of its generation; for a suggestion from the cache, the length of its text in tokens of mean length."""


@frozen
class TypedSpan:
    """A piece of the file, and the kind of key that wrote it."""

    kind: KeyKind
    stretch: int
    text: str


@frozen
class TypedFile:
    """One file that was typed."""

    package: str
    path: str
    characters: int
    """Characters of the stretches that were typed."""
    keys: int
    keys_without: int
    """Keys that the same text takes without suggestions."""
    seconds: float
    """Time in which a person types it, gaps between keys included."""
    wall_seconds: float
    requests: list[ReplayRequest]
    written: list[TypedSpan]
    accepted: dict[str, int]
    """Number of accepting keys, by kind."""
    gained: int
    """Characters that accepting keys brought."""


@frozen
class ProcessCost:
    """Resources that server and worker used."""

    server_cpu_seconds: float
    worker_cpu_seconds: float
    server_mb: float
    worker_mb: float
    """Resident memory at the end, in MiB."""


@frozen
class Replay:
    """The measurements of one replay."""

    model: dict[str, Any]
    """The model, as in the status of the server."""
    real_time: bool
    typed: list[TypedFile]
    cost: ProcessCost
    cancelled_tokens: int
    """Tokens of cancelled generations."""
    generated_tokens: int
    """Tokens of all generations."""
    shown_tokens: int
    """Tokens of suggestions that were on the screen."""
    index_seconds: float | None = None
    """Time of the longest comparison of a workspace with its index; None where none ended."""
