"""Two models' word features made ready to be searched for partners, again and again.

Where all words fit into the memory allowed, they are held: A's features as columns, B's as rows. Otherwise
each search goes over the chunks once for every tile of A's features that fits.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.rows import pick_rows
from xmodel.errors import InputError
from xmodel.pairing import chunks as _chunks
from xmodel.pairing.chunks import (
    Chunks,
    FeatureColumns,
    keep_features,
    number_slots,
    read_chunks,
    scatter_columns,
    take_columns,
)
from xmodel.pairing.moments import Spreads, measure_spreads
from xmodel.pairing.sweeping import (
    Job,
    Lists,
    count_workers,
    measure_workspace,
    merge_columns,
    sweep_held,
    sweep_streamed,
    sweep_with_scipy,
)
from xmodel.records import Moments, Partners, WordFeatures

PRODUCTS_PER_TILE = 1 << 25
"""Most entries of a tile of products where SciPy does the work."""


@dataclass(frozen=True, eq=False)
class Limits:
    """What each of B's features still accepts: pairs whose (r, A's feature) come before its limit."""

    r: NDArray[np.float64]
    """[F_B] -inf accepts all."""
    names: NDArray[np.int32]
    """[F_B] A's feature of the limit; -1 where there is none."""


class Searchable(Protocol):
    """Two models' features that can be searched for partners: sparse or dense, held or streamed."""

    @property
    def features(self) -> tuple[int, int]:
        """F_A and F_B."""
        ...

    def find_partners(self, top_k: int, floor: float) -> tuple[Partners, Partners]:
        """The best partners of A's and of B's features with r above the floor."""
        ...

    def search(
        self,
        rows: NDArray[np.int32],
        bounds: NDArray[np.float64],
        top_k: int,
        *,
        limits: Limits | None = None,
        penalty: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Scores (r less penalty) and names [R, k] of the best of B's features for some of A's.

        Only pairs whose score exceeds their row's bound, and that the limits accept.
        """
        ...


@dataclass(frozen=True, eq=False)
class PreparedFeatures:
    """Sparse word features, held or streamed; see `prepare_features`."""

    spreads_a: Spreads
    spreads_b: Spreads
    table_b: NDArray[np.float64]
    """[F_B, 4] sum, 1 / sqrt(variance) or 0, variance, and a place for limits."""
    held: tuple[FeatureColumns, WordFeatures] | None
    """A's columns, one per feature, and B's rows; None where the chunks are streamed."""
    chunks: Chunks
    workers: int
    memory: int
    """Bytes for accumulators (streamed) or for the data and the threads' lists (held)."""

    @property
    def features(self) -> tuple[int, int]:
        """F_A and F_B."""
        return len(self.spreads_a.sums), len(self.spreads_b.sums)

    def find_partners(self, top_k: int, floor: float) -> tuple[Partners, Partners]:
        """The best partners of every feature; see `xmodel.pairing.correlation.find_partners`."""
        features_a, _ = self.features
        rows = np.flatnonzero(self.spreads_a.usable).astype(np.int32)
        job = self._make_job(rows, np.full(len(rows), floor), top_k, top_k)
        found = self._sweep(job)
        of_a = np.full((features_a, top_k), -np.inf), np.full((features_a, top_k), -1, np.int32)
        of_a[0][rows], of_a[1][rows] = found.row_scores, found.row_names
        return make_partners(*of_a), make_partners(found.column_scores, found.column_names)

    def search(
        self,
        rows: NDArray[np.int32],
        bounds: NDArray[np.float64],
        top_k: int,
        *,
        limits: Limits | None = None,
        penalty: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """The best of B's features for some of A's, as `Searchable.search`; only pairs that fire together.

        Args:
            rows: [R] A's features.
            bounds: [R] what a pair's score must exceed.
            top_k: how many for each.
            limits: what B's features accept; None for all.
            penalty: [F_B] taken off r; None for nothing.

        Returns:
            scores and names [R, top_k], best first; -inf and -1 behind the end of a list.
        """
        job = self._make_job(rows, bounds, top_k, 0, limits, penalty)
        found = self._sweep(job)
        return found.row_scores, found.row_names

    def _make_job(
        self,
        rows: NDArray[np.int32],
        bounds: NDArray[np.float64],
        top_k: int,
        column_k: int,
        limits: Limits | None = None,
        penalty: NDArray[np.float64] | None = None,
    ) -> Job:
        features_b = len(self.table_b)
        table = self.table_b.copy()
        table[:, 3] = -np.inf if limits is None else limits.r
        return Job(
            words=self.spreads_a.words,
            rows=np.ascontiguousarray(rows, dtype=np.int32),
            sums_a=self.spreads_a.sums,
            variances_a=self.spreads_a.variances,
            table_b=table,
            limit_names=np.full(features_b, -1, np.int32) if limits is None else limits.names,
            penalty=np.zeros(features_b) if penalty is None else penalty,
            bounds=np.ascontiguousarray(bounds, dtype=np.float64),
            top_k=top_k,
            column_k=column_k,
        )

    def _sweep(self, job: Job) -> Lists:
        kernels = _chunks.kernels
        if self.held is not None and kernels is not None:
            return sweep_held(kernels, *self.held, job, self.workers)
        found: Lists | None = None
        whole = (
            np.full((len(job.rows), job.top_k), -np.inf),
            np.full((len(job.rows), job.top_k), -1, np.int32),
        )
        tile = self._measure_tile(job)
        for begin in range(0, max(1, len(job.rows)), tile):
            part = slice(begin, begin + tile)
            own = _take_rows(job, part)
            source = self._read_tile(own.rows)
            if kernels is None:
                lists = sweep_with_scipy(source, own)
            else:
                lists = sweep_streamed(kernels, source, own, self.workers)
            whole[0][part], whole[1][part] = lists.row_scores, lists.row_names
            found = lists if found is None else merge_columns(kernels, found, lists)
        assert found is not None
        return Lists(*whole, found.column_scores, found.column_names)

    def _measure_tile(self, job: Job) -> int:
        """How many rows go through the chunks at once."""
        features_b = max(1, job.features_b)
        if _chunks.kernels is None:
            return max(1, min(PRODUCTS_PER_TILE, self.memory // 32) // features_b)
        lists = (self.workers + 1) * measure_workspace(features_b, job.column_k)
        return max(1, (self.memory - lists) // (8 * features_b))

    def _read_tile(self, rows: NDArray[np.int32]) -> Iterator[tuple[FeatureColumns, WordFeatures]]:
        """Each chunk's columns of some of A's features, and its rows of B's."""
        if self.held is not None:
            columns, words = self.held
            yield _pick_columns(columns, rows), words
            return
        count = 0
        for side_a, side_b in read_chunks(self.chunks, *self.features):
            count += len(side_a)
            yield take_columns(side_a, rows), keep_features(side_b, self.spreads_b.usable)
        _check_words(count, self.spreads_a.words)


def prepare_features(
    chunks: Chunks,
    moments_a: Moments,
    moments_b: Moments,
    *,
    kept_a: NDArray[np.bool_],
    kept_b: NDArray[np.bool_],
    workers: int | None = None,
    memory: int = 1 << 30,
) -> PreparedFeatures:
    """Make both models' features ready to be searched.

    They are held in memory if that and the threads' lists take no more than `memory` bytes; then the chunks
    are read only here. Otherwise every search reads all chunks for each tile of A's features.

    Args:
        chunks: the words' features.
        moments_a: of the same chunks, see `xmodel.pairing.moments.measure_moments`.
        moments_b: likewise.
        kept_a: [F_A] features that may have partners.
        kept_b: [F_B] likewise.
        workers: threads; None for one per core.
        memory: bytes.

    Raises:
        InputError: moments and chunks do not fit together.
    """
    if moments_a.words != moments_b.words:
        raise InputError(
            f"The moments of a are of {moments_a.words} words, those of b of {moments_b.words}. Measure both "
            "over the same chunks."
        )
    spreads_a, spreads_b = measure_spreads(moments_a, kept_a), measure_spreads(moments_b, kept_b)
    threads = count_workers(workers)
    variances = spreads_b.variances
    inverses = np.zeros(len(variances))
    np.divide(1.0, np.sqrt(variances), out=inverses, where=spreads_b.usable)
    table = np.stack([spreads_b.sums, inverses, variances, np.zeros(len(variances))], axis=1)
    entries = int(moments_a.firings.sum() + moments_b.firings.sum())
    needed = 8 * (entries + moments_a.words + 2 + len(moments_a.sums))
    needed += (threads + 1) * measure_workspace(len(variances), 10)
    held = _hold_features(chunks, moments_a, spreads_a, spreads_b) if needed <= memory else None
    return PreparedFeatures(spreads_a, spreads_b, table, held, chunks, threads, memory)


def make_partners(scores: NDArray[np.float64], names: NDArray[np.int32]) -> Partners:
    """Lists as `Partners`, where r is not a number behind the end of a list."""
    return Partners(names, np.where(names < 0, np.nan, scores))


def _hold_features(
    chunks: Chunks, moments_a: Moments, spreads_a: Spreads, spreads_b: Spreads
) -> tuple[FeatureColumns, WordFeatures]:
    """Read all chunks into A's columns and B's rows, without a second copy of either."""
    chosen = np.flatnonzero(spreads_a.usable).astype(np.int32)
    slots = number_slots(len(moments_a.firings), chosen)
    ends = np.cumsum(moments_a.firings[chosen], dtype=np.int64)
    cursors = np.concatenate([np.zeros(1, np.int64), ends])[: len(chosen)]
    total = int(ends[-1]) if len(ends) else 0
    words, values = np.empty(total, np.int32), np.empty(total, np.float32)
    parts: list[WordFeatures] = []
    first, fits = 0, True
    for side_a, side_b in read_chunks(chunks, len(spreads_a.sums), len(spreads_b.sums)):
        fits = fits and scatter_columns(first, side_a, slots, cursors, words, values)
        first += len(side_a)
        parts.append(keep_features(side_b, spreads_b.usable))
    _check_words(first, moments_a.words)
    if not fits or not np.array_equal(cursors, ends):
        raise InputError(
            "The chunks hold other firings than the moments were measured from. Measure the moments over the "
            "same chunks."
        )
    # One column per feature, empty where it has no partners: then rows need no translation.
    indptr = np.zeros(len(moments_a.firings) + 1, np.int64)
    np.cumsum(np.where(spreads_a.usable, moments_a.firings, 0), out=indptr[1:])
    return FeatureColumns(indptr, words, values), _join_rows(parts, len(spreads_b.sums))


def _join_rows(parts: list[WordFeatures], features: int) -> WordFeatures:
    """One after another, freeing each part once it is copied."""
    if len(parts) == 1:
        return parts[0]
    indptr = np.zeros(1 + sum(len(part) for part in parts), np.int64)
    total = sum(len(part.indices) for part in parts)
    indices, values = np.empty(total, np.int32), np.empty(total, np.float32)
    word = entry = 0
    parts.reverse()
    while parts:
        part = parts.pop()
        indptr[word + 1 : word + 1 + len(part)] = entry + part.indptr[1:]
        indices[entry : entry + len(part.indices)] = part.indices
        values[entry : entry + len(part.indices)] = part.values
        word, entry = word + len(part), entry + len(part.indices)
    return WordFeatures(indptr, indices, values, features)


def _pick_columns(columns: FeatureColumns, rows: NDArray[np.int32]) -> FeatureColumns:
    indptr, entries = pick_rows(columns.indptr, rows)
    return FeatureColumns(indptr, columns.words[entries], columns.values[entries])


def _take_rows(job: Job, part: slice) -> Job:
    return replace(job, rows=job.rows[part], bounds=job.bounds[part])


def _check_words(count: int, expected: int) -> None:
    if count != expected:
        raise InputError(
            f"The chunks hold {count} words, the moments were measured over {expected}. Measure the moments "
            "over the same chunks."
        )
