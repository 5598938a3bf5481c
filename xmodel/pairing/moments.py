"""What Pearson's r needs of every feature alone: number of words, firings, sum and sum of squares."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.chunks import Chunks, read_chunks
from xmodel.records import Moments, WordFeatures

LEAST_VARIANCE = 1e-10
"""A feature counts as constant where its variance is at most this share of its mean square: less than what
rounding leaves of a constant's variance over 100 million words."""


@dataclass(frozen=True, eq=False)
class Spreads:
    """Sums and variances of one side's features, with everything out that can have no partner."""

    words: int
    """Number of words, n."""
    sums: NDArray[np.float64]
    """[F] sum of x."""
    variances: NDArray[np.float64]
    """[F] n times sum of squares less squared sum; 0 where the feature is constant or not kept."""

    @property
    def usable(self) -> NDArray[np.bool_]:
        """[F] whether a feature varies and is kept."""
        return self.variances > 0


def measure_moments(chunks: Chunks, features_a: int, features_b: int) -> tuple[Moments, Moments]:
    """Sum both sides' features over all words, in float64 and in the words' order.

    The result has the same bits however the words are cut into chunks.

    Args:
        chunks: the words' features; read once.
        features_a: F_A.
        features_b: F_B.

    Returns:
        A's and B's moments.

    Raises:
        InputError: a chunk is malformed, or its sides do not fit together.
    """
    words = 0
    totals = [_start_moments(features_a), _start_moments(features_b)]
    for pair in read_chunks(chunks, features_a, features_b):
        words += len(pair[0])
        for (firings, sums, squares), side in zip(totals, pair, strict=True):
            _add_moments(side, firings, sums, squares)
    first, second = (Moments(words, *own) for own in totals)
    return first, second


def measure_spreads(moments: Moments, kept: NDArray[np.bool_]) -> Spreads:
    """The variances of a side's features.

    Args:
        moments: of one side.
        kept: [F] features that may be paired.

    Raises:
        InputError: `kept` is not one truth value per feature.
    """
    if kept.shape != moments.sums.shape or kept.dtype != np.bool_:
        raise InputError(
            f"The features to keep came as {kept.dtype} of shape {kept.shape}; expected was one truth value "
            f"for each of {len(moments.sums)} features. Give a bool array of that length."
        )
    scaled = moments.words * moments.squares
    variances = scaled - moments.sums**2
    usable = kept & (variances > LEAST_VARIANCE * scaled)
    return Spreads(moments.words, moments.sums, np.where(usable, variances, 0.0))


def _start_moments(features: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    return np.zeros(features, np.int64), np.zeros(features), np.zeros(features)


def _add_moments(
    side: WordFeatures, firings: NDArray[np.int64], sums: NDArray[np.float64], squares: NDArray[np.float64]
) -> None:
    values = side.values.astype(np.float64)
    firings += np.bincount(side.indices, minlength=side.features)
    # Unlike bincount, this goes on from the running sums, so that chunks leave no trace.
    np.add.at(sums, side.indices, values)
    np.add.at(squares, side.indices, values * values)
