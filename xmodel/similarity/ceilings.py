"""The ceiling: what a score would be if nothing but noise of pairing lowered it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.similarity.metrics import Metric
from xmodel.similarity.repairing import Matches

LEAST = 20
"""Features with partners on both halves below which there is no ceiling: it would be noise itself."""
Take = Callable[[str, NDArray[np.int32]], NDArray[np.floating[Any]]]
"""Side and features to their rows: a row per feature, or a row per word with a column per feature."""


def measure_ceiling(
    metric: Metric, rule: str, chosen: Matches, again: Matches, take: Take
) -> tuple[float | None, int]:
    """Each model with itself, paired through the other on the two halves of the text.

    A feature of A has a partner in B by the words of one half, and one by those of the other half. The two
    are compared as if they were of two models: the value is 1 where both halves find the same partners. The
    same is done from B's features to A's, and the mean is taken; a rule that chooses for one side only is
    judged on the other side alone.

    Args:
        metric: what is measured.
        rule: of pairing.
        chosen: the pairs that are scored.
        again: the pairs of the same rule on the other half.
        take: makes the rows of features of one side.

    Returns:
        the ceiling, None where too few features have partners on both halves; and the number of features that
        it rests on, the fewer of the two sides'.
    """
    sides = []
    if rule != "best_of_b":
        sides.append(("b", *_meet(chosen.a, chosen.b, again.a, again.b)))
    if rule != "best_of_a":
        sides.append(("a", *_meet(chosen.b, chosen.a, again.b, again.a)))
    common = min(len(own) for _, own, _ in sides)
    if common < LEAST:
        return None, common
    try:
        values = [metric.prepare(take(side, own), take(side, other)).value for side, own, other in sides]
    except InputError:
        # Too few rows for this metric, which is what having no ceiling means.
        return None, common
    return float(np.mean(values)), common


def _meet(
    keys: NDArray[np.int32],
    partners: NDArray[np.int32],
    keys_again: NDArray[np.int32],
    partners_again: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Both partners of the features that have partners twice."""
    _, here, there = np.intersect1d(keys, keys_again, return_indices=True)
    return partners[here], partners_again[there]
