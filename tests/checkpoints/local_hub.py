"""A local server that answers like the Hugging Face Hub and can truncate, stall, refuse, damage and lie."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHUNK = 1 << 14


class Hub:
    """A hub with repositories of files, and faults on demand."""

    def __init__(self) -> None:
        self.repositories: dict[str, Path] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.statuses: dict[str, tuple[int, dict[str, str]]] = {}
        """Status and headers for every request whose path contains the key."""
        self.cut: dict[str, list[int]] = {}
        """By file: number of bytes after which each of the next answers breaks off."""
        self.stall: set[str] = set()
        self.damage: set[str] = set()
        self.slow: set[str] = set()
        self.ignore_range = False
        self.cdn = False
        self.page: bytes | None = None
        self.commit: str | None = COMMIT
        self.etag: str | None = None
        """In place of a digest."""
        self.endless: set[str] = set()
        """Files whose bodies never end, and are sent without a length."""
        self.listed: Callable[[dict[str, Any]], None] = lambda answer: None
        """Changes the answer to a request for a repository's list."""
        self.unknown_revisions: set[str] = set()
        self.gated: set[str] = set()
        """Repositories of which anybody gets the list, but not the files."""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.released = threading.Event()
        self.stalled = threading.Event()
        """Set when a body is held back."""
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def gets(self, file: str) -> list[dict[str, str]]:
        """Headers of the requests for a file's body."""
        return [headers for method, path, headers in self.requests if method == "GET" and path.endswith("/" + file)]

    def fetched(self) -> set[str]:
        return {path.rsplit("/", 1)[1] for method, path, _ in self.requests if method == "GET" and "/resolve/" in path}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

        return Handler

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = request.path.split("?")[0]
        self.requests.append((request.command, path, {k.lower(): v for k, v in request.headers.items()}))
        for part, (status, headers) in self.statuses.items():
            if part in path:
                return send(request, status, {"Content-Length": "0", **headers})
        if self.page is not None:
            return send(request, 200, {"Content-Length": str(len(self.page)), "Content-Type": "text/html"}, self.page)
        if path.startswith("/api/models/"):
            repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            if revision in self.unknown_revisions:
                return send(request, 404, {"Content-Length": "0", "X-Error-Code": "RevisionNotFound"})
            return self.listing(request, repository)
        if path.startswith("/cdn/"):
            return self.file(request, path.removeprefix("/cdn/"), body)
        return self.file(request, path[1:], body)

    def listing(self, request: BaseHTTPRequestHandler, repository: str) -> None:
        folder = self.repositories.get(repository)
        if folder is None:
            return send(request, 404, {"Content-Length": "0", "X-Error-Code": "RepoNotFound"})
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = [{"rfilename": path.relative_to(folder).as_posix(), "size": path.stat().st_size} for path in paths]
        answer: dict[str, Any] = {"id": repository, "modelId": repository, "sha": self.commit, "siblings": files}
        self.listed(answer)
        data = json.dumps(answer).encode()
        return send(request, 200, {"Content-Length": str(len(data)), "Content-Type": "application/json"}, data)

    def file(self, request: BaseHTTPRequestHandler, path: str, body: bool) -> None:
        repository, _, rest = path.partition("/resolve/")
        folder, name = self.repositories.get(repository), rest.partition("/")[2]
        if repository in self.gated:
            return send(request, 403, {"Content-Length": "0", "X-Error-Code": "GatedRepo"})
        if folder is None or not (folder / name).is_file():
            return send(request, 404, {"Content-Length": "0", "X-Error-Code": "EntryNotFound"})
        data = (folder / name).read_bytes()
        large = name.endswith((".bin", ".safetensors", ".gguf"))
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{blob}"', "Accept-Ranges": "bytes"}
        if large:
            headers |= {"X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Linked-Size": str(len(data))}
        if self.etag is not None:
            headers |= {"ETag": f'"{self.etag}"', "X-Linked-Etag": f'"{self.etag}"'}
        if self.cdn and large and not request.path.startswith("/cdn/"):
            elsewhere = f"http://localhost:{self.port}/cdn/{path}"
            return send(request, 302, headers | {"Location": elsewhere, "Content-Length": "0"})
        if not body:
            return send(request, 200, headers | {"Content-Length": str(len(data))})
        start, end, partial = 0, len(data) - 1, False
        wanted = request.headers.get("Range")
        if wanted and not self.ignore_range:
            first, last = wanted.removeprefix("bytes=").split("-")
            start, end, partial = int(first), min(end, int(last or end)), True
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        if name in self.damage:
            data = data[:-1] + bytes([data[-1] ^ 1])
        rest_of_it = data[start : end + 1]
        if name in self.endless:
            return self.flood(request, headers, rest_of_it)
        headers["Content-Length"] = str(len(rest_of_it))
        cuts = self.cut.get(name)
        if cuts:
            rest_of_it = rest_of_it[: cuts.pop(0)]
        send(request, 206 if partial else 200, headers)
        if name in self.stall:
            self.stalled.set()
            self.released.wait(20)
            return None
        for place in range(0, len(rest_of_it), CHUNK):
            request.wfile.write(rest_of_it[place : place + CHUNK])
            if name in self.slow:
                request.wfile.flush()
                time.sleep(0.01)
        if len(rest_of_it) < int(headers["Content-Length"]):
            request.wfile.flush()
            request.close_connection = True
        return None

    def flood(self, request: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
        """Send a body in chunks until the client closes the connection, however much longer than the file it is."""
        send(request, 200, headers | {"Transfer-Encoding": "chunked"})
        piece = (data * (CHUNK // max(1, len(data)) + 1))[:CHUNK]
        with contextlib.suppress(OSError):
            for _ in range(1 << 16):
                request.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        request.close_connection = True


def send(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes = b"") -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD" and data:
        request.wfile.write(data)
