"""Row orders: every one a permutation that keeps strata, groups and circles as they are."""

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from xmodel.errors import InputError
from xmodel.similarity.orders import count_lengths, draw_offsets, draw_orders, draw_shifts, shift_rows

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=30).map(np.array)
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=6).map(np.array)


def is_permutation(orders):
    return (np.sort(orders, axis=1) == np.arange(orders.shape[1])).all()


@given(LABELS, st.integers(0, 100))
def test_rows_stay_in_their_strata(strata, seed):
    orders = draw_orders(len(strata), 9, np.random.default_rng(seed), strata=strata)
    assert orders.shape == (9, len(strata)) and orders.dtype == np.int64
    assert is_permutation(orders)
    assert (strata[orders] == strata).all()


@given(LABELS, st.integers(0, 100), st.booleans())
def test_groups_move_as_wholes_onto_groups_of_their_size(groups, seed, stratified):
    strata = groups % 2 if stratified else None
    orders = draw_orders(len(groups), 9, np.random.default_rng(seed), groups=groups, strata=strata)
    assert is_permutation(orders)
    sizes = np.bincount(groups)
    for order in orders:
        for label in np.unique(groups):
            came = groups[order[groups == label]]
            assert (came == came[0]).all() and sizes[came[0]] == sizes[label]
            assert (np.diff(order[groups == label]) > 0).all()
            assert strata is None or strata[order[groups == label]][0] == label % 2


@given(LABELS, st.integers(0, 100))
def test_duplicates_stay_duplicates(groups, seed):
    y = np.random.default_rng(0).normal(size=5)[groups]
    order = draw_orders(len(y), 1, np.random.default_rng(seed), groups=groups)[0]
    assert ((y[order][:, None] == y[order]) == (groups[:, None] == groups)).all()


@given(LABELS, st.integers(0, 20), st.integers(0, 20), st.sampled_from(["none", "strata", "groups"]))
def test_how_many_are_drawn_at_a_time_makes_no_difference(labels, first, second, kind):
    options = {} if kind == "none" else {kind: labels}
    n, rng = len(labels), np.random.default_rng(3)
    parts = [draw_orders(n, count, rng, **options) for count in (first, second)]
    whole = draw_orders(n, first + second, np.random.default_rng(3), **options)
    assert (np.concatenate(parts) == whole).all()


@pytest.mark.parametrize(
    ("options", "possible"),
    [
        ({}, 120),
        ({"strata": np.array([0, 1, 0, 1, 0])}, 12),
        ({"groups": np.array([0, 0, 1, 1, 2])}, 2),
        ({"groups": np.array([4, 7, 4, 1, 2])}, 6),
    ],
)
def test_all_allowed_orders_are_equally_likely(options, possible):
    orders = draw_orders(5, 100 * possible, np.random.default_rng(0), **options)
    counts = Counter(map(tuple, orders.tolist()))
    assert len(counts) == possible
    assert set(counts) <= set(permutations(range(5)))
    assert chisquare(list(counts.values())).pvalue > 0.001


@given(LENGTHS.filter(lambda lengths: math.prod(lengths.tolist()) > 8), st.integers(0, 100))
def test_shifts_within_documents_are_circular(lengths, seed):
    orders = draw_shifts(lengths, 7, np.random.default_rng(seed), within=True)
    assert is_permutation(orders)
    document = np.repeat(np.arange(len(lengths)), lengths)
    assert (document[orders] == document).all()
    for order in orders:
        assert (order != np.arange(len(order))).any()
        for start, length in zip(np.cumsum(lengths) - lengths, lengths, strict=True):
            own = order[start : start + length] - start
            assert (own == np.roll(np.arange(length), -own[0])).all()


@given(LENGTHS.filter(lambda lengths: lengths.sum() > 8), st.integers(0, 100))
def test_shifts_along_the_concatenation_are_circular_and_differ(lengths, seed):
    n = int(lengths.sum())
    orders = draw_shifts(lengths, 7, np.random.default_rng(seed), within=False)
    firsts = orders[:, 0]
    assert len(set(firsts.tolist())) == 7 and (firsts != 0).all()
    assert all((order == np.roll(np.arange(n), -order[0])).all() for order in orders)


def test_all_shifts_can_be_asked_for_but_not_one_more():
    lengths = np.array([2, 1, 3])
    rng = np.random.default_rng(0)
    within = draw_shifts(lengths, 5, rng, within=True)
    assert len(set(map(tuple, within.tolist()))) == 5
    along = draw_shifts(lengths, 5, rng, within=False)
    assert sorted(along[:, 0].tolist()) == [1, 2, 3, 4, 5]
    with pytest.raises(InputError, match="6 different circular shifts within these documents"):
        draw_shifts(lengths, 6, rng, within=True)
    with pytest.raises(InputError, match=r"along the concatenation were asked for; there are 5\."):
        draw_shifts(lengths, 6, rng, within=False)


def test_documents_of_one_word_stay_where_they_are():
    orders = draw_shifts(np.array([1, 100, 1, 100]), 50, np.random.default_rng(0), within=True)
    assert (orders[:, [0, 101]] == [0, 101]).all()
    with pytest.raises(InputError, match="there are 0"):
        draw_shifts(np.array([1, 1, 1]), 1, np.random.default_rng(0), within=True)


def test_many_documents_are_shifted_by_offsets_of_their_own():
    lengths = np.full(40, 50)
    offsets = draw_offsets(lengths, 2000, np.random.default_rng(0))
    assert offsets.shape == (2000, 40) and offsets.any(axis=1).all()
    assert chisquare(np.bincount(offsets.ravel(), minlength=50)).pvalue > 0.001
    assert abs(np.corrcoef(offsets[:, 0], offsets[:, 1])[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("lengths", "circles"),
    [([60, 60, 40], 3), ([49, 49, 900], 1), ([900], 1), ([50, 50], 2), ([20, 100, 49, 51], 4)],
)
def test_short_or_few_documents_are_shifted_together(lengths, circles):
    assert draw_offsets(np.array(lengths), 3, np.random.default_rng(0)).shape == (3, circles)


@given(st.lists(st.integers(0, 6), max_size=12))
def test_documents_are_as_long_as_they_were_made(lengths):
    documents = np.repeat(np.arange(len(lengths)), lengths)
    found = count_lengths(documents)
    assert found.dtype == np.int64
    assert found.tolist() == [length for length in lengths if length]


def test_equal_seeds_give_equal_orders():
    groups = np.array([0, 0, 1, 1, 2, 3])
    for draw in (
        lambda rng: draw_orders(6, 5, rng),
        lambda rng: draw_orders(6, 5, rng, groups=groups),
        lambda rng: draw_shifts(np.array([6, 7]), 5, rng),
    ):
        assert (draw(np.random.default_rng(1)) == draw(np.random.default_rng(1))).all()
        assert (draw(np.random.default_rng(1)) != draw(np.random.default_rng(2))).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda rng: draw_orders(0, 3, rng), "0 rows"),
        (lambda rng: draw_orders(3, -1, rng), "-1 of them"),
        (lambda rng: draw_orders(3, 1, rng, strata=np.array([0, 1])), r"strata came as int64 of shape \[2\]"),
        (lambda rng: draw_orders(3, 1, rng, groups=np.array([0.0, 1, 2])), "groups came as float64"),
        (
            lambda rng: draw_orders(3, 1, rng, groups=np.array([0, 1, 1]), strata=np.array([0, 0, 1])),
            "Row 2 is of group 1, whose rows are in different strata",
        ),
        (lambda rng: draw_shifts(np.array([5, 0]), 1, rng), "Document 1 came with 0 words"),
        (lambda rng: draw_shifts(np.array([], int), 1, rng), "Words per document came as int64 of shape"),
        (lambda rng: shift_rows(np.array([5, 4, 3]), np.ones((2, 2), np.int64)), "for 3 documents"),
    ],
)
def test_unusable_labels_and_lengths_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make(np.random.default_rng(0))
