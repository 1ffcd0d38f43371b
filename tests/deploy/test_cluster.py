"""Clusters that can't be joined."""

from __future__ import annotations

from contextlib import nullcontext
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
