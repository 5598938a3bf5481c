"""Representational similarity analysis: do the same pairs of rows lie far apart on both sides?

After Kriegeskorte et al., Frontiers in Systems Neuroscience 2:4, 2008. Squared Euclidean distances of centred
rows are |w_i|^2 + |w_j|^2 - 2 <w_i, w_j>, and cosine distances are half those of rows of length 1. So the sum
over all pairs of rows of one distance times another is ||W' V||^2 and a sum over rows, and Pearson's r needs
no matrix of n x n. Ranks, and distances with a root, do need the distances.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmodel.errors import InputError
from xmodel.similarity.products import PreparedProduct, check_orders, prepare_product, sum_squares
from xmodel.similarity.rows import EXACT, centre_rows, check_rows, scale_extent, scale_rows

DISTANCES = ("cosine", "euclidean", "sqeuclidean")
COMPARISONS = ("pearson", "spearman")
MOST_MEMORY = 4 << 30
"""Bytes that distances and their ranks may take."""
BYTES_PER_PAIR = 64
"""For each pair of rows: distances and ranks while they are made; then one matrix and one half of one."""


@dataclass(frozen=True, eq=False)
class PreparedDistances:
    """Distances, or their ranks, of both sides; standardised, so that Pearson's r is a sum of products."""

    x: NDArray[np.float64]
    """[n (n - 1) / 2] of x, for rows i < j, i first."""
    y: NDArray[np.float64]
    """[n, n] of y."""
    value: float
    """The correlation for the rows as they came."""
    kept: None = None
    """No components are kept."""

    def permute(self, orders: NDArray[np.int64]) -> NDArray[np.float64]:
        """The correlation with y's rows in other orders: [m, n] -> [m].

        Raises:
            InputError: orders of another number of rows, or of rows that do not exist.
        """
        orders = check_orders(orders, len(self.y))
        return np.array([_correlate_ordered(self.x, self.y, order) for order in orders])


def prepare_rsa(
    x: ArrayLike, y: ArrayLike, *, distance: str = "cosine", comparison: str = "pearson"
) -> PreparedProduct | PreparedDistances:
    """The correlation of the distances between rows of x with those between rows of y.

    Args:
        x: [n, d_x] matched rows.
        y: [n, d_y] likewise.
        distance: "cosine", "euclidean" or "sqeuclidean". With cosine it is invariant to the scale of every
            row but not to translation, with the others to translation; with all to rotation.
        comparison: "pearson" or "spearman".

    Raises:
        InputError: rows that `check_rows` refuses, an unknown distance or comparison, distances that are all
            equal, or more rows than memory allows (Spearman or Euclidean).
    """
    if distance not in DISTANCES or comparison not in COMPARISONS:
        raise InputError(
            f"RSA was asked for with {distance} distances and {comparison} comparison; known are "
            f"{', '.join(DISTANCES)} and {', '.join(COMPARISONS)}."
        )
    one, two = check_rows(x, y, directed=distance == "cosine")
    if distance == "cosine":
        one, two = scale_rows(one), scale_rows(two)
    if comparison == "pearson" and distance != "euclidean":
        return _prepare_sums(one, two)
    return _prepare_distances(one, two, distance, comparison)


def _prepare_sums(x: NDArray[np.float64], y: NDArray[np.float64]) -> PreparedProduct:
    """Pearson's r of squared Euclidean distances, from sums alone.

    With centred rows w and v, scaled so that squared lengths g and h have mean 1, distances are
    g_i + g_j - 2 <w_i, w_j> and h_i + h_j - 2 <v_i, v_j>. Over all ordered i and j (they are 0 for i = j)
    they sum to 2 n^2 each, and their products to 2 n <g, h> + 2 n^2 + 4 ||W' V||^2. Less the product of the
    sums over n (n - 1), that is 2 n <g - 1, h - 1> + 4 ||W' V||^2 - 4 n^2 / (n - 1).
    """
    n = len(x)
    rows_x, rows_y = scale_extent(x), scale_extent(y)
    excess_x, excess_y = (np.einsum("ij,ij->i", rows, rows) - 1 for rows in (rows_x, rows_y))

    def covary(squares: float, one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
        return 2 * n * float(one @ two) + 4 * squares - 4 * n**2 / (n - 1)

    variances = []
    for rows, excess, name in ((rows_x, excess_x, "x"), (rows_y, excess_y, "y")):
        squares = sum_squares(rows.T @ rows)
        variances.append(covary(squares, excess, excess))
        if variances[-1] <= 400 * n * EXACT * squares:
            _refuse_equal(n, name)
    scale = float(np.sqrt(variances[0] * variances[1]))

    def finish(product: NDArray[np.floating], order: NDArray[np.int64]) -> float:
        return float(np.clip(covary(sum_squares(product), excess_x, excess_y[order]) / scale, -1.0, 1.0))

    return prepare_product(rows_x, rows_y, finish)


def _prepare_distances(
    x: NDArray[np.float64], y: NDArray[np.float64], distance: str, comparison: str
) -> PreparedDistances:
    from scipy.spatial.distance import pdist, squareform

    n = len(x)
    needed = n * (n - 1) // 2 * BYTES_PER_PAIR
    if needed > MOST_MEMORY:
        raise InputError(
            f"rsa:{distance}:{comparison} keeps the distances between all {n:,} rows and needs "
            f"{needed / 2**30:.1f} GiB; at most {MOST_MEMORY / 2**30:.0f} GiB are allowed. Choose fewer "
            "pairs, or rsa:cosine:pearson or rsa:sqeuclidean:pearson, which need no such matrix."
        )
    halves = []
    for rows, name in ((x, "x"), (y, "y")):
        centred = centre_rows(rows)
        # Of unit rows, the cosine distance is half the square of this one, and exactly 0 between equal rows.
        half = np.asarray(pdist(centred / np.abs(centred).max()), np.float64)
        if comparison == "spearman":
            half = _rank(half)
        if np.ptp(half) <= 1e-12 * half.max():
            _refuse_equal(n, name)
        half -= half.mean()
        half /= np.linalg.norm(half)
        halves.append(half)
    square = squareform(halves[1], checks=False)
    value = _correlate_ordered(halves[0], square, np.arange(n))
    return PreparedDistances(halves[0], square, value)


def _rank(distances: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 1, equal distances sharing the mean of theirs."""
    from scipy.stats import rankdata

    # Distances that are equal in truth may differ by rounding, which would put them in an arbitrary order.
    return rankdata(np.round(distances / distances.max(), 12))


def _correlate_ordered(
    half: NDArray[np.float64], square: NDArray[np.float64], order: NDArray[np.int64]
) -> float:
    total, begin, n = 0.0, 0, len(order)
    for i in range(n - 1):
        end = begin + n - 1 - i
        total += float(half[begin:end] @ square[order[i]].take(order[i + 1 :]))
        begin = end
    return min(max(total, -1.0), 1.0)


def _refuse_equal(rows: int, name: str) -> None:
    raise InputError(
        f"The distances between the {rows} rows of {name} are all equal; expected were distances that "
        "differ, since nothing correlates with a constant. Choose other pairs or another distance."
    )
