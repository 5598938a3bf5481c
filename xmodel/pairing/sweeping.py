"""The sweep: for some of A's features, the products with all of B's, and the best pairs out of them.

It is Gustavson's sparse product (ACM TOMS 4:250, 1978), one row at a time into a dense accumulator, and
every row is reduced to short lists before the next begins, so that the full matrix never exists.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing.chunks import FeatureColumns
from xmodel.pairing.ranking import keep_best, precedes
from xmodel.records import WordFeatures

BLOCKS_PER_WORKER = 16
Space = TypeVar("Space")


@dataclass(frozen=True, eq=False)
class Job:
    """What to look for: the best columns of some rows and, unless `column_k` is 0, the best rows of columns.

    A pair's score is r less its column's penalty. A pair counts where its score lies above its row's bound
    and its (r, row) comes before its column's limit; with `column_k` there are no penalties and limits.
    """

    words: int
    """n, the number of words of the whole corpus."""
    rows: NDArray[np.int32]
    """[R] A's features."""
    sums_a: NDArray[np.float64]
    """[F_A] sum of x."""
    variances_a: NDArray[np.float64]
    """[F_A] n Sxx - Sx^2; 0 for features without partners."""
    table_b: NDArray[np.float64]
    """[F_B, 4] sum, 1 / sqrt(variance) (0 for features without partners), variance, limit of r."""
    limit_names: NDArray[np.int32]
    """[F_B] at equal r, rows below this number come before the limit."""
    penalty: NDArray[np.float64]
    """[F_B] what is taken off r."""
    bounds: NDArray[np.float64]
    """[R] what the score must exceed."""
    top_k: int
    """Length of a row's list."""
    column_k: int
    """Length of a column's list; 0 for none."""

    @property
    def features_b(self) -> int:
        """F_B."""
        return len(self.penalty)


@dataclass(frozen=True, eq=False)
class Lists:
    """What a sweep found; scores -inf and names -1 behind the end of a list."""

    row_scores: NDArray[np.float64]
    """[R, k] best first; at equal scores the lower name first."""
    row_names: NDArray[np.int32]
    """[R, k] B's features."""
    column_scores: NDArray[np.float64]
    """[F_B, kc] likewise."""
    column_names: NDArray[np.int32]
    """[F_B, kc] A's features."""


@dataclass(frozen=True, eq=False)
class _Workspace:
    """What one thread writes to."""

    table: NDArray[np.float64]
    column_scores: NDArray[np.float64]
    column_names: NDArray[np.int32]
    touched: NDArray[np.int32]
    sums: NDArray[np.float64]


def count_workers(workers: int | None) -> int:
    """The number of threads: as given, else the cores that this process may use."""
    if workers is not None:
        return max(1, workers)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_lists(count: int, top_k: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Empty lists: scores -inf and names -1."""
    return np.full((count, top_k), -np.inf), np.full((count, top_k), -1, np.int32)


def measure_workspace(features_b: int, column_k: int) -> int:
    """Bytes that one thread needs beside the data."""
    return features_b * (8 + 4 + 32 + 12 * column_k)


def sweep_held(kernels: Any, columns: FeatureColumns, rows: WordFeatures, job: Job, workers: int) -> Lists:
    """Sweep with A's columns (one per feature) and B's rows in memory, in compiled code.

    The result does not depend on `workers`: each row is one thread's, and lists follow a total order.
    """
    row_scores, row_names = start_lists(len(job.rows), job.top_k)

    def start() -> _Workspace:
        touched = np.empty(max(64, job.features_b // 2), np.int32)
        return _start_workspace(job, touched, np.zeros(job.features_b))

    def work(space: _Workspace, begin: int, end: int) -> None:
        part = slice(begin, end)
        kernels.sweep(
            job.words, 0, job.column_k,
            columns.indptr, columns.words, columns.values, rows.indptr, rows.indices, rows.values,
            job.rows[part], job.sums_a, job.variances_a, job.bounds[part],
            space.table, job.penalty, job.limit_names, row_scores[part], row_names[part],
            space.column_scores, space.column_names, space.sums, space.touched,
        )  # fmt: skip

    spaces = _share_rows(len(job.rows), workers, start, work)
    return _merge_spaces(kernels, row_scores, row_names, spaces, job)


def sweep_streamed(
    kernels: Any,
    chunks: Iterable[tuple[FeatureColumns, WordFeatures]],
    job: Job,
    workers: int,
) -> Lists:
    """Sweep a tile of rows over chunks that come one after another, in compiled code.

    Args:
        kernels: the compiled module.
        chunks: for each chunk the columns of the job's rows, in their order, and B's rows.
        job: what to look for; [R, F_B] float64 must fit in memory.
        workers: threads.
    """
    row_scores, row_names = start_lists(len(job.rows), job.top_k)
    sums = np.zeros((len(job.rows), job.features_b))
    for columns, rows in chunks:

        def add(_: None, begin: int, end: int, columns: Any = columns, rows: Any = rows) -> None:
            kernels.accumulate(
                columns.indptr[begin : end + 1], columns.words, columns.values,
                rows.indptr, rows.indices, rows.values, sums[begin:end],
            )  # fmt: skip

        _share_rows(len(job.rows), workers, lambda: None, add)
    nothing = [np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32)]

    def work(space: _Workspace, begin: int, end: int) -> None:
        part = slice(begin, end)
        kernels.sweep(
            job.words, 1, job.column_k, *nothing, *nothing,
            job.rows[part], job.sums_a, job.variances_a, job.bounds[part],
            space.table, job.penalty, job.limit_names, row_scores[part], row_names[part],
            space.column_scores, space.column_names, sums[part], space.touched,
        )  # fmt: skip

    spaces = _share_rows(
        len(job.rows), workers, lambda: _start_workspace(job, np.zeros(0, np.int32), np.zeros(0)), work
    )
    return _merge_spaces(kernels, row_scores, row_names, spaces, job)


def sweep_with_scipy(chunks: Iterable[tuple[FeatureColumns, WordFeatures]], job: Job) -> Lists:
    """The same as `sweep_streamed`, without compiled code."""
    from scipy.sparse import csr_array

    total: Any = None
    for columns, rows in chunks:
        left = csr_array(
            (columns.values.astype(np.float64), columns.words, columns.indptr),
            shape=(len(job.rows), len(rows)),
        )
        right = csr_array(
            (rows.values.astype(np.float64), rows.indices, rows.indptr), shape=(len(rows), job.features_b)
        )
        product = left @ right
        total = product if total is None else total + product
    if total is None:
        total = csr_array((len(job.rows), job.features_b))
    places = np.repeat(np.arange(len(job.rows)), np.diff(total.indptr))
    return _choose_best(places, total.indices, total.data, job)


def merge_columns(kernels: Any, one: Lists, other: Lists) -> Lists:
    """The rows' lists of `one`, and of each column the best of both; changes `one`."""
    top_k = one.column_scores.shape[1]
    if top_k and kernels is not None:
        kernels.merge(top_k, one.column_scores, one.column_names, other.column_scores, other.column_names)
    elif top_k:
        scores = np.concatenate([one.column_scores, other.column_scores], axis=1)
        names = np.concatenate([one.column_names, other.column_names], axis=1)
        columns, places = np.nonzero(names >= 0)
        best = keep_best(columns, scores[columns, places], names[columns, places], len(scores), top_k)
        one.column_scores[:], one.column_names[:] = best
    return one


def _choose_best(
    places: NDArray[np.int64], columns: NDArray[np.int32], sums: NDArray[np.float64], job: Job
) -> Lists:
    """Reduce the sums of products of many pairs to lists."""
    sum_b, inverse_b, variance_b, limit_b = job.table_b.T
    rows = job.rows[places]
    usable = (sums != 0) & (job.variances_a[rows] > 0) & (inverse_b[columns] > 0)
    places, columns, sums, rows = places[usable], columns[usable], sums[usable], rows[usable]
    covariances = job.words * sums - job.sums_a[rows] * sum_b[columns]
    r = np.clip(covariances / np.sqrt(job.variances_a[rows] * variance_b[columns]), -1.0, 1.0)
    scores = r - job.penalty[columns]
    good = scores > job.bounds[places]
    if not job.column_k:
        good &= precedes(r, rows, limit_b[columns], job.limit_names[columns])
    places, columns, rows, r, scores = places[good], columns[good], rows[good], r[good], scores[good]
    row_lists = keep_best(places, scores, columns, len(job.rows), job.top_k)
    if not job.column_k:
        return Lists(*row_lists, *start_lists(job.features_b, 0))
    return Lists(*row_lists, *keep_best(columns, r, rows, job.features_b, job.column_k))


def _start_workspace(job: Job, touched: NDArray[np.int32], sums: NDArray[np.float64]) -> _Workspace:
    # The last column of the table is written to only where lists of columns are kept.
    table = job.table_b.copy() if job.column_k else job.table_b
    return _Workspace(table, *start_lists(job.features_b, job.column_k), touched, sums)


def _merge_spaces(
    kernels: Any,
    row_scores: NDArray[np.float64],
    row_names: NDArray[np.int32],
    spaces: list[_Workspace],
    job: Job,
) -> Lists:
    found = [Lists(row_scores, row_names, own.column_scores, own.column_names) for own in spaces]
    if not found:
        return Lists(row_scores, row_names, *start_lists(job.features_b, job.column_k))
    for other in found[1:]:
        merge_columns(kernels, found[0], other)
    return found[0]


def _share_rows(
    count: int, workers: int, start: Callable[[], Space], work: Callable[[Space, int, int], None]
) -> list[Space]:
    """Give blocks of rows to threads, each with its own space; return the spaces."""
    blocks = min(count, workers * BLOCKS_PER_WORKER if workers > 1 else 1)
    bounds = np.linspace(0, count, blocks + 1).astype(np.int64).tolist()
    todo: Iterator[tuple[int, int]] = iter(list(pairwise(bounds)))

    def drain() -> Space:
        space = start()
        for begin, end in todo:
            work(space, begin, end)
        return space

    if workers == 1 or blocks <= 1:
        return [drain()] if blocks else []
    with ThreadPoolExecutor(workers) as pool:
        return [future.result() for future in [pool.submit(drain) for _ in range(workers)]]
