"""Sparse rows as dense matrices, for features that are signed or fire everywhere."""

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.chunks import Chunks
from xmodel.records import WordFeatures


def densify(
    chunks: Chunks, features: tuple[int, int], words: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both models' word features as dense matrices.

    Args:
        chunks: the words' features.
        features: F_A and F_B.
        words: W.

    Returns:
        [W, F_A] and [W, F_B].

    Raises:
        InputError: if they do not fit into memory, standardised in float64.
    """
    import psutil

    needed = words * sum(features) * (4 + 8)
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"neurons, residual dimensions and principal components are dense: {words:,} words of "
            f"{features[0]:,} and {features[1]:,} features take {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are "
            "free. Use fewer words (--words-limit), or pca:SITE:K with fewer components."
        )
    first, second = (np.zeros((words, count), dtype=np.float32) for count in features)
    row = 0
    for own_a, own_b in chunks():
        _fill(first[row : row + len(own_a)], own_a)
        _fill(second[row : row + len(own_b)], own_b)
        row += len(own_a)
    return first, second


def _fill(dense: NDArray[np.float32], own: WordFeatures) -> None:
    dense[np.repeat(np.arange(len(own)), np.diff(own.indptr)), own.indices] = own.values
