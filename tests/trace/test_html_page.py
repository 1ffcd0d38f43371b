"""The page of a trace: one file, whose data is never markup, and which replaces nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cattrs
import pytest

from codegen_lsp.trace.html_page import MARK, page, save_page
from codegen_lsp.trace.tracing import TraceError
from tests.trace.traces import hostile_trace


class _Elements(HTMLParser):
    """The elements of a page, with the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:
            self.texts.setdefault(self.cdata_elem, []).append(data)


def test_the_data_is_no_markup_and_is_whole() -> None:
    found = hostile_trace()
    elements = _Elements(page(found))
    assert elements.names.count("script") == 2
    assert "img" not in elements.names
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    assert json.loads(elements.texts["script"][0]) == cattrs.unstructure(found)


def test_the_policy_admits_its_own_script_and_style_only() -> None:
    elements = _Elements(page(hostile_trace()))
    policy = next(value or "" for name, value in elements.attributes if value and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name, text in (("script", elements.texts["script"][-1]), ("style", elements.texts["style"][-1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    script = elements.texts["script"][-1]
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)


def test_nothing_is_loaded() -> None:
    text = page(hostile_trace())
    outside_data = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    assert "http" not in outside_data.replace("http-equiv", "")
    assert [value for name, value in _Elements(text).attributes if name in ("src", "href")] == ["data:,"]


def test_only_a_trace_is_overwritten(tmp_path: Path) -> None:
    found = hostile_trace()
    new, mine = tmp_path / "new.html", tmp_path / "mine.html"
    save_page(new, found, force=False)
    assert MARK in new.read_text("utf-8")[:100]
    new.write_text(new.read_text("utf-8") + "old")
    save_page(new, found, force=False)
    assert not new.read_text("utf-8").endswith("old")
    mine.write_text("<!doctype html>\n<p>mine")
    with pytest.raises(TraceError, match="is no trace"):
        save_page(mine, found, force=False)
    assert mine.read_text() == "<!doctype html>\n<p>mine"
    save_page(mine, found, force=True)
    assert MARK in mine.read_text("utf-8")
    with pytest.raises(TraceError, match="no regular file"):
        save_page(tmp_path, found, force=True)
    with pytest.raises(TraceError, match="can't be written"):
        save_page(tmp_path / "none" / "x.html", found, force=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.html", "new.html"]


def test_a_link_to_a_trace_stays_one(tmp_path: Path) -> None:
    target, link = tmp_path / "target.html", tmp_path / "link.html"
    save_page(target, hostile_trace(), force=False)
    link.symlink_to(target)
    save_page(link, hostile_trace(2), force=False)
    assert link.is_symlink()
    assert MARK in target.read_text("utf-8")
