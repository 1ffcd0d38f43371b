"""The internals of pygls that lsp/jsonrpc.py uses: they exist, and behave as it expects."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol


class Written:
    """A writer that keeps what is written."""

    def __init__(self) -> None:
        self.data: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.data.append(data)

    def close(self) -> None:
        pass


@pytest.fixture
def server() -> LanguageServer:
    """pygls alone, without the classes of this project."""
    return LanguageServer("plain", "1")


@pytest.fixture
def protocol(server: LanguageServer) -> Any:
    protocol: Any = server.protocol
    protocol.set_writer(Written(), include_headers=False)
    return protocol


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("_register_builtin_features", ["self"]),
        ("_handle_request", ["self", "msg_id", "method_name", "params"]),
        ("_handle_notification", ["self", "method_name", "params"]),
        ("_handle_cancel_notification", ["self", "msg_id"]),
        ("_send_handler_result", ["self", "future", "msg_id"]),
        ("_check_handler_result", ["self", "future"]),
        ("_send_response", ["self", "msg_id", "result", "error"]),
        ("_send_data", ["self", "data"]),
    ],
)
def test_methods_have_these_parameters(method: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(LanguageServerProtocol, method)).parameters) == parameters


def test_attributes_of_a_new_protocol(server: LanguageServer, protocol: Any) -> None:
    assert protocol._server is server
    assert protocol._converter.structure({"line": 1, "character": 2}, types.Position) == types.Position(1, 2)
    assert protocol._shutdown is False
    assert protocol._request_futures == protocol._result_types == {}
    assert types.SHUTDOWN in protocol.fm.builtin_features
    assert protocol.fm.features == {}


async def test_a_request_of_the_editor_has_a_future_until_it_is_answered(server: LanguageServer, protocol: Any) -> None:
    begun: list[Any] = []

    @server.feature("test/slow")
    async def slow(params: Any) -> None:
        begun.append(protocol.msg_id)
        await asyncio.Event().wait()

    ended: list[tuple[Any, Any]] = []
    protocol._send_handler_result = lambda future, *, msg_id: ended.append((future, msg_id))
    protocol._handle_request(7, "test/slow", None)
    future = protocol._request_futures[7]
    await asyncio.sleep(0)
    assert begun == [7]
    future.cancel()
    while not ended:  # noqa: ASYNC110 - pygls sets no event
        await asyncio.sleep(0)
    assert ended == [(future, 7)]
    assert future.cancelled()


async def test_the_end_of_a_notification_is_checked(server: LanguageServer, protocol: Any) -> None:
    @server.feature("test/broken")
    async def broken(params: Any) -> None:
        raise ValueError("bug")

    checked: list[Any] = []
    protocol._check_handler_result = checked.append
    protocol._handle_notification("test/broken", None)
    while not checked:  # noqa: ASYNC110 - pygls sets no event
        await asyncio.sleep(0)
    assert isinstance(checked[0].exception(), ValueError)


async def test_a_request_of_the_server_has_a_future_and_a_result_type(protocol: Any) -> None:
    future = protocol.send_request(types.WORKSPACE_CONFIGURATION, types.ConfigurationParams([]))
    ((msg_id, known),) = protocol._request_futures.items()
    assert isinstance(msg_id, str)
    assert known is future
    assert protocol._result_types == {msg_id: types.ConfigurationResponse}


def test_messages_are_written(protocol: Any) -> None:
    protocol._send_data({"id": None})
    protocol._send_response(3, True)
    assert protocol.writer.data[0] == b'{"id": null}'
    assert b'"id": 3' in protocol.writer.data[1]
