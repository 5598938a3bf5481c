"""Pearson's r of every pair, by every route, against NumPy and against plain loops."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.sparse_words import (
    KERNELS,
    corpora,
    correlate_slowly,
    everything,
    make_chunks,
    make_rows,
    plant_permutation,
    prepare,
    use_kernels,
)
from xmodel.errors import InputError
from xmodel.pairing.chunks import keep_features, scatter_columns, take_columns
from xmodel.pairing.correlation import correlate_pairs, find_partners
from xmodel.pairing.moments import measure_moments, measure_spreads
from xmodel.records import Partners, WordFeatures

ROUTES = [
    (kernels, workers, memory) for kernels in KERNELS for workers in (1, 2, 3) for memory in (1 << 30, 0)
]


def list_slowly(r: NDArray[Any], top_k: int, floor: float) -> Partners:
    """The best columns of every row by sorting."""
    features, values = np.full((len(r), top_k), -1, np.int32), np.full((len(r), top_k), np.nan)
    for row in range(len(r)):
        good = [column for column in range(r.shape[1]) if r[row, column] > floor]
        best = sorted(good, key=lambda column: (-r[row, column], column))[:top_k]
        features[row, : len(best)] = best
        values[row, : len(best)] = r[row, best]
    return Partners(features, values)


def correlate_in_loops(x_a: NDArray[Any], x_b: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """r and joint firings of all pairs by the formula, one word after another, in Python's own floats.

    Not a number where a feature is constant or where the products sum to 0.
    """
    words, features_a = x_a.shape
    r, joint = np.full((features_a, x_b.shape[1]), np.nan), np.zeros((features_a, x_b.shape[1]), np.int64)
    for a in range(features_a):
        for b in range(x_b.shape[1]):
            sums = [0.0] * 5
            for x, y in zip(x_a[:, a].tolist(), x_b[:, b].tolist(), strict=True):
                for place, term in enumerate((x, y, x * x, y * y, x * y)):
                    sums[place] += term
                joint[a, b] += x != 0 and y != 0
            s_a, s_b, s_aa, s_bb, s_ab = sums
            v_a, v_b = words * s_aa - s_a * s_a, words * s_bb - s_b * s_b
            if v_a > 1e-10 * words * s_aa and v_b > 1e-10 * words * s_bb and s_ab:
                r[a, b] = max(-1.0, min(1.0, (words * s_ab - s_a * s_b) / math.sqrt(v_a * v_b)))
    return r, joint


def assert_same(one: Partners, other: Partners) -> None:
    assert np.array_equal(one.features, other.features)
    assert np.array_equal(one.r, other.r, equal_nan=True)


@given(corpora(), st.integers(1, 5), st.sampled_from([0.0, 0.3]), st.sampled_from(ROUTES))
def test_every_route_gives_what_loops_and_sorting_give(
    corpus: Any, top_k: int, floor: float, route: Any
) -> None:
    x_a, x_b, cuts = corpus
    kernels, workers, memory = route
    with use_kernels(kernels):
        of_a, of_b = prepare(x_a, x_b, workers=workers, memory=memory).find_partners(top_k, floor)
        cut = prepare(x_a, x_b, cuts, workers=workers, memory=memory).find_partners(top_k, floor)
    r, _ = correlate_in_loops(x_a, x_b)
    assert_same(of_a, list_slowly(r, top_k, floor))
    assert_same(of_b, list_slowly(r.T, top_k, floor))
    if kernels is not None or memory:
        assert_same(cut[0], of_a)
        assert_same(cut[1], of_b)
    else:  # SciPy sums each chunk by itself, so ties may fall otherwise
        assert np.allclose(cut[0].r, of_a.r, rtol=0, atol=1e-12, equal_nan=True)
        assert np.allclose(cut[1].r, of_b.r, rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("kernels", KERNELS)
def test_r_is_numpys(kernels: Any) -> None:
    rng = np.random.default_rng(5)
    x_a, x_b = (
        (rng.lognormal(size=(300, features)) * (rng.random((300, features)) < 0.3)).astype(np.float32)
        for features in (40, 50)
    )
    with use_kernels(kernels):
        of_a, of_b = prepare(x_a, x_b, [100, 130]).find_partners(50, 0.0)
    r = correlate_slowly(x_a, x_b)
    for found, expected in ((of_a, r), (of_b, r.T)):
        rows, places = np.nonzero(found.features >= 0)
        assert np.abs(found.r[rows, places] - expected[rows, found.features[rows, places]]).max() < 1e-12
        assert len(rows) == (r > 0).sum()


@given(corpora(), st.sampled_from(KERNELS))
def test_named_pairs_are_numpys_and_the_loops(corpus: Any, kernels: Any) -> None:
    x_a, x_b, cuts = corpus
    a, b = (part.ravel()[::-1].astype(np.int32) for part in np.indices((x_a.shape[1], x_b.shape[1])))
    chunks = make_chunks(x_a, x_b, cuts)
    with use_kernels(kernels):
        r, joint = correlate_pairs(chunks, *measure_moments(chunks, x_a.shape[1], x_b.shape[1]), a, b)
    slow, counted = correlate_in_loops(x_a, x_b)
    fires = ~np.isnan(slow[a, b])
    assert np.array_equal(r[fires], slow[a, b][fires])
    assert np.array_equal(joint, counted[a, b])
    assert np.allclose(r, correlate_slowly(x_a, x_b)[a, b], rtol=0, atol=1e-10, equal_nan=True)


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_planted_permutation_is_found_and_lost_when_words_are_shuffled(kernels: Any) -> None:
    x_a, x_b, order = plant_permutation(600, 60, seed=1)
    shuffled = np.random.default_rng(2).permutation(x_b)
    with use_kernels(kernels):
        of_a, of_b = prepare(x_a, x_b, [200]).find_partners(3, 0.0)
        lost, _ = prepare(x_a, shuffled, [200]).find_partners(3, 0.0)
    assert np.array_equal(of_a.features[:, 0], order)
    assert np.array_equal(of_b.features[order, 0], np.arange(60))
    assert (lost.features[:, 0] == order).mean() < 0.2
    assert lost.r[:, 0].mean() < of_a.r[:, 0].mean() / 2


@pytest.mark.parametrize("kernels", KERNELS)
def test_two_features_that_fire_once_on_the_same_word_have_r_1(kernels: Any) -> None:
    x = np.zeros((50, 2), np.float32)
    x[7, 0], x[9, 1] = 3.5, 0.1
    with use_kernels(kernels):
        of_a, _ = prepare(x, x[:, ::-1]).find_partners(2, 0.0)
    assert of_a.features.tolist() == [[1, -1], [0, -1]]
    assert of_a.r[:, 0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("value", [1.0, 0.1, 1e-30, 3e38])
@pytest.mark.parametrize("kernels", KERNELS)
def test_constant_features_have_no_partners(kernels: Any, value: float) -> None:
    rng = np.random.default_rng(0)
    x = (rng.random((5000, 3)) < 0.5).astype(np.float32)
    x[:, 1] = value
    with use_kernels(kernels):
        found = prepare(x, x).find_partners(3, 0.0)
        chunks = make_chunks(x, x)
        names = np.array([1, 1, 0], np.int32)
        r, joint = correlate_pairs(chunks, *measure_moments(chunks, 3, 3), names, names[::-1].copy())
    for own in found:
        assert own.features[1].tolist() == [-1, -1, -1]
        assert 1 not in own.features
        assert np.isnan(own.r[1]).all()
    assert np.isnan(r[1])
    assert joint[1] == 5000


def test_rounding_does_not_make_a_constant_vary() -> None:
    left_over = 0
    for value in np.linspace(0.1, 3.0, 30):
        x = np.full((3001, 1), value, np.float32)
        moments, _ = measure_moments(make_chunks(x, x), 1, 1)
        left_over += (moments.words * moments.squares > moments.sums**2).sum()
        assert not measure_spreads(moments, everything(x)).usable.any()
    assert left_over > 0


@pytest.mark.parametrize("kernels", KERNELS)
def test_huge_and_tiny_activations_neither_overflow_nor_vanish(kernels: Any) -> None:
    rng = np.random.default_rng(3)
    x = (rng.random((400, 4)) * (rng.random((400, 4)) < 0.3)).astype(np.float32)
    scaled = x * np.array([1e38, 1e-38, 1.0, 1e10], np.float32)
    with use_kernels(kernels):
        of_a, _ = prepare(scaled, x).find_partners(1, 0.0)
    assert of_a.features[:, 0].tolist() == [0, 1, 2, 3]
    assert np.allclose(of_a.r[:, 0], 1.0, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("words", "features"), [(0, 3), (1, 3), (5, 3), (5, 0), (0, 0)])
@pytest.mark.parametrize("memory", [0, 1 << 30])
@pytest.mark.parametrize("kernels", KERNELS)
def test_empty_inputs_have_no_partners(kernels: Any, words: int, features: int, memory: int) -> None:
    x = np.zeros((words, features), np.float32)
    with use_kernels(kernels):
        of_a, of_b = prepare(x, x[:, :2], memory=memory).find_partners(2, 0.0)
    assert of_a.features.shape == (features, 2)
    assert (of_a.features == -1).all()
    assert (of_b.features == -1).all()


def test_no_chunks_at_all() -> None:
    moments = measure_moments(lambda: [], 3, 4)
    everyone = np.ones(3, np.bool_), np.ones(4, np.bool_)
    of_a, of_b = find_partners(lambda: [], *moments, kept_a=everyone[0], kept_b=everyone[1])
    assert of_a.features.shape == (3, 10)
    assert (of_b.features == -1).all()
    assert len(correlate_pairs(lambda: [], *moments, np.zeros(0, np.int32), np.zeros(0, np.int32))[0]) == 0


@given(corpora(), st.sampled_from(ROUTES), st.integers(0, 2**32 - 1))
def test_features_that_are_not_kept_are_as_if_they_never_fired(corpus: Any, route: Any, seed: int) -> None:
    x_a, x_b, cuts = corpus
    kernels, workers, memory = route
    rng = np.random.default_rng(seed)
    kept_a, kept_b = rng.random(x_a.shape[1]) < 0.6, rng.random(x_b.shape[1]) < 0.6
    chunks = make_chunks(x_a, x_b, cuts)
    moments = measure_moments(chunks, x_a.shape[1], x_b.shape[1])
    with use_kernels(kernels):
        found = find_partners(
            chunks, *moments, kept_a=kept_a, kept_b=kept_b, top_k=3, workers=workers, memory=memory
        )
        without = prepare(x_a * kept_a, x_b * kept_b, cuts, memory=memory).find_partners(3, 0.0)
    assert_same(found[0], without[0])
    assert_same(found[1], without[1])


@given(corpora())
def test_moments_do_not_depend_on_chunks(corpus: Any) -> None:
    x_a, x_b, cuts = corpus
    whole = measure_moments(make_chunks(x_a, x_b), x_a.shape[1], x_b.shape[1])
    for own, one, x in zip(
        measure_moments(make_chunks(x_a, x_b, cuts), x_a.shape[1], x_b.shape[1]),
        whole,
        (x_a, x_b),
        strict=True,
    ):
        assert own.words == one.words == len(x)
        assert np.array_equal(own.sums, one.sums)
        assert np.array_equal(own.squares, one.squares)
        assert np.array_equal(own.firings, (x != 0).sum(axis=0))
        assert np.allclose(own.sums, x.sum(axis=0, dtype=np.float64), rtol=1e-12)
        assert np.allclose(own.squares, (x.astype(np.float64) ** 2).sum(axis=0), rtol=1e-12)


@given(corpora(most=12))
def test_columns_are_the_transposed_rows(corpus: Any) -> None:
    x, _, _ = corpus
    chosen = np.arange(0, x.shape[1], 2, dtype=np.int32)[::-1].copy()
    for kernels in KERNELS:
        with use_kernels(kernels):
            columns = take_columns(make_rows(x), chosen)
        dense = np.zeros((x.shape[0], len(chosen)), np.float32)
        for slot in range(len(chosen)):
            part = slice(columns.indptr[slot], columns.indptr[slot + 1])
            assert (np.diff(columns.words[part]) > 0).all()
            dense[columns.words[part], slot] = columns.values[part]
        assert np.array_equal(dense, x[:, chosen])


@pytest.mark.parametrize("kernels", KERNELS)
def test_columns_without_room_are_refused_not_written_beyond(kernels: Any) -> None:
    rows = make_rows(np.ones((4, 2)))
    words, values = np.full(3, -7, np.int32), np.zeros(3, np.float32)
    with use_kernels(kernels):
        fits = scatter_columns(0, rows, np.array([0, -1], np.int32), np.zeros(1, np.int64), words, values)
    assert not fits


@given(corpora(), st.integers(0, 2**32 - 1))
def test_dropping_features_drops_their_entries(corpus: Any, seed: int) -> None:
    x, _, _ = corpus
    kept = np.random.default_rng(seed).random(x.shape[1]) < 0.5
    found, expected = keep_features(make_rows(x), kept), make_rows(x * kept)
    for name in ("indptr", "indices", "values"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))


def spoil(**changes: Any) -> WordFeatures:
    return replace(make_rows(np.array([[1, 0, 2], [0, 3, 0]])), **changes)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (spoil(features=4), "4 features where 3"),
        (spoil(values=np.array([1, np.nan, 3], np.float32)), "not a number"),
        (spoil(values=np.array([1, np.inf, 3], np.float32)), "infinite"),
        (spoil(values=np.array([1, 0, 3], np.float32)), "are 0"),
        (spoil(values=np.ones(3)), "float64"),
        (spoil(indices=np.array([0, 3, 1], np.int32)), "outside 0 to 2"),
        (spoil(indices=np.array([-1, 2, 1], np.int32)), "outside 0 to 2"),
        (spoil(indices=np.array([2, 0, 1], np.int32)), "do not ascend"),
        (spoil(indices=np.array([0, 0, 1], np.int32)), "do not ascend"),
        (spoil(indptr=np.array([0, 3, 2, 3])), "decreases"),
        (spoil(indptr=np.array([0, 2])), "do not fit"),
        (spoil(indptr=np.zeros(0, np.int64)), "do not fit"),
        (spoil(indptr=np.array([1, 2, 3])), "do not fit"),
        (make_rows(np.ones((3, 3))), "same words"),
    ],
)
def test_malformed_chunks_are_refused(rows: WordFeatures, message: str) -> None:
    good = make_rows(np.array([[1, 0, 2], [0, 3, 0]]))
    with pytest.raises(InputError, match=message):
        measure_moments(lambda: [(good, good), (good, rows)], 3, 3)


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_moments_of_other_chunks_are_refused(memory: int) -> None:
    x = np.array([[1, 0], [0, 1], [1, 1]])
    moments = measure_moments(make_chunks(x, x), 2, 2)
    kept = {"kept_a": everything(x), "kept_b": everything(x), "memory": memory}
    longer = make_chunks(np.concatenate([x, x]), np.concatenate([x, x]))
    with pytest.raises(InputError, match="same chunks"):
        find_partners(longer, *moments, **kept)
    with pytest.raises(InputError, match="same chunks"):
        find_partners(make_chunks(x, x), moments[0], measure_moments(longer, 2, 2)[1], **kept)
    with pytest.raises(InputError, match="same chunks"):
        correlate_pairs(longer, *moments, np.zeros(1, np.int32), np.zeros(1, np.int32))


@pytest.mark.parametrize("other", [[[1, 1], [1, 1], [0, 1]], [[1, 0], [0, 0], [0, 1]]])
def test_other_firings_than_the_moments_are_refused(other: Any) -> None:
    x = np.array([[1, 0], [0, 1], [1, 1]])
    moments = measure_moments(make_chunks(x, x), 2, 2)
    with pytest.raises(InputError, match="other firings"):
        find_partners(make_chunks(np.array(other), x), *moments, kept_a=everything(x), kept_b=everything(x))


def test_questions_that_make_no_sense_are_refused() -> None:
    x = np.array([[1, 0], [0, 1], [1, 1]])
    chunks = make_chunks(x, x)
    moments = measure_moments(chunks, 2, 2)
    kept = {"kept_a": everything(x), "kept_b": everything(x)}
    one, three = np.zeros(1, np.int32), np.zeros(3, np.int32)
    with pytest.raises(InputError, match="1 or more"):
        find_partners(chunks, *moments, **kept, top_k=0)
    for floor in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match="floor"):
            find_partners(chunks, *moments, **kept, floor=floor)
    with pytest.raises(InputError, match="features that exist"):
        correlate_pairs(chunks, *moments, one + 2, one)
    with pytest.raises(InputError, match="features that exist"):
        correlate_pairs(chunks, *moments, one, one - 1)
    with pytest.raises(InputError, match="as many"):
        correlate_pairs(chunks, *moments, one, three)
    with pytest.raises(InputError, match="one truth value"):
        measure_spreads(moments[0], np.ones(3, np.bool_))


@pytest.mark.skipif(KERNELS[0] is None, reason="the package was built without a C compiler")
def test_the_compiled_loops_check_what_they_are_given() -> None:
    kernels = KERNELS[0]
    whole, real = np.zeros(2, np.int64), np.zeros(0, np.float64)
    with pytest.raises(TypeError):
        kernels.merge(1, real, whole, real, whole)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.merge(2, np.zeros(3), np.zeros(3, np.int32), np.zeros(3), np.zeros(3, np.int32))
    with pytest.raises(TypeError, match="arguments"):
        kernels.dot(real)
    with pytest.raises(TypeError):
        kernels.transpose("0")
    with pytest.raises((BufferError, ValueError)):
        kernels.merge(1, np.zeros(4)[::2], np.zeros(2, np.int32), np.zeros(2), np.zeros(2, np.int32))
