"""Optimal one-to-one pairing: the largest sum of (r - price), with a certificate.

The candidates are the features' lists, a sparse assignment problem in which each feature of A has a column
of its own for staying unpaired. Its dual prices then say which of the pairs on no list could still improve
the sum (column generation: Gilmore and Gomory, Operations Research 9:849, 1961); those are added and the
problem is solved again, until there is none. The dual solution bounds every pairing's value from above, so
the gap is certified also where the rounds end early.
"""

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.assignment import (
    CandidateGraph,
    find_edges,
    solve_assignment,
    sort_candidates,
)
from xmodel.pairing.prepared import Searchable
from xmodel.records import Partners

TOLERANCE = 1e-9
"""By how much a pair must promise to improve the sum, to be added."""


def match_optimal(
    prepared: Searchable,
    partners_of_a: Partners,
    partners_of_b: Partners,
    *,
    price: float = 0.0,
    absolute: bool = False,
    rounds: int = 20,
) -> tuple[NDArray[np.int32], float]:
    """Pair features one to one so that the sum of (r - price) over the pairs is largest.

    Args:
        prepared: where pairs on no list are looked for.
        partners_of_a: as `prepared.find_partners` gives them; longer lists need fewer rounds.
        partners_of_b: likewise.
        price: what a pair must be worth more than to be made.
        absolute: whether scores are |r|, as in `xmodel.pairing.dense`.
        rounds: most assignment problems to solve.

    Returns:
        [P, 2] features of A and of B, in order of r, and the gap: how much better than this
        any pairing can be at most, in units of r summed. It is 0 up to rounding unless the rounds ran out.

    Raises:
        InputError: a price outside 0 to 1, no rounds, or partners of another number of features.
    """
    features_a, features_b = prepared.features
    _check(prepared, partners_of_a, partners_of_b, price, rounds)
    graph = _list_pairs(partners_of_a, partners_of_b, price, absolute, features_b)
    top_k = partners_of_a.features.shape[1]
    ceilings = _bound_unlisted(partners_of_a, absolute)
    solved = solve_assignment(graph, features_a, features_b)
    possible = solved.gains
    for turn in range(rounds):
        least = solved.gains + price
        asked = np.flatnonzero(ceilings > least).astype(np.int32)
        scores, names = prepared.search(asked, least[asked], top_k, penalty=solved.prices)
        # What A's features can gain at these prices, pairs on no list included: a bound for every pairing.
        possible = solved.gains.copy()
        possible[asked] = np.maximum(possible[asked], scores[:, 0] - price)
        found = scores > (least[asked] + TOLERANCE)[:, None]
        if not found.any() or turn == rounds - 1:
            break
        rows, places = np.nonzero(found)
        columns = names[rows, places]
        worth = scores[rows, places] + solved.prices[columns] - price
        graph = sort_candidates(
            np.concatenate([graph.rows, asked[rows]]),
            np.concatenate([graph.columns, columns]),
            np.concatenate([graph.worth, worth]),
            features_b,
        )
        solved = solve_assignment(graph, features_a, features_b, solved)
    paired = np.flatnonzero(solved.partners >= 0).astype(np.int32)
    worth = graph.worth[find_edges(graph, paired, solved.partners[paired])]
    gap = max(0.0, float(possible.sum() + solved.prices.sum() - worth.sum()))
    order = np.lexsort((solved.partners[paired], paired, -worth))
    pairs = np.stack([paired, solved.partners[paired]], axis=1)[order]
    return pairs, gap


def _list_pairs(
    partners_of_a: Partners, partners_of_b: Partners, price: float, absolute: bool, features_b: int
) -> CandidateGraph:
    """All pairs on lists that are worth more than the price."""
    rows_a, places_a = np.nonzero(partners_of_a.features >= 0)
    columns_b, places_b = np.nonzero(partners_of_b.features >= 0)
    rows = np.concatenate([rows_a, partners_of_b.features[columns_b, places_b]])
    columns = np.concatenate([partners_of_a.features[rows_a, places_a], columns_b])
    scores = np.concatenate([partners_of_a.r[rows_a, places_a], partners_of_b.r[columns_b, places_b]])
    worth = (np.abs(scores) if absolute else scores) - price
    good = worth > 0
    return sort_candidates(rows[good], columns[good], worth[good], features_b)


def _bound_unlisted(partners: Partners, absolute: bool) -> NDArray[np.float64]:
    """[F_A] what no unlisted pair of a feature exceeds: the last r of a full list, else the lists' floor.

    The floor itself is not known here, but no listed r is below it.
    """
    scores = np.abs(partners.r) if absolute else partners.r
    floor = np.nanmin(scores) if (partners.features >= 0).any() else 1.0
    return np.where(partners.features[:, -1] >= 0, scores[:, -1], floor)


def _check(
    prepared: Searchable, partners_of_a: Partners, partners_of_b: Partners, price: float, rounds: int
) -> None:
    counts = len(partners_of_a.features), len(partners_of_b.features)
    if counts != prepared.features:
        raise InputError(
            f"Partners came for {counts[0]} features of a and {counts[1]} of b, where there are "
            f"{prepared.features[0]} and {prepared.features[1]}. Give those found for the same features."
        )
    if not 0 <= price < 1:
        raise InputError(f"The price came as {price}; expected was 0 or more and less than 1.")
    if rounds < 1:
        raise InputError(f"The number of rounds came as {rounds}; expected was 1 or more.")
