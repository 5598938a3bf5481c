"""Greedy one-to-one pairing: what sorting all pairs by r and taking each whose features are free gives.

All pairs stand in one strict order (r descending, then A's number, then B's), so the greedy pairing is the
only stable one, and deferred acceptance finds it (Gale and Shapley 1962) whatever the order of offers:
every feature of A offers itself down its list, every feature of B keeps the best offers. So features whose
lists are used up can wait and be searched for together, and no list need be longer than a few entries.
"""

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.prepared import Limits, Searchable
from xmodel.pairing.ranking import keep_best, precedes
from xmodel.records import Partners


def match_greedy(
    prepared: Searchable,
    partners: Partners,
    *,
    floor: float = 0.0,
    capacity: int = 1,
    absolute: bool = False,
) -> NDArray[np.int32]:
    """Pair features greedily, best r first: each of A's at most once, of B's at most `capacity` times.

    Equal to sorting all pairs with r above the floor by r, A's number, B's number, and taking each pair
    whose features are still free.

    Args:
        prepared: where features are searched for again once their list is used up.
        partners: of A's features, as `prepared.find_partners` gives them with the same floor.
        floor: only pairs with r above it.
        capacity: how many of A's features one of B's may have.
        absolute: whether scores are |r|, as in `xmodel.pairing.dense`.

    Returns:
        [P, 2] features of A and of B, in order of r.

    Raises:
        InputError: a capacity below 1, or partners of another number of features.
    """
    features_a, features_b = prepared.features
    if capacity < 1:
        raise InputError(
            f"The capacity came as {capacity}; expected was 1 or more features of a for one of b."
        )
    if len(partners.features) != features_a:
        raise InputError(
            f"Partners came for {len(partners.features)} features where side a has {features_a}. Give the "
            "partners that were found for the same features."
        )
    names = partners.features.copy()
    scores = np.where(names < 0, -np.inf, np.abs(partners.r) if absolute else partners.r)
    names[~(scores > floor)] = -1
    held = (
        np.full((features_b, min(capacity, max(1, features_a))), -np.inf),
        np.full((features_b, min(capacity, max(1, features_a))), -1, np.int32),
    )
    free = np.flatnonzero(names[:, 0] >= 0).astype(np.int32)
    while len(free):
        used_up = _settle(free, scores, names, *held)
        if not len(used_up):
            break
        limits = Limits(held[0][:, -1].copy(), held[1][:, -1].copy())
        scores[used_up], names[used_up] = prepared.search(
            used_up, np.full(len(used_up), floor), names.shape[1], limits=limits
        )
        free = used_up[names[used_up, 0] >= 0]
    columns, places = np.nonzero(held[1] >= 0)
    rows = held[1][columns, places]
    order = np.lexsort((columns, rows, -held[0][columns, places]))
    return np.stack([rows[order], columns[order].astype(np.int32)], axis=1)


def _settle(
    free: NDArray[np.int32],
    scores: NDArray[np.float64],
    names: NDArray[np.int32],
    held_scores: NDArray[np.float64],
    held_names: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Let free features of A offer themselves until each is held or has nothing left on its list.

    Args:
        free: features of A.
        scores: [F_A, k] lists of A's features, best first.
        names: [F_A, k] -1 behind the end.
        held_scores: [F_B, m] what B's features hold, best first; written to.
        held_names: [F_B, m] likewise.

    Returns:
        those left without a place whose list was full: there may be more beyond it.
    """
    used_up: list[NDArray[np.int32]] = []
    while len(free):
        offered, strengths = names[free], scores[free]
        # What a feature of B once refused it refuses for good, so each looks through its list from the top.
        accepted = (offered >= 0) & precedes(
            strengths, free[:, None], held_scores[offered, -1], held_names[offered, -1]
        )
        able = accepted.any(axis=1)
        used_up.append(free[~able & (offered[:, -1] >= 0)])
        first = accepted[able].argmax(axis=1)
        rows, places = free[able], np.arange(len(first))
        columns, groups = np.unique(offered[able][places, first], return_inverse=True)
        old_scores, old_names = held_scores[columns], held_names[columns]
        old_groups, old_places = np.nonzero(old_names >= 0)
        all_groups = np.concatenate([groups, old_groups])
        all_scores = np.concatenate([strengths[able][places, first], old_scores[old_groups, old_places]])
        all_names = np.concatenate([rows, old_names[old_groups, old_places]])
        best = keep_best(all_groups, all_scores, all_names, len(columns), held_names.shape[1])
        held_scores[columns], held_names[columns] = best
        free = np.setdiff1d(all_names, best[1], assume_unique=True)
    return np.sort(np.concatenate(used_up)) if used_up else np.zeros(0, np.int32)
