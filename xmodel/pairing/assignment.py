"""The assignment problem over candidate pairs, with dual prices that prove its solution.

Compiled code augments along shortest paths (Kuhn's Hungarian method in the form of Edmonds and Karp, J. ACM
19:248, 1972), where each feature may stay unpaired, and goes on from an earlier solution when candidates are
added. Without it, SciPy solves the problem anew each time and the duals follow from its solution.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing import chunks as _chunks

ROUNDING = 1e-12
"""By how much a dual price must rise to be passed on."""


@dataclass(frozen=True, eq=False)
class CandidateGraph:
    """Candidate pairs, ascending by A's feature, then by B's; each is worth more than the price."""

    rows: NDArray[np.int32]
    """[E] A's features."""
    columns: NDArray[np.int32]
    """[E] B's features."""
    worth: NDArray[np.float64]
    """[E] r less the price."""


@dataclass(frozen=True, eq=False)
class Assignment:
    """A pairing and its dual prices: no candidate is worth more than its features' duals together."""

    partners: NDArray[np.int32]
    """[F_A] B's feature of each of A's; -1 where it stays unpaired."""
    gains: NDArray[np.float64]
    """[F_A] dual of A's features, 0 or more."""
    prices: NDArray[np.float64]
    """[F_B] dual of B's features, 0 or more."""


def solve_assignment(
    graph: CandidateGraph, features_a: int, features_b: int, earlier: Assignment | None = None
) -> Assignment:
    """The pairing whose pairs are worth most in all.

    Args:
        graph: candidates.
        features_a: F_A.
        features_b: F_B.
        earlier: the solution for a part of the candidates, to go on from.
    """
    if _chunks.kernels is None:
        return _solve_with_scipy(graph, features_a, features_b)
    partners, gains, prices = np.full(features_a, -1, np.int32), np.zeros(features_a), np.zeros(features_b)
    if earlier is not None:
        partners[:], gains[:], prices[:] = earlier.partners, earlier.gains, earlier.prices
    asked = gains.copy()
    np.maximum.at(asked, graph.rows, graph.worth - prices[graph.columns])
    # Where a new candidate is worth more than the duals, its feature of A is let go to look anew.
    partners[asked > gains] = -1
    paired = np.flatnonzero(partners >= 0)
    owners = np.full(features_b, -1, np.int32)
    owners[partners[paired]] = paired
    order = np.argsort(graph.columns, kind="stable")
    _chunks.kernels.assign(
        np.searchsorted(graph.rows, np.arange(features_a + 1)), graph.columns, graph.worth,
        np.searchsorted(graph.columns[order], np.arange(features_b + 1)),
        graph.rows[order], graph.worth[order],
        partners, owners, asked, prices,
    )  # fmt: skip
    return Assignment(partners, asked, prices)


def find_edges(
    graph: CandidateGraph, rows: NDArray[np.int32], columns: NDArray[np.int32]
) -> NDArray[np.int64]:
    """[P] where in the graph some candidates stand."""
    features_b = 1 + int(graph.columns.max(initial=0))
    keys = graph.rows.astype(np.int64) * features_b + graph.columns
    return np.searchsorted(keys, rows.astype(np.int64) * features_b + columns)


def sort_candidates(
    rows: NDArray[np.integer], columns: NDArray[np.integer], worth: NDArray[np.float64], features_b: int
) -> CandidateGraph:
    """Each pair once, in order."""
    keys, first = np.unique(rows.astype(np.int64) * features_b + columns, return_index=True)
    return CandidateGraph(
        (keys // max(1, features_b)).astype(np.int32),
        (keys % max(1, features_b)).astype(np.int32),
        worth[first],
    )


def _solve_with_scipy(graph: CandidateGraph, features_a: int, features_b: int) -> Assignment:
    chosen = _choose_edges(graph, features_a, features_b)
    gains, prices = _find_duals(graph, chosen, features_a, features_b)
    partners = np.full(features_a, -1, np.int32)
    partners[graph.rows[chosen]] = graph.columns[chosen]
    return Assignment(partners, gains, prices)


def _choose_edges(graph: CandidateGraph, features_a: int, features_b: int) -> NDArray[np.int64]:
    """Which edges the best pairing uses."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    if not len(graph.rows):
        return np.zeros(0, np.int64)
    rows = np.concatenate([graph.rows, np.arange(features_a, dtype=np.int32)])
    columns = np.concatenate([graph.columns, np.arange(features_b, features_b + features_a, dtype=np.int32)])
    # Staying unpaired is worth 0; 1 is added to all since a stored 0 means no edge, and every row gets one.
    weights = np.concatenate([graph.worth + 1.0, np.ones(features_a)])
    whole = csr_array((weights, (rows, columns)), shape=(features_a, features_b + features_a))
    own, partner = min_weight_full_bipartite_matching(whole, maximize=True)
    paired = partner < features_b
    return find_edges(graph, own[paired].astype(np.int32), partner[paired].astype(np.int32))


def _find_duals(
    graph: CandidateGraph, chosen: NDArray[np.int64], features_a: int, features_b: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest dual prices of B's features that the best pairing allows, and what A's gain beyond them.

    Every listed pair is worth at most gain + price, and pairs that are made are worth just that: longest
    paths from the features that stay unpaired (Bellman and Ford), only going on from what has changed.
    """
    gains, prices = np.zeros(features_a), np.zeros(features_b)
    owner, own_column = np.full(features_b, -1, np.int64), np.full(features_a, -1, np.int64)
    own_worth = np.zeros(features_a)
    owner[graph.columns[chosen]] = graph.rows[chosen]
    own_column[graph.rows[chosen]] = graph.columns[chosen]
    own_worth[graph.rows[chosen]] = graph.worth[chosen]
    gains[:] = own_worth
    indptr = np.searchsorted(graph.rows, np.arange(features_a + 1))
    active = np.arange(features_a)
    # Without rounding no path is longer than the number of features.
    for _ in range(features_a + 1):
        sizes = np.diff(indptr)[active]
        edges = np.repeat(indptr[active] - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
        columns = graph.columns[edges]
        asked = graph.worth[edges] - gains[graph.rows[edges]]
        raised = asked > prices[columns] + ROUNDING
        if not raised.any():
            break
        np.maximum.at(prices, columns[raised], asked[raised])
        active = owner[np.unique(columns[raised])]
        active = active[active >= 0]
        gains[active] = np.maximum(0.0, own_worth[active] - prices[own_column[active]])
    return gains, prices
