"""Bodies of requests: what is no JSON object, and fields of a wrong type."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import needs

needs.extra("serve")

from codegen_lsp.http.fields import MAX_DEPTH, MAX_ITEMS, Fields, depth_exceeds, read_object, well_formed
from codegen_lsp.http.problems import RequestProblem


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"1",
        b'"text"',
        b"null",
        b"{",
        b"{}{}",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b"{'a':1}",
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000,
        b'{"a":"\xff"}',
        b"\xff\xfe{\x00}\x00",
        b'{"a":"\x01"}',
        b"\x00",
    ],
)
def test_what_is_no_json_object_is_a_problem(body: bytes) -> None:
    with pytest.raises(RequestProblem) as raised:
        read_object(body)
    assert raised.value.status == 400


def test_an_empty_body_has_no_fields() -> None:
    assert read_object(b" \n").values == {}


def test_a_byte_order_mark_is_allowed() -> None:
    assert read_object(b'\xef\xbb\xbf{"a":"b"}').text("a") == "b"


@given(
    st.recursive(
        st.one_of(st.integers(), st.text(), st.sampled_from(['"[[[{', "\\", '\\"[', "]]"])),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    ),
    st.integers(0, 6),
)
def test_depth_is_that_of_the_value(value: object, limit: int) -> None:
    """Brackets in strings do not count."""
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert depth_exceeds(text, limit) == (depth_of(value) > limit)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@pytest.mark.parametrize(
    ("text", "exceeds"),
    [
        ('{"a":' + "[]," * 100 + "1}", False),
        ('{"a":"' + "[" * 100 + '"}', False),
        ('{"a":"' + '\\"[' * 100 + '"}', False),
        ('{"a":' + "[{" * 3, True),
        ('"' + "[" * 100, False),
        ("[{" * 3 + "}]" * 3, True),
    ],
)
def test_depth_of_many_brackets(text: str, exceeds: bool) -> None:
    assert depth_exceeds(text, 5) is exceeds


@pytest.mark.parametrize("read", [Fields.texts, Fields.tables])
def test_lists_are_limited(read: Callable[[Fields, str], object]) -> None:
    item: object = "a" if read is Fields.texts else {}
    assert read(Fields({"a": [item] * MAX_ITEMS}), "a")
    with pytest.raises(RequestProblem, match=f"at most {MAX_ITEMS}"):
        read(Fields({"a": [item] * (MAX_ITEMS + 1)}), "a")


def test_the_deepest_body_that_is_read() -> None:
    inner = MAX_DEPTH - 1
    assert read_object(b'{"a":' + b"[" * inner + b"]" * inner + b"}").values
    with pytest.raises(RequestProblem):
        read_object(b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\ud800b", "a\ufffdb"), ("\ud83d\ude00", "\U0001f600"), ("\udc00", "\ufffd"), ("é", "é"), ("a", "a")],
)
def test_lone_surrogates_are_replaced_and_pairs_joined(text: str, expected: str) -> None:
    assert well_formed(text) == expected
    assert Fields({"a": text}).text("a") == expected
    assert Fields({"a": [text]}).texts("a") == [expected]


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "1", True, [], {}])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(RequestProblem, match="`a` must be a number"):
        Fields({"a": value}).number("a", 0.0, 0.0, 1.0)


@pytest.mark.parametrize("value", [1.5, "1", True, [], {}, float("inf"), float("nan")])
def test_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(RequestProblem, match="`a` must be a whole number"):
        Fields({"a": value}).whole("a", 0, 0, 1)


def test_numbers_are_brought_into_their_range() -> None:
    fields = Fields({"large": 10**200, "small": -5, "even": 3.0, "none": None})
    assert fields.whole("large", 0, 0, 9) == 9
    assert fields.whole("small", 0, 0, 9) == 0
    assert fields.whole("even", 0, 0, 9) == 3
    assert fields.whole("none", 4, 0, 9) == 4
    assert fields.number("small", 0.0, 0.0, 1.0) == 0.0
    assert Fields({"a": 10**400}).number("a", 0.0, 0.0, 1.0) == 1.0
    assert Fields({"a": -(10**400)}).number("a", 0.0, 0.0, 1.0) == 0.0


@pytest.mark.parametrize("value", [0, -1, 5, 10**9, True, "2"])
def test_a_count_out_of_its_range_is_a_problem(value: object) -> None:
    with pytest.raises(RequestProblem, match="`a` must be"):
        Fields({"a": value}).count("a", 1, 4)


def test_counts_and_limits() -> None:
    assert [Fields({"a": value}).count("a", 3, 4) for value in (1, 4.0, None)] == [1, 4, 3]
    assert [Fields({"a": value}).limit("a", 9) for value in (None, 0, 5, 10**9, -1, -(10**9))] == [None, 0, 5, 9, 9, 9]
