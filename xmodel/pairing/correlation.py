"""Pearson's r between word features: everyone's best partners, and the r of named pairs.

With n words, r = (n Sxy - Sx Sy) / sqrt((n Sxx - Sx^2) (n Syy - Sy^2)), all sums in float64. Sxy is not 0
only where both features fire, so all F_A x F_B pairs are one sparse product. Features of SAEs are not
negative; then a pair that never fires together has r <= 0, and only the others are candidates.
"""

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing import chunks as _chunks
from xmodel.pairing.chunks import Chunks, FeatureColumns, read_chunks, take_columns
from xmodel.pairing.moments import measure_spreads
from xmodel.pairing.prepared import prepare_features
from xmodel.records import Moments, Partners

PAIRS_PER_BLOCK = 4096


def find_partners(
    chunks: Chunks,
    moments_a: Moments,
    moments_b: Moments,
    *,
    kept_a: NDArray[np.bool_],
    kept_b: NDArray[np.bool_],
    top_k: int = 10,
    floor: float = 0.0,
    workers: int | None = None,
    memory: int = 1 << 30,
) -> tuple[Partners, Partners]:
    """The best partners of every feature of both models, by Pearson's r over words.

    Lists are in order of r, at equal r of the partner's number. They are the same bits for any number of
    workers and any chunks. Candidates are pairs whose sum of products is not 0: for features that are never
    negative, as SAEs', all others have r <= 0. Signed features (neurons, components) belong into
    `xmodel.pairing.dense`.

    Args:
        chunks: the words' features.
        moments_a: of the same chunks, see `xmodel.pairing.moments.measure_moments`.
        moments_b: likewise.
        kept_a: [F_A] features that may have partners; constant ones never do. Set aside those with few
            firings: two features that each fire once, on the same word, have r = 1.
        kept_b: [F_B] likewise.
        top_k: length of the lists.
        floor: only pairs with r above it; not negative.
        workers: threads; None for one per core.
        memory: bytes for the words' features or for accumulators, see `prepare_features`.

    Returns:
        partners of A's features, and of B's.

    Raises:
        InputError: chunks malformed, moments of other chunks, `top_k` below 1, or a negative floor.
    """
    check_lists(top_k, floor)
    prepared = prepare_features(
        chunks, moments_a, moments_b, kept_a=kept_a, kept_b=kept_b, workers=workers, memory=memory
    )
    return prepared.find_partners(top_k, floor)


def check_lists(top_k: int, floor: float) -> None:
    """Refuse lists that cannot be made.

    Raises:
        InputError: `top_k` below 1, or a floor outside 0 to 1.
    """
    if top_k < 1:
        raise InputError(f"The number of partners to list came as {top_k}; expected was 1 or more.")
    if not 0 <= floor < 1:
        raise InputError(
            f"The floor of r came as {floor}; expected was 0 or more and less than 1, since pairs at or "
            "below it are left out."
        )


def correlate_pairs(
    chunks: Chunks,
    moments_a: Moments,
    moments_b: Moments,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Pearson's r and joint firings of named pairs, for instance on words that had no part in pairing.

    Over the same words, r has the same bits as in `find_partners`.

    Args:
        chunks: the words' features; read once.
        moments_a: of the same chunks.
        moments_b: likewise.
        a: [P] A's features.
        b: [P] B's features.

    Returns:
        r [P], not a number where a feature is constant over these words, and the number of words on which
        both fire [P].

    Raises:
        InputError: chunks malformed, moments of other chunks, or features that do not exist.
    """
    features_a, features_b = len(moments_a.sums), len(moments_b.sums)
    _check_names(a, features_a, "a")
    _check_names(b, features_b, "b")
    if len(a) != len(b):
        raise InputError(
            f"Pairs came as {len(a)} features of a and {len(b)} of b; expected were as many. "
            "Give one of each for every pair."
        )
    spreads_a = measure_spreads(moments_a, np.ones(features_a, np.bool_))
    spreads_b = measure_spreads(moments_b, np.ones(features_b, np.bool_))
    order = np.lexsort((b, a))
    names_a, slots_a = np.unique(a[order], return_inverse=True)
    names_b, slots_b = np.unique(b[order], return_inverse=True)
    sums, counts = np.zeros(len(a)), np.zeros(len(a), np.int64)
    slots_a, slots_b = slots_a.astype(np.int32), slots_b.astype(np.int32)
    words = 0
    for side_a, side_b in read_chunks(chunks, features_a, features_b):
        words += len(side_a)
        columns_a = take_columns(side_a, names_a.astype(np.int32))
        columns_b = take_columns(side_b, names_b.astype(np.int32))
        _add_products(slots_a, slots_b, columns_a, columns_b, len(side_a), sums, counts)
    if not words == moments_a.words == moments_b.words:
        raise InputError(
            f"The chunks hold {words} words, the moments were measured over {moments_a.words} and "
            f"{moments_b.words}. Measure the moments over the same chunks."
        )
    covariances = words * sums - spreads_a.sums[a[order]] * spreads_b.sums[b[order]]
    variances = spreads_a.variances[a[order]] * spreads_b.variances[b[order]]
    r, joint = np.full(len(a), np.nan), np.zeros(len(a), np.int64)
    varies = variances > 0
    r[order[varies]] = np.clip(covariances[varies] / np.sqrt(variances[varies]), -1.0, 1.0)
    joint[order] = counts
    return r, joint


def _add_products(
    slots_a: NDArray[np.int32],
    slots_b: NDArray[np.int32],
    columns_a: FeatureColumns,
    columns_b: FeatureColumns,
    words: int,
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> None:
    """Add a chunk's products and common words of some pairs to their totals."""
    if _chunks.kernels is not None:
        _chunks.kernels.dot(
            slots_a, slots_b,
            columns_a.indptr, columns_a.words, columns_a.values,
            columns_b.indptr, columns_b.words, columns_b.values,
            np.zeros(words, np.float32), sums, counts,
        )  # fmt: skip
        return
    from scipy.sparse import csc_array

    left, right = (
        csc_array((own.values.astype(np.float64), own.words, own.indptr), shape=(words, len(own.indptr) - 1))
        for own in (columns_a, columns_b)
    )
    for begin in range(0, len(sums), PAIRS_PER_BLOCK):
        part = slice(begin, begin + PAIRS_PER_BLOCK)
        products = csc_array(left[:, slots_a[part]].multiply(right[:, slots_b[part]]))
        sizes = np.diff(products.indptr)
        pairs = begin + np.repeat(np.arange(len(sizes)), sizes)
        # One after another, like the compiled loop, so that the sums have the same bits.
        np.add.at(sums, pairs, products.data)
        counts[part] += sizes


def _check_names(names: NDArray[np.int32], features: int, side: str) -> None:
    if len(names) and (names.min() < 0 or names.max() >= features):
        raise InputError(
            f"Pairs name features {names.min()} to {names.max()} of side {side}, which has features 0 to "
            f"{features - 1}. Name only features that exist."
        )
