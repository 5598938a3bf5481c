"""Read-outs of S: against slow ranks and scikit-learn, calibration under exchangeable nulls, and power."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import roc_auc_score
from slow_steering import draw_packed, rank_candidates

from xmodel.errors import InputError
from xmodel.similarity.orders import draw_orders
from xmodel.steering import readouts
from xmodel.steering.responses import correlate_responses, take_words

DRAWS = 400
LIMIT = binom.isf(0.001, DRAWS, 0.05)
FLOOR = binom.isf(0.999, DRAWS, 0.05)


def draw_cells(cells, pairs, rng, *, shared=0.8, signal=0.0):
    """Transfers of related cells, with `signal` on the diagonal: [cells, pairs, pairs]."""
    common = rng.normal(size=(pairs, pairs))
    own = rng.normal(size=(cells, pairs, pairs))
    return np.sqrt(shared) * common + np.sqrt(1 - shared) * own + signal * np.eye(pairs)


@given(st.integers(1, 8), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_retrieval_equals_slow_ranks(rows, candidates, levels, seed):
    """With few different values there are ties, down to all being equal."""
    rng = np.random.default_rng(seed)
    s = rng.integers(0, levels, (rows, candidates)) / 7
    partner = rng.integers(0, candidates, rows)
    found = readouts.measure_retrieval(s, partner)
    assert (found.top1, found.top5, found.mrr) == pytest.approx(rank_candidates(s, partner))
    assert found.candidates == candidates


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_chance_is_the_mean_over_all_partners(rows, candidates, levels, seed):
    s = np.random.default_rng(seed).integers(0, levels, (rows, candidates)) / 7
    every = [readouts.measure_retrieval(s, np.full(rows, column)) for column in range(candidates)]
    assert np.mean([one.top1 for one in every]) == pytest.approx(every[0].chance1)
    assert np.mean([one.top5 for one in every]) == pytest.approx(every[0].chance5)
    assert np.mean([one.mrr for one in every]) == pytest.approx(every[0].chance_mrr)


def test_directions_of_retrieval_differ():
    s = np.array([[3.0, 2, 1], [0, 1, 0], [4, 4, 4.5]])
    assert readouts.measure_retrieval(s, np.arange(3)).top1 == 1
    assert readouts.measure_retrieval(s.T, np.arange(3)).top1 == pytest.approx(1 / 3)


def test_responses_of_nothing_are_at_chance():
    found = readouts.measure_retrieval(np.zeros((10, 10)), np.arange(10))
    assert (found.top1, found.top5) == pytest.approx((found.chance1, found.chance5))


def test_p_of_retrieval_is_that_of_the_diagonal_test():
    rng = np.random.default_rng(0)
    s, orders = draw_cells(2, 12, rng, signal=0.7), draw_orders(12, 99, rng)
    tested = readouts.test_diagonal(s, orders)
    for cell in range(2):
        found = readouts.measure_retrieval(s[cell], np.arange(12), orders=orders)
        assert (found.p1, found.top1) == pytest.approx((tested.p_top1[cell], tested.top1[cell]))
    # The same rows with their candidates in another order.
    moved = rng.permutation(12)
    found = readouts.measure_retrieval(s[0][:, moved], np.argsort(moved), orders=orders)
    assert found.p1 == tested.p_top1[0]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_auroc_equals_scikit_learn(n, m, levels, seed):
    rng = np.random.default_rng(seed)
    pairs, others = rng.integers(0, levels, n) / 3, rng.integers(0, levels, m) / 3
    labels = np.repeat([1, 0], [n, m])
    expected = roc_auc_score(labels, np.concatenate([pairs, others]))
    assert readouts.measure_auroc(pairs, others) == pytest.approx(expected)
    assert readouts.measure_auroc(others, pairs) == pytest.approx(1 - expected)


def test_diagonal_equals_plain_loops():
    rng = np.random.default_rng(0)
    s, orders = draw_cells(2, 5, rng, signal=0.5), draw_orders(5, 30, rng)
    found = readouts.test_diagonal(s, orders)
    for cell in range(2):
        diagonal = [s[cell, f, f] for f in range(5)]
        others = [s[cell, f, g] for f in range(5) for g in range(5) if f != g]
        assert found.diagonal[cell] == pytest.approx(np.mean(diagonal))
        assert found.others[cell] == pytest.approx(np.mean(others))
        assert found.difference[cell] == pytest.approx(np.mean(diagonal) - np.mean(others))
        null = []
        for order in orders:
            moved = s[cell][:, order]
            mean = np.trace(moved) / 5
            null.append(mean - (moved.sum() - 5 * mean) / 20)
        beyond = sum(value >= found.difference[cell] - 1e-9 for value in null)
        assert found.p[cell] == pytest.approx((beyond + 1) / 31)


def test_one_cell_needs_no_correction():
    rng = np.random.default_rng(0)
    found = readouts.test_diagonal(draw_cells(1, 10, rng, signal=0.3), draw_orders(10, 99, rng))
    np.testing.assert_array_equal(found.p, found.p_max)
    np.testing.assert_array_equal(found.p_top1, found.p_top1_max)


def test_diagonal_is_calibrated_and_the_least_of_the_cells_is_not():
    """Over data sets without a relation; the uncorrected least p over cells is the case that must fail."""
    rng = np.random.default_rng(1)
    least = {"p": 0, "p_max": 0, "p_top1_max": 0}
    each = np.zeros(6)
    for _ in range(DRAWS):
        found = readouts.test_diagonal(draw_cells(6, 12, rng, shared=0.3), draw_orders(12, 99, rng))
        each += found.p <= 0.05
        for name in least:
            least[name] += getattr(found, name).min() <= 0.05
    assert each.max() <= binom.isf(0.001 / 6, DRAWS, 0.05)
    assert FLOOR <= least["p_max"] <= LIMIT
    # Top-1 takes few values, so that ties make its p larger than it would have to be.
    assert least["p_top1_max"] <= LIMIT
    assert least["p"] > 1.5 * LIMIT


def test_a_planted_diagonal_is_found_in_every_cell():
    rng = np.random.default_rng(0)
    found = readouts.test_diagonal(draw_cells(6, 40, rng, signal=3.0), draw_orders(40, 999, rng))
    assert found.p_max.max() == found.p_top1_max.max() == 1 / 1000
    assert found.top1.min() > 0.5
    assert found.difference.min() > 2


def test_pairs_that_share_a_feature_are_not_exchangeable():
    """Why one pair per feature: repeated rows make chance alignments count twice."""
    rng = np.random.default_rng(2)
    features = np.repeat(np.arange(4), 3)
    repeated = distinct = 0
    for _ in range(DRAWS):
        # Four features on each side stand in three pairs each, and no partners have anything in common.
        s = rng.normal(size=(4, 4))[features][:, features] + 0.1 * rng.normal(size=(12, 12))
        orders = draw_orders(12, 99, rng)
        repeated += readouts.test_diagonal(s[None], orders).p[0] <= 0.05
        kept = readouts.list_distinct(features, features)
        assert len(kept) == 4
        orders = draw_orders(4, 99, rng)
        distinct += readouts.test_diagonal(s[kept][:, kept][None], orders).p[0] <= 0.05
    assert repeated > 1.5 * LIMIT
    assert distinct <= LIMIT


def test_distinct_pairs_share_nothing_and_the_first_stay():
    a, b = np.array([5, 5, 7, 8, 7]), np.array([1, 2, 1, 3, 4])
    np.testing.assert_array_equal(readouts.list_distinct(a, b), [0, 3, 4])
    np.testing.assert_array_equal(readouts.list_distinct(b, a), [0, 3, 4])


@pytest.mark.parametrize("pairs", [1, 2])
def test_few_pairs_have_no_test_and_say_why(pairs):
    s = np.eye(pairs)[None]
    found = readouts.test_diagonal(s, np.zeros((5, pairs), int))
    assert found.p is found.p_max is found.p_top1 is found.p_top1_max is None
    assert found.reason.startswith(f"{pairs} pair")
    assert found.diagonal[0] == found.top1[0] == 1
    assert np.isnan(found.others[0]) == (pairs == 1)
    assert readouts.measure_retrieval(s[0], np.arange(pairs), orders=np.zeros((5, pairs), int)).p1 is None


def test_reliability_of_halves_tells_that_of_the_whole():
    """Spearman and Brown's formula, on entries whose noise halves with twice the words."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(150, 150))
    halves = truth + rng.normal(size=(4, 150, 150))
    found = readouts.measure_reliability(halves[0], halves[1])
    assert found.correlation == pytest.approx(0.5, abs=0.02)
    whole = np.corrcoef((halves[0] + halves[1]).ravel(), (halves[2] + halves[3]).ravel())[0, 1]
    assert found.full == pytest.approx(whole, abs=0.02)
    assert readouts.measure_reliability(truth, truth).full == pytest.approx(1)
    assert readouts.measure_reliability(truth, -truth).full == 0
    assert readouts.measure_reliability(truth, np.zeros_like(truth)).correlation is None


def test_halves_of_unrelated_noise_are_not_reliable_and_those_of_a_relation_are():
    rng = np.random.default_rng(0)
    first, second = (draw_packed(12, 40, rng) for _ in range(2))
    halves = np.split(rng.permutation(40), 2)

    def measure(one, two):
        return readouts.measure_reliability(
            *(correlate_responses(take_words(one, half), take_words(two, half)) for half in halves)
        ).correlation

    assert abs(measure(first, second)) < 0.3
    assert measure(first, first + 0.5 * second) > 0.7


def test_counting_equals_count_p_and_keeps_what_is_undefined():
    rng = np.random.default_rng(0)
    values, null = rng.normal(size=(2, 3)), rng.normal(size=(2, 3, 50))
    values[1, 2] = np.nan
    found = readouts.count_exceeding(values, null)
    for i in range(2):
        for j in range(3):
            expected = (sum(one >= values[i, j] for one in null[i, j]) + 1) / 51
            assert np.isnan(found[i, j]) if np.isnan(values[i, j]) else found[i, j] == expected
    # Equal but for rounding to float32 is a tie.
    assert readouts.count_exceeding(float(np.float32(0.1)), np.full(9, 0.1)) == 1


def test_bad_input_is_refused():
    s, partner = np.eye(4), np.arange(4)
    with pytest.raises(InputError, match="4 values that are not finite"):
        readouts.measure_retrieval(np.where(s == 1, np.nan, s), partner)
    for wrong in (np.arange(3), np.array([0, 1, 2, 4]), np.array([0, 1, 2, -1])):
        with pytest.raises(InputError, match="Partners came"):
            readouts.measure_retrieval(s, wrong)
    with pytest.raises(InputError, match="0 pairs were to be told"):
        readouts.measure_auroc(np.array([]), np.ones(3))
    with pytest.raises(InputError, match="as many columns as rows"):
        readouts.test_diagonal(s[None, :3], np.arange(3)[None])
    for orders in (np.arange(3)[None], np.zeros((0, 4), int)):
        with pytest.raises(InputError, match="Orders came"):
            readouts.test_diagonal(s[None], orders)
    with pytest.raises(InputError, match="Halves came"):
        readouts.measure_reliability(s, s[:3])
