"""The environment that is set before Ray is imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codegen_lsp.deploy import environment
from codegen_lsp.deploy.environment import is_loopback, prepare
from codegen_lsp.errors import ClusterError


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path)})
    monkeypatch.setattr(Path, "home", lambda: tmp_path)


@pytest.mark.parametrize("address", [None, "auto", "127.0.0.1:6379", "head.example:6379"])
def test_no_usage_is_reported(address: str | None) -> None:
    prepare(address)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_cluster_of_this_process_needs_a_token_and_reaches_nobody() -> None:
    prepare(None)
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert {os.environ[name] for name in ("http_proxy", "https_proxy")} == {environment.CLOSED_PROXY}


def test_a_token_that_is_turned_off_is_refused() -> None:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    with pytest.raises(ClusterError, match="RAY_AUTH_MODE"):
        prepare(None)
    prepare("head.example:6379")  # that cluster's owner decides
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_a_token_is_shown_where_there_is_one(tmp_path: Path) -> None:
    prepare("head.example:6379")
    assert "RAY_AUTH_MODE" not in os.environ
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    prepare("head.example:6379")
    assert os.environ["RAY_AUTH_MODE"] == "token"


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1:1", True), ("localhost:1", True), ("[::1]:1", True), ("10.0.0.1:1", False), ("auto", False)],
)
def test_loopback_addresses(address: str, loopback: bool) -> None:
    assert is_loopback(address) == loopback
