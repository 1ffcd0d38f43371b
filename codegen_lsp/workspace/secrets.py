"""Documents that are never completed, whatever the settings: those with keys or passwords, and commit messages.

A language server runs on its user's machine and sends nothing away, but a prompt also lands in caches and logs of debug
sessions, and a suggestion made of a password could end up in another file.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from urllib.parse import unquote, urlsplit


def holds_secrets(uri: str) -> bool:
    """Return true if the document's name or folder suggests that it contains keys, passwords or tokens."""
    parts = _parts_of(uri)
    if any(part in _SECRET_FOLDERS for part in parts[:-1]):
        return True
    if any("/".join(parts).endswith("/" + path) for path in _SECRET_PATHS):
        return True
    return any(fnmatchcase(_name_of(uri).lower(), pattern) for pattern in _SECRET_NAMES)


def is_commit_message(uri: str, language: str) -> bool:
    """Return true for a message or a to-do list for which a version control system has opened the editor."""
    return language in _COMMIT_LANGUAGES or _name_of(uri) in _COMMIT_FILES


def _parts_of(uri: str) -> list[str]:
    path = unquote(urlsplit(uri).path) or uri
    return [part.lower() for part in path.replace("\\", "/").split("/")]


def _name_of(uri: str) -> str:
    return (unquote(urlsplit(uri).path) or uri).replace("\\", "/").rsplit("/", 1)[-1]


_SECRET_FOLDERS = frozenset(
    {".ssh", ".gnupg", ".aws", ".azure", ".gcloud", ".kube", ".password-store", "secrets", ".secrets"}
)
_SECRET_PATHS = (
    ".docker/config.json",
    ".config/gh/hosts.yml",
    ".config/gcloud/credentials.db",
    ".git/config",
    ".m2/settings.xml",
    ".cargo/credentials.toml",
)
_SECRET_NAMES = (
    ".env",
    ".env.*",
    ".envrc",
    "*.env",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.p8",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.ppk",
    "*.asc",
    "*.gpg",
    "*.ovpn",
    "*.tfvars",
    "*.tfvars.json",
    "*.tfstate",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    ".git-credentials",
    ".dockercfg",
    "credentials",
    "credentials.json",
    "credentials.y*ml",
    "credentials.toml",
    "credentials.ini",
    "credentials.txt",
    "credentials.csv",
    "credentials.xml",
    "credentials.properties",
    "secret.*",
    "secrets.*",
    "*.secret",
    "*.secrets",
    "service-account*.json",
    "service_account*.json",
    "serviceaccount*.json",
    "client_secret*.json",
    "client-secret*.json",
    "application_default_credentials.json",
    "*firebase-adminsdk*.json",
    "kubeconfig*",
    "*.kubeconfig",
    ".yarnrc.yml",
    ".dockerconfigjson",
    "*.tfstate.backup",
    ".vault_pass*",
    ".vault-token",
    "vault.y*ml",
    ".s3cfg",
    ".boto",
    "rclone.conf",
    "*.pem.*",
    "*.key.*",
    "*.env~",
    ".env~",
    "*.token",
    "token*.txt",
    *("token.json", "tokens.json", "token[_-]*.json", "*[_-]token.json", "*[_-]tokens.json"),
    # Not code that deals with passwords.
    *("password", "passwords", "passwd", "shadow"),
    *(f"password*.{suffix}" for suffix in ("txt", "json", "csv", "y*ml", "toml", "ini", "xml", "cfg", "conf", "md")),
    ".*_history",
    "wp-config.php",
)
_COMMIT_LANGUAGES = frozenset(
    {"gitcommit", "git-commit", "gitrebase", "git-rebase", "hgcommit", "svn", "jjdescription"}
)
_COMMIT_FILES = frozenset(
    {
        "COMMIT_EDITMSG",
        "MERGE_MSG",
        "SQUASH_MSG",
        "TAG_EDITMSG",
        "NOTES_EDITMSG",
        "EDIT_DESCRIPTION",
        "git-rebase-todo",
        "svn-commit.tmp",
    }
)
