"""Directions laid out in the plane, and one layout turned onto another."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.similarity.threads import limit_threads

NEIGHBOURS = 15
"""Nearest neighbours that a feature is tied to: UMAP's own choice."""
LEAST = 10
"""Directions below which a layout shows nothing."""
DRAWS = 200
"""Random ties that an agreement is compared with."""
_TILE = 1024
_MOST_EXACT = 10**12
# Multiplications up to which neighbours are found by comparing all directions: half a minute on one core.


@dataclass(frozen=True, eq=False)
class Turn:
    """A layout after `turn_onto`."""

    positions: NDArray[np.float64]
    """[n, 2]"""
    agreement: float
    """How well tied points agree: the correlation of their positions that the best rotation or reflection
    gives, 1 if the pictures are the same; NaN with fewer than three ties, after which nothing was turned."""
    chance: float
    """The mean agreement after tying the same points at random; above 0, as the best turn is taken."""
    p: float
    """(b + 1) / (m + 1), where b of m random ties agree as well."""
    ties: int
    """Points that are tied."""


def lay_out(rows: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Lay directions out in the plane so that those that point alike are near each other.

    UMAP (McInnes, Healy and Melville 2018, arXiv:1802.03426) with its usual settings: the cosine distance,
    `NEIGHBOURS` neighbours, minimum distance 0.1. Neighbours are found exactly where that takes less than
    half a minute, by UMAP's own approximation beyond; exactly is also faster, there being nothing to compile.

    Args:
        rows: [n, d] unit vectors; n at least `LEAST`.
        seed: equal seeds give equal layouts.

    Returns:
        [n, 2] positions, centred, in UMAP's units.
    """
    reuse_compiled()
    count = min(NEIGHBOURS, len(rows) - 1)
    options = {}
    with warnings.catch_warnings(), limit_threads(len(rows) * rows.shape[1] * _TILE):
        # Warnings that neighbours come without an index for later points, that a seed means one thread, and
        # that the graph is in several pieces: all as it is meant to be.
        warnings.simplefilter("ignore")
        from umap import UMAP

        if len(rows) ** 2 * rows.shape[1] <= _MOST_EXACT:
            known = (*find_neighbours(rows, count), None)
            options = {"precomputed_knn": known, "force_approximation_algorithm": True}
        reducer = UMAP(n_neighbors=count, metric="cosine", random_state=seed, n_jobs=1, **options)
        positions = np.asarray(reducer.fit_transform(rows), dtype=np.float64)
    return positions - positions.mean(axis=0)


def reuse_compiled() -> None:
    """Let what UMAP compiles be kept on disk, beside what it keeps there by itself.

    Saves ten seconds of thirteen in every process but the first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap import layouts, umap_

    for module, name in (
        (umap_, "smooth_knn_dist"),
        (umap_, "compute_membership_strengths"),
        (layouts, "_nb_optimize_layout_euclidean_single_epoch"),
    ):
        # Another version may call them otherwise: it then compiles them in every process.
        compiled = vars(module).get(name)
        if compiled is not None and not compiled.signatures:
            compiled.enable_caching()


def find_neighbours(rows: NDArray[np.float32], count: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The nearest rows of every row, by cosine distance, itself first.

    Args:
        rows: [n, d] unit vectors.
        count: how many, at most n.

    Returns:
        [n, count] their numbers, nearest first, and [n, count] distances 1 - cosine.
    """
    total = len(rows)
    numbers = np.empty((total, count), dtype=np.int32)
    distances = np.zeros((total, count), dtype=np.float32)
    for first in range(0, total, _TILE):
        own = np.arange(first, min(first + _TILE, total))
        found = 1 - rows[own] @ rows.T
        found[np.arange(len(own)), own] = -np.inf
        nearest = np.argpartition(found, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(found, nearest, axis=1)
        order = np.lexsort((nearest, values), axis=1)
        numbers[own] = np.take_along_axis(nearest, order, axis=1)
        distances[own, 1:] = np.take_along_axis(values, order, axis=1)[:, 1:].clip(0)
    return numbers, distances


def turn_onto(
    moving: NDArray[np.float64],
    fixed: NDArray[np.float64],
    ties: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Turn:
    """Rotate, reflect, scale and shift a layout so that tied points lie as near each other as they can.

    Orthogonal Procrustes (Schönemann 1966). Unlike there the scale is that which makes tied points of both
    layouts spread equally far, so that a layout does not shrink where ties agree little.

    Args:
        moving: [n, 2]
        fixed: [m, 2]
        ties: [k] rows of `moving`, and [k] the rows of `fixed` that they belong to.
        draws: random ties for `Turn.chance` and `Turn.p`, at least 1.
        seed: of these.
    """
    from scipy.linalg import orthogonal_procrustes

    own, other = moving[ties[0]], fixed[ties[1]]
    if len(own) < 3:
        return Turn(moving.copy(), float("nan"), float("nan"), float("nan"), len(own))
    own_centre, other_centre = own.mean(axis=0), other.mean(axis=0)
    own, other = own - own_centre, other - other_centre
    sizes = float(np.linalg.norm(own)), float(np.linalg.norm(other))
    if min(sizes) == 0:
        return Turn(moving.copy(), float("nan"), float("nan"), float("nan"), len(own))
    rotation, total = orthogonal_procrustes(own, other)
    rng = np.random.default_rng(seed)
    agreement = float(total) / (sizes[0] * sizes[1])
    chance = np.array([_agree(own, other[rng.permutation(len(other))]) for _ in range(draws)])
    p = (1 + int((chance >= agreement).sum())) / (draws + 1)
    positions = (moving - own_centre) @ rotation * (sizes[1] / sizes[0]) + other_centre
    return Turn(positions, agreement, float(chance.mean()), p, len(own))


def _agree(own: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    strengths = np.linalg.svd(own.T @ other, compute_uv=False)
    return float(strengths.sum() / (np.linalg.norm(own) * np.linalg.norm(other)))
