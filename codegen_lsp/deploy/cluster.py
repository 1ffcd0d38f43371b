"""The Ray cluster: one of this process on this machine alone, or one that runs already.

A cluster runs any code that its clients send. So one that is started here listens on the loopback address (by
`environment`, which is set before this module is imported), its clients need Ray's token, and its files are in a folder
that only the user can enter.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.exceptions import AuthenticationError

from codegen_lsp.deploy.environment import TOKEN_VARIABLES, token_path
from codegen_lsp.errors import ClusterError
from codegen_lsp.temporary_folder import TemporaryFolder

CONNECT_SECONDS = 10.0
STARTS = 4
OBJECT_STORE_BYTES = 100 * 2**20
"""Shared memory for objects over 100 KB, such as the bodies of large requests; Ray's minimum is 75 MB."""


@contextmanager
def local_cluster(cpus: int | None = None) -> Iterator[None]:
    """Run a cluster on this machine within the block. `cpus` is Ray's resource CPU; None for the cores.

    Its logs are kept when the block fails. Raises: ClusterError.
    """
    _make_token()
    folder = TemporaryFolder("codegen-lsp-ray-")
    with folder:
        try:
            try:
                _start(folder.path, cpus)
            except Exception as error:
                raise ClusterError(f"Ray can't be started: {error}", f"See its logs in {folder.path}.") from error
            try:
                yield
            finally:
                ray.shutdown()
        except Exception:
            folder.keep()  # the logs tell more
            raise


def _start(folder: Path, cpus: int | None) -> None:
    """Start Ray, again where its first process did not answer within the half minute that Ray waits for it.

    That happens on a busy machine, most of all at the lowest priority.
    """
    for left in reversed(range(STARTS)):
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
            )
            return
        except Exception as error:
            if not left or "timed out during startup" not in str(error):
                raise
            ray.shutdown()


@contextmanager
def joined_cluster(address: str) -> Iterator[None]:
    """Be a client of a running cluster within the block: `auto`, or the HOST:PORT of its head. Raises: ClusterError."""
    if "://" in address:
        raise ClusterError(
            f"{address} is an address of Ray Client.", "Run this on a node of the cluster, with its HOST:PORT or auto."
        )
    _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, AuthenticationError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ClusterError(
            f"No Ray cluster can be joined at {address}: {reason}",
            "Start one with `ray start --head`, on this machine or with this machine as a node, with the same versions "
            "of Ray and Python, and the same token if it has one.",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def address() -> str:
    """Return the HOST:PORT at which the cluster can be joined."""
    return str(ray.get_runtime_context().gcs_address)


def node_cpus() -> list[float]:
    """Return Ray's resource CPU of each node."""
    return [float(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]


def _check_reachable(address: str) -> None:
    """Raise ClusterError unless something listens at HOST:PORT, for which Ray would wait for ever."""
    host, colon, port = address.rpartition(":")
    if not colon:  # `auto`
        return
    try:
        socket.create_connection((host.removeprefix("[").removesuffix("]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ClusterError(
            f"No Ray cluster can be joined at {address}: {error}.",
            "Start one with `ray start --head`, and give the HOST:PORT that it prints.",
        ) from error


def _make_token() -> None:
    """Make Ray's token where there is none. Ray would make one, but one that other users may read."""
    if any(os.environ.get(name) for name in TOKEN_VARIABLES):
        return
    path = token_path()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
