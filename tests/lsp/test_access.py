"""Tokens, their files, and the names of this server."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp.access import TokenError, is_loopback, is_own_host, is_token
from codegen_lsp.lsp.access import token_of_file, token_of_request


def test_a_file_keeps_its_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = token_of_file(path)
    assert token_of_file(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("chosen-by-the-user-himself\n")
    assert token_of_file(path) == "chosen-by-the-user-himself"


@pytest.mark.parametrize(
    "text", ["", "short", "x" * 2_000, "sixteen characters\x1b and more", "ümlauts ümlauts ümlauts"]
)
def test_a_file_without_a_token_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(TokenError):
        token_of_file(path)


def test_files_that_others_can_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token_of_file(path)
    path.chmod(0o640)
    with pytest.raises(TokenError, match="other users"):
        token_of_file(path)
    with pytest.raises(TokenError):
        token_of_file(tmp_path / "missing" / "token")
    with pytest.raises(TokenError):
        token_of_file(Path("/dev/zero"))


@pytest.mark.parametrize("given", ["", "right ", "Right", "righ", "\ud800", None, 1, ["right"]])
def test_a_wrong_token(given: object) -> None:
    assert not is_token(given, "right")


@pytest.mark.parametrize(
    ("path", "authorization", "token"),
    [
        ("/", None, None),
        ("/?token=a-b_c", None, "a-b_c"),
        ("/lsp?x=1&token=a", "Basic x", "a"),
        ("/?token=a", "Bearer b", "b"),
        ("/?token=a&token=b", None, "a"),
    ],
)
def test_tokens_of_requests(path: str, authorization: str | None, token: str | None) -> None:
    assert token_of_request(path, authorization) == token


@pytest.mark.parametrize(
    ("header", "own"),
    [
        ("127.0.0.1:2087", True),
        ("localhost", True),
        ("[::1]:2087", True),
        ("Workstation:2087", True),
        (None, False),
        ("", False),
        ("evil.example:2087", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", False),
    ],
)
def test_own_hosts(header: str | None, own: bool) -> None:
    assert is_own_host(header, "workstation") is own


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("fe80::1%1", False)],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback
