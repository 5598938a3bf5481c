"""A corpus as chunks of words under two dictionaries, and their turning from rows into columns."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.records import WordFeatures

try:
    from xmodel.pairing import _sparse
except ImportError:  # no compiler where the package was built: NumPy and SciPy do the same, slower
    kernels: Any = None
else:
    kernels = _sparse

Chunks = Callable[[], Iterable[tuple[WordFeatures, WordFeatures]]]
"""Gives the corpus from its beginning, every time in the same order: pairs of the same words' features under
A's and B's dictionary. Each call may read from disk."""


@dataclass(frozen=True, eq=False)
class FeatureColumns:
    """The words of some features, as compressed sparse columns."""

    indptr: NDArray[np.int64]
    """[S + 1] column pointer."""
    words: NDArray[np.int32]
    """[nnz] word numbers, ascending within a column."""
    values: NDArray[np.float32]
    """[nnz] activations."""


def read_chunks(
    chunks: Chunks, features_a: int, features_b: int
) -> Iterator[tuple[WordFeatures, WordFeatures]]:
    """Go through all chunks once, checking each.

    Raises:
        InputError: a chunk's sides have different words, or one is not a well-formed matrix of so many
            features.
    """
    for number, (side_a, side_b) in enumerate(chunks()):
        check_rows(side_a, features_a, f"chunk {number}, side a")
        check_rows(side_b, features_b, f"chunk {number}, side b")
        if len(side_a) != len(side_b):
            raise InputError(
                f"Chunk {number} has {len(side_a)} words on side a and {len(side_b)} on side b. Both sides "
                "must hold the same words in the same order: extract both from one alignment."
            )
        yield side_a, side_b


def check_rows(rows: WordFeatures, features: int, where: str) -> None:
    """Refuse what is not compressed sparse rows of finite numbers other than 0.

    Raises:
        InputError: something is off; says what, and where.
    """
    indptr, indices, values = rows.indptr, rows.indices, rows.values
    fault = None
    if rows.features != features:
        fault = f"{rows.features} features where {features} were expected"
    elif (indptr.dtype, indices.dtype, values.dtype) != (np.int64, np.int32, np.float32):
        fault = f"types {indptr.dtype}, {indices.dtype}, {values.dtype} instead of int64, int32, float32"
    elif len(indptr) < 1 or indptr[0] != 0 or indptr[-1] != len(indices) or len(indices) != len(values):
        fault = "row pointer, indices and values of lengths that do not fit together"
    elif np.any(indptr[1:] < indptr[:-1]):
        fault = "a row pointer that decreases"
    elif len(indices) and (indices.min() < 0 or indices.max() >= features):
        fault = f"feature numbers outside 0 to {features - 1}"
    elif not (np.isfinite(values).all() and values.all()):
        fault = "activations that are 0, infinite or not a number"
    else:
        ascending = indices[1:] > indices[:-1]
        first = indptr[(indptr > 0) & (indptr < len(indices))]
        ascending[first - 1] = True
        if not ascending.all():
            fault = "feature numbers that do not ascend within a word"
    if fault is not None:
        raise InputError(
            f"The features of words in {where} have {fault}. Expected are compressed sparse rows as "
            "`WordFeatures` describes them: extract them again."
        )


def keep_features(rows: WordFeatures, kept: NDArray[np.bool_]) -> WordFeatures:
    """Drop every feature that is not kept; numbers stay as they are."""
    if kept.all():
        return rows
    mask = kept[rows.indices]
    before = np.zeros(len(mask) + 1, np.int64)
    np.cumsum(mask, out=before[1:])
    return WordFeatures(before[rows.indptr], rows.indices[mask], rows.values[mask], rows.features)


def number_slots(features: int, chosen: NDArray[np.int32]) -> NDArray[np.int32]:
    """[F] the place of each feature among the chosen; -1 for others."""
    slots = np.full(features, -1, np.int32)
    slots[chosen] = np.arange(len(chosen), dtype=np.int32)
    return slots


def take_columns(rows: WordFeatures, chosen: NDArray[np.int32]) -> FeatureColumns:
    """The columns of some features of one chunk; words are numbered from the chunk's first."""
    slots = number_slots(rows.features, chosen)
    counts = np.bincount(rows.indices, minlength=rows.features)[chosen]
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    words = np.empty(indptr[-1], np.int32)
    values = np.empty(indptr[-1], np.float32)
    cursors = indptr[:-1].copy()
    scatter_columns(0, rows, slots, cursors, words, values)
    return FeatureColumns(indptr, words, values)


def scatter_columns(
    first: int,
    rows: WordFeatures,
    slots: NDArray[np.int32],
    cursors: NDArray[np.int64],
    words: NDArray[np.int32],
    values: NDArray[np.float32],
) -> bool:
    """Write a chunk's entries into columns, each from its cursor on, and move the cursors.

    Args:
        first: number of the chunk's first word.
        rows: the chunk.
        slots: [F] column of each feature; negative for those to leave out.
        cursors: [S] where each column goes on.
        words: [nnz] written to.
        values: [nnz] written to.

    Returns:
        Whether all entries lay inside the arrays.
    """
    if kernels is not None:
        return kernels.transpose(first, rows.indptr, rows.indices, rows.values, slots, cursors, words, values)
    entries = np.flatnonzero(slots[rows.indices] >= 0)
    columns = slots[rows.indices[entries]]
    order = np.argsort(columns, kind="stable")
    entries, columns = entries[order], columns[order]
    counts = np.bincount(columns, minlength=len(cursors))
    places = np.arange(len(columns)) + np.repeat(cursors - (np.cumsum(counts) - counts), counts)
    if len(places) and places.max() >= len(words):
        return False
    words[places] = first + np.searchsorted(rows.indptr, entries, side="right") - 1
    values[places] = rows.values[entries]
    cursors += counts
    return True
