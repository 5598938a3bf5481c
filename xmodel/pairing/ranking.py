"""The order of candidates: the better score first, at equal scores the lower number.

Every list and every rule of pairing uses this one order, so that results do not depend on the number of
workers, on chunks, or on which way the work went.
"""

import numpy as np
from numpy.typing import NDArray


def precedes(
    scores: NDArray[np.float64],
    names: NDArray[np.int32],
    others: NDArray[np.float64],
    other_names: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """Whether (score, name) comes before (other, other name), element by element."""
    return (scores > others) | ((scores == others) & (names < other_names))


def keep_best(
    groups: NDArray[np.integer],
    scores: NDArray[np.float64],
    names: NDArray[np.integer],
    count: int,
    top_k: int,
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """The best candidates of every group, in order.

    Args:
        groups: [E] group of each candidate, 0 to count - 1.
        scores: [E]
        names: [E] numbers, different within a group.
        count: number of groups.
        top_k: how many to keep.

    Returns:
        scores [count, top_k] and names [count, top_k]; -inf and -1 behind the end of a list.
    """
    best = np.full((count, top_k), -np.inf), np.full((count, top_k), -1, np.int32)
    order = np.lexsort((names, -scores, groups))
    sizes = np.bincount(groups, minlength=count)
    ranks = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    order, ranks = order[ranks < top_k], ranks[ranks < top_k]
    best[0][groups[order], ranks] = scores[order]
    best[1][groups[order], ranks] = names[order]
    return best
