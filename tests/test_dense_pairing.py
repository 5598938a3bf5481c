"""Partners of dense features against NumPy's correlation matrix."""

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.sparse_words import corpora, correlate_slowly, prepare
from xmodel.errors import InputError
from xmodel.pairing import dense, densify
from xmodel.pairing.dense import find_partners_dense, prepare_dense
from xmodel.records import WordFeatures


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


def test_the_size_of_blocks_changes_nothing_but_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(5).normal(size=(40, 9))
    x[:, 4] = 7
    kept = np.arange(9) != 2
    whole = prepare_dense(x, x, absolute=True, kept_a=kept)
    monkeypatch.setattr(dense, "BLOCK_BYTES", 8 * 40 * 2)
    parts = prepare_dense(x, x, absolute=True, kept_a=kept)
    assert parts.names_a.tolist() == whole.names_a.tolist() == [0, 1, 3, 5, 6, 7, 8]
    assert parts.names_b.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert torch.allclose(parts.x_a, whole.x_a, rtol=0, atol=1e-15)
    centred = (x - x.mean(0))[:, whole.names_a]
    assert np.allclose(parts.x_a.numpy(), centred / np.linalg.norm(centred, axis=0), rtol=0, atol=1e-15)


def test_what_is_given_stays_as_it_is() -> None:
    x = np.random.default_rng(6).normal(size=(30, 5))
    before = x.copy()
    prepare_dense(x, torch.from_numpy(x), absolute=True)
    assert np.array_equal(x, before)


def make_chunks(dense_a: Any, dense_b: Any, rows: int) -> Any:
    def sparse(x: Any) -> WordFeatures:
        at, features = np.nonzero(x)
        indptr = np.searchsorted(at, np.arange(len(x) + 1)).astype(np.int64)
        return WordFeatures(indptr, features.astype(np.int32), x[at, features], x.shape[1])

    def read() -> Any:
        for first in range(0, len(dense_a), rows):
            yield sparse(dense_a[first : first + rows]), sparse(dense_b[first : first + rows])

    return read


@pytest.mark.parametrize("entries", [1, 7, 1 << 20])
def test_densify_gives_the_matrices_back(monkeypatch: pytest.MonkeyPatch, entries: int) -> None:
    monkeypatch.setattr(densify, "ENTRIES", entries)
    rng = np.random.default_rng(7)
    x_a, x_b = ((rng.normal(size=(23, n)) * (rng.random((23, n)) < 0.6)).astype(np.float32) for n in (5, 8))
    x_a[3:6] = 0
    found = densify.densify(make_chunks(x_a, x_b, 10), (5, 8), 23)
    assert np.array_equal(found[0], x_a)
    assert np.array_equal(found[1], x_b)


def test_rows_are_put_in_their_places_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(densify, "ENTRIES", 1000)
    x = np.ones((1000, 200), np.float32)
    (own, _), *_ = make_chunks(x, x, 1000)()
    found = np.zeros_like(x)
    tracemalloc.start()
    densify._fill(found, own)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(found, x)
    assert peak < 100_000  # 24 bytes for each of 1,000 entries, and what Python itself needs.


def test_more_than_is_free_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = densify.estimate_memory(1000, 30)
    x = np.ones((1000, 15), np.float32)
    monkeypatch.setattr(densify, "measure_free_memory", lambda: needed)
    densify.densify(make_chunks(x, x, 500), (15, 15), 1000)
    monkeypatch.setattr(densify, "measure_free_memory", lambda: needed - 1)
    with pytest.raises(InputError, match="1,000 words of 15 and 15 features take"):
        densify.densify(make_chunks(x, x, 500), (15, 15), 1000)


def write_group(folder: Path, limit: str, used: int, pages: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - pages}\ninactive_file {pages}\n")


def test_control_groups_limit_what_is_free(tmp_path: Path) -> None:
    own, root = tmp_path / "own", tmp_path / "cgroup"
    own.write_text("4:memory:/elsewhere\n0::/job/step\n")
    free = densify.measure_free_memory(root, own)
    assert free > 1 << 28
    write_group(root / "job" / "step", "max", 50, 0)
    assert densify.measure_free_memory(root, own) > 1 << 28
    write_group(root / "job", str(9_000_000), 5_000_000, 1_000_000)
    assert densify.measure_free_memory(root, own) == 5_000_000
    write_group(root / "job" / "step", str(3_000_000), 2_000_000, 0)
    assert densify.measure_free_memory(root, own) == 1_000_000
    write_group(root / "job" / "step", str(1_000_000), 2_000_000, 0)
    assert densify.measure_free_memory(root, own) == 0
    write_group(root, str(700), 0, 0)
    own.write_text("0::/\n")
    assert densify.measure_free_memory(root, own) == 700
    own.unlink()
    assert densify.measure_free_memory(root, own) == 700
    assert densify.measure_free_memory(tmp_path / "none", own) > 1 << 28


PEAK = """
import numpy as np
import torch
from xmodel.pairing.dense import prepare_dense
from xmodel.pairing.densify import densify, estimate_memory
from xmodel.records import WordFeatures

torch.set_num_threads(1)
words, features, parts = 40_000, (512, 256), 40

def make(count, seed):
    rows = words // parts
    values = np.random.default_rng(seed).standard_normal((rows, count), dtype=np.float32).ravel()
    indptr = np.arange(rows + 1, dtype=np.int64) * count
    return WordFeatures(indptr, np.tile(np.arange(count, dtype=np.int32), rows), values, count)

def chunks():
    return ((make(features[0], seed), make(features[1], seed + parts)) for seed in range(parts))

def measure():
    # Not ru_maxrss: a process inherits that of the one that started it.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

prepare_dense(np.random.rand(9, 3), np.random.rand(9, 3), absolute=True).find_partners(2, 0.0)
before = measure()
prepared = prepare_dense(*densify(chunks, features, words), absolute=True)
assert len(prepared.names_a) == features[0]
print((measure() - before) / estimate_memory(words, sum(features)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_the_peak_of_memory_is_what_is_claimed() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert 0.8 < float(done.stdout) < 1.15
