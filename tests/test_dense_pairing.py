"""Partners of dense features against NumPy's correlation matrix."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.sparse_words import corpora, correlate_slowly, prepare
from xmodel.errors import InputError
from xmodel.pairing.dense import find_partners_dense


def list_slowly(
    r: Any, top_k: int, floor: float, absolute: bool
) -> tuple[list[list[int]], list[list[float]]]:
    names, values = [], []
    for row in r:
        scores = np.abs(row) if absolute else row
        good = [b for b in range(len(row)) if scores[b] > floor]
        best = sorted(good, key=lambda b: (-scores[b], b))[:top_k]
        names.append(best + [-1] * (top_k - len(best)))
        values.append([float(row[b]) for b in best] + [np.nan] * (top_k - len(best)))
    return names, values


@given(st.integers(0, 999), st.integers(1, 4), st.booleans(), st.sampled_from([0.0, 0.2]), st.booleans())
@pytest.mark.parametrize("memory", [1, 500, 1 << 30])
def test_lists_are_numpys(
    memory: int, seed: int, top_k: int, absolute: bool, floor: float, tensors: bool
) -> None:
    rng = np.random.default_rng(seed)
    x_a, x_b = (rng.normal(size=(9, n)) for n in rng.integers(1, 9, 2))
    sides = (torch.tensor(x_a), torch.tensor(x_b)) if tensors else (x_a, x_b)
    found = find_partners_dense(*sides, top_k=top_k, absolute=absolute, floor=floor, memory=memory)
    r = correlate_slowly(x_a, x_b)
    for own, expected in zip(found, (r, r.T), strict=True):
        names, values = list_slowly(expected, top_k, floor, absolute)
        assert own.features.tolist() == names
        assert np.allclose(own.r, values, rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("memory", [1, 2000, 1 << 30])
@pytest.mark.parametrize("absolute", [False, True])
def test_equal_r_go_by_number(memory: int, absolute: bool) -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(-4, 5, 64).astype(np.float64)
    one -= one.mean()
    x_b = np.stack([one, 2 * one, -one, one, 4 * one, -one], axis=1)
    of_a, of_b = find_partners_dense(one[:, None], x_b, top_k=3, absolute=absolute, memory=memory)
    assert of_a.features.tolist() == [[0, 1, 2] if absolute else [0, 1, 3]]
    assert np.allclose(of_a.r, [[1, 1, -1]] if absolute else [[1, 1, 1]], rtol=0, atol=1e-12)
    assert of_b.features[2].tolist() == [0 if absolute else -1, -1, -1]


@given(corpora())
def test_sparse_and_dense_agree(corpus: Any) -> None:
    x_a, x_b, _ = corpus
    sparse = prepare(x_a, x_b).find_partners(8, 0.05)
    dense = find_partners_dense(x_a, x_b, top_k=8, absolute=False, floor=0.05)
    for one, other in zip(sparse, dense, strict=True):
        assert np.allclose(one.r, other.r, rtol=0, atol=1e-12, equal_nan=True)


def test_constant_and_unkept_features_have_no_partners() -> None:
    x = np.random.default_rng(1).normal(size=(100, 4))
    x[:, 2] = 0.1
    kept = np.array([True, False, True, True])
    of_a, of_b = find_partners_dense(x, x, top_k=4, absolute=True, kept_a=kept)
    assert (of_a.features >= 0).sum(axis=1).tolist() == [3, 0, 0, 3]
    assert (of_b.features >= 0).sum(axis=1).tolist() == [2, 2, 0, 2]
    assert set(of_b.features.ravel().tolist()) == {-1, 0, 3}
    assert np.array_equal(np.isnan(of_a.r), of_a.features < 0)


def test_single_precision_is_close_and_asked_for() -> None:
    rng = np.random.default_rng(2)
    x_a, x_b = rng.normal(size=(500, 20)) + 30, rng.normal(size=(500, 30))
    exact, _ = find_partners_dense(x_a, x_b, top_k=1, absolute=True)
    quick, _ = find_partners_dense(x_a, x_b, top_k=1, absolute=True, dtype=torch.float32)
    assert 0 < np.abs(exact.r - quick.r).max() < 1e-4


def test_r_stays_within_1() -> None:
    x = np.random.default_rng(4).normal(size=(200, 50))
    of_a, _ = find_partners_dense(x, x, top_k=1, absolute=False)
    assert of_a.features[:, 0].tolist() == list(range(50))
    assert of_a.r.max() <= 1
    assert of_a.r.min() > 1 - 1e-12


def test_shuffled_words_lose_the_partner() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 20))
    found, _ = find_partners_dense(x, -x + 0.1 * rng.normal(size=x.shape), top_k=1, absolute=True)
    lost, _ = find_partners_dense(x, rng.permutation(-x), top_k=1, absolute=True)
    assert found.features[:, 0].tolist() == list(range(20))
    assert (found.r < -0.9).all()
    assert (np.abs(lost.r) < 0.4).all()


def test_empty_inputs() -> None:
    for words, a, b in ((0, 2, 2), (5, 0, 2), (5, 2, 0), (1, 2, 2)):
        of_a, of_b = find_partners_dense(np.ones((words, a)), np.ones((words, b)), absolute=True)
        assert of_a.features.tolist() == [[-1] * 10] * a
        assert of_b.features.tolist() == [[-1] * 10] * b


def test_what_cannot_be_correlated_is_refused() -> None:
    x = np.ones((3, 2))
    with pytest.raises(InputError, match="same words"):
        find_partners_dense(x, np.ones((4, 2)), absolute=True)
    with pytest.raises(InputError, match="two matrices"):
        find_partners_dense(x, np.ones(3), absolute=True)
    with pytest.raises(InputError, match="not a number"):
        find_partners_dense(x, x * np.nan, absolute=True)
    with pytest.raises(InputError, match="truth value"):
        find_partners_dense(x, x, absolute=True, kept_b=np.ones(3, np.bool_))
    with pytest.raises(InputError, match="1 or more"):
        find_partners_dense(x, x, absolute=True, top_k=0)
    with pytest.raises(InputError, match="one device"):
        find_partners_dense(torch.ones(3, 2), torch.ones(3, 2, device="meta"), absolute=True)
