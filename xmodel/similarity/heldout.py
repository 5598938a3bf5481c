"""The mean held-out r of pairs as a metric: do partners correlate on words that had no part in pairing them?

Its null is that of all metrics on matched rows: B's features change places among the pairs. All that a
permutation needs is r of every feature of A with every one of B, computed once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing import chunks as _chunks
from xmodel.pairing.chunks import FeatureColumns, keep_features, take_columns
from xmodel.pairing.correlation import correlate_pairs
from xmodel.pairing.moments import measure_moments, measure_spreads
from xmodel.records import WordFeatures
from xmodel.similarity.metrics import Metric

MEAN_R = "mean_r_heldout"
"""Name of the metric."""
HELD = 1 << 24
"""Correlations (of 8 bytes) that are held at a time; where there are more they are computed per batch."""


@dataclass(frozen=True, eq=False)
class _Correlations:
    """r over held-out words between all features of A and of B that are in pairs."""

    halves: tuple[tuple[WordFeatures, WordFeatures], ...]
    """A's and B's held-out words; for signed features also their discovery words, which say the sign."""
    a: NDArray[np.int32]
    """[n] A's feature of every pair."""
    b: NDArray[np.int32]
    """[n] B's."""
    kept: None = None
    """It keeps no components."""

    @property
    def value(self) -> float:
        """The mean r of the pairs; a pair of which a feature does not vary on these words counts as 0."""
        return self._value

    @cached_property
    def _value(self) -> float:
        r, *signs = (_correlate_named(*half, self.a, self.b) for half in self.halves)
        return float((r * np.sign(signs[0]) if signs else r).mean())

    def permute(self, orders: NDArray[np.int64]) -> NDArray[np.float64]:
        """[m] the same where A's feature i meets B's feature of pair ``orders[:, i]``."""
        totals = np.zeros(len(orders))
        columns = np.unique(self.b, return_inverse=True)[1]
        for pairs, rows, r in self._read():
            for number, order in enumerate(orders):
                totals[number] += r[rows, columns[order[pairs]]].sum()
        return totals / len(self.a)

    def _read(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
        """Tiles of correlations: which pairs they serve, the row of each, and r [rows, B's features]."""
        rows = np.unique(self.a, return_inverse=True)[1]
        yield from (
            (pairs, rows[pairs] - first, tile)
            for first, tile in self._tiles
            if len(pairs := np.flatnonzero((rows >= first) & (rows < first + len(tile))))
        )

    @property
    def _tiles(self) -> Any:
        features = len(np.unique(self.a)), len(np.unique(self.b))
        return self._held if features[0] * features[1] <= HELD else self._compute()

    @cached_property
    def _held(self) -> list[tuple[int, NDArray[np.float64]]]:
        return list(self._compute())

    def _compute(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        of_half = [_correlate_tiles(*half, np.unique(self.a), np.unique(self.b)) for half in self.halves]
        for tiles in zip(*of_half, strict=True):
            first, r = tiles[0]
            for _, found in tiles[1:]:
                r = r * np.sign(found)
            yield first, r


def make_mean_r(
    heldout: tuple[WordFeatures, WordFeatures],
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    discovery: tuple[WordFeatures, WordFeatures] | None = None,
) -> Metric:
    """The mean held-out r of some pairs, as a metric whose rows are the pairs.

    Args:
        heldout: A's and B's features over the held-out words.
        a: [n] A's feature of every pair.
        b: [n] B's.
        discovery: the words that they were paired on, where features are signed: r counts as positive where
            its sign is that of r on these words.
    """
    halves = (heldout,) if discovery is None else (heldout, discovery)
    prepared = _Correlations(halves, a, b)
    return Metric(MEAN_R, "mean r, held out", 1.0, True, lambda x, y: prepared)


def correlate_all(
    first: WordFeatures, second: WordFeatures, a: NDArray[np.int32], b: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Pearson's r of every one of some features with every one of others.

    Args:
        first: [W] words under one dictionary.
        second: [W] the same words under another.
        a: [n] features of the first, ascending.
        b: [m] features of the second, ascending.

    Returns:
        [n, m], 0 where a feature does not vary.
    """
    tiles = [tile for _, tile in _correlate_tiles(first, second, a, b)]
    return np.concatenate(tiles) if tiles else np.zeros((0, len(b)))


def _correlate_named(
    first: WordFeatures, second: WordFeatures, a: NDArray[np.int32], b: NDArray[np.int32]
) -> NDArray[np.float64]:
    """[n] r of named pairs; 0 where one does not vary."""
    moments = measure_moments(lambda: [(first, second)], first.features, second.features)
    return np.nan_to_num(correlate_pairs(lambda: [(first, second)], *moments, a, b)[0])


def _correlate_tiles(
    first: WordFeatures, second: WordFeatures, a: NDArray[np.int32], b: NDArray[np.int32]
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Pearson's r of all of `a` with all of `b`, some rows at a time; 0 where one does not vary.

    Yields:
        the number of the first row, and r [rows, len(b)].
    """
    spreads = [
        measure_spreads(moments, np.ones(len(moments.sums), np.bool_))
        for moments in measure_moments(lambda: [(first, second)], first.features, second.features)
    ]
    chosen = np.zeros(second.features, np.bool_)
    chosen[b] = True
    rows = keep_features(second, chosen)
    places = np.cumsum(chosen) - 1
    rows = WordFeatures(rows.indptr, places[rows.indices].astype(np.int32), rows.values, len(b))
    columns = take_columns(first, a.astype(np.int32))
    sum_b, variance_b = spreads[1].sums[b], spreads[1].variances[b]
    step = max(1, HELD // 4 // max(1, len(b)))
    for begin in range(0, len(a), step):
        names = a[begin : begin + step]
        products = _multiply(columns, begin, begin + len(names), rows)
        covariances = len(first) * products - spreads[0].sums[names][:, None] * sum_b
        variances = spreads[0].variances[names][:, None] * variance_b
        r = np.zeros_like(covariances)
        np.divide(covariances, np.sqrt(variances), out=r, where=variances > 0)
        yield begin, np.clip(r, -1.0, 1.0)


def _multiply(columns: FeatureColumns, begin: int, stop: int, rows: WordFeatures) -> NDArray[np.float64]:
    """[stop - begin, F] sums over words of products of some columns with all features of the rows."""
    if _chunks.kernels is not None:
        sums = np.zeros((stop - begin, rows.features))
        _chunks.kernels.accumulate(
            columns.indptr[begin : stop + 1], columns.words, columns.values,
            rows.indptr, rows.indices, rows.values, sums,
        )  # fmt: skip
        return sums
    from scipy.sparse import csr_matrix

    low, high = int(columns.indptr[begin]), int(columns.indptr[stop])
    left = csr_matrix(
        (
            columns.values[low:high].astype(np.float64),
            columns.words[low:high],
            columns.indptr[begin : stop + 1] - low,
        ),
        shape=(stop - begin, len(rows)),
    )
    right = csr_matrix(
        (rows.values.astype(np.float64), rows.indices, rows.indptr), shape=(len(rows), rows.features)
    )
    product: Any = left @ right
    return product.toarray()
