"""The endpoint of a shared worker: a folder that only its user can enter, a lock, and the peer's user."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from codegen_lsp.inference.rpc import endpoint
from codegen_lsp.inference.rpc.endpoint import (
    Endpoint,
    NoSocketsError,
    SharingError,
    locked,
    remove_socket_unless_locked,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The endpoints' folder, not made yet."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "codegen-lsp"


def test_a_folder_of_another_user_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, 12345, -1)
    else:
        mine = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(SharingError, match="another user"):
        endpoint.private_folder()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_is_open_to_others_is_not_used(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(SharingError, match="open to other users"):
        endpoint.private_folder()
    assert folder.stat().st_mode & 0o777 == mode


def test_a_link_or_a_file_in_its_place_is_not_used(folder: Path, tmp_path: Path) -> None:
    folder.symlink_to(tmp_path)
    with pytest.raises(SharingError, match="not a folder"):
        endpoint.private_folder()
    folder.unlink()
    folder.touch()
    with pytest.raises(SharingError, match="not a folder"):
        endpoint.private_folder()


def test_without_a_runtime_folder_one_is_made_among_temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
        made = endpoint.private_folder()
        assert made == tmp_path / f"codegen-lsp-{os.getuid()}"
        assert made.stat().st_mode & 0o777 == 0o700


def test_a_path_too_long_for_a_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with pytest.raises(SharingError, match="too long"):
        endpoint.endpoint_of("0" * 20)


def test_a_system_without_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "sys", SimpleNamespace(platform="win32"))
    with pytest.raises(NoSocketsError):
        endpoint.private_folder()


async def test_another_user_is_told_apart(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    if not hasattr(socket, "SO_PEERCRED"):
        pytest.skip("this system does not tell")
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert endpoint.is_same_user(ours)
        mine = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
        assert not endpoint.is_same_user(ours)


HOLDER = """
import asyncio, sys
from pathlib import Path
from codegen_lsp.inference.rpc.endpoint import Endpoint, locked
async def main():
    async with locked(Endpoint(Path(sys.argv[1]), "x")):
        print("held", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_the_lock_excludes_others_and_ends_with_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = Endpoint(tmp_path, "x")
    for path in (met.socket, met.log):
        path.touch()
    inode = met.socket.stat().st_ino
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    assert met.lock.stat().st_mode & 0o777 == 0o600
    remove_socket_unless_locked(met, inode)
    assert met.socket.exists()
    with monkeypatch.context() as hasty:
        hasty.setattr(endpoint, "LOCK_TIMEOUT", 0.1)
        with pytest.raises(SharingError, match="does not release"):
            async with locked(met):
                pass
    holder.kill()
    await holder.wait()
    async with locked(met):
        pass
    remove_socket_unless_locked(met, inode + 1)
    assert met.socket.exists()
    remove_socket_unless_locked(met, inode)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


async def test_a_lock_that_can_not_be_opened(tmp_path: Path) -> None:
    met = Endpoint(tmp_path, "x")
    met.lock.mkdir()
    with pytest.raises(SharingError, match="can't be locked"):
        async with locked(met):
            pass
    remove_socket_unless_locked(met, 0)


async def test_holders_in_one_process_wait_for_each_other(tmp_path: Path) -> None:
    met = Endpoint(tmp_path, "x")
    holders: list[int] = []

    async def hold(number: int) -> None:
        async with locked(met):
            holders.append(number)
            await asyncio.sleep(0)
            assert holders[-1] == number
            holders.append(number)

    await asyncio.gather(*map(hold, range(5)))
    assert holders[::2] == holders[1::2]
