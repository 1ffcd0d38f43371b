"""A text of token ids, sorted so that the successors of any context are counted fast (`ngram_index.c`)."""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from codegen_lsp.inference.engines.native.compile_decoder import index_library

ORDERS = (1, 2, 3, 5, 8, 12, 16)
"""Tokens of context by which successors are counted; the same as in `ngram_index.c`."""
DEPTH = ORDERS[-1]
GAP = 0xFFFF
"""Stands between files. The largest id that can be indexed is one less."""

Tokens = NDArray[np.uint16]


class SegmentView(ctypes.Structure):
    """`ng_segment` in `ngram_index.c`: addresses of the arrays, and the sign of the counts."""

    _fields_ = (
        ("text", c_void_p),
        ("order", c_void_p),
        ("next", c_void_p),
        ("tables", c_void_p),
        ("entries", c_void_p),
        ("size", c_uint64),
        ("first_table", c_uint32 * (len(ORDERS) + 1)),
        ("sign", c_int32),
    )


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled library, or None where it is missing or does not match this module."""
    try:
        found = ctypes.CDLL(str(index_library()))
    except OSError:
        return None
    found.ng_abi.restype = c_int64
    version, table_bytes, entry_bytes = 2, 16, 8
    if found.ng_abi() != version * 10**8 + ctypes.sizeof(SegmentView) * 10_000 + table_bytes * 100 + entry_bytes:
        return None
    found.ng_sort.argtypes = (c_void_p, c_uint64, c_void_p, c_void_p)
    found.ng_tables.argtypes = (c_void_p, c_uint64, *[c_void_p] * 7)
    found.ng_tables.restype = None
    found.ng_ranges.argtypes = (c_void_p, c_int, c_void_p, c_int, c_void_p)
    found.ng_ranges.restype = None
    found.ng_longest.argtypes = (c_void_p, c_void_p, c_int, c_void_p, c_void_p)
    found.ng_mix.argtypes = (c_void_p, c_int, c_void_p, c_void_p, c_double, c_double, *[c_void_p] * 4)
    found.ng_mix.restype = c_int64
    return found


def required_library() -> ctypes.CDLL:
    """Return the compiled library. Raises RuntimeError where there is none."""
    found = library()
    if found is None:
        raise RuntimeError("ngram_index.c was not compiled on this machine")
    return found


def address(array: NDArray[Any]) -> int:
    """Return the address of an array's first item, for C."""
    return array.ctypes.data


@frozen(eq=False)
class Segment:
    """Token ids of one or more files, each followed by `GAP`, and their positions sorted by context. Immutable."""

    text: Tokens
    """(n,)"""
    order: NDArray[np.uint32]
    """(n,) positions, sorted by the tokens before them."""
    successors: Tokens
    """(n,) `text[order]`."""
    tables: NDArray[np.uint32]
    """(t, 4) successor tables of the most frequent contexts."""
    entries: NDArray[np.uint32]
    """(e, 2) their tokens and counts."""
    table_counts: tuple[int, ...]
    """Number of tables of each order."""

    @classmethod
    def build(cls, text: Tokens) -> Segment:
        """Sort a text. Takes 0.1 to 0.25 s and 16 MB of temporary memory per million tokens; releases the GIL.

        Raises MemoryError.
        """
        found, size = required_library(), len(text)
        text = np.ascontiguousarray(text, np.uint16)
        order, successors = np.empty(size, np.uint32), np.empty(size, np.uint16)
        if found.ng_sort(address(text), size, address(order), address(successors)):
            raise MemoryError("not enough memory to index the workspace")
        counts, entry_count = np.zeros(len(ORDERS), np.uint32), c_uint64()
        scratch = np.zeros(GAP + 1, np.uint32)
        sorted_text = (address(text), size, address(order), address(successors), address(scratch))
        sizes = (address(counts), ctypes.addressof(entry_count))
        found.ng_tables(*sorted_text, None, None, *sizes)
        tables = np.zeros((int(counts.sum()), 4), np.uint32)
        entries = np.zeros((entry_count.value, 2), np.uint32)
        found.ng_tables(*sorted_text, address(tables), address(entries), *sizes)
        return cls(text, order, successors, tables, entries, tuple(counts.tolist()))

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return its arrays by name; those of four-byte items first, so that all stay aligned in a file."""
        return {name: getattr(self, name) for name in ("order", "tables", "entries", "text", "successors")}

    @property
    def nbytes(self) -> int:
        """Return the bytes of its arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def view(self, sign: int) -> SegmentView:
        """Return what C reads. It holds addresses: keep the segment alive with it."""
        first = (c_uint32 * (len(ORDERS) + 1))(*np.cumsum([0, *self.table_counts]).tolist())
        arrays = (self.text, self.order, self.successors, self.tables, self.entries)
        return SegmentView(*(address(array) for array in arrays), len(self.text), first, sign)

    def longest(self, context: Tokens) -> tuple[int, int, int]:
        """Return how many tokens of context agree at most, and the range in `order` of the places that do."""
        low, high = c_uint64(), c_uint64()
        view = self.view(1)
        agreement = required_library().ng_longest(
            ctypes.addressof(view), address(context), len(context), ctypes.addressof(low), ctypes.addressof(high)
        )
        return int(agreement), low.value, high.value
