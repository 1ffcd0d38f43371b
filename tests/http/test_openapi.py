"""The description of the server in OpenAPI, and its page."""

from __future__ import annotations

from pathlib import Path

from tests import needs

needs.extra("serve")

from starlette.routing import Route

from codegen_lsp.http import page_routes
from codegen_lsp.http.app import create_app
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.http.openapi import BODY_FIELDS
from tests.http.asgi import exchange, played_service


async def test_every_route_is_described() -> None:
    app = create_app(played_service(lambda params: []), HttpConfig())
    document = (await exchange(app, "GET", "/openapi.json")).json
    assert document["openapi"].startswith("3.1")
    served = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route) and route.path not in page_routes.FILES | page_routes.SHARED_FILES
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert described == served
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))
    assert document["paths"]["/infill"]["post"]["summary"] == "Complete code at a cursor."
    assert all("security" not in operation for methods in document["paths"].values() for operation in methods.values())


async def test_the_key_is_described_where_one_is_needed(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("k" * 40)
    keys.chmod(0o600)
    app = create_app(played_service(lambda params: []), HttpConfig(key_file=keys))
    document = (await exchange(app, "GET", "/openapi.json", headers={"x-api-key": "k" * 40})).json
    assert document["paths"]["/infill"]["post"]["security"] == [{"key": []}]
    assert "security" not in document["paths"]["/health"]["get"]


async def test_described_fields_are_read() -> None:
    """A field of a wrong type is refused, so it is read, and has the type that is described."""
    app = create_app(played_service(lambda params: []), HttpConfig())
    wrong = {"string": 1, "integer": "x", "number": "x", "boolean": "x", "array": 1, "string or list": 1}
    for path, fields in BODY_FIELDS.items():
        for name, kind in fields.items():
            body = {"input_prefix": "", "input_suffix": "", "prompt": "a"} | {name: wrong[kind]}
            answer = await exchange(app, "POST", path, body)
            assert answer.status == 400, (path, name)
            assert f"`{name}`" in answer.json["error"]["message"]


async def test_the_page_loads_nothing() -> None:
    app = create_app(played_service(lambda params: []), HttpConfig())
    answer = await exchange(app, "GET", "/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    page = answer.body.decode()
    assert "/infill" in page
    assert not any(part in page for part in ("http://", "https://", "src=", "<script", "@import", "url("))
