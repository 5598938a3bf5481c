"""Corrections for families of tests, against SciPy, plain loops and simulated families."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, false_discovery_control

from xmodel.errors import InputError
from xmodel.similarity.families import ADJUSTMENTS, adjust_bh, adjust_by, adjust_holm, adjust_max

FAMILIES = st.lists(st.floats(0, 1), min_size=1, max_size=30).map(np.array)


def adjust_holm_slowly(p):
    """Holm (1979): the smallest alpha at which stepping down from the smallest p still rejects the cell."""
    adjusted = []
    for cell in p:
        before = [other for other in p if other <= cell]
        adjusted.append(max(min(1.0, other * (p >= other).sum()) for other in before))
    return np.array(adjusted)


@given(FAMILIES)
def test_holm_is_the_step_down_formula(p):
    assert adjust_holm(p) == pytest.approx(adjust_holm_slowly(p))
    assert (adjust_holm(p) <= np.minimum(1, p * len(p)) + 1e-15).all(), "never weaker than Bonferroni"


@given(FAMILIES)
def test_false_discovery_rates_are_scipys(p):
    assert adjust_bh(p) == pytest.approx(false_discovery_control(p, method="bh"))
    assert adjust_by(p) == pytest.approx(false_discovery_control(p, method="by"))


@given(FAMILIES, st.sampled_from(sorted(ADJUSTMENTS)), st.integers(0, 50))
def test_corrections_keep_order_and_ignore_cells_without_a_test(p, name, seed):
    adjust = ADJUSTMENTS[name]
    adjusted = adjust(p)
    assert (adjusted >= p - 1e-15).all() and (adjusted <= 1).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    shuffle = np.random.default_rng(seed).permutation(len(p))
    assert (adjust(p[shuffle]) == adjusted[shuffle]).all()
    holes = np.insert(p, [0, len(p) // 2, len(p)], np.nan)
    assert adjust(holes)[~np.isnan(holes)] == pytest.approx(adjusted, abs=0)
    assert np.isnan(adjust(holes)[np.isnan(holes)]).all()


def test_families_without_any_test_stay_empty():
    for adjust in ADJUSTMENTS.values():
        assert np.isnan(adjust(np.full(3, np.nan))).all()
        assert adjust(np.array([])).shape == (0,)
    assert np.isnan(adjust_max(np.full(2, np.nan), np.zeros((2, 9)))).all()


def adjust_max_slowly(values, null):
    cells, draws = null.shape
    studentised = np.empty((cells, draws + 1))
    for cell in range(cells):
        pooled = [values[cell], *null[cell]]
        mean = sum(pooled) / len(pooled)
        spread = (sum((one - mean) ** 2 for one in pooled) / len(pooled)) ** 0.5
        studentised[cell] = [(one - mean) / spread for one in pooled]
    adjusted = []
    for cell in range(cells):
        exceeding = sum(max(studentised[:, draw]) >= studentised[cell, 0] for draw in range(1, draws + 1))
        adjusted.append((exceeding + 1) / (draws + 1))
    return np.array(adjusted)


@given(st.integers(1, 6), st.integers(2, 40), st.integers(0, 1000))
def test_the_largest_statistic_is_the_slow_loop(cells, draws, seed):
    rng = np.random.default_rng(seed)
    scale = rng.lognormal(0, 2, (cells, 1))
    values, null = rng.normal(1, 1, cells) * scale[:, 0], rng.normal(size=(cells, draws)) * scale
    adjusted = adjust_max(values, null)
    assert adjusted == pytest.approx(adjust_max_slowly(values, null), abs=0)
    raw = ((null >= values[:, None]).sum(axis=1) + 1) / (draws + 1)
    assert (adjusted >= raw).all()
    moved = adjust_max(3 * values - 7, 3 * null - 7)
    assert moved == pytest.approx(adjusted, abs=0), "units of the cells do not matter"


def simulate_families(effect, families=400, cells=20, draws=99):
    """Correlated cells that all share their draws; the first has an effect."""
    rng = np.random.default_rng(0)
    adjusted, raw = [], []
    for _ in range(families):
        shared = rng.normal(size=(1, draws + 1))
        statistics = 0.9 * shared + 0.45 * rng.normal(size=(cells, draws + 1))
        statistics[0, 0] += effect
        values, null = statistics[:, 0], statistics[:, 1:]
        adjusted.append(adjust_max(values, null))
        raw.append(((null >= values[:, None]).sum(axis=1) + 1) / (draws + 1))
    return np.array(adjusted), np.array(raw)


def test_the_largest_statistic_holds_the_family_wise_error():
    adjusted, raw = simulate_families(effect=0.0)
    limit = binom.isf(0.001, 400, 0.05)
    assert (adjusted.min(axis=1) <= 0.05).sum() <= limit
    assert (raw.min(axis=1) <= 0.05).sum() > limit, "without a correction it is not held"
    # With p of 99 draws, 20 times the smallest is above 0.05: Holm finds nothing at all.
    assert min(adjust_holm(p).min() for p in raw) > 0.05


def test_the_largest_statistic_is_sharper_than_holm_where_cells_resemble_each_other():
    adjusted, raw = simulate_families(effect=4.0, families=60, draws=999)
    holm = np.array([adjust_holm(p) for p in raw])
    found, found_by_holm = (adjusted[:, 0] <= 0.05).mean(), (holm[:, 0] <= 0.05).mean()
    assert found > 0.8 and found > found_by_holm


def test_cells_without_spread_or_value():
    null = np.array([[1.0, 2, 3, 4], [5, 5, 5, 5], [np.nan] * 4, [1, 3, 2, 4]])
    adjusted = adjust_max(np.array([9.0, 5.0, np.nan, 0.0]), null)
    assert adjusted[0] == 1 / 5 and adjusted[1] == 1 and np.isnan(adjusted[2]) and adjusted[3] == 1


@pytest.mark.parametrize("adjust", ADJUSTMENTS.values(), ids=ADJUSTMENTS)
@pytest.mark.parametrize("p", [[0.1, 1.2], [-0.1], [[0.1, 0.2]], [0.1, np.inf]])
def test_what_is_no_p_value_is_refused(adjust, p):
    with pytest.raises(InputError, match="p-values of a family"):
        adjust(np.array(p))


@pytest.mark.parametrize(
    ("values", "null", "message"),
    [
        ([1.0, 2.0], [[1.0, 2.0]], r"shape \[2\] and null values of shape \[1, 2\]"),
        ([1.0], [[]], "at least one draw"),
        ([1.0, 2.0], [[1.0, 2.0], [1.0, np.nan]], "Cell 1 of the family"),
        ([np.inf], [[1.0, 2.0]], "Cell 0"),
    ],
)
def test_families_without_common_draws_are_refused(values, null, message):
    with pytest.raises(InputError, match=message):
        adjust_max(np.array(values), np.array(null))
