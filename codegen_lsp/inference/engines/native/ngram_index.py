"""Exact n-gram counts of a workspace's files, for n-gram mixing and speculative decoding.

`NgramIndex` answers how often which token followed the last 1, 2, 3, 5, 8, 12 and 16 tokens of a context in the indexed
files. Counts are exact; the mixture is normalised.

The files' tokens lie in immutable segments. A changed file gets a segment of its own, and its former text is counted
negatively, as is a file that a query leaves out (the open documents, which are counted as they stand in the editor).
`compact` merges all segments into one, `tidy` the small ones. Log-structured merging is Lucene's and others' way to
update a sorted index.

Thread safety: any number of threads may update and query. An update replaces the tuple of segments; queries take turns,
since they share scratch memory.
"""

from __future__ import annotations

import ctypes
import threading
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from ctypes import c_double
from functools import cached_property
from typing import Any

import numpy as np
from attrs import define, field, frozen

from codegen_lsp.inference.engines.native.ngram_segment import (
    DEPTH,
    GAP,
    ORDERS,
    Segment,
    SegmentView,
    Tokens,
    address,
    required_library,
)
from codegen_lsp.inference.engines.native.ngrams import SINGLE_SUCCESSOR, Mixture

NEGLIGIBLE = 1e-3
"""Shorter contexts are left out once longer ones have taken all but this share of the probability."""
FRAGMENTED = 24
"""Segments above which `is_fragmented` is true: each adds half a microsecond to a query."""
SMALL_SHARE = 0.25
"""`tidy` leaves the largest segment alone until the others have this share of its tokens. So an update costs the
sorting of a few times its own tokens, however large the index is."""
PLACES = 64
"""Places on each side of a longest match that are searched for one in a current file."""


_GAP = np.array([GAP], np.uint16)


@frozen
class FileVersion:
    """A file as it was indexed."""

    path: str
    modified: int
    """Modification time in nanoseconds."""
    size: int
    """Bytes."""


@frozen(eq=False)
class IndexedFile:
    """Where a file's tokens lie: `segment.text[start:stop]`."""

    version: FileVersion
    segment: Segment
    start: int
    stop: int

    @property
    def tokens(self) -> Tokens:
        """Return its token ids."""
        return self.segment.text[self.start : self.stop]


@frozen
class Origin:
    """The place in the workspace whose context agrees longest."""

    path: str
    index: int
    """Number of the token in the file that followed the context."""
    agreement: int
    """Tokens of context that agree, up to 16."""


class _FilesOf:
    """The current files of one segment, to find the one that a position lies in."""

    def __init__(self, files: Iterable[IndexedFile]) -> None:
        self._files = sorted(files, key=lambda file: file.start)
        self._starts = [file.start for file in self._files]

    def at(self, position: int) -> IndexedFile | None:
        number = bisect_right(self._starts, position) - 1
        file = self._files[number] if number >= 0 else None
        return file if file is not None and position < file.stop else None


@frozen(eq=False)
class _Stale:
    """The former text of a file."""

    segment: Segment
    """Its tokens, to be counted negatively."""
    home: Segment
    """The segment that still contains it."""


@frozen(eq=False)
class _State:
    """Everything that a query reads. An update makes a new one."""

    files: Mapping[str, IndexedFile]
    segments: tuple[Segment, ...] = ()
    stale: tuple[_Stale, ...] = ()
    """Former texts of files that some segment still contains."""

    @cached_property
    def files_by_segment(self) -> Mapping[int, _FilesOf]:
        """Return the files of each segment, by the segment's `id`."""
        grouped: dict[int, list[IndexedFile]] = {id(segment): [] for segment in self.segments}
        for file in self.files.values():
            grouped[id(file.segment)].append(file)
        return {segment: _FilesOf(files) for segment, files in grouped.items()}


@frozen(eq=False)
class _Query:
    """Segments with their signs, as C reads them."""

    state: _State
    without: frozenset[str]
    segments: tuple[Segment, ...]
    """Kept alive for the views."""
    views: Any
    """Array of `SegmentView`."""


class _Scratch(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("counts", "gains", "touched", "gained"))


class _Buffers:
    """Memory of `ng_mix`, by token id."""

    def __init__(self) -> None:
        size = GAP + 1
        self.counts = np.zeros(size, np.int32)
        self.sums = np.zeros(size, np.float64)
        self.touched, self.gained, self.tokens = (np.zeros(size, np.uint16) for _ in range(3))
        self.gains = np.zeros(size, np.float64)
        self.scratch = _Scratch(*(address(array) for array in (self.counts, self.sums, self.touched, self.gained)))


@define(eq=False)
class NgramIndex:
    """Successor counts over the files of one workspace, for tokenizers with fewer than 65,535 ids.

    Raises RuntimeError where the library was not compiled, ValueError for a `caution` of another length than `ORDERS`.
    """

    caution: Sequence[float]
    """k of each order: N occurrences with U different successors weigh N / (N + k U) against all shorter contexts."""
    _state: _State = field(factory=lambda: _State({}), init=False)
    _updating: threading.Lock = field(factory=threading.Lock, init=False)
    _querying: threading.Lock = field(factory=threading.Lock, init=False)
    _query: _Query | None = field(default=None, init=False)
    _left_out: dict[str, tuple[IndexedFile, Segment]] = field(factory=dict, init=False)
    """Segments of files that queries left out, to be counted negatively."""
    _buffers: _Buffers = field(factory=_Buffers, init=False)

    def __attrs_post_init__(self) -> None:
        required_library()
        if len(self.caution) != len(ORDERS):
            raise ValueError(f"caution has {len(self.caution)} numbers instead of {len(ORDERS)}")

    def __len__(self) -> int:
        """Return the number of indexed tokens."""
        return sum(file.stop - file.start for file in self._state.files.values())

    @property
    def files(self) -> Mapping[str, IndexedFile]:
        """Return the indexed files by path."""
        return self._state.files

    @property
    def nbytes(self) -> int:
        """Return the bytes of all segments."""
        state = self._state
        return sum(segment.nbytes for segment in (*state.segments, *(stale.segment for stale in state.stale)))

    @property
    def is_fragmented(self) -> bool:
        """Return whether `compact` would make queries noticeably faster."""
        return len(self._state.segments) + len(self._state.stale) > FRAGMENTED

    def add(self, files: Iterable[tuple[FileVersion, Sequence[int]]]) -> None:
        """Add files, or replace those that are indexed. All of a call share one segment.

        Raises ValueError for ids outside 0 to 65,534, and MemoryError.
        """
        versions, parts = [], []
        for version, ids in files:
            part = np.asarray(ids, np.int64)
            if part.size and not 0 <= int(part.min()) <= int(part.max()) < GAP:
                raise ValueError(f"{version.path}: the index holds ids from 0 to {GAP - 1}")
            versions.append(version)
            parts.append(part.astype(np.uint16))
        if not versions:
            return
        added = _indexed(versions, parts)
        with self._updating:
            state = self._state
            stale = [_stale(state.files[path]) for path in added if path in state.files]
            segment = next(iter(added.values())).segment
            self._state = _State({**state.files, **added}, (*state.segments, segment), (*state.stale, *stale))

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files; paths that are not indexed are ignored."""
        with self._updating:
            state = self._state
            gone = {path for path in paths if path in state.files}
            stale = [_stale(state.files[path]) for path in gone]
            files = {path: file for path, file in state.files.items() if path not in gone}
            self._state = _State(files, state.segments, (*state.stale, *stale))

    def compact(self) -> None:
        """Merge all segments into one. Queries go on meanwhile."""
        with self._updating:
            self._state = _compacted(self._state)

    def tidy(self) -> None:
        """Merge the small segments, and all once these are a share of the largest. Queries go on meanwhile."""
        with self._updating:
            state = self._state
            largest = max(state.segments, key=lambda segment: len(segment.text), default=None)
            others = sum(len(segment.text) for segment in state.segments if segment is not largest)
            if largest is None or others > SMALL_SHARE * len(largest.text):
                self._state = _compacted(state)
                return
            merged = _merged(file for file in state.files.values() if file.segment is not largest)
            segments = (next(iter(merged.values())).segment,) if merged else ()
            former = [piece for one in state.stale if one.home is largest for piece in (one.segment.text, _GAP)]
            stale = (_Stale(Segment.build(np.concatenate(former)), largest),) if former else ()
            self._state = _State({**state.files, **merged}, (largest, *segments), stale)

    def replace_all(self, files: Mapping[str, IndexedFile]) -> None:
        """Take over files that were indexed before, as read from disk. All must lie in one segment."""
        with self._updating:
            segments = (next(iter(files.values())).segment,) if files else ()
            self._state = _State(dict(files), segments)

    def mixture(
        self, context: Sequence[int], without: Collection[str] = (), caution_factor: float = 1.0
    ) -> Mixture | None:
        """Return the gains of the tokens that followed the context; None where its last token never occurs.

        The files `without` are not counted. `caution_factor` multiplies every order's k: above 1 the model counts for
        more.
        """
        tail = _tail(context)
        with self._querying:
            query = self._prepared(frozenset(without))
            if not len(tail) or not query.segments:
                return None
            count = len(query.segments)
            ranges = np.empty(count * len(ORDERS) * 2, np.uint64)
            caution = np.asarray(self.caution, np.float64) * caution_factor
            share, buffers, found = c_double(), self._buffers, required_library()
            views = ctypes.addressof(query.views)
            found.ng_ranges(views, count, address(tail), len(tail), address(ranges))
            number = found.ng_mix(
                views,
                count,
                address(ranges),
                address(caution),
                NEGLIGIBLE,
                SINGLE_SUCCESSOR,
                ctypes.addressof(buffers.scratch),
                address(buffers.tokens),
                address(buffers.gains),
                ctypes.addressof(share),
            )
            if not number:
                return None
            return Mixture(buffers.tokens[:number].astype(np.int64), buffers.gains[:number] / share.value)

    def longest_match(
        self, context: Sequence[int], length: int, without: Collection[str] = ()
    ) -> tuple[list[int], Origin] | None:
        """Return up to `length` tokens that followed the longest match of the context, and its place; None without one.

        Of several places that agree equally, any may be taken.
        """
        tail, state = _tail(context), self._state
        best: tuple[int, IndexedFile, int] | None = None
        for segment in state.segments:
            agreement, low, high = segment.longest(tail)
            if agreement > (best[0] if best else 0):
                found = _longest_of(segment, tail, low, high, state.files_by_segment[id(segment)], without)
                if found and found[0] > (best[0] if best else 0):
                    best = found
        if best is None:
            return None
        agreement, file, position = best
        tokens: list[int] = file.segment.text[position : min(position + length, file.stop)].tolist()
        return tokens, Origin(file.version.path, position - file.start, agreement)

    def _prepared(self, without: frozenset[str]) -> _Query:
        state = self._state
        if self._query is not None and self._query.state is state and self._query.without == without:
            return self._query
        kept = {}
        for path in without & state.files.keys():
            known = self._left_out.get(path)
            file = state.files[path]
            kept[path] = known if known and known[0] is file else (file, Segment.build(file.tokens))
        self._left_out = kept
        negative = (*(stale.segment for stale in state.stale), *(segment for _, segment in kept.values()))
        segments = (*state.segments, *negative)
        signs = [1] * len(state.segments) + [-1] * len(negative)
        views = (SegmentView * len(segments))(*(one.view(sign) for one, sign in zip(segments, signs, strict=True)))
        self._query = _Query(state, without, segments, views)
        return self._query


@frozen(eq=False)
class WorkspaceCounts:
    """An index as one request sees it: without the open documents, which count as they stand in the editor."""

    index: NgramIndex
    without: frozenset[str]

    def mixture(self, context: Sequence[int], caution_factor: float = 1.0) -> Mixture | None:
        """See `NgramIndex.mixture`."""
        return self.index.mixture(context, self.without, caution_factor)

    def longest_match(self, context: Sequence[int], length: int) -> tuple[list[int], Origin] | None:
        """See `NgramIndex.longest_match`."""
        return self.index.longest_match(context, length, self.without)


def _longest_of(
    segment: Segment, tail: Tokens, low: int, high: int, files: _FilesOf, without: Collection[str]
) -> tuple[int, IndexedFile, int] | None:
    """Return the longest agreement that lies in a file that counts, its file, and the position after it.

    Places are sorted by context, so the nearest place on either side of the longest match agrees longest.
    """
    best: tuple[int, IndexedFile, int] | None = None
    sides = (range(low, min(high, low + PLACES)), range(low - 1, max(low - PLACES, -1), -1))
    for side in (*sides, range(high, min(high + PLACES, len(segment.order)))):
        for place in side:
            position = int(segment.order[place])
            if (file := files.at(position)) and file.version.path not in without:
                agreement = _agreement(segment.text[file.start : position], tail)
                if agreement > (best[0] if best else 0):
                    best = agreement, file, position
                break
        if best and side is sides[0]:
            break
    return best


def _agreement(before: Tokens, tail: Tokens) -> int:
    """Return how many of the last tokens of two texts are the same."""
    size = min(len(before), len(tail))
    different = np.flatnonzero(before[len(before) - size :] != tail[len(tail) - size :])
    return size - 1 - int(different[-1]) if len(different) else size


def _stale(file: IndexedFile) -> _Stale:
    return _Stale(Segment.build(file.tokens), file.segment)


def _compacted(state: _State) -> _State:
    merged = _merged(state.files.values())
    return _State(merged, (next(iter(merged.values())).segment,) if merged else ())


def _merged(files: Iterable[IndexedFile]) -> dict[str, IndexedFile]:
    """Index the texts of files anew, as one segment."""
    files = list(files)
    return _indexed([file.version for file in files], [file.tokens for file in files]) if files else {}


def _indexed(versions: Sequence[FileVersion], parts: Sequence[Tokens]) -> dict[str, IndexedFile]:
    """Index texts as one segment."""
    segment = Segment.build(np.concatenate([piece for part in parts for piece in (part, _GAP)]))
    starts = np.cumsum([0, *(len(part) + 1 for part in parts)]).tolist()
    return {
        version.path: IndexedFile(version, segment, start, start + len(part))
        for version, part, start in zip(versions, parts, starts, strict=False)
    }


def _tail(context: Sequence[int]) -> Tokens:
    """Return the last tokens of a context, as far as they count; ids that can't be indexed end it."""
    ids = np.asarray(context[-DEPTH:], np.int64)
    outside = np.flatnonzero((ids < 0) | (ids >= GAP))
    return ids[outside[-1] + 1 if len(outside) else 0 :].astype(np.uint16)
