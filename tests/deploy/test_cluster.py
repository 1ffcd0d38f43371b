"""Clusters that can't be joined."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import needs

needs.extra("ray")

from codegen_lsp.cli import deploy
from codegen_lsp.deploy import cluster
from codegen_lsp.deploy.cluster import joined_cluster
from codegen_lsp.errors import ClusterError
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.settings import Settings
from tests.deploy.conftest import free_port


@pytest.mark.parametrize("address", ["127.0.0.1:no-port", "127.0.0.1:70000", "ray://127.0.0.1:10001"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ClusterError), joined_cluster(address):
        pass


def test_an_address_where_nothing_listens_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ClusterError, match=address), joined_cluster(address):
        pass


def test_a_cluster_from_which_the_server_was_removed_ends_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other command (`--remove`) did what this one does at its end."""

    def removed() -> None:
        raise ClusterError("No application runs on this cluster.")

    monkeypatch.setattr(cluster, "local_cluster", nullcontext)
    monkeypatch.setattr(cluster, "address", lambda: "127.0.0.1:6379")
    monkeypatch.setattr(deploy, "_put", lambda *_, **__: None)
    monkeypatch.setattr(deploy, "_wait", lambda: None)
    monkeypatch.setattr("codegen_lsp.deploy.application", SimpleNamespace(remove=removed), raising=False)
    deploy._run_here(Settings(), HttpConfig(), 1, 1)


@pytest.mark.parametrize(("failures", "starts"), [(2, True), (9, False)])
def test_a_start_that_takes_too_long_is_tried_again(
    failures: int, starts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine Ray's first process does not answer within the time that Ray waits for it."""
    tried: list[int] = []

    def init(**options: object) -> None:
        tried.append(1)
        if len(tried) <= failures:
            raise RuntimeError("The current node timed out during startup.")

    monkeypatch.setattr(cluster, "_make_token", lambda: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cluster.ray, "init", init)
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: None)
    with nullcontext() if starts else pytest.raises(ClusterError, match="timed out"), cluster.local_cluster(1):
        pass
    assert len(tried) == (failures + 1 if starts else cluster.STARTS)
    assert bool(list(tmp_path.iterdir())) != starts  # the logs of a failed start are kept
