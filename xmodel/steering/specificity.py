"""Whether a push makes its own feature fire, and what else rises: in A, in B, and carried linearly."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.steering.collecting import Collector
from xmodel.steering.linear_maps import LinearMap
from xmodel.steering.rising import measure_rises, rank_rise

PUSHES = 16
"""Pushes that are encoded at one time."""


def study_rises(collector: Collector, linear: LinearMap) -> dict[str, Any]:
    """Encode pushed activations, and rank all paired features by how much they rise.

    Three pushes per pair, at the primary dose: A along its own feature, B along the partner, and B along A's
    direction as a linear map carries it, which knows nothing of pairs.

    Args:
        collector: of a session of pushes.
        linear: fitted from A's residuals to B's.

    Returns:
        ``a``, ``b`` and ``b_linear``: for each pair the rise of its feature, the mean of the others, its rank
        among all paired features and those that rise most, with shares of first ranks.
    """
    session = collector.session
    dose, _ = session.settings.cells[session.settings.primary]
    rows = session.rows
    directions = {
        "a": (0, session.directions[0].vectors[rows[0]]),
        "b": (1, session.directions[1].vectors[rows[1]] * session.sign[:, None].astype(np.float32)),
        "b_linear": (1, carry_linearly(session.directions[0].vectors[rows[0]], linear)),
    }

    def compute() -> dict[str, NDArray]:
        return {
            name: _measure(collector, number, vectors, dose or 0.0)
            for name, (number, vectors) in directions.items()
        }

    found = collector.keep("rises-00000", compute, dose, float(np.abs(linear.matrix).sum()))
    return {name: _describe(collector, found[name], directions[name][0]) for name in directions}


def carry_linearly(vectors: NDArray[np.float32], linear: LinearMap) -> NDArray[np.float32]:
    """[n, d_B] unit vectors: where a linear map takes A's [n, d_A]; 0 where it takes one to nothing."""
    carried = vectors.astype(np.float64) @ linear.matrix.astype(np.float64)
    norms = np.linalg.norm(carried, axis=1, keepdims=True)
    return (carried / np.where(norms > 0, norms, 1)).astype(np.float32)


def _list_paired(collector: Collector, number: int) -> NDArray[np.int64]:
    """Every paired feature of a side, once."""
    pairs = collector.session.pairs
    return np.unique((pairs.a, pairs.b)[number]).astype(np.int64)


def _measure(
    collector: Collector, number: int, vectors: NDArray[np.float32], dose: float
) -> NDArray[np.float64]:
    """[F, paired] mean rises over the words."""
    import torch

    session = collector.session
    side, dictionary = session.sides[number], session.loaded[number].dictionary
    clean = side.take(side.replay.activation).to(dictionary.dtype)
    features = _list_paired(collector, number)
    found = []
    for low in range(0, len(vectors), PUSHES):
        steps = torch.from_numpy(vectors[low : low + PUSHES] * np.float32(dose * side.scale))
        pushed = clean + steps.to(clean.device, clean.dtype)[:, None, :]
        found.append(measure_rises(dictionary, clean, pushed, features))
    return np.concatenate(found)


def _describe(collector: Collector, rises: NDArray[np.float64], number: int) -> dict[str, Any]:
    import torch

    session = collector.session
    features = _list_paired(collector, number)
    decoder = session.loaded[number].dictionary.decoder
    chosen = torch.from_numpy(features).to(decoder.device)
    norms = torch.linalg.vector_norm(decoder.detach()[chosen].double(), dim=1).numpy(force=True)
    own = (session.pairs.a, session.pairs.b)[number]
    signs = session.sign if number else np.ones(len(own))
    found = []
    for row, feature, sign in zip(rises, own.tolist(), signs.tolist(), strict=True):
        one = rank_rise(sign * row, features, feature, scales=norms)
        found.append(
            {
                "feature": one.feature,
                "own": one.own,
                "others_mean": one.others_mean,
                "rank": one.rank,
                "of": one.of,
                "top": [list(pair) for pair in one.top],
            }
        )
    ranks = np.array([one["rank"] for one in found])
    return {
        "first": float((ranks == 1).mean()),
        "median_rank": float(np.median(ranks)),
        "of": len(features),
        "pairs": found,
    }
