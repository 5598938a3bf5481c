"""P-values of pairs: calibrated under exchangeable nulls, over cells, and against every null at once."""

import numpy as np
import pytest
from scipy.stats import binom, false_discovery_control
from slow_steering import draw_packed

from xmodel.errors import InputError
from xmodel.similarity.families import adjust_max
from xmodel.similarity.orders import draw_orders
from xmodel.steering import pair_tests
from xmodel.steering.responses import correlate_responses, permute_words

PAIRS = 600
LIMIT = binom.isf(0.001, PAIRS, 0.05)
FLOOR = binom.isf(0.999, PAIRS, 0.05)


def draw_family(pairs, cells, draws, rng, *, shared=0.5, signal=0.0):
    """Values and exchangeable null draws of cells that depend on each other: [p, c] and [p, c, m]."""
    common = rng.normal(size=(pairs, 1, draws + 1))
    own = rng.normal(size=(pairs, cells, draws + 1))
    whole = 0.1 * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)
    return whole[..., 0] + signal, whole[..., 1:]


def test_every_number_is_the_one_described():
    rng = np.random.default_rng(0)
    values, null = draw_family(5, 3, 40, rng)
    nulls = {"words": null, "directions": draw_family(5, 3, 60, rng)[1] + 0.05}
    found = pair_tests.test_pairs(values, nulls)
    for name, null in nulls.items():
        for f in range(5):
            np.testing.assert_array_equal(found.adjusted[name][f], adjust_max(values[f], null[f]))
            for c in range(3):
                exceeding = sum(one >= values[f, c] for one in null[f, c])
                assert found.p[name][f, c] == (exceeding + 1) / (null.shape[2] + 1)
    for f in range(5):
        for c in range(3):
            assert found.combined[f, c] == max(found.p[name][f, c] for name in nulls)
            assert found.combined_adjusted[f, c] == max(found.adjusted[name][f, c] for name in nulls)
        assert found.pair_p[f] == min(found.combined_adjusted[f])
    np.testing.assert_allclose(found.pair_q, false_discovery_control(found.pair_p))
    np.testing.assert_allclose(found.row_q.ravel(), false_discovery_control(found.combined.ravel()))


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.95])
def test_pairs_are_calibrated_over_cells_and_the_least_p_is_not(shared):
    rng = np.random.default_rng(0)
    values, null = draw_family(PAIRS, 6, 99, rng, shared=shared)
    found = pair_tests.test_pairs(values, {"directions": null})
    assert FLOOR <= (found.pair_p <= 0.05).sum() <= LIMIT
    uncorrected = (found.p["directions"].min(axis=1) <= 0.05).sum()
    assert uncorrected > LIMIT


def test_all_nulls_have_to_be_rejected():
    """The null that holds is the one that counts; the least p over the nulls rejects too often."""
    rng = np.random.default_rng(0)
    values, holds = draw_family(PAIRS, 4, 99, rng)
    nulls = {"holds": holds, "weak": holds[..., rng.permutation(99)] - 1}
    found = pair_tests.test_pairs(values, nulls)
    assert FLOOR <= (found.pair_p <= 0.05).sum() <= LIMIT
    least = np.min([one.min(axis=1) for one in found.adjusted.values()], axis=0)
    assert (least <= 0.05).mean() == 1


def test_different_nulls_in_different_cells_stay_within_the_stated_bound():
    rng = np.random.default_rng(0)
    values, holds = draw_family(PAIRS, 2, 99, rng, shared=0.0)
    first, second = holds.copy(), holds.copy()
    first[:, 0] -= 1
    second[:, 1] -= 1
    found = pair_tests.test_pairs(values, {"first": first, "second": second})
    assert (found.pair_p <= 0.05).sum() <= binom.isf(0.001, PAIRS, 0.1)


def test_planted_pairs_are_found_and_few_others():
    """A tenth of the pairs lies far out in some cells; the share of false rejections stays at most q."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(20):
        values, null = draw_family(100, 4, 999, rng)
        values[:10, 1:3] += 0.6
        found = pair_tests.test_pairs(values, {"directions": null})
        rejected = found.pair_q <= 0.1
        assert rejected[:10].all()
        shares.append(rejected[10:].sum() / rejected.sum())
    assert np.mean(shares) <= 0.1 + 3 * np.std(shares) / np.sqrt(20)


def test_permuted_words_are_calibrated_for_responses_that_have_nothing_in_common():
    """End to end from residuals: cells are two doses in the same two models, the same orders for both."""
    rng = np.random.default_rng(3)
    first, second = (np.stack([draw_packed(150, 10, rng) for _ in range(2)], axis=1) for _ in range(2))
    first[:, 1] += first[:, 0]
    second[:, 1] += second[:, 0]
    values = np.stack([correlate_pairs(first[:, c], second[:, c]) for c in range(2)], axis=1)
    null = permute_words(first, second, draw_orders(10, 99, rng))
    found = pair_tests.test_pairs(values, {"words": null})
    for p in (*found.p["words"].T, found.pair_p):
        assert (p <= 0.1).sum() <= binom.isf(0.001 / 3, 150, 0.1)
    assert (found.p["words"].min(axis=1) <= 0.1).sum() > (found.pair_p <= 0.1).sum()


def correlate_pairs(first, second):
    return np.diagonal(correlate_responses(first, second))


def test_what_all_directions_do_passes_for_transfer_with_permuted_words_alone():
    """Why words are not the only null: a change that any direction makes is no transfer of this pair."""
    rng = np.random.default_rng(0)
    damage = draw_packed(1, 15, rng)
    first, second, others = (damage + 0.5 * draw_packed(count, 15, rng) for count in (60, 60, 99))
    values = correlate_pairs(first, second)[:, None]
    nulls = {
        "words": permute_words(first, second, draw_orders(15, 99, rng))[:, None],
        "directions": correlate_responses(first, others)[:, None],
    }
    assert (pair_tests.test_pairs(values, {"words": nulls["words"]}).pair_p <= 0.05).mean() > 0.9
    assert (pair_tests.test_pairs(values, nulls).pair_p <= 0.05).sum() <= binom.isf(0.001, 60, 0.05)


def test_pairs_and_cells_without_a_value_are_left_out():
    rng = np.random.default_rng(0)
    values, null = draw_family(4, 3, 30, rng)
    whole = pair_tests.test_pairs(values[1:, :2], {"words": null[1:, :2]})
    values[0] = np.nan
    values[:, 2] = np.nan
    null[0] = np.nan
    found = pair_tests.test_pairs(values, {"words": null})
    assert np.isnan(found.pair_p[0]) and np.isnan(found.pair_q[0])
    assert np.isnan(found.row_q[:, 2]).all()
    np.testing.assert_array_equal(found.pair_p[1:], whole.pair_p)
    np.testing.assert_array_equal(found.row_q[1:, :2], whole.row_q)


def test_no_response_is_no_transfer():
    """A T of exactly 0 everywhere, as with layers that do nothing, has p = 1."""
    found = pair_tests.test_pairs(np.zeros((2, 3)), {"words": np.zeros((2, 3, 50))})
    assert (found.pair_p == 1).all() and (found.combined == 1).all()


def test_bad_input_is_refused():
    values, null = draw_family(3, 2, 20, np.random.default_rng(0))
    with pytest.raises(InputError, match="0 nulls"):
        pair_tests.test_pairs(values, {})
    with pytest.raises(InputError, match="null words came"):
        pair_tests.test_pairs(values, {"words": null[:2]})
    with pytest.raises(InputError, match="at least one draw"):
        pair_tests.test_pairs(values, {"words": null[..., :0]})
    with pytest.raises(InputError, match="not finite"):
        pair_tests.test_pairs(values, {"words": np.where(null > 0.1, np.nan, null)})
