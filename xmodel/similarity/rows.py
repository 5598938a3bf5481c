"""Matched rows: what every metric asks of them, and the parts that metrics share."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmodel.errors import InputError

EXACT = float(np.finfo(np.float64).eps)
"""Relative rounding of the arithmetic here, which is in float64."""


def check_rows(
    x: ArrayLike, y: ArrayLike, *, least: int = 3, directed: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Refuse matched rows that have no similarity, and give the others in float64.

    Args:
        x: [n, d_x] rows of one side.
        y: [n, d_y] rows of the other; row i belongs to row i of x. The widths may differ.
        least: fewest rows.
        directed: whether every row needs a direction, as it does where rows are compared by their cosine.

    Returns:
        x and y in float64, contiguous.

    Raises:
        InputError: not two matrices of numbers, other numbers of rows, too few rows, values that are not
            finite, rows that are all equal, or, where they need a direction, rows of zeros.
    """
    one, two = _read_matrix(x, "x"), _read_matrix(y, "y")
    if len(one) != len(two):
        raise InputError(
            f"x came with {len(one)} rows and y with {len(two)}; expected were as many, since row i of x "
            "belongs to row i of y. Give one row of each side for every pair."
        )
    if len(one) < least:
        raise InputError(
            f"Matched rows came as {len(one)}; expected were {least} or more, since fewer say nothing of "
            "similarity. Choose more pairs."
        )
    for rows, name in ((one, "x"), (two, "y")):
        _check_values(rows, name)
        if directed:
            _check_directions(rows, name)
    return one, two


def centre_rows(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, d] minus the mean row, so that every column has mean 0."""
    return x - x.mean(axis=0)


def scale_rows(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, d] with rows of length 1; none may be zero."""
    # The largest entry first, so that the squares of tiny or huge rows neither vanish nor overflow.
    x = x / np.abs(x).max(axis=1, keepdims=True)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def scale_extent(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred rows with a mean square length of 1, for metrics that depend on inner products of rows only.

    Args:
        rows: [n, d], not all equal.

    Returns:
        [n, min(n, d)] rows: where d is larger, others with the same inner products.
    """
    rows = centre_rows(rows)
    # First the largest value, so that squares of tiny or huge rows neither vanish nor overflow.
    rows /= max(rows.max(), -rows.min())
    rows *= np.sqrt(len(rows)) / np.linalg.norm(rows)
    if rows.shape[1] <= len(rows):
        return rows
    triangle: Any = np.linalg.qr(rows.T, mode="r")  # NumPy's types say a pair, which other modes give.
    return np.ascontiguousarray(triangle.T)


def find_precision(x: ArrayLike) -> float:
    """Relative rounding of the values as they came: that of float32 for float32 and shorter types."""
    kind = np.asarray(x).dtype
    return float(np.finfo(np.float32).eps) if kind in (np.float32, np.float16) else EXACT


def _read_matrix(rows: ArrayLike, name: str) -> NDArray[np.float64]:
    given = np.asarray(rows)
    if given.ndim != 2 or given.shape[1] == 0 or given.dtype.kind not in "fiub":
        raise InputError(
            f"{name} came with shape {given.shape} and type {given.dtype}; expected was a matrix of real "
            "numbers, one row for each pair and at least one column."
        )
    return np.ascontiguousarray(given, np.float64)


def _check_values(rows: NDArray[np.float64], name: str) -> None:
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{name} came with values that are not finite numbers in {np.count_nonzero(~finite)} of its "
            f"{len(rows)} rows, the first being row {np.argmin(finite)}; expected were finite numbers. "
            "Leave those pairs out, or look for the reason where the rows were made."
        )
    most, least = rows.max(axis=0), rows.min(axis=0)
    if (most - least).max() <= 4 * EXACT * max(most.max(), -least.min()):
        raise InputError(
            f"{name} came with {len(rows)} rows that are all equal; expected were rows that differ, since "
            "nothing can be more or less similar to them. Choose other pairs."
        )


def _check_directions(rows: NDArray[np.float64], name: str) -> None:
    zero = ~rows.any(axis=1)
    if zero.any():
        raise InputError(
            f"{name} came with {np.count_nonzero(zero)} rows of zeros, the first being row "
            f"{np.argmax(zero)}; expected were rows that are not zero, since this metric compares rows by "
            "their cosine. Leave those pairs out, or choose a metric of distances, such as "
            "rsa:sqeuclidean:pearson."
        )
