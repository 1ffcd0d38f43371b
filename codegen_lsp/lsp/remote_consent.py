"""Which servers the user has confirmed to send text to.

The protocol does not say where a setting comes from: the user, or a file of the workspace that is merely open. So a
server that the settings name is used only once the user has confirmed it, in the editor or with `codegen-lsp remote
allow`, together with all that decides where text and key go. What is confirmed is kept in the user's folder for
settings, which no workspace can write to.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import attrs
import cattrs
import platformdirs

from codegen_lsp.file_replacement import PRIVATE, replace_file
from codegen_lsp.settings import RemoteSettings

logger = logging.getLogger(__name__)

FILE = "remote-servers.json"
MAX_BYTES = 100_000


def consent_file() -> Path:
    """Return the path of the file with the confirmed servers, which may not exist yet."""
    return platformdirs.user_config_path("codegen-lsp", appauthor=False) / FILE


def confirmed() -> list[RemoteSettings]:
    """Return the servers that the user has confirmed. A file that another user may have written counts as empty."""
    try:
        with consent_file().open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                return []
            if hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
                logger.warning("%s can be changed by other users and is ignored", consent_file())
                return []
            return cattrs.structure(json.loads(file.read(MAX_BYTES)), list[RemoteSettings])
    except FileNotFoundError:
        return []
    except Exception as error:
        logger.warning("%s can't be read: %s", consent_file(), error)
        return []


def is_confirmed(settings: RemoteSettings) -> bool:
    """Return whether the user has confirmed this server, with this key file, these certificates and this text.

    Less text than was confirmed is allowed, too.
    """
    wider = attrs.evolve(settings, send="document+workspace")
    return any(one in (settings, wider) for one in confirmed())


def confirm(settings: RemoteSettings) -> None:
    """Keep a server as confirmed, in place of an earlier entry with its URL. Raises: OSError."""
    _write([*(one for one in confirmed() if one.url != settings.url), settings])


def forget(url: str) -> bool:
    """Remove the server with a URL. Returns false if there is none. Raises: OSError."""
    before = confirmed()
    kept = [one for one in before if one.url != url]
    if len(kept) != len(before):
        _write(kept)
    return len(kept) != len(before)


def _write(servers: list[RemoteSettings]) -> None:
    path = consent_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content: Any = cattrs.unstructure(servers)
    replace_file(path, json.dumps(content, indent=2).encode(), PRIVATE)
