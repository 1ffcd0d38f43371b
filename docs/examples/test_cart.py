"""Tests of the cart."""

from types import SimpleNamespace

from cart import total


def test_total():
    apple = SimpleNamespace(price=2, count=3)
    assert total([apple], 0.5) == 3
