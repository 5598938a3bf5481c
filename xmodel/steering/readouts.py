"""What is read from the transfers of all pairs against all: retrieval, separation, the diagonal, reliability.

S is the matrix of T between A's features, by rows, and B's, by columns; S of a cell is that of one dose and
depth. Where rows and columns are the same pairs in the same order, partners stand on the diagonal.

Tests here hold pairs for exchangeable, so pairs must not share features: a feature that stands in two pairs
(12:5 and 12:7) makes two rows or columns that are equal. `list_distinct` chooses one pair per feature.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.similarity.families import adjust_max

LEAST_PAIRS = 3
"""Pairs below which nothing is tested or resampled: of two, half of all orders are as good."""
TIE = 1e-7
"""T that differ by no more are ties: they are kept in float32, and some nulls in float64."""


@dataclass(frozen=True)
class Retrieval:
    """How well A's responses pick out their partners among B's."""

    top1: float
    """Share of the rows whose partner is the most alike of all candidates; ties get the share that breaking
    them at random would give, here and below."""
    top5: float
    """Share whose partner is among the five most alike."""
    mrr: float
    """Mean of 1 / rank of the partner, ranks from 1."""
    chance1: float
    """What top1 is by chance."""
    chance5: float
    """What top5 is by chance."""
    chance_mrr: float
    """What mrr is by chance."""
    candidates: int
    """Columns that were chosen among."""
    p1: float | None
    """P of top1 with partners shuffled among the rows; None without orders or with fewer than 3 rows."""


@dataclass(frozen=True, eq=False)
class DiagonalTest:
    """Are partners more alike than other pairs of features? For every cell, and over all cells."""

    diagonal: NDArray[np.float64]
    """[C] mean T of partners."""
    others: NDArray[np.float64]
    """[C] mean T of all that are not partners; not a number where there is one pair only."""
    difference: NDArray[np.float64]
    """[C] the former less the latter."""
    top1: NDArray[np.float64]
    """[C] share of the rows whose partner is the most alike of all columns."""
    p: NDArray[np.float64] | None
    """[C] of the difference, partners shuffled. None, as those below, where there are fewer than 3 pairs."""
    p_max: NDArray[np.float64] | None
    """[C] of the difference, corrected for the number of cells by their largest studentised value."""
    p_top1: NDArray[np.float64] | None
    """[C] of top1, partners shuffled."""
    p_top1_max: NDArray[np.float64] | None
    """[C] of top1, corrected likewise."""
    reason: str | None
    """Why there is no test, or None where there is one."""


@dataclass(frozen=True)
class Reliability:
    """How far S is the same over one half of the words and over the other."""

    correlation: float | None
    """Pearson's r over the entries of the halves' S; None where the entries of a half are all equal."""
    full: float | None
    """What r would be between two readings of as many words as both halves have (Spearman and Brown, British
    Journal of Psychology 3:271 and 3:296, 1910): 2 r / (1 + r), and 0 where r is negative. It is the ceiling
    for any correlation with S at this number of words."""


def list_distinct(features_a: NDArray[np.integer], features_b: NDArray[np.integer]) -> NDArray[np.int64]:
    """Which pairs to keep so that no feature stands in two: those whose features had not come before.

    Args:
        features_a: [F] A's feature of every pair, the most important pair first.
        features_b: [F] B's.

    Returns:
        [k] ascending indices.
    """
    seen_a: set[int] = set()
    seen_b: set[int] = set()
    kept = []
    for index, (a, b) in enumerate(zip(features_a.tolist(), features_b.tolist(), strict=True)):
        if a not in seen_a and b not in seen_b:
            kept.append(index)
            seen_a.add(a)
            seen_b.add(b)
    return np.array(kept, np.int64)


def measure_retrieval(
    s: NDArray[np.floating], partner: NDArray[np.integer], *, orders: NDArray[np.integer] | None = None
) -> Retrieval:
    """Does a response of A pick out its partner among B's? For the other direction, transpose.

    Args:
        s: [F, G] T of every row with every candidate.
        partner: [F] column of each row's partner.
        orders: [m, F] orders of the rows for p, of `draw_orders`: in draw i, row f has the partner of row
            `orders[i, f]`. The rows must not share features.

    Raises:
        InputError: T that are not finite, no rows, or partners that are no columns.
    """
    s = check_transfers(s, 2)
    partner = np.asarray(partner)
    rows, candidates = s.shape
    if partner.shape != (rows,) or rows < 1 or partner.min() < 0 or partner.max() >= candidates:
        raise InputError(
            f"Partners came with shape {list(partner.shape)} for {rows} rows and {candidates} candidates; "
            "expected was one column for each of one row or more. Give the column of each row's partner."
        )
    own = s[np.arange(rows), partner][:, None]
    better = (s > own + TIE).sum(axis=1)
    equal = (np.abs(s - own) <= TIE).sum(axis=1)
    reciprocals = np.concatenate([[0], np.cumsum(1 / np.arange(1, candidates + 1))])
    p1 = None
    if orders is not None and rows >= LEAST_PAIRS:
        credits = give_credits(s)
        null = credits[np.arange(rows), partner[_check_orders(orders, rows)]].mean(axis=1)
        p1 = float(count_exceeding(credits[np.arange(rows), partner].mean(), null))
    return Retrieval(
        top1=float((np.clip(1 - better, 0, equal) / equal).mean()),
        top5=float((np.clip(5 - better, 0, equal) / equal).mean()),
        mrr=float(((reciprocals[better + equal] - reciprocals[better]) / equal).mean()),
        chance1=1 / candidates,
        chance5=min(5, candidates) / candidates,
        chance_mrr=float(reciprocals[-1] / candidates),
        candidates=candidates,
        p1=p1,
    )


def give_credits(s: NDArray[np.floating]) -> NDArray[np.float64]:
    """What every candidate gets if it is the partner: 1 for the most alike, shared where several are.

    Args:
        s: [..., F, G] T.

    Returns:
        [..., F, G]; rows sum to 1. Top-1 is the mean over rows of the partner's entry.
    """
    best = s >= s.max(axis=-1, keepdims=True) - TIE
    return best / best.sum(axis=-1, keepdims=True)


def measure_auroc(pairs: NDArray[np.floating], others: NDArray[np.floating]) -> float:
    """The probability that a pair has a larger T than one of the others, ties counted half.

    The area under the curve of hits against false alarms (Hanley and McNeil, Radiology 143:29, 1982).

    Args:
        pairs: [n] T of pairs.
        others: [m] T of what they are to be told from, such as hard pairs.

    Raises:
        InputError: none of either, or T that are not finite.
    """
    pairs, others = check_transfers(pairs, 1), check_transfers(others, 1)
    if not len(pairs) or not len(others):
        raise InputError(
            f"{len(pairs)} pairs were to be told from {len(others)} others; expected was at least one of "
            "each. Leave the comparison out where there is nothing to compare."
        )
    return float(compare_values(pairs, others).mean())


def compare_values(pairs: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, m] 1 where the pair has the larger T, 1/2 where it is a tie, 0 elsewhere."""
    apart = pairs[:, None] - others[None, :]
    return np.where(np.abs(apart) <= TIE, 0.5, apart > 0)


def test_diagonal(s: NDArray[np.floating], orders: NDArray[np.integer]) -> DiagonalTest:
    """Test the mean diagonal less the mean of the rest, and top-1, with partners shuffled.

    The null says that any of B's features could as well have been the partner. All cells are shuffled in the
    same orders, so that the correction for their number keeps their dependence (see `adjust_max`).

    Args:
        s: [C, F, F] T of every cell, partners on the diagonal; no feature in two pairs.
        orders: [m, F] of `draw_orders`; in draw i, row f has the column `orders[i, f]` for its partner.

    Raises:
        InputError: T that are not finite, no pairs, or orders of another number of pairs.
    """
    s = check_transfers(s, 3)
    cells, pairs = s.shape[:2]
    if s.shape[2] != pairs or pairs < 1 or cells < 1:
        raise InputError(
            f"Transfers came with shape {list(s.shape)}; expected were [cells, pairs, pairs], with as many "
            "columns as rows. Give the same pairs on both sides."
        )
    orders = _check_orders(orders, pairs)
    credits = give_credits(s)
    diagonal, top1 = (np.einsum("cff->cf", x).mean(axis=1) for x in (s, credits))
    rest = pairs * (pairs - 1)
    others = (s.sum(axis=(1, 2)) - pairs * diagonal) / rest if rest else np.full(cells, np.nan)
    reason, tests = None, (None, None, None, None)
    if pairs < LEAST_PAIRS:
        reason = f"{pairs} pair{'' if pairs == 1 else 's'} cannot be shuffled; a test takes {LEAST_PAIRS}"
    else:
        # The sum of all entries does not change, so the difference orders draws as the diagonal does.
        tests = (*_test_cells(s, diagonal, orders), *_test_cells(credits, top1, orders))
    return DiagonalTest(diagonal, others, diagonal - others, top1, *tests, reason)


def measure_reliability(first: NDArray[np.floating], second: NDArray[np.floating]) -> Reliability:
    """How much S depends on which words were read: one half of them against the other.

    Args:
        first: [F, G] T over one half of the words, see `take_words`.
        second: [F, G] T of the same features over the other half.

    Raises:
        InputError: T that are not finite, or of different shape.
    """
    one, two = check_transfers(first, 2).ravel(), check_transfers(second, 2).ravel()
    if np.shape(first) != np.shape(second):
        raise InputError(
            f"Halves came with shapes {list(np.shape(first))} and {list(np.shape(second))}; expected were "
            "equal shapes. Give the same features for both halves."
        )
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(two) == 0:
        return Reliability(None, None)
    correlation = float(np.corrcoef(one, two)[0, 1])
    return Reliability(correlation, 2 * correlation / (1 + correlation) if correlation > 0 else 0.0)


def count_exceeding(values: NDArray[np.floating] | float, null: NDArray[np.floating]) -> NDArray[np.float64]:
    """P = (b + 1) / (m + 1), as `count_p`, for many values at once; ties by rounding exceed.

    Args:
        values: [...] observed; NaN where there is none.
        null: [..., m] in the draws.

    Returns:
        [...] p, NaN where there is no value.
    """
    values = np.asarray(values, np.float64)
    exceeding = (null >= values[..., None] - TIE).sum(axis=-1)
    return np.where(np.isnan(values), np.nan, (exceeding + 1) / (null.shape[-1] + 1))


def check_transfers(values: NDArray[np.floating], dimensions: int) -> NDArray[np.float64]:
    """Values as float64.

    Raises:
        InputError: another number of dimensions, or values that are not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != dimensions or not np.isfinite(values).all():
        raise InputError(
            f"Transfers came with shape {list(values.shape)} and {int((~np.isfinite(values)).sum())} values "
            f"that are not finite; expected were {dimensions} dimensions and numbers. A response that is "
            "exactly 0 has a transfer of 0."
        )
    return values


def _test_cells(
    values: NDArray[np.float64], observed: NDArray[np.float64], orders: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[C] raw p and p corrected over cells of the mean of [C, F, F] over each row's partner."""
    rows = np.arange(orders.shape[1])
    null = np.stack([cell[rows, orders].mean(axis=1) for cell in values])
    return count_exceeding(observed, null), adjust_max(observed, null)


def _check_orders(orders: NDArray[np.integer], rows: int) -> NDArray[np.int64]:
    orders = np.asarray(orders)
    if orders.ndim != 2 or not len(orders) or orders.shape[1] != rows:
        raise InputError(
            f"Orders came with shape {list(orders.shape)} for {rows} pairs; expected was one row or more, "
            "with one number for each pair. Draw them for these pairs with draw_orders."
        )
    return orders.astype(np.int64)
