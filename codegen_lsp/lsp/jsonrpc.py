"""JSON-RPC: from the bytes of a message to the call of a handler, and back.

pygls leaves a request unanswered when its params don't fit, after `shutdown` and before `initialize`; it shows its own
errors to the user in a message box, sends stack traces to the editor, and takes a message with the key "jsonrpc" inside
its params for several. An editor waits for ever for a missing answer, so `CodegenProtocol` replaces the dispatch of
pygls. Its rules: a request with an id is answered exactly once; an invalid notification is logged; nothing raises, and
nothing is shown.

These internals of pygls are used, and tests/lsp/test_pygls.py checks that they exist and behave so:

- `_request_futures`: futures of the requests in both directions, by id. To cancel requests of the editor, and to
  resolve those of the server.
- `_result_types`: response types of the server's own requests, by id. To structure responses.
- `_shutdown`: true after `shutdown`. It decides the exit code, and pygls reads it, too.
- `fm.features`, `fm.builtin_features`: the handlers by method; pygls' own handlers are removed from the latter by
  overriding `_register_builtin_features`.
- `_handle_request`, `_handle_notification`: run a handler, and keep the id of its request in a context variable.
- `_send_handler_result`, `_check_handler_result`, `_handle_cancel_notification`: overridden. The first two are called
  when a handler of a request or of a notification has ended.
- `_send_response`, `_send_data`: serialize and write a message.
- `get_message_type`, `get_result_type`: overridden, since their cache keeps every protocol that ever asked.
- `_converter`, `_server`: what the constructor was given.
"""

from __future__ import annotations

import contextvars
import json
import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol, default_converter

from codegen_lsp.errors import CodegenError
from codegen_lsp.lsp.extensions import REQUEST_PARAMS, VALUES

logger = logging.getLogger(__name__)

T = TypeVar("T")

MessageId = int | str

_REPLACED = (
    types.SHUTDOWN,
    types.EXIT,
    types.TEXT_DOCUMENT_DID_OPEN,
    types.TEXT_DOCUMENT_DID_CHANGE,
    types.TEXT_DOCUMENT_DID_CLOSE,
    types.NOTEBOOK_DOCUMENT_DID_OPEN,
    types.NOTEBOOK_DOCUMENT_DID_CHANGE,
    types.NOTEBOOK_DOCUMENT_DID_CLOSE,
    types.WORKSPACE_EXECUTE_COMMAND,
    types.WINDOW_WORK_DONE_PROGRESS_CANCEL,
)
"""Methods that pygls would handle itself, and that this server handles otherwise or not at all."""


class Rejected(Exception):  # noqa: N818 - a refusal, not a failure
    """A message is invalid; `code` is the JSON-RPC error code of the answer."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class CodegenProtocol(LanguageServerProtocol):
    """The protocol and its state for one connection."""

    def __init__(self, server: LanguageServer, converter: cattrs.Converter) -> None:
        super().__init__(server, converter)
        self.on_exit: Callable[[int], object] = lambda exit_code: None
        """Called with the exit code when `exit` arrives."""
        self.on_unreadable_change: Callable[[str, dict[str, Any]], object] = lambda method, message: None
        """Called with the method and the message of a change of a document that could not be structured."""
        self._running: set[MessageId] = set()
        self._initialize_seen = False

    @property
    def exit_code(self) -> int:
        """Exit code of the process if it ends now: 0 only after `shutdown`."""
        return 0 if self._shutdown else 1

    def refuse_requests(self) -> None:
        """Cancel all requests in progress, and refuse new ones, as after `shutdown`."""
        self._shutdown = True
        self.cancel_all()

    def cancel_all(self) -> None:
        """Cancel all requests in progress, but for the one at hand."""
        for msg_id, future in list(self._request_futures.items()):
            if msg_id != self.msg_id:
                future.cancel()

    def _register_builtin_features(self) -> None:
        super()._register_builtin_features()  # type: ignore[no-untyped-call]
        for method in _REPLACED:
            self.fm.builtin_features.pop(method, None)

    def get_message_type(self, method: str) -> type[Any] | None:  # type: ignore[override]
        """Return the type of a method's messages."""
        return types.METHOD_TO_TYPES.get(method, (None, None))[0]

    def get_result_type(self, method: str) -> type[Any] | None:  # type: ignore[override]
        """Return the type of a method's responses."""
        return types.METHOD_TO_TYPES.get(method, (None, None))[1]

    # In: from the bytes to the handler.

    def receive(self, body: bytes | str) -> None:
        """Handle one message. Never raises."""
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            logger.warning("A message of %d bytes is not JSON: %s", len(body), error)
            self._refuse(None, types.ErrorCodes.ParseError, f"The message is not JSON: {error}")
            return
        if not isinstance(message, dict):
            logger.warning("A message is no JSON object")
            self._refuse(None, types.ErrorCodes.InvalidRequest, "A message must be a JSON object.")
            return
        try:
            # Each handler runs in a context of its own, where pygls keeps the id of the request.
            contextvars.copy_context().run(self._dispatch, message)
        except Rejected as rejected:
            logger.warning("A message is rejected. %s", rejected)
            if "id" in message:
                self._refuse(message["id"], rejected.code, str(rejected))
        except Exception:
            logger.exception("A message could not be handled")
            if "id" in message and "method" in message:
                self._refuse(message["id"], types.ErrorCodes.InternalError, "The server failed; its log says how.")

    def _dispatch(self, message: dict[str, Any]) -> None:
        if message.get("jsonrpc") != self.VERSION:
            raise Rejected(types.ErrorCodes.InvalidRequest, 'A message must have "jsonrpc": "2.0".')
        if "method" not in message and "id" in message and ("result" in message or "error" in message):
            self._take_response(message)
            return
        method = message.get("method")
        if not isinstance(method, str):
            raise Rejected(types.ErrorCodes.InvalidRequest, "The method of a message must be a string.")
        if "id" in message:
            self._take_request(message, method)
        else:
            self._take_notification(message, method)

    def _take_request(self, message: dict[str, Any], method: str) -> None:
        msg_id = message["id"]
        if not _is_id(msg_id):
            raise Rejected(types.ErrorCodes.InvalidRequest, "The id of a request must be a number or a string.")
        if msg_id in self._running:
            raise Rejected(types.ErrorCodes.InvalidRequest, f"The request {msg_id!r} is still running.")
        if self._shutdown:
            raise Rejected(types.ErrorCodes.InvalidRequest, "The server has been shut down.")
        if method == types.INITIALIZE and self._initialize_seen:
            raise Rejected(types.ErrorCodes.InvalidRequest, "The server is initialized already.")
        if method != types.INITIALIZE and not self._initialize_seen:
            raise Rejected(types.ErrorCodes.ServerNotInitialized, "The first request must be `initialize`.")
        if not self._handles(method, request=True):
            raise Rejected(types.ErrorCodes.MethodNotFound, f"There is no request {method!r}.")
        params = self._params(message, method)
        self._initialize_seen = True
        self._running.add(msg_id)
        self._handle_request(msg_id, method, params)

    def _take_notification(self, message: dict[str, Any], method: str) -> None:
        if method == types.EXIT:
            self.on_exit(self.exit_code)
            return
        if self._shutdown or not self._initialize_seen:
            raise Rejected(types.ErrorCodes.InvalidRequest, f"{method!r} came before `initialize` or after `shutdown`.")
        if not self._handles(method, request=False):
            logger.debug("The notification %r is not known", method)
            return
        try:
            params = self._params(message, method)
        except Rejected:
            if method in (types.TEXT_DOCUMENT_DID_CHANGE, types.NOTEBOOK_DOCUMENT_DID_CHANGE):
                self.on_unreadable_change(method, message)
            raise
        self._handle_notification(method, params)

    def _take_response(self, message: dict[str, Any]) -> None:
        msg_id = message["id"]
        if not isinstance(msg_id, str) or msg_id not in self._result_types:
            logger.warning("A response has the id %r, which no request has", msg_id)
            return
        result_type = self._result_types.pop(msg_id)
        future = self._request_futures.pop(msg_id, None)
        if future is None or future.done():
            return
        try:
            response_type = types.ResponseErrorMessage if "error" in message else result_type
            response = self._converter.structure(message, response_type) if response_type else None
        except Exception as error:
            logger.warning("A response has the wrong form: %s", _reason(error))
            future.set_exception(JsonRpcException(_reason(error)))
            return
        if "error" in message:
            future.set_exception(JsonRpcException.from_error(response.error))  # type: ignore[union-attr]
        else:
            future.set_result(response.result if response else message["result"])

    def _handles(self, method: str, *, request: bool) -> bool:
        if method == types.CANCEL_REQUEST:
            return not request
        if method in types.METHOD_TO_TYPES and (types.METHOD_TO_TYPES[method][1] is not None) != request:
            return False
        return method in self.fm.features or method in self.fm.builtin_features

    def _params(self, message: dict[str, Any], method: str) -> Any:
        """Return the params as a value of the method's type. Raises: Rejected (InvalidParams)."""
        try:
            if method in REQUEST_PARAMS:
                return self._converter.structure(message.get("params") or {}, REQUEST_PARAMS[method])
            message_type = types.METHOD_TO_TYPES[method][0]
            return getattr(self._converter.structure(message, message_type), "params", None)
        except Exception as error:
            if method == types.INITIALIZE and isinstance(message.get("params"), dict):
                return self._lenient_initialize(message["params"])
            raise Rejected(
                types.ErrorCodes.InvalidParams, f"The params of {method!r} don't fit: {_reason(error)}"
            ) from error

    def _lenient_initialize(self, raw: dict[str, Any]) -> types.InitializeParams:
        """Return the params of `initialize` without the parts that can't be structured.

        Editors newer than lsprotocol announce values that it doesn't know, and Lua's empty table arrives as a list.
        Completion works in both cases.
        """

        def fits(**params: Any) -> bool:
            try:
                self._converter.structure({"capabilities": {}} | params, types.InitializeParams)
            except Exception:
                return False
            return True

        groups = raw.get("capabilities")
        if not isinstance(groups, dict | list) or (isinstance(groups, list) and groups):
            raise Rejected(types.ErrorCodes.InvalidParams, "The params of 'initialize' have no capabilities.")
        kept: dict[str, Any] = {}
        for group, items in dict(groups).items():
            if fits(capabilities={group: items}):
                kept[group] = items
            elif isinstance(items, dict):
                kept[group] = {name: item for name, item in items.items() if fits(capabilities={group: {name: item}})}
        params = {name: value for name, value in raw.items() if name != "capabilities" and fits(**{name: value})}
        logger.warning("Parts of the params of 'initialize' are not understood and ignored")
        return self._converter.structure(params | {"capabilities": kept}, types.InitializeParams)

    def _handle_cancel_notification(self, msg_id: MessageId) -> None:
        if msg_id in self._running and (future := self._request_futures.get(msg_id)) is not None:
            future.cancel()

    # Out: from the handler's result to the bytes.

    def _send_handler_result(self, future: Future[Any], *, msg_id: MessageId) -> None:
        self._request_futures.pop(msg_id, None)
        self._running.discard(msg_id)
        if future.cancelled():
            self._refuse(msg_id, types.LSPErrorCodes.RequestCancelled, "The request was cancelled.")
            return
        error = future.exception()
        if error is None:
            self._send_response(msg_id, future.result())
        elif isinstance(error, JsonRpcException):
            self._refuse(msg_id, error.code, error.message)
        elif isinstance(error, CodegenError):
            self._refuse(msg_id, types.LSPErrorCodes.RequestFailed, str(error))
        else:
            logger.error("The request %r failed", msg_id, exc_info=error)
            self._refuse(msg_id, types.ErrorCodes.InternalError, "The server failed; its log says how.")

    def _check_handler_result(self, future: Future[Any]) -> None:
        for msg_id in [msg_id for msg_id, known in self._request_futures.items() if known is future]:
            del self._request_futures[msg_id]
        if not future.cancelled() and (error := future.exception()) is not None:
            logger.error("A notification could not be handled", exc_info=error)

    def _refuse(self, msg_id: Any, code: int, reason: str) -> None:
        # As a plain object: lsprotocol leaves out an id that is null, which JSON-RPC wants to see.
        known = msg_id if _is_id(msg_id) else None
        self._send_data({"jsonrpc": self.VERSION, "id": known, "error": {"code": int(code), "message": reason}})


@cache
def make_converter() -> cattrs.Converter:
    """Return the converter of the protocol's types and of the extensions, whose fields are sent in camel case.

    All connections share it: it takes time and memory.

    It is strict about types; cattrs alone converts any value to a string where a string is expected.
    """
    converter: cattrs.Converter = default_converter()  # type: ignore[no-untyped-call]
    for kind in (str, bool, int):
        converter.register_structure_hook(kind, _strict)
    converter.register_structure_hook(int | str, _id)
    for cls in VALUES:
        names: Any = {field.name: override(rename=_camel(field.name)) for field in attrs.fields(cls)}
        converter.register_structure_hook(cls, make_dict_structure_fn(cls, converter, **names))
        converter.register_unstructure_hook(cls, make_dict_unstructure_fn(cls, converter, **names))
    return converter


def _strict(value: object, kind: type[T]) -> T:
    """Return a value that must be of this kind, or the member of an enumeration with this value."""
    if kind not in (str, bool, int):
        return kind(value)  # type: ignore[call-arg]
    # Lua has one type of number, and some encoders write 3.0 for 3.
    if kind is int and isinstance(value, float) and value.is_integer():
        return kind(value)  # type: ignore[call-arg]
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} instead of {kind.__name__}")
    return value


def _id(value: object, kind: object) -> int | float | str:
    """Return an id or a token: a number or a string. lsprotocol alone lets lists pass, which are no key of a table."""
    if not _is_id(value):
        raise TypeError(f"{type(value).__name__} instead of a number or a string")
    return value  # type: ignore[return-value]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _is_id(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _reason(error: Exception) -> str:
    """Describe an error of structuring for the user, without the text of a document that may be part of it."""
    if isinstance(error, cattrs.BaseValidationError):
        return "; ".join(cattrs.transform_error(error, path="message"))[:500]
    return f"{type(error).__name__}: {error}"[:500]
