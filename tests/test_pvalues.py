"""P-values by counting, their intervals, and the fitted tail, against SciPy and known distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest, expon, nbinom, norm

from xmodel.errors import InputError
from xmodel.similarity.pvalues import bound_p, bound_stopped_p, count_p, fit_tail

COUNTS = st.integers(1, 500).flatmap(lambda m: st.tuples(st.integers(0, m), st.just(m)))


@given(COUNTS)
def test_p_is_never_zero_and_at_most_one(counts):
    exceeding, permutations = counts
    p = count_p(exceeding, permutations)
    assert 1 / (permutations + 1) <= p <= 1
    assert p == (exceeding + 1) / (permutations + 1)


@given(COUNTS, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_is_scipys_exact_one(counts, level):
    exceeding, permutations = counts
    expected = binomtest(exceeding, permutations).proportion_ci(level, method="exact")
    assert bound_p(exceeding, permutations, level) == pytest.approx(tuple(expected), abs=1e-9)


@given(COUNTS.filter(lambda counts: counts[0] > 0), st.sampled_from([0.9, 0.95]))
def test_the_stopped_interval_solves_its_definition(counts, level):
    """At either bound, a number of draws as extreme as the one seen has probability (1 - level) / 2."""
    exceeding, permutations = counts
    low, high = bound_stopped_p(exceeding, permutations, level)
    others = permutations - exceeding
    assert nbinom.cdf(others, exceeding, low) == pytest.approx((1 - level) / 2, rel=1e-6)
    if others:
        assert nbinom.sf(others - 1, exceeding, high) == pytest.approx((1 - level) / 2, rel=1e-6)
    else:
        assert high == 1


@pytest.mark.parametrize("p", [0.003, 0.05, 0.4, 0.9])
def test_the_intervals_cover_the_true_p(p):
    """Exactly, by summing over all outcomes."""
    m, h = 99, 3
    outcomes = range(m + 1)
    covered = [low <= p <= high for low, high in (bound_p(b, m) for b in outcomes)]
    assert binom.pmf(outcomes, m, p) @ covered >= 0.95
    draws = np.arange(h, 20_000)
    chance = nbinom.pmf(draws - h, h, p)
    draws, chance = draws[chance > 1e-9], chance[chance > 1e-9]
    stopped = [low <= p <= high for low, high in (bound_stopped_p(h, int(m)) for m in draws)]
    assert chance @ stopped >= 0.95 - 1e-4


@pytest.mark.parametrize(
    ("distribution", "least"),
    [(beta(5, 30), 0.25), (beta(50, 40), 0.25), (norm(), 0.25), (expon(), 0.05)],
    ids=["skewed", "symmetric", "normal", "exponential"],
)
@pytest.mark.parametrize("p", [1e-3, 1e-4, 1e-5])
def test_the_tail_recovers_a_known_p_within_a_factor(distribution, least, p):
    """Around the right size; where the tail is light, as of bounded statistics, hardly ever too small."""
    nulls = [distribution.rvs(size=9_999, random_state=seed) for seed in range(20)]
    fitted = [fit_tail(float(distribution.isf(p)), null) for null in nulls]
    found = np.array([one for one in fitted if one is not None]) / p
    assert len(found) >= 16
    assert 0.5 < np.median(found) < 8
    assert found.min() > least and found.max() < 20


def test_a_tail_falls_as_the_value_rises_and_never_reaches_zero():
    null = np.random.default_rng(0).normal(size=9_999)
    fitted = [fit_tail(value, null) for value in (2.5, 3.0, 4.0, 5.0, 100.0)]
    assert fitted == sorted(fitted, reverse=True)
    assert fitted[-1] == 1 / (1_000 * 10_000)
    assert fitted[0] == pytest.approx((null >= 2.5).mean(), rel=0.2)


def test_no_tail_where_none_fits():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=9_999)
    assert fit_tail(4.0, np.round(normal, 1)) is None, "few distinct values"
    assert fit_tail(4.0, normal[:150]) is None, "too few values"
    assert fit_tail(1.0, normal) is None, "not in the tail"
    assert fit_tail(4.0, np.ones(9_999)) is None, "no spread"
    lumps = np.concatenate([normal[:9_800], rng.normal(8, 0.05, 100), rng.normal(9, 0.05, 100)])
    assert fit_tail(9.5, lumps) is None, "two lumps at the top"
    assert fit_tail(4.0, normal) == fit_tail(4.0, normal)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: count_p(0, 0), "number of permutations came as 0"),
        (lambda: count_p(4, 3), "Of 3 permutations, 4"),
        (lambda: count_p(-1, 3), "Of 3 permutations, -1"),
        (lambda: bound_p(0, -5), "came as -5"),
        (lambda: bound_p(1, 3, 1.0), r"level of an interval came as 1\.0"),
        (lambda: bound_stopped_p(0, 3), "stopped at 0 exceeding"),
        (lambda: fit_tail(np.nan, np.zeros(300)), "not finite"),
        (lambda: fit_tail(1.0, np.full(300, np.nan)), "not finite"),
    ],
)
def test_impossible_counts_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
