"""Admission of requests: key, host and origin, and how many are answered at once.

A port of the loopback interface is open to every web page that the user's browser shows. A page can send requests
(without reading the answers), and one whose name was made to lead to this machine (DNS rebinding) could read them. So a
request must name this machine as its host, unless it shows a key, and a page must be one of this server or of an origin
that the configuration names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from codegen_lsp.access import is_own_host, is_token
from codegen_lsp.http import page_routes
from codegen_lsp.http.answers import ProblemForm, discard_body, problem_answer
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.http.problems import RequestProblem, invalid

PUBLIC_PATHS = frozenset({"/health", "/v1/health"})
"""Answered to everybody: that the server runs, and whether its model is loaded."""
KEYLESS_PATHS = frozenset(page_routes.FILES | page_routes.SHARED_FILES)
"""Answered without a key on the loopback address: the page that asks for it, since a browser sends none for a page."""
NO_ADDRESS = "local"
"""Stands for the address of a client that has none, as on a socket of the file system."""

FormOf = Callable[[str], ProblemForm]
"""Returns the form of problems of a path."""


class Guard:
    """ASGI middleware that admits requests to the application."""

    def __init__(self, app: ASGIApp, config: HttpConfig, keys: list[str], form_of: FormOf) -> None:
        """`keys` are those of which clients must give one; none are needed if it is empty."""
        self._app = app
        self._config = config
        self._keys = keys
        self._form_of = form_of
        self._open: Counter[str] = Counter()
        """Number of requests that are being answered, by user."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or the problem with it."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        try:
            user = self._admit(scope, headers)
        except RequestProblem as problem:
            await self._refuse(problem, scope, receive, send)
            return
        scope.setdefault("state", {})["user"] = user
        self._open[user] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[user] -= 1
            if not self._open[user]:
                del self._open[user]

    def _admit(self, scope: Scope, headers: Headers) -> str:
        """Return the key of the user who sends a request. Raises: RequestProblem."""
        address = str(scope["client"][0]) if scope.get("client") else NO_ADDRESS
        if scope["path"] in PUBLIC_PATHS and scope["method"] in ("GET", "HEAD"):
            return address
        if "transfer-encoding" in headers and "content-length" in headers:
            # A proxy in front may take the other one for the length, and what follows for a request (RFC 9112, 6.1).
            raise invalid("A body has `Transfer-Encoding` or `Content-Length`, and not both.")
        number = self._key_number(headers)
        own_host = is_own_host(headers.get("host"), self._config.host) or self._is_allowed_host(headers.get("host"))
        if not own_host and number is None:
            raise RequestProblem(403, "permission_error", "The header `Host` does not name this server.")
        self._check_page(scope, headers)
        keyless = scope["method"] == "OPTIONS" or (
            self._config.is_loopback and scope["path"] in KEYLESS_PATHS and scope["method"] in ("GET", "HEAD")
        )
        if self._keys and number is None and not keyless:
            raise RequestProblem(401, "authentication_error", "A key is needed: `Authorization: Bearer KEY`.")
        user = address if number is None else f"key {number}"
        if self._open.total() >= self._config.max_requests:
            raise RequestProblem(503, "unavailable_error", "The server answers too many requests. Try again soon.")
        if self._open[user] >= self._config.max_requests_of_client:
            raise RequestProblem(429, "rate_limit_error", "Too many of your requests are open. Try again soon.")
        return user

    def _key_number(self, headers: Mapping[str, str]) -> int | None:
        """Return the number of the key that a request gives; None for a wrong or no key. Compares with every key."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = [headers.get("x-api-key"), bearer.strip() if scheme.lower() == "bearer" else None]
        right = [number for number, key in enumerate(self._keys) for one in given if is_token(one, key)]
        return right[0] if right else None

    def _is_allowed_host(self, host: str | None) -> bool:
        return host is not None and _hostname(f"//{host}") in self._config.allowed_hosts

    def _check_page(self, scope: Scope, headers: Headers) -> None:
        """Refuse the requests of pages of other origins. Raises: RequestProblem."""
        origins, site = headers.getlist("origin"), headers.get("sec-fetch-site", "none")
        own = f"{scope['scheme']}://{headers.get('host')}"
        if not set(origins) <= {own, *self._config.allowed_origins}:
            raise RequestProblem(403, "permission_error", "Pages of this origin may not use the server.")
        if not origins and site not in ("none", "same-origin") and not self._is_navigation(scope, headers):
            raise RequestProblem(403, "permission_error", "Pages of other sites may not use the server.")

    @staticmethod
    def _is_navigation(scope: Scope, headers: Headers) -> bool:
        """Return whether the user follows a link; the page that has it can't read what is shown then."""
        mode, target = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
        return scope["method"] == "GET" and (mode, target) == ("navigate", "document")

    async def _refuse(self, problem: RequestProblem, scope: Scope, receive: Receive, send: Send) -> None:
        await discard_body(Request(scope, receive), self._config.max_body_bytes)
        answer = problem_answer(problem, self._form_of(scope["path"]))
        if problem.status == HTTPStatus.UNAUTHORIZED:
            answer.headers["WWW-Authenticate"] = "Bearer"
        await answer(scope, receive, send)


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
