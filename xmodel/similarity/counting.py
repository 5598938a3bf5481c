"""Counting how many arrangements that relate nothing are as similar as what was observed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.similarity.metrics import Metric, Prepared
from xmodel.similarity.pvalues import bound_p, bound_stopped_p, count_p, fit_tail

Values = Callable[[int, int, NDArray[np.bool_]], NDArray[np.float64]]
"""Of a first arrangement, a count, and which of the metrics are wanted [c]: values [c, count]."""

FIRST = 64
"""Arrangements after which an adaptive test first looks, where they are cheap."""
ROUNDING = 1e-12
"""By how much values of equal arrangements differ, relative to 1 or to the value where that is larger."""
FEW_IN_TAIL = 10
"""Exceeding values below which a tail is fitted (Knijnenburg et al., Bioinformatics 25:i161, 2009)."""
ENOUGH_ROWS = 5
"""Rows per component below which CCA is warned about."""


@dataclass(frozen=True)
class Plan:
    """How many arrangements to draw, and when to stop."""

    permutations: int = 999
    """Arrangements drawn where their number is fixed, m."""
    seed: int = 0
    """Of all random numbers; equal seeds give equal results."""
    adaptive: bool = False
    """Whether to stop once `exceedances` values were at least the observed one (Besag and Clifford,
    Biometrika 78:301, 1991), and else to go on to `most` arrangements."""
    alpha: float = 0.05
    """The level at which the user will decide; warnings and `Tested.settled` are about it, p is not."""
    exceedances: int = 20
    """Exceeding values at which an adaptive test stops, h."""
    most: int = 9_999
    """Arrangements at which an adaptive test stops at the latest."""
    batch: int | None = None
    """Arrangements that a metric is given at once; None for as many as fit. It changes no result."""


@dataclass(frozen=True, eq=False)
class Tested:
    """One metric against one null."""

    metric: str
    """Name, as in `Metric.name`."""
    value: float
    """The observed statistic."""
    null: NDArray[np.float64]
    """[m] the statistic of every arrangement, in the order of drawing; shared draws of several metrics are
    in the same places."""
    exceeding: int
    """b, arrangements whose value is at least the observed one, ties included."""
    permutations: int
    """m, arrangements drawn."""
    p: float
    """(b + 1) / (m + 1); where an adaptive test stopped early, h / m."""
    p_interval: tuple[float, float]
    """95 % interval of the p that all possible arrangements would give."""
    z: float | None
    """Effect: the value's distance from the null's mean in its standard deviations; None where the null does
    not vary."""
    n: int
    """Rows."""
    k: tuple[int, int] | None
    """Components kept of x and of y; None where the metric keeps none."""
    p_tail: float | None
    """The p of a tail fitted to the null, see `fit_tail`: an approximation. Adaptive tests only, where fewer
    than 10 of the most arrangements exceed the value."""
    tail: bool
    """Whether `p_tail` is there."""
    settled: bool | None
    """Adaptive tests: whether `p_interval` lies on one side of alpha. None for a fixed number."""
    warnings: tuple[str, ...]
    """What a reader must know before trusting the numbers, one sentence each."""


DEFAULT_PLAN = Plan()
"""999 arrangements, seed 0."""


def check_plan(plan: Plan) -> None:
    """Refuse a plan that cannot be followed.

    Raises:
        InputError: fewer than 1 permutation, a level outside 0 to 1, or counts below 1.
    """
    counts = {
        "permutations": plan.permutations,
        "exceedances of an adaptive test": plan.exceedances,
        "permutations of an adaptive test at most": plan.most,
        "permutations per batch": 1 if plan.batch is None else plan.batch,
    }
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(
                f"The number of {name} came as {count}; expected was a whole number, 1 or more. "
                "999 permutations let p be as small as 0.001."
            )
    if not 0 < plan.alpha < 1:
        raise InputError(f"Alpha came as {plan.alpha}; expected was more than 0 and less than 1, as 0.05.")
    if isinstance(plan.seed, bool) or not isinstance(plan.seed, int) or plan.seed < 0:
        raise InputError(f"The seed came as {plan.seed}; expected was a whole number, 0 or more.")


def count_exceeding(
    metrics: Sequence[Metric],
    prepared: Sequence[Prepared],
    n: int,
    slack: Sequence[float],
    measure: Values,
    step: int,
    plan: Plan,
) -> list[Tested]:
    """Draw arrangements until the plan is fulfilled for every metric.

    Args:
        metrics: what is measured.
        prepared: the same on the observed rows.
        n: observed rows.
        slack: for each metric, by how much less than the observed value counts as a tie because of rounding.
        measure: gives values of further arrangements.
        step: most arrangements to ask for at once.
        plan: how many, and when to stop.

    Returns:
        one result per metric.

    Raises:
        InputError: a value that is not a finite number.
    """
    limits = []
    for metric, ready, own in zip(metrics, prepared, slack, strict=True):
        if not np.isfinite(ready.value):
            raise InputError(
                f"{metric.label} of these rows is {ready.value}, which no null can be compared with. "
                "Look for constant rows or columns."
            )
        limits.append(ready.value - max(ROUNDING * max(1.0, abs(ready.value)), own))
    total = plan.most if plan.adaptive else plan.permutations
    nulls = [np.empty(0)] * len(metrics)
    stopped = np.zeros(len(metrics), np.bool_)
    done, size = 0, min(FIRST, step) if plan.adaptive else step
    while done < total and not stopped.all():
        count = min(size, total - done)
        values = measure(done, count, ~stopped)
        for row in np.flatnonzero(~stopped).tolist():
            if not np.isfinite(values[row]).all():
                place = done + int(np.flatnonzero(~np.isfinite(values[row]))[0]) + 1
                raise InputError(
                    f"{metrics[row].label} of draw {place} of the null is not a finite number; a p-value "
                    "would silently leave it out. Look for constant rows or columns."
                )
            nulls[row] = np.concatenate([nulls[row], values[row]])
            hits = np.flatnonzero(nulls[row] >= limits[row]) if plan.adaptive else []
            if len(hits) >= plan.exceedances:
                nulls[row] = nulls[row][: hits[plan.exceedances - 1] + 1]
                stopped[row] = True
        done += count
        size = min(2 * size, step) if plan.adaptive else step
    return [
        _conclude(metric, ready, n, null, int((null >= limit).sum()), bool(early), plan)
        for metric, ready, null, limit, early in zip(metrics, prepared, nulls, limits, stopped, strict=True)
    ]


def _conclude(
    metric: Metric,
    ready: Prepared,
    n: int,
    null: NDArray[np.float64],
    exceeding: int,
    early: bool,
    plan: Plan,
) -> Tested:
    drawn = len(null)
    spread = float(null.std(ddof=1)) if drawn > 1 else 0.0
    varies = spread > ROUNDING * max(1.0, abs(ready.value))
    interval = (bound_stopped_p if early else bound_p)(exceeding, drawn)
    p_tail = None
    if plan.adaptive and exceeding < FEW_IN_TAIL and varies:
        p_tail = fit_tail(ready.value, null, seed=plan.seed)
    warnings = []
    smallest = 1 / ((plan.most if plan.adaptive else plan.permutations) + 1)
    if smallest > plan.alpha:
        warnings.append(
            f"{drawn} permutations cannot give a p below {smallest:.2g}, so not one of "
            f"{plan.alpha:g} or less."
        )
    # Projections onto many components of few rows fit each other whatever the rows are.
    if ready.kept is not None and n < ENOUGH_ROWS * max(ready.kept):
        warnings.append(
            f"n/k = {n / max(ready.kept):.1f}: with fewer than {ENOUGH_ROWS} rows per component CCA is high "
            "for unrelated data."
        )
    return Tested(
        metric=metric.name,
        value=float(ready.value),
        null=null,
        exceeding=exceeding,
        permutations=drawn,
        p=exceeding / drawn if early else count_p(exceeding, drawn),
        p_interval=interval,
        z=(float(ready.value) - float(null.mean())) / spread if varies else None,
        n=n,
        k=ready.kept,
        p_tail=p_tail,
        tail=p_tail is not None,
        settled=not interval[0] <= plan.alpha <= interval[1] if plan.adaptive else None,
        warnings=tuple(warnings),
    )


def add_warning(tested: Tested, warning: str) -> Tested:
    """The same result with one more warning."""
    return replace(tested, warnings=(*tested.warnings, warning))
