"""A language server with scripted answers, so that tests of the plugin need neither a model nor this package.

    python fake_server.py FOLDER

`FOLDER/script.json` is read for each request:

- `lines`: texts whose first line is the whole line as it will be. A text is suggested where the line up to the cursor
  is its beginning, and it replaces the closing brackets after the cursor.
- `delay`: seconds until a suggestion, or advice about models, is answered.
- `advice`: the answer about models.

Received messages are written to `FOLDER/log.jsonl`. The command `fake.notify` `[method, params]` sends a notification,
`fake.ask` `[number, params]` asks a question after its own answer, and `fake.exit` ends the process.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
CANCELLED = -32800
lock = threading.Lock()
documents: dict[str, list[str]] = {}
waiting: dict[Any, threading.Timer] = {}


def send(message: dict[str, Any]) -> None:
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    with lock:
        sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        sys.stdout.buffer.flush()


def receive() -> dict[str, Any]:
    length = 0
    while line := sys.stdin.buffer.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if not length:
        sys.exit(0)
    return json.loads(sys.stdin.buffer.read(length))


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def suggestions(params: dict[str, Any], script: dict[str, Any]) -> list[dict[str, Any]]:
    row, column = params["position"]["line"], params["position"]["character"]
    line = documents[params["textDocument"]["uri"]][row]
    before = line.encode("utf-16-le")[: 2 * column].decode("utf-16-le")
    closers = re.match(r"[)\]}'\"]*", line[len(before) :])
    assert closers is not None
    start, wanted = 0, before
    if selected := params["context"].get("selectedCompletionInfo"):
        wanted = line[: selected["range"]["start"]["character"]] + selected["text"]
    items = [
        {
            "insertText": text,
            "range": {
                "start": {"line": row, "character": start},
                "end": {"line": row, "character": column + units(closers[0])},
            },
            "command": {"title": "", "command": "codegen-lsp.accepted", "arguments": [{"suggestion": text}]},
        }
        for text in script.get("lines", [])
        if before.strip() and text.startswith(wanted) and text != before
    ]
    return items if params["context"]["triggerKind"] == 1 else items[:1]


def answer(number: Any, result: Any) -> None:
    waiting.pop(number, None)
    send({"id": number, "result": result})


def complete(number: Any, params: dict[str, Any]) -> None:
    script = json.loads((FOLDER / "script.json").read_text(encoding="utf-8"))
    items = suggestions(params, script)
    if not script.get("delay"):
        # In the order of the requests: a test may wait for the answer to a later one.
        answer(number, {"items": items})
        return
    timer = threading.Timer(script["delay"], answer, (number, {"items": items}))
    timer.daemon = True
    waiting[number] = timer
    timer.start()


def advise(number: Any) -> None:
    script = json.loads((FOLDER / "script.json").read_text(encoding="utf-8"))
    timer = threading.Timer(script.get("delay", 0), answer, (number, script["advice"]))
    timer.daemon = True
    waiting[number] = timer
    timer.start()


def execute(number: Any, params: dict[str, Any]) -> None:
    name, arguments = params["command"], params.get("arguments") or []
    if name == "fake.exit":
        os._exit(3)
    if name == "fake.notify":
        send({"method": arguments[0], "params": arguments[1]})
    if name == "codegen-lsp.switchModel" and arguments[0] == "missing":
        send({"id": number, "error": {"code": -32803, "message": "There is no model named missing."}})
        return
    send({"id": number, "result": {"model": arguments[0]} if name == "codegen-lsp.switchModel" else None})
    if name == "fake.ask":
        send({"id": arguments[0], "method": "window/showMessageRequest", "params": arguments[1]})


def main() -> None:
    with (FOLDER / "log.jsonl").open("a", encoding="utf-8", buffering=1) as log:
        while True:
            message = receive()
            method, number, params = message.get("method"), message.get("id"), message.get("params")
            log.write(json.dumps(message) + "\n")
            if method == "initialize":
                capabilities = {
                    "inlineCompletionProvider": True,
                    "textDocumentSync": {"openClose": True, "change": 1},
                    "executeCommandProvider": {"commands": ["codegen-lsp.accepted"]},
                }
                send({"id": number, "result": {"capabilities": capabilities}})
            elif method in ("textDocument/didOpen", "textDocument/didChange"):
                document = params["textDocument"]
                text = document["text"] if "text" in document else params["contentChanges"][-1]["text"]
                documents[document["uri"]] = re.split(r"\r\n|\n", text)
            elif method == "textDocument/inlineCompletion":
                complete(number, params)
            elif method == "$/cancelRequest" and (timer := waiting.pop(params["id"], None)):
                timer.cancel()
                send({"id": params["id"], "error": {"code": CANCELLED, "message": "cancelled"}})
            elif method == "workspace/executeCommand":
                execute(number, params)
            elif method == "codegen-lsp/modelAdvice":
                advise(number)
            elif method == "codegen-lsp/explain":
                send({"id": number, "result": {"message": "Line 1: because."}})
            elif method == "exit":
                return
            elif number is not None and method:
                send({"id": number, "result": None})


main()
