"""P-values of tests by permutation, how precise they are, and what lies beyond the permutations drawn."""

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError

TAIL_SIZE = 250
"""Null values that the first tail fitted has (Knijnenburg et al. 2009, section 2.2)."""
TAIL_STEP = 25
"""By how many values the tail is shortened where it does not fit."""
SMALLEST_TAIL = 50
"""Null values that the last tail fitted has at least."""
REACH = 1_000
"""By what factor a fitted tail may say less than the smallest p that counting can give."""
SIMULATIONS = 200
"""Simulated tails that the fitted one's misfit is compared with."""


def count_p(exceeding: int, permutations: int) -> float:
    """P = (b + 1) / (m + 1), never 0 (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9:39, 2010).

    Args:
        exceeding: b, permutations whose value is at least the observed one.
        permutations: m, permutations drawn.

    Raises:
        InputError: no permutations, or more exceeding than drawn.
    """
    _check_counts(exceeding, permutations, 0.95)
    return (exceeding + 1) / (permutations + 1)


def bound_p(exceeding: int, permutations: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of Clopper and Pearson (Biometrika 26:404, 1934) for the p of all permutations.

    It is about the share of all permutations whose value is at least the observed one, of which b / m is an
    estimate. It holds where m was fixed beforehand; see `bound_stopped_p` for where b was.

    Args:
        exceeding: b, permutations whose value is at least the observed one.
        permutations: m, permutations drawn.
        level: coverage.

    Returns:
        lower and upper bound, between 0 and 1.

    Raises:
        InputError: no permutations, more exceeding than drawn, or a level outside 0 to 1.
    """
    from scipy.special import betaincinv

    _check_counts(exceeding, permutations, level)
    side = (1 - level) / 2
    others = permutations - exceeding
    low = float(betaincinv(exceeding, others + 1, side)) if exceeding else 0.0
    high = float(betaincinv(exceeding + 1, others, 1 - side)) if others else 1.0
    return low, high


def bound_stopped_p(exceeding: int, permutations: int, level: float = 0.95) -> tuple[float, float]:
    """The same interval where drawing stopped at the last exceeding value (inverse sampling).

    Args:
        exceeding: b, fixed beforehand, at least 1.
        permutations: m, the draw at which the b-th exceeding value came.
        level: coverage.

    Returns:
        lower and upper bound, between 0 and 1.

    Raises:
        InputError: b below 1, more exceeding than drawn, or a level outside 0 to 1.
    """
    from scipy.special import betaincinv

    _check_counts(exceeding, permutations, level)
    if exceeding < 1:
        raise InputError("Drawing stopped at 0 exceeding values; expected was 1 or more.")
    side = (1 - level) / 2
    others = permutations - exceeding
    low = float(betaincinv(exceeding, others + 1, side))
    high = float(betaincinv(exceeding, others, 1 - side)) if others else 1.0
    return low, high


def fit_tail(value: float, null: NDArray[np.floating], *, seed: int = 0) -> float | None:
    """Approximate a small p by a generalised Pareto distribution fitted to the largest null values.

    Knijnenburg, Wessels, Reinders and Shmulevich (Bioinformatics 25:i161, 2009), with two changes: the
    parameters are those of Zhang and Stephens (Technometrics 51:316, 2009), which always exist, and the
    Anderson-Darling misfit is compared with that of simulated tails fitted in the same way instead of a
    table. The tail begins at 250 values (a quarter of the null where that is less) and is shortened by 25
    until its misfit is not among the worst 5 % of simulated ones.

    It is an extrapolation, and made to err on the side of a larger p. Where the fitted tail would end, as
    those of bounded statistics do, p is that of an exponential tail of the same mean instead: the end is so
    uncertain that true p of 1e-5 would often come out as 0. Nor does it ever say less than a thousandth of
    1 / (m + 1), the smallest p that counting can give.

    Args:
        value: the observed statistic.
        null: [m] its values under permutation.
        seed: of the simulated tails.

    Returns:
        p, or None where no tail of 50 values or more fits, as with few or discrete null values, or where the
        value does not lie in the tail.

    Raises:
        InputError: a value or null that is not finite.
    """
    null = np.asarray(null, np.float64)
    if null.ndim != 1 or not np.isfinite(null).all() or not np.isfinite(value):
        raise InputError(
            "The tail of a null distribution was to be fitted to values that are not finite numbers; "
            "expected were the values of one statistic under permutation. Leave undefined values out."
        )
    rng = np.random.default_rng(seed)
    descending = np.sort(null)[::-1]
    for size in range(min(TAIL_SIZE, len(null) // 4), SMALLEST_TAIL - 1, -TAIL_STEP):
        threshold = (descending[size - 1] + descending[size]) / 2
        excesses = descending[:size][::-1] - threshold
        if excesses[0] <= 0 or value <= threshold:
            continue
        scale = excesses.mean()
        excesses = excesses / scale
        shape, width = _fit_pareto(excesses[None])
        simulated = np.sort(_draw_pareto(float(shape[0]), (SIMULATIONS, size), rng), axis=1)
        misfits = _measure_misfit(simulated, *_fit_pareto(simulated))
        misfit = float(_measure_misfit(excesses[None], shape, width)[0])
        if (misfits >= misfit).mean() <= 0.05:
            continue
        excess = (value - threshold) / scale
        beyond = np.exp(-excess)
        if shape[0] > 0:
            beyond = np.exp(-np.log1p(shape[0] * excess / width[0]) / shape[0])
        return max(float(size / len(null) * beyond), 1 / (REACH * (len(null) + 1)))
    return None


def _fit_pareto(sorted_excesses: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shape and scale of [t, s] ascending excesses, after Zhang and Stephens (2009), equations 7 to 9."""
    x = sorted_excesses
    size = x.shape[1]
    grid = 20 + int(np.sqrt(size))
    steps = 1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))
    quartile = x[:, int(size / 4 + 0.5) - 1]
    thetas = 1 / x[:, -1:] + steps / (3 * quartile[:, None])
    shapes = np.stack([np.log1p(-theta[:, None] * x).mean(axis=1) for theta in thetas.T], axis=1)
    likelihoods = size * (np.log(-thetas / shapes) - shapes - 1)
    weights = np.exp(likelihoods - likelihoods.max(axis=1, keepdims=True))
    theta = (thetas * weights).sum(axis=1) / weights.sum(axis=1)
    shape = np.log1p(-theta[:, None] * x).mean(axis=1)
    return shape, -shape / theta


def _draw_pareto(shape: float, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    exponential = rng.exponential(size=size)
    return np.expm1(shape * exponential) / shape if abs(shape) > 1e-12 else exponential


def _measure_misfit(
    sorted_excesses: NDArray[np.float64], shape: NDArray[np.float64], width: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[t] the Anderson-Darling statistic of ascending excesses."""
    size = sorted_excesses.shape[1]
    below = -np.expm1(-np.log1p(shape[:, None] * sorted_excesses / width[:, None]) / shape[:, None])
    below = np.clip(below, 1e-15, 1 - 1e-15)
    odd = 2 * np.arange(1, size + 1) - 1
    return -size - (odd * (np.log(below) + np.log1p(-below[:, ::-1]))).mean(axis=1)


def _check_counts(exceeding: int, permutations: int, level: float) -> None:
    if permutations < 1:
        raise InputError(
            f"The number of permutations came as {permutations}; expected was 1 or more. "
            "Use 999 or more for a p of 0.001."
        )
    if not 0 <= exceeding <= permutations:
        raise InputError(
            f"Of {permutations} permutations, {exceeding} were said to exceed the observed value; expected "
            "was a number from 0 to all of them."
        )
    if not 0 < level < 1:
        raise InputError(f"The level of an interval came as {level}; expected was more than 0, less than 1.")
