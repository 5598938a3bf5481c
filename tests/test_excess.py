"""The excess over re-initialised layers: plain formulas, coverage, calibration and what p cannot tell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from xmodel.errors import InputError
from xmodel.steering import excess, readouts

SETS = 400
LIMIT = binom.isf(0.001, SETS, 0.05)
FLOOR = binom.isf(0.999, SETS, 0.05)


def make_rng(seed=0):
    return np.random.default_rng(seed)


def test_the_excess_is_that_of_means():
    rng = make_rng()
    trained, base = rng.normal(size=8) + 1, rng.normal(size=(3, 8))
    found = excess.measure_excess(trained, base, rng)
    assert found.value == pytest.approx(np.mean([trained[f] - base[:, f].mean() for f in range(8)]))
    assert found.trained == pytest.approx(trained.mean())
    np.testing.assert_allclose(found.reinitialised, base.mean(axis=1))
    assert found.low < found.value < found.high


def test_equal_seeds_give_equal_results():
    trained, base = make_rng().normal(size=9), make_rng(1).normal(size=(2, 9))
    one, two = (excess.measure_excess(trained, base, make_rng(5)) for _ in range(2))
    assert (one.low, one.high, one.p) == (two.low, two.high, two.p)


def test_no_excess_is_no_finding():
    trained = make_rng().normal(size=20)
    found = excess.measure_excess(trained, np.stack([trained, trained]), make_rng())
    assert (found.value, found.p, found.p_draws) == pytest.approx((0, 1, 1))
    assert max(abs(found.low), abs(found.high)) < 1e-12


def test_a_planted_excess_is_found():
    rng = make_rng()
    base = rng.normal(size=(5, 60)) * 0.1 + 0.3
    found = excess.measure_excess(base[0] + 0.2 + 0.1 * rng.normal(size=60), base, rng)
    assert found.low > 0.1 and found.p == 1 / 10_000 and found.p_draws == 1 / 6


def test_signs_are_calibrated_where_pairs_are_independent():
    rng = make_rng()
    rejected = sum(
        excess.measure_excess(rng.normal(size=12), rng.normal(size=(3, 12)), rng, resamplings=1, flips=199).p
        <= 0.05
        for _ in range(SETS)
    )
    assert FLOOR <= rejected <= LIMIT


def test_signs_say_nothing_of_other_networks_but_the_place_among_draws_does():
    """The must-fail case: trained layers that are one more draw, where a draw moves all pairs together."""
    rng = make_rng()
    signs = draws = 0
    for _ in range(SETS):
        layers = rng.normal(size=(20, 1)) + 0.3 * rng.normal(size=(20, 30))
        found = excess.measure_excess(layers[0], layers[1:], rng, resamplings=1, flips=99)
        signs += found.p <= 0.05
        draws += found.p_draws <= 0.05
    assert FLOOR <= draws <= LIMIT
    assert signs > 3 * LIMIT


def count_covered(spread, rng, *, alone=False):
    """How many intervals hold the true excess of 0.5, where draws of layers differ by `spread`."""
    covered = 0
    for _ in range(SETS):
        base = spread * rng.normal(size=(8, 1)) + rng.normal(size=30) + 0.3 * rng.normal(size=(8, 30))
        if alone:
            base = base.mean(axis=0)[None]
        trained = 0.5 + rng.normal(size=30)
        found = excess.measure_excess(trained, base, rng, resamplings=300, flips=1)
        covered += found.low <= 0.5 <= found.high
    return covered / SETS


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_intervals_cover_the_true_excess(spread):
    assert 0.88 <= count_covered(spread, make_rng()) <= 0.98


def test_pairs_alone_would_cover_too_rarely():
    """The must-fail case: draws of layers that differ, taken as if these were all there are."""
    assert count_covered(1.0, make_rng(), alone=True) < 0.85


@given(st.integers(3, 7), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_weighted_readouts_equal_those_of_resampled_pairs(pairs, seed):
    rng = make_rng(seed)
    s = rng.integers(0, 4, (pairs, pairs)) / 5
    drawn = rng.integers(0, pairs, (4, pairs))
    drawn[0] = np.arange(pairs)
    weights = np.stack([np.bincount(own, minlength=pairs) for own in drawn]).astype(float)
    top1, difference = excess.weigh_top1(s, weights), excess.weigh_difference(s, weights)
    for number, own in enumerate(drawn):
        expected = readouts.measure_retrieval(s[own], own)
        assert top1[number] == pytest.approx(expected.top1)
        others = [s[f, g] for f in own for g in own if f != g]
        if others:
            assert difference[number] == pytest.approx(np.mean([s[f, f] for f in own]) - np.mean(others))
        else:
            assert np.isnan(difference[number])
    tested = readouts.test_diagonal(s[None], np.arange(pairs)[None])
    assert difference[0] == pytest.approx(tested.difference[0])
    assert top1[0] == pytest.approx(tested.top1[0])


@given(st.integers(3, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_weighted_auroc_equals_scikit_learn(pairs, hard, seed):
    rng = make_rng(seed)
    matched = rng.integers(0, pairs, hard)
    values = rng.integers(0, 4, pairs + hard) / 5
    weights = rng.multinomial(pairs, np.full(pairs, 1 / pairs), 5).astype(float)
    found = excess.make_auroc(matched, pairs)(values, weights)
    labels = np.repeat([1, 0], [pairs, hard])
    for own, value in zip(weights, found, strict=True):
        both = np.concatenate([own, own[matched]])
        if own[matched].sum():
            assert value == pytest.approx(roc_auc_score(labels, values, sample_weight=both))
        else:
            assert np.isnan(value)


def test_every_readout_has_its_excess():
    """S with a diagonal against S without one: top-1, difference and AUROC, each with its interval."""
    rng = make_rng()
    trained, base = rng.normal(size=(30, 30)) + 3 * np.eye(30), rng.normal(size=(4, 30, 30))
    matched = np.arange(20)
    hard = np.concatenate([np.diagonal(trained), rng.normal(size=20)])
    hard_base = np.concatenate([np.einsum("rff->rf", base), rng.normal(size=(4, 20))], axis=1)
    auroc = excess.make_auroc(matched, 30)
    for statistic, own, others in (
        (excess.weigh_top1, trained, base),
        (excess.weigh_difference, trained, base),
        (auroc, hard, hard_base),
    ):
        found = excess.measure_excess_of(statistic, own, others, 30, rng, resamplings=500)
        assert found.low > 0 and found.low < found.value < found.high
        assert found.p is None and found.p_draws == 1 / 5
    partners = np.diagonal(readouts.give_credits(trained))
    others = np.einsum("rff->rf", readouts.give_credits(base))
    by_pairs = excess.measure_excess(partners, others, rng)
    assert by_pairs.value == pytest.approx(
        excess.measure_excess_of(excess.weigh_top1, trained, base, 30, rng, resamplings=1).value
    )
    assert by_pairs.p < 0.001


def test_two_pairs_have_an_excess_but_no_interval():
    found = excess.measure_excess(np.array([0.5, 0.7]), np.zeros((2, 2)), make_rng())
    assert (found.value, found.p, found.low, found.high) == (pytest.approx(0.6), None, None, None)


def test_bad_input_is_refused():
    trained, base = np.ones(4), np.ones((2, 4))
    with pytest.raises(InputError, match="not finite"):
        excess.measure_excess(trained * np.nan, base, make_rng())
    for wrong in (base[:, :3], base[:0]):
        with pytest.raises(InputError, match="at least one draw"):
            excess.measure_excess(trained, wrong, make_rng())
    with pytest.raises(InputError, match="at least one pair"):
        excess.measure_excess(trained[:0], base[:, :0], make_rng())
    for numbers in ({"resamplings": 0}, {"flips": 0}):
        with pytest.raises(InputError, match="at least one of each"):
            excess.measure_excess(trained, base, make_rng(), **numbers)
    for matched in (np.array([], int), np.array([4]), np.array([-1])):
        with pytest.raises(InputError, match="Hard pairs came"):
            excess.make_auroc(matched, 4)
