"""Which partners are credible: as a slow loop says, and as often by chance as promised, for every feature."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.null_features import KINDS, draw_features, list_lengths, make_repairer
from xmodel.report.page import credible
from xmodel.report.page.credible import FEWEST_SHIFTS, OPEN, judge_features
from xmodel.report.page.own_nulls import ALPHA, compare_own, compare_standardised
from xmodel.similarity.nulls import cut_strata
from xmodel.similarity.orders import draw_shifts


def correlate_best(a, b, order):
    """[F_A] and [F_B] greatest r of dense activations, b's words in another order."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.nan_to_num(np.corrcoef(a.T, b[order].T)[: a.shape[1], a.shape[1] :])
    return np.maximum(found.max(axis=1), 0), np.maximum(found.max(axis=0), 0)


def standardise_slowly(value, draws, floor):
    return (value - np.mean(draws)) / max(np.std(draws, ddof=1), floor)


def compare_slowly(r, null, firings):
    """p of every feature after shifts of all, from the definition."""
    strata, p = cut_strata(firings, 10), np.zeros(len(r))
    for stratum in range(strata.max() + 1):
        alike = np.flatnonzero(strata == stratum)
        floor = 0.1 * np.median([np.std(null[:, feature], ddof=1) for feature in alike])
        pool = [
            standardise_slowly(null[draw, feature], np.delete(null[:, feature], draw), floor)
            for feature in alike
            for draw in range(len(null))
        ]
        for feature in alike:
            z = standardise_slowly(r[feature], null[:, feature], floor)
            p[feature] = (1 + sum(one >= z - 1e-9 for one in pool)) / (1 + len(pool))
    return p


def plant(rng, each=6, shared=5):
    """Both models' features; the first of either are the same, but for noise."""
    a, b = draw_features(rng, each), draw_features(rng, each)
    b[:, :shared] = a[:, :shared] * rng.uniform(0.5, 1.5, (len(a), shared))
    return a, b.astype(np.float32)


def test_p_is_that_of_a_slow_loop():
    a, b = plant(np.random.default_rng(0), each=20)
    repairer, lengths = make_repairer(a, b), list_lengths()
    found = judge_features(repairer, lengths, shifts=22, own_shifts=60, seed=3)
    assert (found.shifts, found.own_shifts, found.within) == (22, 60, True)
    x, y = (values.astype(np.float64) for values in (a, b))
    best = correlate_best(x, y, np.arange(len(x)))
    first = draw_shifts(lengths, 22, np.random.default_rng(3))
    further = draw_shifts(lengths, 60, np.random.default_rng([3, 1]))
    for place, (own, values) in enumerate(((found.a, a), (found.b, b))):
        r = best[place]
        null = np.array([correlate_best(x, y, order)[place] for order in first])
        p = compare_slowly(r, null, (values != 0).sum(axis=0))
        again = np.array([correlate_best(x, y, order)[place] for order in further])
        left = p > OPEN
        assert 0 < left.sum() < len(p)
        np.testing.assert_array_equal(own.refined, left)
        exact = [(1 + sum(again[:, one] >= r[one] - 1e-9)) / 61 for one in range(len(r))]
        np.testing.assert_allclose(own.p, np.where(left, exact, p), atol=1e-12)
        np.testing.assert_allclose(own.r, r, atol=1e-6)
        used = np.where(left, again.mean(axis=0), null.mean(axis=0))
        np.testing.assert_allclose(own.null_mean, used, atol=1e-6)
        spread = np.where(left, again.std(axis=0, ddof=1), null.std(axis=0, ddof=1))
        np.testing.assert_allclose(own.null_sd, spread, atol=1e-6)
        assert own.credible[:5].all()


def test_few_features_have_the_null_that_pairing_all_of_them_gives():
    """Also where features are signed, and r goes by its magnitude."""
    rng = np.random.default_rng(1)
    a, b = (draw_features(rng, 4) for _ in range(2))
    signs = rng.choice([-1, 1], a.shape).astype(np.float32)
    for signed in (False, True):
        repairer = make_repairer(a * signs if signed else a, b, signed=signed)
        found = judge_features(repairer, list_lengths(), own_shifts=59, seed=2)
        orders = draw_shifts(list_lengths(), 59, np.random.default_rng([2, 1]))
        slow = [credible.find_best(repairer, order) for order in orders]
        for place, own in enumerate((found.a, found.b)):
            null = np.abs([one[place][1] for one in slow])[:, own.refined]
            np.testing.assert_allclose(own.null_mean[own.refined], null.mean(axis=0), atol=1e-6)
            assert own.refined.sum() > len(own.refined) / 2


@pytest.fixture(scope="module")
def unrelated():
    """p of every kind of feature in many worlds without any relation."""
    parts = {kind: [] for kind in KINDS}
    each = 8
    for seed in range(12):
        rng = np.random.default_rng([11, seed])
        repairer = make_repairer(draw_features(rng, each), draw_features(rng, each))
        found = judge_features(repairer, list_lengths(), own_shifts=59, seed=seed)
        for own in (found.a, found.b):
            for place, kind in enumerate(KINDS):
                values = own.p[place * each : (place + 1) * each]
                parts[kind] += values[~np.isnan(values)].tolist()
    return {kind: np.array(values) for kind, values in parts.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_chance_finds_partners_as_often_as_said_for_every_kind_of_feature(unrelated, kind):
    p = unrelated[kind]
    assert len(p) > 150
    assert 0.015 < (p <= ALPHA).mean() < 0.095
    assert 0.12 < (p <= 0.2).mean() < 0.28
    assert 0.42 < p.mean() < 0.6


def test_pooling_bare_r_would_be_wrong_for_features_of_one_stratum():
    """Why r is taken in units of a feature's own null: features of like firing count differ in what chance
    gives them. Pooled, the ones are never credible, the others too often."""
    rng = np.random.default_rng(0)
    scale = np.repeat([0.3, 1.0], 1000)
    null, r = rng.gamma(9, size=(20, 2000)) * scale, rng.gamma(9, size=2000) * scale
    pooled = np.array([(1 + (null >= one).sum()) / (1 + null.size) for one in r])
    own = compare_standardised(r, null, np.zeros(2000, np.int64)).p
    assert (pooled[scale == 0.3] <= ALPHA).mean() == 0 and (pooled[scale == 1] <= ALPHA).mean() > 0.08
    for one in (0.3, 1.0):
        assert 0.03 < (own[scale == one] <= ALPHA).mean() < 0.07


def test_pooling_in_standard_units_is_wrong_where_shapes_differ_and_own_draws_are_not():
    """Why features that are left open get draws of their own."""
    rng = np.random.default_rng(0)
    heavy = np.repeat([True, False], 1000)

    def draw(count):
        return np.where(heavy, rng.lognormal(0, 1.2, (count, 2000)), rng.uniform(size=(count, 2000)))

    r = draw(1)[0]
    pooled = compare_standardised(r, draw(20), np.zeros(2000, np.int64)).p
    own = compare_own(r, draw(200)).p
    assert (pooled[~heavy] <= ALPHA).mean() < 0.03
    for one in (heavy, ~heavy):
        assert 0.03 < (own[one] <= ALPHA).mean() < 0.07


@given(st.integers(3, 90), st.integers(2, 12), st.integers(0, 1000))
def test_reach_is_where_p_becomes_small(draws, features, seed):
    rng = np.random.default_rng(seed)
    # Few different values, so that there are ties.
    null, r = rng.integers(0, 8, (draws, features)) / 8, rng.integers(0, 12, features) / 12
    r = np.where(rng.random(features) < 0.3, null[0], r)
    own = compare_own(r, null)
    assert np.isnan(own.reach).all() == (draws < 19)
    np.testing.assert_array_equal(own.p <= ALPHA, np.nan_to_num(own.reach, nan=np.inf) + 1e-9 < r)
    pooled = compare_standardised(r, null, np.zeros(features, np.int64))
    np.testing.assert_array_equal(pooled.p <= ALPHA, np.nan_to_num(pooled.reach, nan=np.inf) + 1e-7 < r)


def test_equal_seeds_give_equal_p_and_others_do_not():
    a, b = plant(np.random.default_rng(5), each=3)
    repairer, lengths = make_repairer(a, b), list_lengths()
    one, same, other = (judge_features(repairer, lengths, own_shifts=59, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.a.p, same.a.p)
    np.testing.assert_array_equal(one.b.reach, same.b.reach)
    assert not np.array_equal(one.a.p, other.a.p)


def test_work_is_bounded_and_said(monkeypatch):
    a, b = plant(np.random.default_rng(6), each=3)
    repairer, lengths = make_repairer(a, b), list_lengths()
    monkeypatch.setattr(credible, "_WORK", 1.0)
    found = judge_features(repairer, lengths)
    assert (found.shifts, found.asked, found.own_shifts) == (FEWEST_SHIFTS, 20, 0)
    assert not (found.a.refined | found.b.refined).any()
    assert set(found.a.draws[found.a.judged]) == {FEWEST_SHIFTS}


def test_a_short_text_has_no_more_shifts_than_it_has_words():
    rng = np.random.default_rng(7)
    a, b = ((rng.random((40, 6)) < 0.4).astype(np.float32) for _ in range(2))
    found = judge_features(make_repairer(a, b), np.array([40]))
    assert (found.within, found.documents, found.own_shifts) == (False, 1, 0)
    longer = judge_features(
        make_repairer(np.tile(a, (2, 1)) * rng.random((80, 6), np.float32), np.tile(b, (2, 1))),
        np.array([80]),
    )
    assert longer.own_shifts == 79
