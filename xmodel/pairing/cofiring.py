"""How surprising it is that two features fire on so many of the same words: the hypergeometric tail."""

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError

PRECISION = 1e-17
"""Terms below this share of the sum are left out; each is smaller than the one before."""


def cofiring_log10_p(
    words: int, n_a: NDArray[np.int64], n_b: NDArray[np.int64], n_ab: NDArray[np.int64]
) -> NDArray[np.float64]:
    """log10 of the chance that two independent features fire together as often as they do, or more often.

    P(X >= n_ab), where X is the number of n_b words drawn out of all that are among the n_a words: the
    one-sided exact test of Fisher (1935). The sum starts from its largest term, whose logarithm comes from
    the log-gamma function, and goes on by ratios of neighbouring terms; so it never underflows. The error is
    that of log-gamma: about 1e-15 times words times log words, 1e-8 at a million words.

    Args:
        words: number of words.
        n_a: [P] words on which A's feature fires.
        n_b: [P] words on which B's fires.
        n_ab: [P] words on which both fire.

    Returns:
        [P] log10 of p, 0 or less.

    Raises:
        InputError: counts of different lengths, or that cannot be.
    """
    marked, drawn, both = (np.asarray(part, dtype=np.int64) for part in (n_a, n_b, n_ab))
    _check(words, marked, drawn, both)
    fewest = np.maximum(0, marked + drawn - words)
    # Above the mode terms fall from n_ab upward; below it from n_ab - 1 downward, for the complement.
    mode = (marked + 1.0) * (drawn + 1.0) / (words + 2.0)
    upward = both >= mode
    found = np.zeros(len(both))
    part = np.flatnonzero(upward & (both > fewest))
    found[part] = _sum_tail(words, marked[part], drawn[part], both[part], upward=True)
    part = np.flatnonzero(~upward & (both > fewest))
    below = _sum_tail(words, marked[part], drawn[part], both[part] - 1, upward=False)
    found[part] = np.log1p(-np.exp(np.minimum(below, -1e-300)))
    return np.minimum(found, 0.0) / np.log(10.0)


def _sum_tail(
    words: int,
    marked: NDArray[np.int64],
    drawn: NDArray[np.int64],
    first: NDArray[np.int64],
    *,
    upward: bool,
) -> NDArray[np.float64]:
    """Natural logarithm of the sum of terms from the first on, away from the mode."""
    sums, terms = np.ones(len(first)), np.ones(len(first))
    active, at = np.arange(len(first)), first.astype(np.float64)
    m, d = marked.astype(np.float64), drawn.astype(np.float64)
    while len(active):
        if upward:
            ratios = (m - at) * (d - at) / ((at + 1.0) * (words - m - d + at + 1.0))
            at = at + 1.0
        else:
            ratios = at * (words - m - d + at) / ((m - at + 1.0) * (d - at + 1.0))
            at = at - 1.0
        terms = terms * ratios
        sums[active] += terms
        # What is left is at most a geometric series of the last ratio.
        going = terms > PRECISION * (1.0 - np.minimum(ratios, 1.0)) * sums[active]
        active, at, m, d, terms = active[going], at[going], m[going], d[going], terms[going]
    return _log_term(words, marked, drawn, first) + np.log(sums)


def _log_term(
    words: int, marked: NDArray[np.int64], drawn: NDArray[np.int64], both: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Natural logarithm of the chance of exactly so many."""
    return (
        _log_choose(marked, both)
        + _log_choose(words - marked, drawn - both)
        - _log_choose(np.full_like(drawn, words), drawn)
    )


def _log_choose(n: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.float64]:
    from scipy.special import gammaln

    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)


def _check(words: int, marked: NDArray[np.int64], drawn: NDArray[np.int64], both: NDArray[np.int64]) -> None:
    if not len(marked) == len(drawn) == len(both):
        raise InputError(
            f"Firings came for {len(marked)}, {len(drawn)} and {len(both)} pairs; expected were "
            "as many of each. Count all three for the same pairs."
        )
    possible = (marked >= 0) & (drawn >= 0) & (marked <= words) & (drawn <= words)
    possible &= (both >= np.maximum(0, marked + drawn - words)) & (both <= np.minimum(marked, drawn))
    if not possible.all():
        wrong = int(np.flatnonzero(~possible)[0])
        raise InputError(
            f"Pair {wrong} came with {marked[wrong]} and {drawn[wrong]} firings, {both[wrong]} of "
            f"them together, in {words} words, which cannot be. Count all three over the same words."
        )
