"""Tests by permutation and by drawing anew, against SciPy and against recomputing the metric each time."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, permutation_test

from tests.null_worlds import METRICS
from xmodel.errors import InputError
from xmodel.similarity import nulls
from xmodel.similarity.counting import Plan
from xmodel.similarity.metrics import Metric, parse_metric
from xmodel.similarity.nulls import cut_strata, draw_subsets
from xmodel.similarity.orders import draw_orders, draw_shifts
from xmodel.similarity.pvalues import bound_p, bound_stopped_p


@dataclass(frozen=True)
class Product:
    """A metric too simple to be wrong: the mean product of the first columns."""

    x: np.ndarray
    y: np.ndarray
    kept: tuple[int, int] | None = None

    @property
    def value(self):
        return float((self.x[:, 0] * self.y[:, 0]).mean())

    def permute(self, orders):
        return (self.x[:, 0] * self.y[:, 0][orders]).mean(axis=1)


PRODUCT = Metric("product", "Product", 1.0, True, Product)


def draw_rows(n=20, seed=0, strength=0.5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    return x, strength * x @ rng.normal(size=(5, 6)) + rng.normal(size=(n, 6))


def list_other_orders(n):
    orders = np.array(list(permutations(range(n))))[1:]
    return lambda count, rng: orders[:count]


@pytest.mark.parametrize(
    "name", ["cka", "procrustes", "rsa:cosine:pearson", "mutual_knn:2", "mean_max_cosine"]
)
def test_all_orders_give_scipys_exact_p(name):
    metric = parse_metric(name)
    x, y = draw_rows(n=5, seed=3, strength=0.3)
    y[1] = y[0]  # equal rows: each value comes twice, up to rounding
    exact = permutation_test(
        (np.arange(5),),
        lambda order: metric.prepare(x, y[order.astype(int)]).value,
        permutation_type="pairings", alternative="greater", n_resamples=np.inf, vectorized=False,
    )  # fmt: skip
    (tested,) = nulls.test_orders([metric], x, y, list_other_orders(5), Plan(permutations=119))
    assert tested.value == pytest.approx(exact.statistic, abs=1e-9)
    assert sorted([tested.value, *tested.null]) == pytest.approx(sorted(exact.null_distribution), abs=1e-6)
    if name != "mutual_knn:2":  # ties between equal rows are broken at random there
        assert tested.p == pytest.approx(exact.pvalue, abs=1e-12)
        assert tested.exceeding % 2 == 1, "the other arrangement of the two equal rows is a tie"


def test_random_orders_give_scipys_p_in_distribution():
    metric = parse_metric("cka")
    x, y = draw_rows(n=15, strength=0.35)
    theirs = permutation_test(
        (np.arange(15),),
        lambda order: metric.prepare(x, y[order.astype(int)]).value,
        permutation_type="pairings", alternative="greater", n_resamples=1999, vectorized=False, rng=1,
    )  # fmt: skip
    (ours,) = nulls.test_orders([metric], x, y, partial(draw_orders, 15), Plan(permutations=1999))
    spread = np.sqrt(2 * ours.p * (1 - ours.p) / 2000)
    assert 0.005 < ours.p < 0.5 and abs(ours.p - theirs.pvalue) < 4 * spread
    assert np.quantile(ours.null, 0.9) == pytest.approx(np.quantile(theirs.null_distribution, 0.9), rel=0.05)


@pytest.mark.parametrize("name", METRICS)
def test_the_null_is_the_metric_of_the_reordered_rows(name):
    """The quick way through `permute` against the metric computed anew for each order."""
    metric = parse_metric(name)
    x, y = draw_rows(n=24)
    groups = np.random.default_rng(0).integers(0, 15, 24)
    y = np.random.default_rng(1).normal(size=(15, 6))[groups]
    draw = partial(draw_orders, 24, groups=groups)
    (tested,) = nulls.test_orders([metric], x, y, draw, Plan(permutations=19, seed=5))
    orders = draw(19, np.random.default_rng(5))
    slow = [metric.prepare(x, y[order]).value for order in orders]
    if name not in ("mutual_knn:5", "jaccard:5"):  # equal rows are told apart at random
        assert tested.null == pytest.approx(slow, abs=1e-6)
        assert tested.exceeding == sum(one >= tested.value - 1e-9 for one in slow)
    assert tested.p == (tested.exceeding + 1) / 20 and tested.permutations == 19
    assert tested.p_interval == bound_p(tested.exceeding, 19)
    assert tested.z == pytest.approx((tested.value - tested.null.mean()) / tested.null.std(ddof=1))
    assert (tested.p_tail, tested.tail, tested.settled) == (None, False, None)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_same_orders_serve_all_metrics(adaptive):
    x, y = draw_rows(n=30, strength=0.1)
    plan = Plan(permutations=50, seed=3, adaptive=adaptive, most=300)
    metrics = [parse_metric(name) for name in ("cca", "svcca:3", "cka_debiased", "mutual_knn:5")]
    draw = partial(draw_orders, 30)
    together = nulls.test_orders(metrics, x, y, draw, plan)
    for metric, one in zip(metrics, together, strict=True):
        (alone,) = nulls.test_orders([metric], x, y, draw, plan)
        assert (alone.p, alone.value, alone.metric) == (one.p, one.value, metric.name)
        assert np.array_equal(alone.null, one.null)
    if adaptive:
        assert len({one.permutations for one in together}) > 1, "each stops by itself"


@pytest.mark.parametrize("adaptive", [False, True])
def test_no_batch_changes_a_result_and_equal_seeds_give_equal_ones(adaptive):
    x, y = draw_rows(n=30, strength=0.1)
    plan = Plan(permutations=45, seed=3, adaptive=adaptive, most=300)
    metrics = [parse_metric(name) for name in ("pwcca", "rsa:cosine:spearman", "jaccard:5")]
    for draw in (partial(draw_orders, 30), partial(draw_shifts, np.array([16, 14]), within=True)):
        results = [
            nulls.test_orders(metrics, x, y, draw, replace(plan, batch=batch)) for batch in (None, 1, 7, 45)
        ]
        for others in results[1:]:
            for one, other in zip(results[0], others, strict=True):
                assert one.null == pytest.approx(other.null, abs=1e-12)
                assert (one.p, one.exceeding) == (other.p, other.exceeding)
        other = nulls.test_orders(metrics, x, y, draw, replace(plan, seed=4))
        assert any(not np.array_equal(a.null, b.null) for a, b in zip(results[0], other, strict=True))


def test_orders_drawn_in_parts_for_lack_of_memory_are_the_same(monkeypatch):
    x, y = draw_rows(n=30)
    plan = Plan(permutations=45)
    metric = parse_metric("cka")
    (whole,) = nulls.test_orders([metric], x, y, partial(draw_orders, 30), plan)
    monkeypatch.setattr(nulls, "WHOLE", 100)
    monkeypatch.setattr(nulls, "BATCH", 200)
    (parts,) = nulls.test_orders([metric], x, y, partial(draw_orders, 30), plan)
    assert whole.null == pytest.approx(parts.null, abs=1e-12)


def test_shuffling_what_cannot_be_told_apart_gives_p_one():
    x, _ = draw_rows(n=12)
    y = np.tile([[1.0, 2.0]], (12, 1))
    (tested,) = nulls.test_orders([PRODUCT], x, y, partial(draw_orders, 12), Plan(permutations=30))
    assert (tested.p, tested.z, tested.exceeding) == (1.0, None, 30)


def test_the_adaptive_p_is_valid_and_stops_early():
    """P(p <= alpha) <= alpha over 1,500 data sets without a relation, by the exact binomial bound."""
    plan = Plan(adaptive=True, exceedances=10, most=999)
    tested = []
    for seed in range(1500):
        x, y = np.random.default_rng(seed).normal(size=(2, 25, 1))
        own = replace(plan, seed=seed)
        tested += nulls.test_orders([PRODUCT], x, y, partial(draw_orders, 25), own)
    p = np.array([one.p for one in tested])
    drawn = np.array([one.permutations for one in tested])
    for alpha in (0.01, 0.02, 0.05, 0.1, 0.3):
        rejected = (p <= alpha).sum()
        assert binom.isf(0.999, 1500, alpha) <= rejected <= binom.isf(0.001, 1500, alpha)
    assert p.min() >= 1 / 1000
    assert np.median(drawn) < 30 and drawn.max() == 999 and drawn.mean() < 120
    early = drawn < 999
    assert all(one.exceeding == 10 and one.p == 10 / one.permutations for one in np.array(tested)[early])
    assert all(one.p == (one.exceeding + 1) / 1000 for one in np.array(tested)[~early])


def test_an_adaptive_test_draws_the_first_of_the_same_orders():
    x, y = draw_rows(n=30, strength=0.05)
    draw = partial(draw_orders, 30)
    (short,) = nulls.test_orders([PRODUCT], x, y, draw, Plan(adaptive=True, exceedances=5, most=400))
    (long,) = nulls.test_orders([PRODUCT], x, y, draw, Plan(permutations=400))
    stop = np.flatnonzero(long.null >= long.value)[4] + 1
    assert short.permutations == stop < 400
    assert np.array_equal(short.null, long.null[:stop])
    assert short.p_interval == bound_stopped_p(5, int(stop)) and short.settled is True


def test_an_adaptive_test_goes_on_and_fits_a_tail_where_nothing_exceeds():
    x, y = np.random.default_rng(1).normal(size=(2, 60, 1))
    y = y + 0.55 * x
    (tested,) = nulls.test_orders([PRODUCT], x, y, partial(draw_orders, 60), Plan(adaptive=True))
    assert tested.permutations == 9_999 and tested.exceeding < 10 and tested.settled is True
    assert tested.p == (tested.exceeding + 1) / 10_000
    assert tested.tail is True and tested.p_tail is not None
    assert 0 < tested.p_tail < 10 * tested.p
    (fixed,) = nulls.test_orders(
        [PRODUCT], x, y, partial(draw_orders, 60), Plan(permutations=9_999)
    )  # fmt: skip
    assert np.array_equal(fixed.null, tested.null) and fixed.p_tail is None and fixed.tail is False


def test_the_decision_is_open_where_alpha_lies_within_the_interval():
    x, y = draw_rows(n=30, strength=0.0)
    plan = Plan(adaptive=True, exceedances=5)
    (tested,) = nulls.test_orders([PRODUCT], x, y, partial(draw_orders, 30), plan)
    inside = sum(tested.p_interval) / 2
    (again,) = nulls.test_orders([PRODUCT], x, y, partial(draw_orders, 30), replace(plan, alpha=inside))
    assert again.settled is False and again.p == tested.p


def test_each_draw_serves_all_metrics():
    pool_x, pool_y = np.random.default_rng(0).normal(size=(2, 50, 6))
    x, y = pool_x[:20], pool_y[:20]
    draw = draw_subsets(pool_x, pool_y, 20)
    metrics = [parse_metric(name) for name in ("cka", "svcca:3", "soft_matching")]
    together = nulls.test_draws(metrics, x, y, draw, Plan(permutations=15, seed=2))
    rng = np.random.default_rng(2)
    drawn = [draw(rng) for _ in range(15)]
    for metric, one in zip(metrics, together, strict=True):
        slow = [metric.prepare(*pair).value for pair in drawn]
        assert np.array_equal(one.null, slow)
        assert one.p == (sum(value >= one.value for value in slow) + 1) / 16
        (alone,) = nulls.test_draws([metric], x, y, draw, Plan(permutations=15, seed=2))
        assert np.array_equal(alone.null, one.null)
    (adaptive,) = nulls.test_draws(
        metrics[:1], x, y, draw, Plan(adaptive=True, most=15, exceedances=2, seed=2)
    )
    assert np.array_equal(adaptive.null, together[0].null[: adaptive.permutations])


def test_warnings_say_what_to_distrust():
    x, y = draw_rows(n=20)
    svcca, cka = parse_metric("svcca:5"), parse_metric("cka")
    few, plain = nulls.test_orders([svcca, cka], x, y, partial(draw_orders, 20), Plan(permutations=19))
    assert few.k == (5, 5) and few.n == 20
    assert few.warnings == (
        "n/k = 4.0: with fewer than 5 rows per component CCA is high for unrelated data.",
    )
    assert plain.k is None and plain.warnings == ()
    (small,) = nulls.test_orders([cka], x, y, partial(draw_orders, 20), Plan(permutations=18))
    assert small.warnings == ("18 permutations cannot give a p below 0.053, so not one of 0.05 or less.",)
    (exact,) = nulls.test_orders([cka], x, y, partial(draw_orders, 20), Plan(permutations=9, alpha=0.1))
    assert exact.warnings == ()


def test_rows_that_cannot_move_are_told():
    x, y = draw_rows(n=20)
    groups = np.repeat([0, 1, *range(2, 14)], [3, 5, *[1] * 12])
    draw = partial(draw_orders, 20, groups=groups)
    (tested,) = nulls.test_orders([parse_metric("cka")], x, y, draw, Plan(permutations=50))
    assert [warning[:40] for warning in tested.warnings] == ["40% of the rows kept their partner in ev"]
    draw = partial(draw_orders, 20, groups=np.repeat([0, *range(1, 18)], [3, *[1] * 17]))
    (tested,) = nulls.test_orders([parse_metric("cka")], x, y, draw, Plan(permutations=50))
    assert tested.warnings == ()
    alone = partial(draw_orders, 20, strata=np.arange(20))
    (stuck,) = nulls.test_orders([parse_metric("cka")], x, y, alone, Plan(permutations=50))
    assert stuck.p == 1 and stuck.z is None and stuck.warnings[0].startswith("100% of the rows")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"permutations": 0}, "The number of permutations came as 0"),
        ({"permutations": -3}, "came as -3"),
        ({"permutations": 9.5}, r"came as 9\.5"),
        ({"permutations": True}, "came as True"),
        ({"exceedances": 0}, "exceedances of an adaptive test came as 0"),
        ({"most": 0}, "at most came as 0"),
        ({"batch": 0}, "per batch came as 0"),
        ({"alpha": 0.0}, r"Alpha came as 0\.0"),
        ({"alpha": float("nan")}, "Alpha came as nan"),
        ({"seed": -1}, "The seed came as -1"),
    ],
)
def test_plans_that_cannot_be_followed_are_refused(change, message):
    x, y = draw_rows()
    with pytest.raises(InputError, match=message):
        nulls.test_orders([PRODUCT], x, y, partial(draw_orders, 20), replace(Plan(), **change))
    with pytest.raises(InputError, match=message):
        nulls.test_draws([PRODUCT], x, y, lambda rng: (x, y), replace(Plan(), **change))


def test_numbers_that_would_look_fine_are_refused():
    x, y = draw_rows()
    draw, cka = partial(draw_orders, 20), parse_metric("cka")
    broken = x.copy()
    broken[3, 1] = np.nan
    with pytest.raises(InputError):
        nulls.test_orders([cka], broken, y, draw)
    with pytest.raises(InputError, match="Product of these rows is nan"):
        nulls.test_orders([PRODUCT], np.full((20, 1), np.nan), y, draw)
    with pytest.raises(InputError, match="Product of draw 1 of the null is not a finite number"):
        nulls.test_draws([PRODUCT], x, y, lambda rng: (np.full((20, 1), np.nan), y))
    with pytest.raises(InputError, match="Draw 1 of the null cannot be scored by Linear CKA"):
        nulls.test_draws([replace(cka, label="Linear CKA")], x, y, lambda rng: (np.ones((20, 5)), y))
    with pytest.raises(InputError, match="does not depend on which rows are paired"):
        nulls.test_orders([replace(PRODUCT, paired=False)], x, y, draw)
    with pytest.raises(InputError, match=r"Row orders came with shape \[999, 19\]"):
        nulls.test_orders([PRODUCT], x, y, partial(draw_orders, 19))
    with pytest.raises(InputError, match="naming rows 0 to 20"):
        nulls.test_orders([PRODUCT], x, y, lambda count, rng: np.tile(np.arange(1, 21), (count, 1)) % 21)


@given(st.integers(0, 100))
def test_subsets_are_rows_of_the_pools_without_repetition(seed):
    pool_x, pool_y = np.arange(12.0)[:, None], np.arange(9.0)[:, None]
    x, y = draw_subsets(pool_x, pool_y, 8)(np.random.default_rng(seed))
    for drawn, pool in ((x, pool_x), (y, pool_y)):
        assert drawn.shape == (8, 1) and len(np.unique(drawn)) == 8 and np.isin(drawn, pool).all()


@given(st.integers(0, 100), st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_subsets_by_strata_have_the_wanted_strata_row_by_row(seed, want):
    strata = np.repeat([0, 1, 2], 8)
    pool_x, pool_y = np.arange(24)[:, None], np.arange(30)[:, None]
    draw = draw_subsets(pool_x, pool_y, len(want), strata_a=strata, want_a=np.array(want))
    x, y = draw(np.random.default_rng(seed))
    assert strata[x[:, 0]].tolist() == want
    assert len(np.unique(x)) == len(np.unique(y)) == len(want)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 7}, "pool of side a has 6 features of a stratum from which 7"),
        ({"n": 0}, "0 features were to be drawn"),
        ({"strata_a": np.zeros(6, int)}, "Strata of side a came without what is wanted"),
        ({"want_b": np.zeros(3, int)}, "Strata of side b came without what is wanted"),
        ({"strata_b": np.arange(8), "want_b": np.zeros(3, int)}, "side b has 1 features of a stratum .* 3"),
        ({"strata_b": np.arange(8), "want_b": np.zeros(4, int)}, r"wanted of shape \[4\]"),
    ],
)
def test_subsets_that_cannot_be_drawn_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        draw_subsets(np.zeros((6, 2)), np.zeros((8, 2)), **{"n": 3, **options})


@given(st.lists(st.integers(0, 30), min_size=2, max_size=80), st.integers(1, 12))
def test_strata_rise_with_the_counts_and_split_no_ties(counts, bins):
    counts = np.array(counts)
    strata = cut_strata(counts, bins)
    assert (np.diff(strata[np.argsort(counts)]) >= 0).all()
    assert all(len(set(strata[counts == count])) == 1 for count in counts)
    sizes = np.bincount(strata)
    assert len(sizes) <= bins and sizes.min() >= 2


def test_strata_of_different_counts_are_of_equal_size():
    strata = cut_strata(np.random.default_rng(0).permutation(100), 10)
    assert np.bincount(strata).tolist() == [10] * 10
    assert cut_strata(np.array([5, 5, 5]), 10).tolist() == [0, 0, 0]
    for counts, bins in (([1.0, np.nan], 2), ([], 2), ([1, 2], 0), ([[1, 2]], 2)):
        with pytest.raises(InputError, match="Frequency strata"):
            cut_strata(np.array(counts), bins)
