"""How some features of one model correlate with all features of the other: whoever comes near a given r."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing.moments import measure_spreads
from xmodel.similarity.material import Material

BLOCK_BYTES = 1 << 28
"""Most bytes of correlations, and of what sorts them, that are held at one time."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The other model's features whose r with a feature is close to a given one."""

    features: NDArray[np.int32]
    """[F, K] their numbers, nearest to the given r first; -1 behind the last."""
    best: NDArray[np.int32]
    """[F] the feature with the greatest r besides the one left out; -1 if none has r above 0."""


def find_neighbours(
    material: Material,
    letter: Literal["a", "b"],
    features: NDArray[np.int32],
    without: NDArray[np.int32],
    r: NDArray[np.float64],
    tolerance: float,
    *,
    most: int = 64,
) -> Neighbours:
    """Find features of the other model by their r over the words of the discovery half.

    Of signed features |r| counts. Only features that passed the filters of pairing are found.

    Args:
        material: the run.
        letter: the model that `features` are of.
        features: [F] may repeat.
        without: [F] a feature of the other model to leave out for each.
        r: [F] the r to come near; none comes near what is not a number.
        tolerance: how near, inclusive.
        most: K, longest list.
    """
    target = np.abs(r) if material.signed else r
    count = material.run.shards.features["ba".index(letter)]
    lists = np.full((len(features), min(most, count)), -1, dtype=np.int32)
    best = np.full(len(features), -1, dtype=np.int32)
    step = max(1, BLOCK_BYTES // (32 * count))
    for first in range(0, len(features), step):
        part = slice(first, first + step)
        strengths = correlate_with_all(material, letter, features[part])
        if material.signed:
            strengths = np.where(np.isneginf(strengths), strengths, np.abs(strengths))
        strengths[np.arange(len(strengths)), without[part]] = -np.inf
        highest = strengths.argmax(axis=1)
        found = strengths[np.arange(len(strengths)), highest] > 0
        best[part] = np.where(found, highest, -1)
        distances = np.abs(strengths - target[part, None])
        # A sum or difference of two r may miss the tolerance by rounding alone.
        distances[~(distances <= tolerance + 1e-12)] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")[:, : lists.shape[1]]
        near = np.isfinite(np.take_along_axis(distances, order, axis=1))
        lists[part] = np.where(near, order, -1)
    return Neighbours(lists, best)


def correlate_with_all(
    material: Material, letter: Literal["a", "b"], features: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Pearson's r of some features with every feature of the other model, over the discovery half.

    Args:
        material: the run.
        letter: the model that `features` are of.
        features: [F]

    Returns:
        [F, features of the other model]; -inf where either is constant, or the other was set aside.
    """
    from scipy.sparse import csr_matrix

    side = "ab".index(letter)
    moments, kept = material.moments, material.kept
    own = measure_spreads(moments[side], np.ones(len(moments[side].sums), dtype=np.bool_))
    other = measure_spreads(moments[1 - side], kept[1 - side])
    sums = np.zeros((len(features), len(other.sums)))
    for chunk in material.run.shards.select(material.choice.discovery)():
        left, right = (
            csr_matrix(
                (one.values.astype(np.float64), one.indices, one.indptr), shape=(len(one), one.features)
            )
            for one in (chunk[side], chunk[1 - side])
        )
        sums += csr_matrix(left.tocsc()[:, features].T @ right).toarray()
    covariances = own.words * sums - own.sums[features, None] * other.sums
    variances = own.variances[features, None] * other.variances
    r = np.full(sums.shape, -np.inf)
    varies = variances > 0
    r[varies] = np.clip(covariances[varies] / np.sqrt(variances[varies]), -1.0, 1.0)
    return r
