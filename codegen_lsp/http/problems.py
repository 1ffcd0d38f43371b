"""Problems with a request, which each dialect reports in its own form."""

from __future__ import annotations

import math
from http import HTTPStatus

from codegen_lsp.errors import CodegenError, ModelError, SupersededError, WorkerError

CLIENT_CLOSED_REQUEST = 499
"""Status of a request whose client went away; nginx's, since HTTP has none. Nobody reads it."""
RETRY_SECONDS = 1
"""Time after which a client may ask again that was put off."""


class RequestProblem(Exception):  # noqa: N818 - becomes an answer
    """A request can't be answered as it was meant to be."""

    def __init__(self, status: int, kind: str, message: str, retry_seconds: float | None = None) -> None:
        """`status` is the HTTP status; `kind` a short name, such as `invalid_request_error`.

        `retry_seconds` is the time after which the client may ask again, where that is known and status 503.
        """
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self._retry_seconds = retry_seconds

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer, beside those of its body."""
        if self.status not in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            return {}
        return {"Retry-After": str(max(RETRY_SECONDS, math.ceil(self._retry_seconds or 0)))}


def invalid(message: str) -> RequestProblem:
    """Return the problem of a request with a wrong body."""
    return RequestProblem(400, "invalid_request_error", message)


def problem_of(error: Exception) -> RequestProblem:
    """Return the problem that an error of a lower layer is for a client. Unexpected errors keep their text secret."""
    match error:
        case RequestProblem():
            return error
        case TimeoutError():
            return RequestProblem(504, "timeout_error", "The answer took too long.")
        case SupersededError():
            return RequestProblem(503, "unavailable_error", "The request was put aside for others. Send it again.")
        case WorkerError():
            return RequestProblem(503, "unavailable_error", str(error), error.retry_seconds)
        case ModelError():
            return RequestProblem(500, "server_error", str(error))
        case CodegenError():
            return invalid(str(error))
        case _:
            return RequestProblem(500, "server_error", "The server failed; see its log.")
