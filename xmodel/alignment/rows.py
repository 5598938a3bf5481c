"""Picking rows out of compressed sparse rows: the one piece of arithmetic that many stages need."""

import numpy as np
from numpy.typing import NDArray

from xmodel.records import WordFeatures


def spread_ranges(first: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers first, first + 1, ... of every range, one range after another.

    Args:
        first: [n] where each range begins.
        sizes: [n] how many numbers it has.
    """
    stops = np.cumsum(sizes)
    total = int(stops[-1]) if len(stops) else 0
    return np.arange(total) + np.repeat(first - (stops - sizes), sizes)


def pick_rows(
    indptr: NDArray[np.int64], rows: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row pointer of some rows, in the order given, and the entries that they own.

    Args:
        indptr: [W + 1] row pointer of all rows.
        rows: [R] which of them.

    Returns:
        [R + 1] and [entries].
    """
    sizes = (indptr[1:] - indptr[:-1])[rows]
    picked = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(sizes, out=picked[1:])
    return picked, spread_ranges(indptr[:-1][rows], sizes)


def take_rows(features: WordFeatures, rows: NDArray[np.int64]) -> WordFeatures:
    """Some words of word features, in the order given."""
    indptr, entries = pick_rows(features.indptr, rows)
    return WordFeatures(indptr, features.indices[entries], features.values[entries], features.features)
