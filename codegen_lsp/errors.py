"""Errors that a user can act on.

All errors that may reach a user derive from `CodegenError`. The message says what happened, `advice` says what to do
next; the command line and the status notification show both. Any other exception is a bug and goes to the log.
"""

from __future__ import annotations


class CodegenError(Exception):
    """Base class of errors with a message for the user.

    `advice` is a sentence in the imperative, or empty when there is nothing to do.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()


class SettingsError(CodegenError):
    """A setting has a wrong name, type or value."""


class ModelError(CodegenError):
    """A model can't be found, read, or run."""


class OtherEngineError(ModelError):
    """An engine can't run a model as it is asked to, though another engine may."""


class DownloadError(CodegenError):
    """A checkpoint could not be fetched."""


class ConversionError(CodegenError):
    """A checkpoint could not be converted, or its build does not agree with it."""


class WorkerError(CodegenError):
    """The inference worker could not be started, or died."""

    def __init__(self, message: str, advice: str = "", retry_seconds: float | None = None) -> None:
        """`retry_seconds` is the time after which it is started again; None where it is not known."""
        super().__init__(message, advice)
        self.retry_seconds = retry_seconds


class SupersededError(CodegenError):
    """A newer request took the place of this one. Not shown to users: the newer request answers them."""

    def __init__(self) -> None:
        super().__init__("A newer request superseded this one.")


class CorpusError(CodegenError):
    """A training corpus could not be gathered or read."""


class AddressError(CodegenError):
    """The server can't listen on an address."""


class ClusterError(CodegenError):
    """A Ray cluster can't be started or reached, or does not run the application."""


class MissingExtraError(CodegenError):
    """A command needs packages of an extra that is not installed."""

    def __init__(self, extra: str, needed_by: str, requirements: list[str]) -> None:
        super().__init__(
            f"{needed_by} needs the extra `{extra}`, which is not installed: {', '.join(requirements)}.",
            f'pip install "codegen-lsp[{extra}]"',
        )
        self.extra = extra


class InstallationError(CodegenError):
    """An extra could not be installed."""
