"""Clusters that can't be joined."""

from __future__ import annotations

import pytest

from tests import needs

needs.extra("ray")

from codegen_lsp.deploy.cluster import joined_cluster
from codegen_lsp.errors import ClusterError
from tests.deploy.conftest import free_port


@pytest.mark.parametrize("address", ["127.0.0.1:no-port", "127.0.0.1:70000", "ray://127.0.0.1:10001"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ClusterError), joined_cluster(address):
        pass


def test_an_address_where_nothing_listens_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ClusterError, match=address), joined_cluster(address):
        pass
