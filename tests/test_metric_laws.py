"""What each metric is blind to, what it must not be blind to, its bounds, and rows it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.slow_metrics import SLOW, draw_rows
from xmodel.errors import InputError
from xmodel.similarity.metrics import parse_metric

CCA = {"cca", "cca_squared", "svcca:1.0"}
SVCCA = {"svcca:3", "svcca:0.8"}
COSINE = {"rsa:cosine:pearson", "rsa:cosine:spearman", "mutual_knn:5", "jaccard:5"}
UNITS = {"mean_max_cosine", "soft_matching"}
ONE_SIDED = {"pwcca", "mean_max_cosine"}
OTHER = set(SLOW) - CCA - SVCCA - COSINE - UNITS - {"pwcca"}


def draw_rotation(width, rng):
    return np.linalg.qr(rng.normal(size=(width, width)))[0]


CHANGES = {
    "rotation": lambda x, rng: x @ draw_rotation(x.shape[1], rng),
    "invertible": lambda x, rng: x @ rng.normal(size=(x.shape[1], x.shape[1])),
    "translation": lambda x, rng: x + 3 * rng.normal(size=x.shape[1]),
    "scale": lambda x, rng: 7.3 * x,
    "reflection": lambda x, rng: -x,
    "columns": lambda x, rng: x[:, rng.permutation(x.shape[1])],
    "column scales": lambda x, rng: x * rng.uniform(0.2, 5, x.shape[1]),
    "row scales": lambda x, rng: x * rng.uniform(0.2, 5, (len(x), 1)),
    "wider": lambda x, rng: np.hstack([x, np.zeros((len(x), 3))]),
}

# PWCCA weighs by x's columns, so of x it knows their axes; y may change as in CCA.
BLIND_TO_X = {
    "rotation": CCA | SVCCA | COSINE | OTHER,
    "invertible": CCA,
    "translation": CCA | SVCCA | OTHER | {"pwcca", "soft_matching"},
    "scale": set(SLOW),
    "reflection": set(SLOW) - UNITS,
    "columns": set(SLOW),
    "column scales": CCA | UNITS,
    "row scales": COSINE,
    "wider": set(SLOW) - UNITS,
}
BLIND_TO_Y = {
    change: names
    | ({"pwcca"} if "pwcca" in names or change in ("rotation", "invertible", "column scales") else set())
    for change, names in BLIND_TO_X.items()
}


def measure(name, x, y):
    return parse_metric(name).prepare(x, y).value


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_metric_is_blind_to_and_what_not(name, change):
    x, y = draw_rows(40, 7, 9, seed=1)
    rng = np.random.default_rng(2)
    if change == "wider" and name in UNITS:
        with pytest.raises(InputError, match="columns"):
            measure(name, CHANGES[change](x, rng), y)
        return
    value = measure(name, x, y)
    for blind, changed in (
        (name in BLIND_TO_X[change], measure(name, CHANGES[change](x, rng), y)),
        (name in BLIND_TO_Y[change], measure(name, x, CHANGES[change](y, rng))),
    ):
        if blind:
            assert changed == pytest.approx(value, abs=1e-9)
        else:
            assert abs(changed - value) > 1e-4


@pytest.mark.parametrize("name", SLOW)
def test_the_pairing_of_rows_matters_and_their_order_does_not(name):
    x, y = draw_rows(60, 5, 6, seed=3, noise=0.3)
    order = np.random.default_rng(4).permutation(60)
    value = measure(name, x, y)
    assert measure(name, x[order], y[order]) == pytest.approx(value, abs=1e-9)
    assert measure(name, x, y[order]) < value - 0.05


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("shape", [(40, 7), (15, 30), (7, 3)], ids=str)
def test_with_itself_the_value_is_the_ceiling(name, shape):
    x, _ = draw_rows(*shape, 2, seed=5)
    metric = parse_metric(name)
    assert metric.prepare(x, x).value == pytest.approx(metric.ceiling, abs=1e-9)


@pytest.mark.parametrize("name", SLOW)
def test_the_sides_can_be_exchanged_where_neither_comes_first(name):
    x, y = draw_rows(40, 7, 9, seed=6)
    same = measure(name, x, y) == pytest.approx(measure(name, y, x), abs=1e-9)
    assert same == (name not in ONE_SIDED)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(7, 25),
    widths=st.tuples(st.integers(3, 30), st.integers(3, 30)),
    seed=st.integers(0, 10_000),
    noise=st.sampled_from([0.0, 0.1, 1.0, 10.0]),
)
@pytest.mark.parametrize("name", SLOW)
def test_values_are_bounded_and_orders_of_rows_agree(name, n, widths, seed, noise):
    """From noiseless (so of low rank) to nearly unrelated, narrow and wide."""
    x, y = draw_rows(n, *widths, seed=seed, noise=noise)
    metric = parse_metric(name)
    prepared = metric.prepare(x, y)
    order = np.random.default_rng(seed).permutation(n)
    signed = "rsa" in name or name in UNITS or name == "cka_debiased"
    for value in (prepared.value, *prepared.permute(order[None])):
        assert (-1 if signed else 0) - 1e-9 <= value <= 1 + 1e-9
    assert prepared.permute(order[None])[0] == pytest.approx(metric.prepare(x, y[order]).value, abs=1e-6)


@pytest.mark.parametrize("name", SLOW)
def test_unrelated_rows_are_where_chance_is(name):
    """Debiased CKA and correlations are 0 in the mean, the others are above: why nulls are needed."""
    values = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        values.append(measure(name, rng.normal(size=(30, 8)), rng.normal(size=(30, 8))))
    error = np.std(values) / np.sqrt(len(values))
    if "rsa" in name or name == "cka_debiased":
        assert abs(np.mean(values)) < 4 * error
    else:
        assert np.mean(values) > 4 * error


@pytest.mark.parametrize("name", [name for name in SLOW if name.split(":")[-1] not in ("3", "5")])
def test_three_rows_are_enough_but_for_debiasing(name):
    x, y = draw_rows(3, 4, 5, seed=7)
    if name == "cka_debiased":
        with pytest.raises(InputError, match="4 or more"):
            measure(name, x, y)
        x, y = draw_rows(4, 4, 5, seed=7)
    prepared = parse_metric(name).prepare(x, y)
    orders = np.array([np.random.default_rng(i).permutation(len(x)) for i in range(5)])
    assert np.isfinite([prepared.value, *prepared.permute(orders)]).all()


def spoil(kind, x):
    x = x.copy()
    match kind:
        case "nan":
            x[4, 2] = np.nan
        case "infinite":
            x[4, 2] = np.inf
        case "constant":
            x[:] = x[0]
        case "zeros":
            x[:] = 0
        case "vector":
            return x[0]
        case "words":
            return x.astype(str)
        case "complex":
            return x.astype(complex)
        case "no columns":
            return x[:, :0]
        case "fewer":
            return x[:-1]
    return x


SAID = {
    "nan": "row 4",
    "infinite": "row 4",
    "constant": "all equal",
    "zeros": "all equal",
    "vector": "matrix",
    "words": "matrix",
    "complex": "matrix",
    "no columns": "matrix",
    "fewer": "rows",
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("kind", SAID)
def test_rows_without_a_similarity_are_refused(name, kind):
    x, y = draw_rows(20, 5, 6, seed=8)
    with pytest.raises(InputError, match=SAID[kind]):
        measure(name, spoil(kind, x), y)
    with pytest.raises(InputError, match=SAID[kind]):
        measure(name, x, spoil(kind, y))


@pytest.mark.parametrize("name", SLOW)
def test_two_rows_are_refused(name):
    x, y = draw_rows(2, 5, 6)
    with pytest.raises(InputError, match=r"came as 2.*[34] or more"):
        measure(name, x, y)


@pytest.mark.parametrize("name", sorted(COSINE))
def test_rows_of_zeros_have_no_cosine(name):
    x, y = draw_rows(20, 5, 6, seed=9)
    y[7] = 0
    with pytest.raises(InputError, match="y came with 1 rows of zeros, the first being row 7"):
        measure(name, x, y)
    with pytest.raises(InputError, match="zeros"):
        measure(name, y, x)


@pytest.mark.parametrize("name", sorted(set(SLOW) - COSINE))
def test_rows_of_zeros_are_rows_like_others_where_no_cosine_is_taken(name):
    x, y = draw_rows(20, 5, 6, seed=10)
    y[7] = 0
    assert measure(name, x, y) == pytest.approx(SLOW[name](x, y), abs=1e-9)


@pytest.mark.parametrize("name", sorted(set(SLOW) - UNITS))
def test_constant_columns_add_nothing_but_what_an_offset_does(name):
    x, y = draw_rows(20, 5, 6, seed=11)
    x[:, 3] = 4.0
    assert measure(name, x, y) == pytest.approx(SLOW[name](x, y), abs=1e-9)


def test_columns_without_direction_are_refused_where_columns_are_compared():
    x, y = draw_rows(20, 5, 6, seed=12)
    y[:, 3] = 1e8
    with pytest.raises(InputError, match="y came with 1 constant columns, the first being column 3"):
        measure("soft_matching", x, y)
    assert measure("mean_max_cosine", x, y) == pytest.approx(SLOW["mean_max_cosine"](x, y), abs=1e-9)
    y[:, 3] = 0
    with pytest.raises(InputError, match="columns of zeros"):
        measure("mean_max_cosine", x, y)


@pytest.mark.parametrize("name", ["mutual_knn:20", "jaccard:25"])
def test_more_neighbours_than_rows_are_refused(name):
    x, y = draw_rows(20, 5, 6)
    with pytest.raises(InputError, match="20 rows"):
        measure(name, x, y)
    assert measure("mutual_knn:19", x, y) == 1


@pytest.mark.parametrize("name", [name for name in SLOW if "rsa" in name] + ["cka_debiased"])
def test_equal_distances_are_refused(name):
    """The corners of a regular simplex: no two rows are nearer than others."""
    x, y = np.eye(6), draw_rows(6, 4, 4)[0]
    with pytest.raises(InputError, match="equal"):
        measure(name, x, y)
    with pytest.raises(InputError, match="of y"):
        measure(name, y, x)


@pytest.mark.parametrize("name", ["rsa:cosine:spearman", "rsa:euclidean"])
def test_distances_that_do_not_fit_are_refused_before_they_are_made(name):
    rng = np.random.default_rng(13)
    x = rng.normal(size=(40_000, 2))
    with pytest.raises(InputError, match=r"47\.7 GiB"):
        measure(name, x, x)
