"""How far a read-out of the trained models lies above that of re-initialised layers: the headline.

Everything up to the site, the directions and the pairs are kept, and only the layers after it are made anew,
R times. What random layers give already is then no finding; what is above it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.steering.readouts import (
    LEAST_PAIRS,
    check_transfers,
    compare_values,
    count_exceeding,
    give_credits,
)

Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""A read-out of transfers [...] under weights [B, F], how often each pair counts: its B values."""


@dataclass(frozen=True, eq=False)
class Excess:
    """A read-out of trained layers less its mean over re-initialised ones."""

    value: float
    """The excess."""
    low: float | None
    """Lower end of the 95 % interval; None where there are fewer than 3 pairs, as are those below."""
    high: float | None
    """Upper end."""
    p: float | None
    """P that pairs exceed re-initialised layers as often as they fall below, by flips of their signs: about
    these networks, and pairs like these. None also for read-outs that are no mean over pairs."""
    p_draws: float
    """P by the place of the trained layers among the re-initialised ones, at least 1 / (R + 1): about
    networks, and exact for any dependence between pairs."""
    trained: float
    """The read-out of the trained layers."""
    reinitialised: NDArray[np.float64]
    """[R] that of every draw of re-initialised layers."""


def measure_excess(
    trained: NDArray[np.floating],
    reinitialised: NDArray[np.floating],
    rng: np.random.Generator,
    *,
    resamplings: int = 2000,
    flips: int = 9999,
) -> Excess:
    """The mean excess of pairs over what re-initialised layers give for the same pairs.

    The interval is of `measure_excess_of`. P is one-sided, from flips of the signs of all pairs' excesses
    (Fisher, The Design of Experiments, 1935, section 21), the observed signs counted among them. Pairs must
    not share features. It serves any paired baseline: with T of the hard pairs that the pairs are matched
    to, as [1, F], it is the excess over hard pairs; with the partners' entries of `give_credits`, that of
    top-1.

    Args:
        trained: [F] a value for each pair, such as T.
        reinitialised: [R, F] the same in every draw of re-initialised layers.
        rng: source of random numbers.
        resamplings: of the bootstrap.
        flips: of the signs.

    Raises:
        InputError: as `measure_excess_of`, or fewer than 1 flip.
    """
    trained, reinitialised = check_transfers(trained, 1), check_transfers(reinitialised, 2)
    _check_draws(trained, reinitialised, len(trained), resamplings, flips)
    found = measure_excess_of(_average, trained, reinitialised, len(trained), rng, resamplings=resamplings)
    if len(trained) < LEAST_PAIRS:
        return found
    own = trained - reinitialised.mean(axis=0)
    signs = rng.integers(0, 2, (flips, len(own))) * 2 - 1
    p = float(count_exceeding(own.mean(), signs @ own / len(own)))
    return Excess(found.value, found.low, found.high, p, found.p_draws, found.trained, found.reinitialised)


def measure_excess_of(
    statistic: Statistic,
    trained: NDArray[np.floating],
    reinitialised: NDArray[np.floating],
    pairs: int,
    rng: np.random.Generator,
    *,
    resamplings: int = 2000,
) -> Excess:
    """The excess of any read-out over its mean for re-initialised layers.

    The interval is of percentiles of a bootstrap over pairs, which are drawn for the trained and for all
    re-initialised layers alike, and over draws of re-initialised layers, which are drawn apart (Owen, Ann.
    Appl. Stat. 1:386, 2007). What a draw of layers differs from the mean by is enlarged by
    sqrt(R / (R - 1)), since few draws drawn again differ too little. With one draw it says nothing of how
    draws differ.

    Args:
        statistic: the read-out: `weigh_top1`, `weigh_difference`, or one of `make_auroc`.
        trained: [...] what it takes, such as S [F, F].
        reinitialised: [R, ...] the same in every draw of re-initialised layers.
        pairs: F, how many pairs are resampled.
        rng: source of random numbers.
        resamplings: of the bootstrap.

    Raises:
        InputError: transfers that are not finite, no draws, draws of another shape, no pairs, or fewer than
            1 resampling.
    """
    trained, reinitialised = np.asarray(trained, np.float64), np.asarray(reinitialised, np.float64)
    trained = check_transfers(trained, trained.ndim)
    reinitialised = check_transfers(reinitialised, trained.ndim + 1)
    _check_draws(trained, reinitialised, pairs, resamplings, 1)
    draws = len(reinitialised)
    once = np.ones((1, pairs))
    own = float(statistic(trained, once)[0])
    others = np.array([statistic(one, once)[0] for one in reinitialised])
    low = high = None
    if pairs >= LEAST_PAIRS:
        weights = rng.multinomial(pairs, np.full(pairs, 1 / pairs), resamplings).astype(np.float64)
        shares = rng.multinomial(draws, np.full(draws, 1 / draws), resamplings) / draws
        if draws > 1:
            shares = 1 / draws + (shares - 1 / draws) * np.sqrt(draws / (draws - 1))
        base = np.stack([statistic(one, weights) for one in reinitialised], axis=1)
        resampled = statistic(trained, weights) - (shares * base).sum(axis=1)
        # One and the same pair drawn throughout has no others to differ from.
        low, high = (float(end) for end in np.nanquantile(resampled, [0.025, 0.975]))
    return Excess(
        value=own - float(others.mean()),
        low=low,
        high=high,
        p=None,
        p_draws=float(count_exceeding(own, others)),
        trained=own,
        reinitialised=others,
    )


def weigh_top1(s: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """[B] top-1 of S [F, F] with partners on the diagonal; all candidates stay, whatever rows are drawn.

    Candidates that came twice would be ties, and those left out would make it easier.
    """
    return _average(np.diagonal(give_credits(s)), weights)


def weigh_difference(s: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """[B] mean diagonal less mean of the rest of S [F, F]; a pair that came twice is no other to itself."""
    total = weights.sum(axis=1)
    diagonal = weights @ np.diagonal(s)
    squares = weights**2
    rest = ((weights @ s) * weights).sum(axis=1) - squares @ np.diagonal(s)
    count = total**2 - squares.sum(axis=1)
    others = np.divide(rest, count, out=np.full(len(weights), np.nan), where=count > 0)
    return diagonal / total - others


def make_auroc(matched: NDArray[np.integer], pairs: int) -> Statistic:
    """AUROC of pairs against hard pairs, which are drawn together with the pairs they are matched to.

    Args:
        matched: [H] index of the pair that each hard pair is matched to.
        pairs: F.

    Returns:
        the read-out of values [F + H]: T of the pairs, then of the hard pairs. Where a resampling has no
        hard pairs, it is NaN.

    Raises:
        InputError: no hard pairs, or matched to pairs that do not exist.
    """
    matched = np.asarray(matched)
    if matched.ndim != 1 or not len(matched) or matched.min() < 0 or matched.max() >= pairs:
        raise InputError(
            f"Hard pairs came with shape {list(matched.shape)} for {pairs} pairs; expected was the index of "
            "a pair for each of one hard pair or more."
        )

    def weigh(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        compared = compare_values(values[:pairs], values[pairs:])
        hard = weights[:, matched]
        count = weights.sum(axis=1) * hard.sum(axis=1)
        won = ((weights @ compared) * hard).sum(axis=1)
        return np.divide(won, count, out=np.full(len(weights), np.nan), where=count > 0)

    return weigh


def _average(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return weights @ values / weights.sum(axis=1)


def _check_draws(
    trained: NDArray[np.float64], reinitialised: NDArray[np.float64], pairs: int, resamplings: int, flips: int
) -> None:
    if reinitialised.shape[1:] != trained.shape or not len(reinitialised) or pairs < 1:
        raise InputError(
            f"Values of {pairs} pairs came with shape {list(trained.shape)}, and those of re-initialised "
            f"layers with shape {list(reinitialised.shape)}; expected was at least one pair, and the same "
            "shape for each of at least one draw. Measure the same pairs with re-initialised layers."
        )
    if resamplings < 1 or flips < 1:
        raise InputError(
            f"{resamplings} resamplings and {flips} flips of signs were asked for; expected was at least one "
            "of each. Use 1,000 or more."
        )
