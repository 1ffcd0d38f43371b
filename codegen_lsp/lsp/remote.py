"""From the settings of a remote server to its address and key: whether it may be used, and why not."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from codegen_lsp.errors import CodegenError, SettingsError
from codegen_lsp.inference.client.remote_server import RemoteServer, remote_server
from codegen_lsp.lsp.access import read_token
from codegen_lsp.lsp.remote_consent import is_confirmed
from codegen_lsp.settings import RemoteSettings

KEY_VARIABLE = "CODEGEN_LSP_REMOTE_KEY"


class UnconfirmedServerError(CodegenError):
    """The user has not confirmed that text may be sent to the server of the settings."""

    def __init__(self, settings: RemoteSettings) -> None:
        super().__init__(f"{shown(settings.url)} was not confirmed by you.", f"Run `{allow_command(settings)}`.")


def wanted_server(settings: RemoteSettings) -> RemoteServer | None:
    """Return the server of the settings; None if they name none.

    Raises: SettingsError if it can't be used, UnconfirmedServerError if the user has not confirmed it. No file that the
    settings name is read before that.
    """
    if not settings.url:
        return None
    address_of(settings)
    if not is_confirmed(settings):
        raise UnconfirmedServerError(settings)
    return address_of(settings, key_of(settings))


def address_of(settings: RemoteSettings, key: str = "") -> RemoteServer:
    """Return the address of the settings, with a key. Raises: SettingsError. Reads no file."""
    ca_file = str(Path(settings.ca_file).expanduser()) if settings.ca_file else ""
    return remote_server(
        settings.url,
        key=key,
        ca_file=ca_file,
        allow_http=settings.allow_http,
        send_workspace=settings.send == "document+workspace",
    )


def key_of(settings: RemoteSettings) -> str:
    """Return the key of the environment, else that of the file; empty without either. Raises: SettingsError."""
    if key := os.environ.get(KEY_VARIABLE, "").strip():
        return key
    if not settings.key_file:
        return ""
    try:
        return read_token(Path(settings.key_file).expanduser())
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"The key file {settings.key_file} can't be read: {reason}.") from error
    except CodegenError as error:
        raise SettingsError(error.message, "Write the key into a file of its own, with mode 0600.") from error


def shown(text: str) -> str:
    """Return a value as far as it can be shown: hostile settings may hold anything."""
    text = text if text.isascii() and text.isprintable() else ascii(text)
    return text if len(text) <= 200 else text[:200] + "..."


def allow_command(settings: RemoteSettings) -> str:
    """Return the command line that confirms a server."""
    options = [
        *(["--key-file", settings.key_file] if settings.key_file else []),
        *(["--ca-file", settings.ca_file] if settings.ca_file else []),
        *(["--allow-http"] if settings.allow_http else []),
        *(["--workspace"] if settings.send != "document" else []),
    ]
    return f"codegen-lsp remote allow {' '.join(shlex.quote(shown(word)) for word in (settings.url, *options))}"


def question(settings: RemoteSettings) -> str:
    """Return the question by which the user confirms a server."""
    host = urlsplit(settings.url).hostname
    others = " and similar passages of other files of the workspace" if settings.send != "document" else ""
    parts = [
        f"The settings of codegen-lsp name a server to run the model: {shown(settings.url)}.",
        f"The text of the documents you edit{others} would be sent to {host}.",
    ]
    if settings.key_file:
        parts.append(f"So would the key in {shown(settings.key_file)}.")
    if settings.ca_file:
        parts.append(f"Its certificate would be checked by {shown(settings.ca_file)}.")
    if settings.allow_http:
        parts.append("Connections without encryption would be allowed.")
    parts.append("Confirm only if you have set this yourself.")
    return " ".join(parts)
