"""Metrics of single units: which column of y is most like a column of x, over the matched rows?"""

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmodel.errors import InputError
from xmodel.similarity.products import PreparedProduct, prepare_product
from xmodel.similarity.rows import EXACT, centre_rows, check_rows, scale_rows

MOST_STEPS = 10_000_000
"""Of the network simplex that finds an optimal transport."""


def prepare_mean_max_cosine(x: ArrayLike, y: ArrayLike) -> PreparedProduct:
    """The mean over columns of x of the largest cosine with a column of y, over the matched rows.

    After the mean max cosine similarity of dictionaries (Sharkey et al., "Taking features out of
    superposition with sparse autoencoders", 2022), which compares rows in coordinates that both share: that
    is `mean_max_cosine_rows`. Here units are columns and coordinates are matched rows, so that models of
    other widths can be compared. It is not symmetric, and invariant to the order and scale of columns only.

    Args:
        x: [n, d_x] matched rows.
        y: [n, d_y] likewise.

    Raises:
        InputError: rows that `check_rows` refuses, or columns of zeros.
    """
    one, two = check_rows(x, y)
    sides = [_scale_columns(rows, name) for rows, name in ((one, "x"), (two, "y"))]

    def finish(product: NDArray[np.floating], order: NDArray[np.int64]) -> float:
        return float(product.max(axis=1).mean(dtype=np.float64))

    return prepare_product(sides[0], sides[1], finish)


def mean_max_cosine_rows(x: ArrayLike, y: ArrayLike) -> float:
    """The mean over rows of x of the largest cosine with a row of y: two dictionaries of one model.

    Args:
        x: [n, d] decoder vectors of one dictionary.
        y: [m, d] of another in the same space; which belongs to which does not matter.

    Raises:
        InputError: not two matrices of equal width, values that are not finite, or rows of zeros.
    """
    one, two = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if one.ndim != 2 or two.ndim != 2 or one.shape[1:] != two.shape[1:] or not one.size or not two.size:
        raise InputError(
            f"Dictionaries came with shapes {one.shape} and {two.shape}; expected were vectors of one space, "
            "[n, d] and [m, d]. Compare dictionaries of different models with a metric on matched rows."
        )
    for rows, name in ((one, "x"), (two, "y")):
        bad = ~np.isfinite(rows).all(axis=1) | ~rows.any(axis=1)
        if bad.any():
            raise InputError(
                f"{name} came with rows that are zero or not finite, the first being row {np.argmax(bad)}; "
                "expected were vectors with a direction. Leave them out."
            )
    one, two = scale_rows(one), scale_rows(two)
    best = [(one[i : i + 1024] @ two.T).max(axis=1) for i in range(0, len(one), 1024)]
    return float(np.concatenate(best).mean())


def prepare_soft_matching(x: ArrayLike, y: ArrayLike) -> PreparedProduct:
    """The mean correlation of columns under the best soft matching (Khosla & Williams, arXiv 2311.09466).

    An optimal transport between columns of x and of y, each side's columns of equal weight, that maximises
    Pearson's r of columns over the matched rows. With as many columns on both sides it is the best
    permutation; with other numbers, columns are shared in parts. Every shuffle solves the transport anew.

    Args:
        x: [n, d_x] matched rows.
        y: [n, d_y] likewise.

    Raises:
        InputError: rows that `check_rows` refuses, or constant columns.
    """
    one, two = check_rows(x, y)
    sides = []
    for rows, name in ((one, "x"), (two, "y")):
        centred = centre_rows(rows)
        constant = np.abs(centred).max(axis=0) <= 4 * EXACT * np.abs(rows).max(axis=0)
        centred[:, constant] = 0.0
        sides.append(_scale_columns(centred, name, "constant columns"))

    def finish(product: NDArray[np.floating], order: NDArray[np.int64]) -> float:
        return _transport(product.astype(np.float64, copy=False))

    return prepare_product(sides[0], sides[1], finish)


def _scale_columns(
    rows: NDArray[np.float64], name: str, fault: str = "columns of zeros"
) -> NDArray[np.float64]:
    zero = ~rows.any(axis=0)
    if zero.any():
        raise InputError(
            f"{name} came with {np.count_nonzero(zero)} {fault}, the first being column {np.argmax(zero)}; "
            "expected were columns that vary, since this metric compares columns by their direction. Leave "
            "those columns out."
        )
    return scale_rows(rows.T).T


def _transport(correlations: NDArray[np.float64]) -> float:
    """The largest sum of correlations under a transport with uniform marginals."""
    rows, columns = correlations.shape
    if rows == columns:
        from scipy.optimize import linear_sum_assignment

        chosen = linear_sum_assignment(correlations, maximize=True)
        return float(correlations[chosen].mean())
    import ot

    weights = np.full(rows, 1 / rows), np.full(columns, 1 / columns)
    plan, log = cast(Any, ot.emd)(*weights, 1.0 - correlations, numItermax=MOST_STEPS, log=True)
    if log["warning"] is not None:
        raise InputError(
            f"The optimal transport between {rows} and {columns} columns was not found in {MOST_STEPS:,} "
            f"steps: {log['warning']} Choose fewer columns."
        )
    return float((plan * correlations).sum())
