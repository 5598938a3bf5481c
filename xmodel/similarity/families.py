"""Families of tests, such as a grid of layers or a list of concepts: p-values corrected for their number.

Cells without a p-value (NaN) stay so and do not count as tests.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError


def adjust_holm(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Holm's step-down correction (Scand. J. Stat. 6:65, 1979): family-wise error, any dependence.

    Args:
        p: [c] raw p-values.

    Returns:
        [c] adjusted p-values; those at most alpha are rejected, with at most a share of alpha of all families
        having any false rejection.

    Raises:
        InputError: p-values outside 0 to 1.
    """
    p, order = _sort(p)
    steps = p[order] * np.arange(len(order), 0, -1)
    return _place(len(p), order, np.maximum.accumulate(steps))


def adjust_bh(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Benjamini and Hochberg's correction (J. R. Stat. Soc. B 57:289, 1995).

    It holds the expected share of false rejections among the rejections, for tests that are independent or
    positively dependent.

    Args:
        p: [c] raw p-values.

    Returns:
        [c] adjusted p-values.

    Raises:
        InputError: p-values outside 0 to 1.
    """
    p, order = _sort(p)
    steps = p[order] * len(order) / np.arange(1, len(order) + 1)
    return _place(len(p), order, np.minimum.accumulate(steps[::-1])[::-1])


def adjust_by(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Benjamini and Yekutieli's correction (Ann. Stat. 29:1165, 2001): as `adjust_bh`, any dependence.

    Args:
        p: [c] raw p-values.

    Returns:
        [c] adjusted p-values.

    Raises:
        InputError: p-values outside 0 to 1.
    """
    p, order = _sort(p)
    harmonic = (1 / np.arange(1, len(order) + 1)).sum()
    steps = p[order] * harmonic * len(order) / np.arange(1, len(order) + 1)
    return _place(len(p), order, np.minimum.accumulate(steps[::-1])[::-1])


def adjust_max(values: NDArray[np.floating], null: NDArray[np.floating]) -> NDArray[np.float64]:
    """Correct by the largest studentised statistic of the family (Westfall and Young 1993, section 2.5).

    Single-step. Draw j of every cell must come from one and the same shift or shuffle, so that the cells'
    dependence is kept; the correction is then sharper than Holm's where cells resemble each other. Mean and
    standard deviation of a cell are those of its observed and null values together, which treats all draws
    alike and keeps the test exact.

    Args:
        values: [c] observed statistics; NaN where a cell has none.
        null: [c, m] their values in the shared draws.

    Returns:
        [c] adjusted p-values, at least 1 / (m + 1). A cell whose value never varies has 1.

    Raises:
        InputError: no draws, another number of cells, or undefined null values in a cell that has a value.
    """
    values, null = np.asarray(values, np.float64), np.asarray(null, np.float64)
    if values.ndim != 1 or null.ndim != 2 or null.shape[0] != len(values) or null.shape[1] < 1:
        raise InputError(
            f"The family came as values of shape {list(values.shape)} and null values of shape "
            f"{list(null.shape)}; expected were [cells] and [cells, draws], with at least one draw."
        )
    adjusted = np.full(len(values), np.nan)
    tested = ~np.isnan(values)
    if not tested.any():
        return adjusted
    pooled = np.concatenate([values[:, None], null], axis=1)[tested]
    if not np.isfinite(pooled).all():
        cell = int(np.flatnonzero(tested)[~np.isfinite(pooled).all(axis=1)][0])
        raise InputError(
            f"Cell {cell} of the family has a value but null values that are not finite; expected were "
            "values for the same draws in every cell. Leave the cell out, or mark its value as not a number."
        )
    centred = pooled - pooled.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    varies = spread[:, 0] > 1e-12 * np.maximum(1, np.abs(pooled).max(axis=1))
    studentised = np.where(varies[:, None], centred / np.where(varies[:, None], spread, 1), -np.inf)
    largest = studentised[:, 1:].max(axis=0)
    # An equal arrangement of the rows may differ by rounding, and counts as a tie.
    exceeding = (largest[None] >= studentised[:, :1] - 1e-9).sum(axis=1)
    adjusted[tested] = np.where(varies, (exceeding + 1) / (null.shape[1] + 1), 1.0)
    return adjusted


ADJUSTMENTS: dict[str, Callable[[NDArray[np.floating]], NDArray[np.float64]]] = {
    "holm": adjust_holm,
    "bh": adjust_bh,
    "by": adjust_by,
}
"""Corrections that need the p-values alone, by the names that users write."""


def _sort(p: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """All p-values, and the cells that have one in ascending order of it."""
    p = np.asarray(p, np.float64)
    if p.ndim != 1 or (p < 0).any() or (p > 1).any():
        raise InputError(
            f"The p-values of a family came with shape {list(p.shape)}, from "
            f"{np.nanmin(p, initial=np.inf):g} to {np.nanmax(p, initial=-np.inf):g}; expected was a list of "
            "numbers from 0 to 1. Mark cells without a test as not a number."
        )
    tested = np.flatnonzero(~np.isnan(p))
    return p, tested[np.argsort(p[tested], kind="stable")]


def _place(cells: int, order: NDArray[np.intp], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    adjusted = np.full(cells, np.nan)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
