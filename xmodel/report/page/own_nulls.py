"""Best correlations against their own nulls: pooled in standard units, or draw by draw.

How great an r the search for partners finds by chance differs from feature to feature: with how often it
fires, how its firings cluster, and whether the other model has anything in the same documents. So a feature
is judged by what the search finds for itself. A few draws tell its null's mean and spread; the shape they
are held against comes from the draws of other features, in standard units. Many draws need nothing else.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
"""Largest p of a credible partner, not corrected for the number of features."""
TIE = 1e-9
"""Two r that differ by less are the same: the order of their sums differs between arrangements."""
_LEAST_SPREAD = 0.1
# Of the stratum's median: below it a spread is that of a few draws that happen to be equal.


@dataclass(frozen=True, eq=False)
class Compared:
    """Best correlations of some features beside their nulls."""

    p: NDArray[np.float64]
    """[n] share of the null's draws that reach a feature's r, both counted with the feature itself."""
    mean: NDArray[np.float64]
    """[n] of the feature's own draws."""
    sd: NDArray[np.float64]
    """[n] likewise."""
    reach: NDArray[np.float64]
    """[n] the greatest r that chance still reaches: p is `ALPHA` or less exactly for r above it. NaN where
    there are too few draws for any p that small."""


def compare_standardised(
    r: NDArray[np.float64], null: NDArray[np.float64], strata: NDArray[np.integer[Any]]
) -> Compared:
    """Compare r in units of each feature's own null with the draws of all of its stratum, likewise.

    r is taken less the mean of the feature's own draws, over their standard deviation. Each draw is taken
    likewise, by the mean and deviation of the feature's other draws, so that it is as far from what it is
    measured by as r is. p is (1 + c) / (1 + n): of the n draws of the stratum, c reach r (Phipson and Smyth,
    Stat. Appl. Genet. Mol. Biol. 9:39, 2010).

    Args:
        r: [n] best r, 0 where there is none.
        null: [draws, n] the same features' best r, 3 draws or more.
        strata: [n] features whose nulls are of like shape.
    """
    draws = len(null)
    mean = null.mean(axis=0)
    squares = np.square(null - mean)
    total = squares.sum(axis=0)
    sd = np.sqrt(total / (draws - 1))
    rest_mean = (mean * draws - null) / (draws - 1)
    rest_sd = np.sqrt(np.maximum(total - squares * draws / (draws - 1), 0) / (draws - 2))
    p, reach = np.ones(len(r)), np.full(len(r), np.nan)
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata == stratum)
        floor = max(TIE, _LEAST_SPREAD * float(np.median(sd[own])))
        unit = np.maximum(sd[own], floor)
        pool = np.sort((null[:, own] - rest_mean[:, own]) / np.maximum(rest_sd[:, own], floor), axis=None)
        reaching = len(pool) - np.searchsorted(pool, (r[own] - mean[own]) / unit - TIE, side="left")
        p[own] = (1 + reaching) / (1 + len(pool))
        limit = find_limit(pool)
        if limit is not None:
            reach[own] = mean[own] + unit * limit
    return Compared(p, mean, sd, reach)


def compare_own(r: NDArray[np.float64], null: NDArray[np.float64]) -> Compared:
    """Compare r with the feature's own draws and nothing else.

    Exact, whatever the null's shape, where the arrangement of the data is as likely as those drawn.

    Args:
        r: [n] best r, 0 where there is none.
        null: [draws, n] the same features' best r, 2 draws or more.
    """
    ordered = np.sort(null, axis=0)
    p = (1 + (null >= r - TIE).sum(axis=0)) / (1 + len(null))
    limits = [find_limit(column) for column in ordered.T]
    reach = np.array([np.nan if limit is None else limit for limit in limits], dtype=np.float64)
    return Compared(p, null.mean(axis=0), null.std(axis=0, ddof=1), reach)


def find_limit(ordered: NDArray[np.float64]) -> float | None:
    """The value above which p is `ALPHA` or less; None where there are too few draws.

    Args:
        ordered: [m] draws, ascending.
    """
    allowed = int(np.floor(ALPHA * (1 + len(ordered)) + TIE)) - 1
    return float(ordered[-1 - allowed]) if allowed >= 0 else None
