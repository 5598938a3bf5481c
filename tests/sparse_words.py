"""Word features for tests of pairing: from dense matrices, drawn or planted, cut into chunks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from xmodel.pairing import chunks as chunks_module
from xmodel.pairing.chunks import Chunks
from xmodel.pairing.moments import measure_moments
from xmodel.pairing.prepared import PreparedFeatures, prepare_features
from xmodel.records import WordFeatures

KERNELS = [chunks_module.kernels, None] if chunks_module.kernels is not None else [None]


def make_rows(x: NDArray[Any]) -> WordFeatures:
    x = np.asarray(x, dtype=np.float32)
    fires = x != 0
    indptr = np.concatenate([[0], np.cumsum(fires.sum(axis=1))]).astype(np.int64)
    return WordFeatures(indptr, np.nonzero(fires)[1].astype(np.int32), x[fires], x.shape[1])


def make_chunks(x_a: NDArray[Any], x_b: NDArray[Any], cuts: Sequence[int] = ()) -> Chunks:
    parts = list(zip(np.split(x_a, list(cuts)), np.split(x_b, list(cuts)), strict=True))
    return lambda: ((make_rows(a), make_rows(b)) for a, b in parts)


def prepare(
    x_a: NDArray[Any], x_b: NDArray[Any], cuts: Sequence[int] = (), *, workers: int = 1, memory: int = 1 << 30
) -> PreparedFeatures:
    chunks = make_chunks(x_a, x_b, cuts)
    moments = measure_moments(chunks, x_a.shape[1], x_b.shape[1])
    return prepare_features(
        chunks, *moments, kept_a=everything(x_a), kept_b=everything(x_b), workers=workers, memory=memory
    )


def everything(x: NDArray[Any]) -> NDArray[np.bool_]:
    return np.ones(x.shape[1], np.bool_)


@contextmanager
def use_kernels(kernels: Any) -> Iterator[None]:
    """With the compiled module, or with None: without."""
    before = chunks_module.kernels
    chunks_module.kernels = kernels
    try:
        yield
    finally:
        chunks_module.kernels = before


def correlate_slowly(x_a: NDArray[Any], x_b: NDArray[Any]) -> NDArray[np.float64]:
    """Pearson's r of all pairs by NumPy; not a number where one is constant."""
    a, b = np.asarray(x_a, np.float64), np.asarray(x_b, np.float64)
    with np.errstate(all="ignore"):
        r = np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]
    constant = (np.ptp(a, axis=0) == 0)[:, None] | (np.ptp(b, axis=0) == 0)[None, :]
    return np.where(constant, np.nan, r)


@st.composite
def corpora(
    draw: st.DrawFn, most: int = 8, words: int = 12
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[int]]:
    """Both sides' activations, with many equal values so that ties are common, and where to cut."""
    count = draw(st.integers(2, words))
    sizes = draw(st.tuples(st.integers(1, most), st.integers(1, most)))
    seed, share = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.1, 0.3, 0.6, 1.0]))
    kinds = draw(st.sampled_from([1, 2, 0]))
    rng = np.random.default_rng(seed)

    def draw_side(features: int) -> NDArray[np.float32]:
        x = rng.integers(1, kinds + 1, (count, features)) if kinds else rng.lognormal(size=(count, features))
        return (x * (rng.random((count, features)) < share)).astype(np.float32)

    cuts = draw(st.lists(st.integers(0, count), max_size=4).map(sorted))
    return draw_side(sizes[0]), draw_side(sizes[1]), cuts


def plant_permutation(
    words: int, features: int, seed: int, noise: float = 0.5
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """B has A's features in another order and with noise: firings added, dropped and rescaled."""
    rng = np.random.default_rng(seed)
    x_a = (rng.random((words, features)) < 0.05) * rng.lognormal(size=(words, features))
    order = rng.permutation(features)
    x_b = np.empty_like(x_a)
    x_b[:, order] = x_a * (rng.random(x_a.shape) > 0.2) * rng.lognormal(sigma=noise, size=x_a.shape)
    x_b += (rng.random(x_b.shape) < 0.01) * rng.lognormal(size=x_b.shape)
    return x_a.astype(np.float32), x_b.astype(np.float32), order
