"""Shuffling y's rows gives the same as measuring shuffled rows, on every path, and ties stay ties."""

import numpy as np
import pytest

from tests.slow_metrics import SLOW, draw_orders, draw_rows
from xmodel.errors import InputError
from xmodel.similarity import cca, products
from xmodel.similarity.metrics import parse_metric
from xmodel.similarity.neighbours import find_neighbours

SHAPES = [(30, 6, 9), (31, 9, 6), (12, 30, 5), (12, 20, 40), (6, 3, 3)]


def check(name, x, y, *, slow=False, within=1e-9):
    metric = parse_metric(name)
    prepared = metric.prepare(x, y)
    orders = draw_orders(len(x), 5)
    measure = SLOW[name] if slow else lambda x, y: metric.prepare(x, y).value
    expected = [measure(x, y[order]) for order in orders]
    assert prepared.permute(orders) == pytest.approx(expected, abs=within)
    assert prepared.permute(np.arange(len(x))[None])[0] == prepared.value
    return prepared


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_permuting_is_measuring_again(name, shape):
    x, y = draw_rows(*shape, seed=2)
    check(name, x, y)


@pytest.mark.parametrize("name", SLOW)
def test_permuting_is_the_definition_on_shuffled_rows(name):
    x, y = draw_rows(20, 5, 7, seed=3)
    check(name, x, y, slow=True)


@pytest.mark.parametrize("name", SLOW)
def test_products_in_float32_agree_to_a_millionth(name, monkeypatch):
    """As large data are treated, here with data of any size, and noise so low that the metrics are near 1."""
    monkeypatch.setattr(products, "LARGE_PRODUCT", 0)
    for noise in (1.0, 0.01):
        x, y = draw_rows(60, 8, 9, seed=4, noise=noise)
        check(name, x, y, slow=True, within=1e-6)


@pytest.mark.parametrize("name", ["cca", "svcca:1.0", "pwcca", "procrustes"])
@pytest.mark.parametrize("large", [0, 10**9])
@pytest.mark.parametrize("widths", [(8, 9), (9, 8), (8, 8)])
def test_singular_values_from_eigenvalues_agree_to_a_millionth(name, large, widths, monkeypatch):
    """As many components are treated. With repeated columns, small ones are beyond eigenvalues' precision."""
    monkeypatch.setattr(products, "LARGE_PRODUCT", large)
    for module in (products, cca):
        monkeypatch.setattr(module, "SMALL_SIDE", 1)
    x, y = draw_rows(60, *widths, seed=5)
    check(name, x, y, slow=True, within=1e-6)
    check(name, np.hstack([x, x]), y, slow=True, within=1e-6)
    check(name, x, y * 10.0 ** -np.arange(widths[1]), slow=True, within=1e-6)
    check(name, x, np.hstack([x, y]), slow=True, within=1e-6)


@pytest.mark.parametrize("name", ["cca", "cca_squared", "cka_debiased"])
def test_large_data_take_the_float32_path_and_agree(name):
    x, y = draw_rows(1200, 300, 320, seed=6)
    prepared = parse_metric(name).prepare(x, y)
    assert prepared.x.dtype == np.float32
    orders = draw_orders(1200, 2)
    expected = [parse_metric(name).prepare(x[np.argsort(order)], y).value for order in orders]
    assert prepared.permute(orders) == pytest.approx(expected, abs=1e-6)
    # Also where groups of rows are so few that the observed order is drawn: it must count as equal.
    assert prepared.permute(np.arange(1200)[None])[0] == prepared.value
    # A plain float64 formula, of the metric that needs least for it.
    if name == "cca_squared":
        bases = [np.linalg.qr(rows - rows.mean(axis=0))[0] for rows in (x, y)]
        exact = [((bases[0].T @ bases[1][order]) ** 2).sum() / 300 for order in orders]
        assert prepared.permute(orders) == pytest.approx(exact, abs=1e-7)


@pytest.mark.parametrize("name", [name for name in SLOW if "knn" not in name and "jaccard" not in name])
def test_exchanging_equal_rows_changes_nothing(name):
    """Many-to-one pairs: y's rows come in threes. (Neighbours are drawn among equals; see below.)"""
    x, y = draw_rows(18, 5, 7, seed=7)
    y = np.repeat(y[:6], 3, axis=0)
    exchanged, other = np.arange(18), np.arange(18)
    exchanged[[0, 2, 9, 10]] = [2, 0, 10, 9]
    other[[0, 17]] = [17, 0]
    prepared = parse_metric(name).prepare(x, y)
    assert prepared.permute(exchanged[None])[0] == pytest.approx(prepared.value, rel=1e-12)
    assert prepared.permute(other[None])[0] != pytest.approx(prepared.value, rel=1e-6)


@pytest.mark.parametrize("name", ["mutual_knn:5", "jaccard:5"])
@pytest.mark.parametrize("distinct", [1, 4, 30])
def test_equal_rows_do_not_fake_agreement(name, distinct):
    """x and y are unrelated, and both consist of many equal rows (of a few kinds, in unrelated places).

    If the order of rows decided among equals, both sides would prefer the same ones before shuffling, and
    not after it. Over many data sets the observed value must have the mean of the null.
    """
    rng = np.random.default_rng(8)
    differences = []
    for _ in range(40):
        kinds = rng.normal(size=(distinct + 1, 6)), rng.normal(size=(distinct + 1, 6))
        places = [np.append(rng.integers(distinct, size=59), distinct) for _ in range(2)]
        rows = [own[place] for own, place in zip(kinds, places, strict=True)]
        rows[1] = rows[1][rng.permutation(60)]
        prepared = parse_metric(name).prepare(*rows)
        null = prepared.permute(np.array([rng.permutation(60) for _ in range(60)]))
        assert null.std() > 0
        differences.append((prepared.value - null.mean()) / null.std())
    assert abs(np.mean(differences)) < 4 / np.sqrt(len(differences))
    assert np.mean(np.abs(differences) > 3) < 0.1


def test_a_tie_broken_by_the_order_of_rows_would_fake_agreement():
    """The fault that the test above looks for, made on purpose: both sides with the same draw."""
    x = np.vstack([np.tile([1.0, 0.0], (59, 1)), [[0.0, 1.0]]])
    same = [find_neighbours(x, 5, seed) for seed in (0, 0)]
    own = [find_neighbours(x, 5, seed) for seed in (0, 1)]
    agree = [np.mean([len(set(a) & set(b)) for a, b in zip(*pair, strict=True)]) for pair in (same, own)]
    assert agree[0] == 5
    assert agree[1] < 1


def test_neighbours_at_the_border_are_drawn_evenly_and_nearer_ones_are_sure():
    angles = np.radians([0, 5, 10, 10, 10, 10, 80, 170])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    counts = np.zeros(8)
    for seed in range(400):
        counts[find_neighbours(rows, 3, seed)[0]] += 1
    assert counts[1] == 400
    assert counts[[0, 6, 7]].sum() == 0
    assert counts[2:6] == pytest.approx(200, abs=50)


@pytest.mark.parametrize("name", ["cca", "rsa:euclidean", "mutual_knn:3"])
@pytest.mark.parametrize(
    "orders",
    [np.arange(10), np.arange(9)[None], np.arange(10)[None] + 1, np.arange(10)[None] - 1, np.ones((2, 10))],
)
def test_orders_of_other_rows_are_refused(name, orders):
    x, y = draw_rows(10, 3, 4)
    with pytest.raises(InputError, match="Orders of rows"):
        parse_metric(name).prepare(x, y).permute(orders)


@pytest.mark.parametrize("name", SLOW)
def test_no_orders_give_no_values(name):
    x, y = draw_rows(10, 3, 4)
    assert parse_metric(name).prepare(x, y).permute(np.empty((0, 10), np.int64)).shape == (0,)
