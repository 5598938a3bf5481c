"""Metrics of nearest neighbours: do the same rows lie nearest on both sides?

Neighbours are found once for each side. Shuffling y's rows gives them other names, and needs no new search.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmodel.errors import InputError
from xmodel.similarity.products import check_orders
from xmodel.similarity.rows import centre_rows, check_rows, scale_rows

BLOCK_BYTES = 1 << 24
"""Bytes of products that are looked at together."""
TOLERANCE = 1e-12
"""Rows are equally near up to this: the last bits of a product depend on where in a matrix it is."""
SEEDS = (8191, 131071)
"""Of the random order among equally near rows, for x and for y."""


@dataclass(frozen=True, eq=False)
class PreparedNeighbours:
    """The nearest neighbours of every row, on both sides."""

    x: NDArray[np.int32]
    """[k, n] the neighbours of x's rows."""
    y: NDArray[np.int32]
    """[k, n] of y's."""
    jaccard: bool
    """Whether common neighbours are divided by those of either side, instead of by k."""
    value: float
    """The metric for the rows as they came."""
    kept: None = None
    """No components are kept."""

    def permute(self, orders: NDArray[np.int64]) -> NDArray[np.float64]:
        """The metric with y's rows in other orders: [m, n] -> [m].

        Raises:
            InputError: orders of another number of rows, or of rows that do not exist.
        """
        orders = check_orders(orders, self.x.shape[1])
        return np.array([_compare(self.x, self.y, self.jaccard, order) for order in orders])


def prepare_neighbours(
    x: ArrayLike, y: ArrayLike, *, k: int = 10, jaccard: bool = False
) -> PreparedNeighbours:
    """The mean share of common rows among the k nearest on both sides, by cosine, a row itself not counted.

    The share of k (mutual k-NN: Huh et al., arXiv 2405.07987, appendix A), or of those near on either side
    (Jaccard: Klabunde et al., arXiv 2305.06329, neighbourhood-based measures). Invariant to rotation and to
    the scale of every row; not to translation. Where rows are equally near, those at the border of the k are
    drawn at random, on each side by itself: the order of rows, which both sides share, must not decide, or
    equal rows would agree on whom to prefer. So with many equal rows not even x with itself reaches 1.

    Args:
        x: [n, d_x] matched rows.
        y: [n, d_y] likewise.
        k: number of neighbours; n must be larger by 1 at least.
        jaccard: see above.

    Raises:
        InputError: rows that `check_rows` refuses, k below 1, or too few rows for k neighbours.
    """
    if k < 1:
        raise InputError(f"The number of neighbours came as {k}; expected was 1 or more.")
    one, two = check_rows(x, y, directed=True)
    if len(one) <= k:
        raise InputError(
            f"{k} nearest neighbours were asked for among {len(one)} rows, of which each has {len(one) - 1} "
            f"others; expected were more than {k} rows. Ask for fewer neighbours or give more pairs."
        )
    sides = [find_neighbours(rows, k, seed).T for rows, seed in zip((one, two), SEEDS, strict=True)]
    near_x, near_y = np.ascontiguousarray(sides[0]), np.ascontiguousarray(sides[1])
    value = _compare(near_x, near_y, jaccard, np.arange(len(one)))
    return PreparedNeighbours(near_x, near_y, jaccard, value)


def find_neighbours(rows: NDArray[np.float64], k: int, seed: int) -> NDArray[np.int32]:
    """The k other rows with the largest cosine, of every row, in no order.

    Args:
        rows: [n, d], none of them zero; n above k.
        k: number of neighbours.
        seed: of the draw among rows that are equally near at the border.

    Returns:
        [n, k] numbers of rows.
    """
    # The largest cosine is the least distance of unit rows; centred, also where all of them are almost equal.
    rows, n = centre_rows(scale_rows(rows)), len(rows)
    lengths = np.einsum("ij,ij->i", rows, rows)
    tolerance = TOLERANCE * lengths.mean()
    rng = np.random.default_rng(seed)
    found = np.empty((n, k), np.int32)
    step = max(1, BLOCK_BYTES // (8 * n))
    for begin in range(0, n, step):
        closeness = 2 * (rows[begin : begin + step] @ rows.T) - lengths
        own = np.arange(len(closeness))
        closeness[own, begin + own] = -np.inf
        nearest = np.argpartition(closeness, n - k, axis=1)[:, n - k :]
        border = np.take_along_axis(closeness, nearest, axis=1).min(axis=1, keepdims=True)
        for i in np.flatnonzero(np.count_nonzero(closeness >= border - tolerance, axis=1) > k):
            sure = np.flatnonzero(closeness[i] > border[i] + tolerance)
            equal = np.flatnonzero(np.abs(closeness[i] - border[i]) <= tolerance)
            nearest[i] = np.concatenate([sure, rng.choice(equal, k - len(sure), replace=False)])
        found[begin : begin + step] = nearest
    return found


def _compare(x: NDArray[np.int32], y: NDArray[np.int32], jaccard: bool, order: NDArray[np.int64]) -> float:
    """Row i of x meets row order[i] of y; so its neighbour j is the one that meets order[j]."""
    k, n = x.shape
    named = order.astype(np.int32)[x]
    moved = y[:, order]
    common = np.zeros(n, np.int32)
    for one in named:
        common += np.count_nonzero(moved == one, axis=0)
    return float((common / (2 * k - common)).mean() if jaccard else common.mean() / k)
