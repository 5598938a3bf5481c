"""Whether the deeper layers of one model go with the deeper layers of the other."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.models.sites import KINDS, parse_site
from xmodel.report.scores import format_p
from xmodel.similarity.grids import LEVEL

LEAST_DEPTHS = 4
"""Depths of A from which on an order is tested: of fewer no order has a p of 0.05."""
MOST_EXACT = 8
"""Depths up to which all orders are gone through: 40,320."""
DRAWN = 9_999
"""Orders that are drawn where there are more depths."""


@dataclass(frozen=True)
class OrderTest:
    """How far values that stand in a row rise."""

    tau: float
    """Kendall's tau-b of the values with their places."""
    p: float
    """One-sided: the share of orders of the same values with a tau as great."""
    orders: int
    """Orders that were gone through."""
    exact: bool
    """Whether these are all there are; else they were drawn, and the observed one counts among them."""


def find_depth(site: str) -> tuple[int, int]:
    """What sites are sorted by: block, and place within it.

    Raises:
        InputError: for a site that is not named as sites are.
    """
    parsed = parse_site(site)
    return parsed.block, KINDS.index(parsed.kind)


def measure_order(values: Sequence[int], seed: int = 0) -> OrderTest:
    """Test whether values rise along their places (Kendall, Biometrika 30:81, 1938), ties allowed.

    Args:
        values: [n] at least two different ones.
        seed: of the orders that are drawn where n is greater than `MOST_EXACT`.
    """
    own = np.asarray(values, np.int64)
    n = len(own)
    exact = n <= MOST_EXACT
    if exact:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        orders = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (DRAWN, 1)), axis=1)
    observed, null = int(_count_rises(own[None])[0]), _count_rises(own[orders])
    tied = sum(math.comb(number, 2) for number in np.bincount(own - own.min()).tolist())
    tau = observed / math.sqrt(math.comb(n, 2) * (math.comb(n, 2) - tied))
    reached = int((null >= observed).sum())
    p = reached / len(null) if exact else (1 + reached) / (1 + len(null))
    return OrderTest(tau=tau, p=p, orders=len(null), exact=exact)


def _count_rises(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """[m] pairs of places at which the values [m, n] rise, less those at which they fall."""
    first, second = np.triu_indices(values.shape[1], 1)
    return np.sign(values[:, second] - values[:, first]).sum(axis=1)


def tell_order(
    above: Mapping[tuple[str, str], float], sites: Mapping[str, str], short: Mapping[str, str]
) -> str:
    """Which layer of B is farthest above chance with each of A's, and whether these are in order of depth.

    Of a depth with several dictionaries the best one counts.

    Args:
        above: how far a metric lies above chance, by the letters of A's and B's dictionaries; only cells
            that are beyond chance.
        sites: by letter.
        short: what a dictionary is called, by letter.

    Returns:
        Sentences, each with a blank before it; nothing where fewer than two depths of A have such a cell,
        and nothing of an order where fewer than `LEAST_DEPTHS` have.
    """
    best: dict[tuple[int, int], tuple[str, str]] = {}
    for cell in above:
        depth = find_depth(sites[cell[0]])
        if depth not in best or above[cell] > above[best[depth]]:
            best[depth] = cell
    if len(best) < 2:
        return ""
    cells = [best[depth] for depth in sorted(best)]
    listed = ", ".join(f"{short[a]} – {short[b]}" for a, b in cells)
    told = f" Of the cells beyond chance, farthest above it for each layer of A: {listed}."
    depths = [find_depth(sites[b]) for _, b in cells]
    levels = sorted(set(depths))
    if len(cells) < LEAST_DEPTHS or len(levels) < 2:
        return told
    test = measure_order([levels.index(depth) for depth in depths])
    goes = "Deeper goes with deeper" if test.p <= LEVEL else "That deeper goes with deeper is not shown"
    orders = f"all {test.orders:,} orders" if test.exact else f"{test.orders:,} orders drawn at random"
    # Adding 0 to what rounds to nothing takes its sign away.
    tau = f"{round(test.tau, 2) + 0.0:.2f}"
    return (
        f"{told} {goes}: Kendall's tau {tau}, one-sided p {format_p(test.p)} over {orders} of "
        "these layers of B. This p is not corrected over metrics, and it takes layers for unrelated, which "
        "neighbours are not."
    )
