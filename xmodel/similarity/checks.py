"""Checks of the selfcheck: a share of what was counted, and the bound that it has to keep."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xmodel.similarity.chance import ALPHA
from xmodel.similarity.pvalues import bound_p

FALSE_ALARM = 0.001
"""Chance that a selfcheck of a sound program fails for one frequency of what chance does."""


def bound_count(trials: int, level: float, chance: float = ALPHA) -> int:
    """The most events, each of a true chance, that are not rarer than the level.

    Args:
        trials: how many times each could have come.
        level: of the binomial law's upper tail.
        chance: of one event.
    """
    from scipy.special import bdtrc

    tails = bdtrc(np.arange(trials + 1), trials, chance)  # Of more events than 0, 1, ...
    return int(np.argmax(tails <= level))


def judge(
    name: str,
    rows: Sequence[dict[str, Any]],
    part: str,
    whole: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    arrangement: str = "all",
) -> dict[str, Any]:
    """Judge a share by its bound.

    Args:
        name: what the check is called.
        rows: what was counted; of each one the counts under `part` and `whole`.
        part: key of what is counted.
        whole: key of what it is a share of.
        at_least: lower bound of the share; or `at_most`, its upper bound.
        at_most: see there.
        arrangement: of the simulated models that were counted.

    Returns:
        name, arrangement, value (None where there is nothing to judge by), the bound, count and of (value =
        count / of), interval (95 %, Clopper and Pearson), and passed.
    """
    count, of = (sum(int(row[key]) for row in rows) for key in (part, whole))
    value = count / of if of else math.nan
    # Without anything to judge by nothing is shown, so the check fails.
    passed = bool(of) and (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    bound = {"at_least": at_least} if at_least is not None else {"at_most": at_most}
    interval = bound_p(max(count, 0), of) if of else (0.0, 1.0)
    return {
        "name": name,
        "arrangement": arrangement,
        "value": value if of else None,
        **bound,
        "count": count,
        "of": of,
        "interval": list(interval),
        "passed": passed,
    }
