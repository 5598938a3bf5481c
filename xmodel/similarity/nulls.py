"""Tests of similarity: the observed value against the values of arrangements that relate nothing.

An arrangement is an order of the second matrix's rows (`test_orders`: shuffled pairs, shifted words) or a
pair of matrices drawn anew (`test_draws`: random subsets, shifting and pairing again). P-values are
one-sided, more similar being larger, and a tie counts as exceeding.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.similarity.counting import (
    DEFAULT_PLAN,
    FEW_IN_TAIL,
    Plan,
    Tested,
    add_warning,
    check_plan,
    count_exceeding,
)
from xmodel.similarity.metrics import Metric

Orders = Callable[[int, np.random.Generator], NDArray[np.int64]]
"""Draws that many row orders [count, n]."""
Draw = Callable[[np.random.Generator], tuple[NDArray[np.floating], NDArray[np.floating]]]
"""Draws two matrices with matched rows."""

WHOLE = 1 << 25
"""Numbers in all orders of a test (256 MB) up to which they are drawn in one call."""
BATCH = 1 << 22
"""Numbers in the orders that a metric is given at once."""
LOOK = 8
"""Matrices drawn anew after which an adaptive test looks whether to stop; they can be dear."""
STUCK = 0.2
"""Share of rows that cannot move above which it is warned about."""


def test_orders(
    metrics: Sequence[Metric],
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    orders: Orders,
    plan: Plan = DEFAULT_PLAN,
) -> list[Tested]:
    """Compare metrics with their values where y's rows are put into other orders.

    The same orders serve all metrics, and a metric's result does not depend on which others are tested.

    Args:
        metrics: what to measure.
        x: [n, d_x] matched rows.
        y: [n, d_y] row i belongs to row i of x.
        orders: draws row orders, [count, n], for instance
            `lambda count, rng: draw_orders(n, count, rng, groups=groups)`. It is called once for all of them
            where they fit into memory and the test is not adaptive.
        plan: how many, and when to stop.

    Returns:
        one result per metric.

    Raises:
        InputError: rows that a metric cannot take, a metric that does not depend on which rows are paired,
            a value that is not a number, orders that are none, or a plan that cannot be followed.
    """
    check_plan(plan)
    for metric in metrics:
        if not metric.paired:
            raise InputError(
                f"{metric.label} does not depend on which rows are paired, so shuffled pairs cannot test it. "
                "Use random subsets or the re-pairing null."
            )
    x, y = np.asarray(x), np.asarray(y)
    n = len(x)
    prepared = [metric.prepare(x, y) for metric in metrics]
    rng = np.random.default_rng(plan.seed)
    own = np.arange(n)
    stuck = np.ones(n, np.bool_)
    whole = not plan.adaptive and plan.permutations * n <= WHOLE
    drawn = _call_orders(orders, plan.permutations, rng, n) if whole else None
    batch = plan.batch or max(1, BATCH // n)

    def measure(begin: int, count: int, active: NDArray[np.bool_]) -> NDArray[np.float64]:
        these = _call_orders(orders, count, rng, n) if drawn is None else drawn[begin : begin + count]
        stuck[(these != own).any(axis=0)] = False
        values = np.full((len(prepared), count), np.nan)
        for row in np.flatnonzero(active).tolist():
            for first in range(0, count, batch):
                part = slice(first, first + batch)
                values[row, part] = prepared[row].permute(these[part])
        return values

    # A float32 product can give the observed arrangement another last digit than the stored value has.
    slack = [4 * abs(float(ready.permute(own[None])[0]) - ready.value) for ready in prepared]
    tested = count_exceeding(metrics, prepared, n, slack, measure, max(1, BATCH // n), plan)
    share = float(stuck.mean())
    if share <= STUCK or max((one.permutations for one in tested), default=0) < FEW_IN_TAIL:
        return tested
    warning = (
        f"{share:.0%} of the rows kept their partner in every arrangement, since no other row or group of "
        "their kind is there to change with; the test says less about them."
    )
    return [add_warning(one, warning) for one in tested]


def test_draws(
    metrics: Sequence[Metric],
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    draw: Draw,
    plan: Plan = DEFAULT_PLAN,
) -> list[Tested]:
    """Compare metrics with their values on pairs of matrices drawn anew.

    Each draw serves all metrics.

    Args:
        metrics: what to measure.
        x: [n, d_x] the observed matched rows.
        y: [n, d_y] likewise.
        draw: gives two matrices with matched rows that are related no more than by chance, see
            `draw_subsets`; their number of rows may differ from n, as where features are paired again.
        plan: how many, and when to stop.

    Returns:
        one result per metric.

    Raises:
        InputError: rows that a metric cannot take, observed or drawn, a value that is not a number, or a
            plan that cannot be followed.
    """
    check_plan(plan)
    prepared = [metric.prepare(np.asarray(x), np.asarray(y)) for metric in metrics]
    rng = np.random.default_rng(plan.seed)

    def measure(begin: int, count: int, active: NDArray[np.bool_]) -> NDArray[np.float64]:
        values = np.full((len(metrics), count), np.nan)
        for column in range(count):
            drawn = draw(rng)
            for row in np.flatnonzero(active).tolist():
                try:
                    values[row, column] = metrics[row].prepare(*drawn).value
                except InputError as error:
                    raise InputError(
                        f"Draw {begin + column + 1} of the null cannot be scored by {metrics[row].label}: "
                        f"{error}"
                    ) from error
        return values

    return count_exceeding(metrics, prepared, len(x), [0.0] * len(metrics), measure, LOOK, plan)


def draw_subsets(
    pool_x: NDArray[np.floating],
    pool_y: NDArray[np.floating],
    n: int,
    *,
    strata_a: NDArray[np.integer] | None = None,
    strata_b: NDArray[np.integer] | None = None,
    want_a: NDArray[np.integer] | None = None,
    want_b: NDArray[np.integer] | None = None,
) -> Draw:
    """Random features of both models, paired at random, as many as were observed.

    Exact where the observed features are themselves a random choice among those of the pool (of the same
    strata), paired at random.

    Args:
        pool_x: [N_a, d_x] all features of A that could have been chosen, for instance all decoder vectors.
        pool_y: [N_b, d_y] likewise of B.
        n: features to draw from each side, without repetition.
        strata_a: [N_a] stratum of each feature of A, for instance of how often it fires, see `cut_strata`.
        strata_b: [N_b] likewise of B.
        want_a: [n] stratum of A's feature in each observed pair; row i of a draw comes from stratum
            `want_a[i]`, so that also what the pairs' frequencies have in common is kept. With `strata_a`.
        want_b: [n] likewise of B; with `strata_b`.

    Returns:
        a function for `test_draws`.

    Raises:
        InputError: fewer features in a pool or stratum than wanted, or strata without what is wanted of them.
    """
    pick_x = _prepare_picks(len(pool_x), n, strata_a, want_a, "a")
    pick_y = _prepare_picks(len(pool_y), n, strata_b, want_b, "b")

    def draw(rng: np.random.Generator) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        return pool_x[_pick(pick_x, n, rng)], pool_y[_pick(pick_y, n, rng)]

    return draw


def cut_strata(counts: NDArray[np.number], bins: int = 10) -> NDArray[np.int64]:
    """Cut features into strata of about equal size by how often they fire.

    Equal counts share a stratum; strata are therefore fewer than `bins` where many counts are equal. A
    stratum of a single feature is joined with the next lower one (the lowest with the next higher).

    Args:
        counts: [n] firings, or anything else to cut by.
        bins: strata at most.

    Returns:
        [n] strata, numbered from 0 for the rarest.

    Raises:
        InputError: counts that are not finite, or fewer than 1 stratum.
    """
    counts = np.asarray(counts)
    if bins < 1 or counts.ndim != 1 or counts.size == 0 or not np.isfinite(counts).all():
        raise InputError(
            f"Frequency strata were asked for: {bins} of {counts.size} counts, of shape "
            f"{list(counts.shape)}; expected were 1 stratum or more and a finite number per feature. "
            "Leave features without a count out."
        )
    _, values, sizes = np.unique(counts, return_inverse=True, return_counts=True)
    middles = np.cumsum(sizes) - sizes / 2
    strata = np.floor(middles * bins / counts.size).astype(np.int64)
    strata = np.unique(strata, return_inverse=True)[1].reshape(-1)
    totals = np.bincount(strata, weights=sizes)
    # A stratum begins where the one before it is large enough and it is so itself.
    begins = np.zeros(len(totals), np.int64)
    for number in range(1, len(totals)):
        begins[number] = totals[number] >= 2 and totals[:number].sum() >= 2
    return np.cumsum(begins)[strata][values.reshape(-1)]


def _call_orders(orders: Orders, count: int, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    drawn = orders(count, rng)
    if drawn.shape != (count, n) or drawn.min(initial=0) < 0 or drawn.max(initial=0) >= n:
        raise InputError(
            f"Row orders came with shape {list(drawn.shape)}, naming rows {drawn.min(initial=0)} to "
            f"{drawn.max(initial=0)}; expected were {count} orders of the rows 0 to {n - 1}. Draw them "
            "for the same rows as the matrices have."
        )
    return drawn


def _prepare_picks(
    pool: int, n: int, strata: NDArray[np.integer] | None, want: NDArray[np.integer] | None, side: str
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The rows of each stratum that can be drawn, and the places of a draw that they fill."""
    if (strata is None) != (want is None):
        raise InputError(
            f"Strata of side {side} came without what is wanted of them, or the other way round; expected "
            "were both: the stratum of every feature in the pool, and that of every observed one."
        )
    if strata is None or want is None:
        strata, want = np.zeros(pool, np.int64), np.zeros(n, np.int64)
    strata, want = np.asarray(strata), np.asarray(want)
    if strata.shape != (pool,) or want.shape != (n,) or n < 1:
        raise InputError(
            f"Of side {side}, {n} features were to be drawn from {pool}, with strata of shape "
            f"{list(strata.shape)}, wanted of shape {list(want.shape)}; expected was one stratum per feature "
            "of the pool, and one per feature to draw."
        )
    picks = [(np.flatnonzero(strata == label), np.flatnonzero(want == label)) for label in np.unique(want)]
    for rows, places in picks:
        if len(rows) < len(places):
            raise InputError(
                f"The pool of side {side} has {len(rows)} features of a stratum from which {len(places)} are "
                "wanted; expected were as many or more. Cut fewer strata, or draw fewer features."
            )
    return picks


def _pick(
    picks: list[tuple[NDArray[np.intp], NDArray[np.intp]]], n: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    chosen = np.empty(n, np.intp)
    for rows, places in picks:
        chosen[places] = rng.choice(rows, len(places), replace=False)
    return chosen
