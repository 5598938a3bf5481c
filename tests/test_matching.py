"""Greedy and optimal one-to-one pairing against sorting the full matrix and against SciPy's dense solver."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from tests.sparse_words import (
    KERNELS,
    corpora,
    correlate_slowly,
    make_chunks,
    plant_permutation,
    prepare,
    use_kernels,
)
from xmodel.errors import InputError
from xmodel.pairing.dense import prepare_dense
from xmodel.pairing.greedy import match_greedy
from xmodel.pairing.optimal import match_optimal
from xmodel.pairing.prepared import Limits, Searchable
from xmodel.records import Partners

PRICES = [0.0, 0.1, 0.3]


def pair_by_scanning(prepared: Searchable, floor: float, capacity: int, absolute: bool = False) -> list[Any]:
    """Sort all pairs and take each whose features are free."""
    features_a, features_b = prepared.features
    everything, _ = prepared.find_partners(max(1, features_b), floor)
    pairs = [
        (-(abs(r) if absolute else r), a, b)
        for a in range(features_a)
        for b, r in zip(everything.features[a].tolist(), everything.r[a].tolist(), strict=True)
        if b >= 0
    ]
    taken: set[int] = set()
    uses = [0] * features_b
    chosen = []
    for _, a, b in sorted(pairs):
        if a not in taken and uses[b] < capacity:
            taken.add(a)
            uses[b] += 1
            chosen.append([a, b])
    return chosen


def measure_best(r: NDArray[np.float64], price: float) -> float:
    """The largest sum of (r - price), by SciPy's dense solver; staying unpaired is worth 0."""
    worth = np.maximum(np.nan_to_num(r, nan=-1.0) - price, 0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return float(worth[rows, columns].sum())


@given(
    corpora(most=12, words=15),
    st.integers(1, 3),
    st.sampled_from(PRICES),
    st.integers(1, 3),
    st.sampled_from(KERNELS),
    st.sampled_from([0, 1 << 30]),
)
def test_greedy_is_sorting_the_full_matrix_and_scanning(
    corpus: Any, top_k: int, floor: float, capacity: int, kernels: Any, memory: int
) -> None:
    x_a, x_b, cuts = corpus
    with use_kernels(kernels):
        prepared = prepare(x_a, x_b, cuts, memory=memory)
        partners, _ = prepared.find_partners(top_k, floor)
        pairs = match_greedy(prepared, partners, floor=floor, capacity=capacity)
        assert pairs.tolist() == pair_by_scanning(prepared, floor, capacity)
    assert pairs.dtype == np.int32


@given(corpora(most=12, words=15), st.integers(1, 3), st.sampled_from(PRICES), st.sampled_from(KERNELS))
def test_optimal_is_what_the_dense_solver_finds(corpus: Any, top_k: int, price: float, kernels: Any) -> None:
    x_a, x_b, cuts = corpus
    with use_kernels(kernels):
        prepared = prepare(x_a, x_b, cuts)
        pairs, gap = match_optimal(prepared, *prepared.find_partners(top_k, price), price=price)
    r = correlate_slowly(x_a, x_b)
    worth = r[pairs[:, 0], pairs[:, 1]] - price
    assert abs(worth.sum() - measure_best(r, price)) < 1e-9
    assert 0 <= gap < 1e-9
    assert (worth > 0).all()
    assert len(set(pairs[:, 0].tolist())) == len(set(pairs[:, 1].tolist())) == len(pairs)
    assert (np.diff(worth) < 1e-9).all()


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_optimal_on_a_larger_case_with_lists_of_one(kernels: Any, memory: int) -> None:
    rng = np.random.default_rng(8)
    x_a, x_b = ((rng.random((200, n)) < 0.15) * rng.lognormal(size=(200, n)) for n in (60, 50))
    with use_kernels(kernels):
        prepared = prepare(x_a, x_b, [70], memory=memory)
        pairs, gap = match_optimal(prepared, *prepared.find_partners(1, 0.0), rounds=100)
        greedy = match_greedy(prepared, prepared.find_partners(1, 0.0)[0])
    r = correlate_slowly(x_a.astype(np.float32), x_b.astype(np.float32))
    value = r[pairs[:, 0], pairs[:, 1]].sum()
    assert abs(value - measure_best(r, 0.0)) < 1e-9
    assert gap < 1e-9
    assert r[greedy[:, 0], greedy[:, 1]].sum() < value


@given(corpora(most=12, words=15), st.integers(1, 3), st.sampled_from(PRICES), st.sampled_from(KERNELS))
def test_a_gap_after_one_round_bounds_what_is_missing(
    corpus: Any, rounds: int, price: float, kernels: Any
) -> None:
    x_a, x_b, _ = corpus
    with use_kernels(kernels):
        prepared = prepare(x_a, x_b)
        pairs, gap = match_optimal(prepared, *prepared.find_partners(1, price), price=price, rounds=rounds)
    r = correlate_slowly(x_a, x_b)
    value = (r[pairs[:, 0], pairs[:, 1]] - price).sum()
    assert value - 1e-9 <= measure_best(r, price) <= value + gap + 1e-9


@given(corpora(most=12, words=15), st.sampled_from(KERNELS))
def test_lists_may_have_another_floor_than_the_pairs(corpus: Any, kernels: Any) -> None:
    x_a, x_b, _ = corpus
    r = correlate_slowly(x_a, x_b)
    with use_kernels(kernels):
        prepared = prepare(x_a, x_b)
        pairs, gap = match_optimal(prepared, *prepared.find_partners(2, 0.4), price=0.0)
        low, _ = prepared.find_partners(2, 0.0)
        assert match_greedy(prepared, low, floor=0.4).tolist() == pair_by_scanning(prepared, 0.4, 1)
    assert abs(r[pairs[:, 0], pairs[:, 1]].sum() - measure_best(r, 0.0)) < 1e-9
    assert gap < 1e-9


def test_some_gap_is_not_0_when_the_rounds_run_out() -> None:
    rng = np.random.default_rng(8)
    x_a, x_b = ((rng.random((200, n)) < 0.15) * rng.lognormal(size=(200, n)) for n in (60, 50))
    prepared = prepare(x_a, x_b)
    _, gap = match_optimal(prepared, *prepared.find_partners(1, 0.0), rounds=1)
    assert gap > 0.01


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_planted_permutation_is_recovered_and_lost_when_words_are_shuffled(kernels: Any) -> None:
    x_a, x_b, order = plant_permutation(600, 60, seed=1)
    with use_kernels(kernels):
        for words, lowest, highest in ((x_b, 1.0, 1.0), (np.random.default_rng(2).permutation(x_b), 0, 0.2)):
            prepared = prepare(x_a, words)
            lists = prepared.find_partners(2, 0.0)
            for pairs in (match_greedy(prepared, lists[0]), match_optimal(prepared, *lists)[0]):
                right = (order[pairs[:, 0]] == pairs[:, 1]).sum() / 60
                assert lowest <= right <= highest


@given(corpora(most=10), st.sampled_from(KERNELS), st.sampled_from([0, 1 << 30]), st.integers(0, 999))
def test_searching_honours_bounds_penalties_and_limits(
    corpus: Any, kernels: Any, memory: int, seed: int
) -> None:
    x_a, x_b, _ = corpus
    rng = np.random.default_rng(seed)
    features_a, features_b = x_a.shape[1], x_b.shape[1]
    rows = np.flatnonzero(rng.random(features_a) < 0.7).astype(np.int32)
    penalty = rng.choice([0.0, 0.1], features_b)
    with use_kernels(kernels):
        prepared = prepare(x_a, x_b, memory=memory)
        everything, _ = prepared.find_partners(features_b, 0.0)
        known = {
            (a, b): r
            for a in range(features_a)
            for b, r in zip(everything.features[a].tolist(), everything.r[a].tolist(), strict=True)
            if b >= 0
        }
        # Limits that are equal to some pair's r, so that the names decide.
        low = np.array(
            [
                max([r for (_, b), r in known.items() if b == own][:1], default=0.0)
                for own in range(features_b)
            ]
        )
        limits = Limits(low, rng.integers(-1, features_a, features_b).astype(np.int32))
        bounds = rng.choice([0.0, 0.2], len(rows))
        scores, names = prepared.search(rows, bounds, 2, limits=limits, penalty=penalty)
    for place, a in enumerate(rows.tolist()):
        good = [
            (-(r - penalty[b]), b)
            for (own, b), r in known.items()
            if own == a
            and r - penalty[b] > bounds[place]
            and (r > low[b] or (r == low[b] and a < limits.names[b]))
        ]
        expected = sorted(good)[:2]
        assert names[place][names[place] >= 0].tolist() == [b for _, b in expected]
        assert scores[place][names[place] >= 0].tolist() == [-score for score, _ in expected]
        assert np.isneginf(scores[place][names[place] < 0]).all()


@given(st.integers(0, 999), st.integers(1, 3), st.booleans(), st.sampled_from([0.0, 0.2]))
def test_dense_features_are_matched_alike(seed: int, top_k: int, absolute: bool, floor: float) -> None:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(40, 5))
    x_a, x_b = (shared @ rng.normal(size=(5, n)) + rng.normal(size=(40, n)) for n in rng.integers(1, 12, 2))
    prepared = prepare_dense(x_a, x_b, absolute=absolute, memory=2000)
    lists = prepared.find_partners(top_k, floor)
    greedy = match_greedy(prepared, lists[0], floor=floor, absolute=absolute)
    assert greedy.tolist() == pair_by_scanning(prepared, floor, 1, absolute)
    pairs, gap = match_optimal(prepared, *lists, price=floor, absolute=absolute, rounds=100)
    r = correlate_slowly(x_a, x_b)
    r = np.abs(r) if absolute else r
    assert abs((r[pairs[:, 0], pairs[:, 1]] - floor).sum() - measure_best(r, floor)) < 1e-9
    assert gap < 1e-9


@pytest.mark.parametrize("features", [(0, 0), (0, 3), (3, 0), (3, 2)])
def test_nothing_to_pair(features: tuple[int, int]) -> None:
    prepared = prepare(np.zeros((5, features[0])), np.zeros((5, features[1])))
    lists = prepared.find_partners(2, 0.0)
    assert match_greedy(prepared, lists[0]).shape == (0, 2)
    pairs, gap = match_optimal(prepared, *lists)
    assert pairs.shape == (0, 2)
    assert gap == 0


def test_matching_that_makes_no_sense_is_refused() -> None:
    x = np.eye(3)
    prepared = prepare(x, x)
    lists = prepared.find_partners(2, 0.0)
    short = Partners(lists[0].features[:2], lists[0].r[:2])
    with pytest.raises(InputError, match="capacity"):
        match_greedy(prepared, lists[0], capacity=0)
    with pytest.raises(InputError, match="same features"):
        match_greedy(prepared, short)
    with pytest.raises(InputError, match="same features"):
        match_optimal(prepared, short, lists[1])
    with pytest.raises(InputError, match="price"):
        match_optimal(prepared, *lists, price=1.0)
    with pytest.raises(InputError, match="rounds"):
        match_optimal(prepared, *lists, rounds=0)


def test_chunks_are_read_once_where_they_fit() -> None:
    x_a, x_b, _ = plant_permutation(100, 20, seed=3)
    chunks = make_chunks(x_a, x_b, [50])
    reads = []
    prepared = prepare(x_a, x_b, [50])
    assert prepared.held is not None

    def count() -> Any:
        reads.append(1)
        return chunks()

    from xmodel.pairing.moments import measure_moments
    from xmodel.pairing.prepared import prepare_features

    kept = {"kept_a": np.ones(20, np.bool_), "kept_b": np.ones(20, np.bool_)}
    moments = measure_moments(chunks, 20, 20)
    for memory, most in ((1 << 30, 1), (0, 1000)):
        reads.clear()
        prepared = prepare_features(count, *moments, **kept, memory=memory)
        match_greedy(prepared, prepared.find_partners(1, 0.0)[0])
        assert 1 <= len(reads) <= most
        assert (prepared.held is None) == (memory == 0)
