"""Tests of the cart."""

from types import SimpleNamespace

from cart import calc


def test_calc():
    apple = SimpleNamespace(price=2, count=3)
    assert calc([apple], 0.5) == 3
