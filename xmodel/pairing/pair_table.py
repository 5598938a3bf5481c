"""The table of pairs: every listed partner both ways, and whatever a rule chose beyond the lists."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing.chunks import Chunks
from xmodel.pairing.cofiring import cofiring_log10_p
from xmodel.pairing.correlation import correlate_pairs
from xmodel.records import Moments, Partners

if TYPE_CHECKING:
    import pyarrow as pa

RULES = ("best_of_a", "best_of_b", "mutual", "one_to_one", "many_to_one", "optimal")
"""The rules of pairing, each a column of the table."""


@dataclass(frozen=True, eq=False)
class Matched:
    """What pairing found, before it becomes a table."""

    of_a: Partners
    of_b: Partners
    one_to_one: NDArray[np.int32]
    """[n, 2] greedy."""
    many_to_one: NDArray[np.int32]
    """[n, 2] greedy, a B feature with at most m of A's."""
    optimal: NDArray[np.int32]
    """[n, 2]"""
    gap: float
    """How much the sum of the optimal assignment could still grow at most."""


def tabulate_pairs(
    matched: Matched,
    discovery: Chunks,
    heldout: Chunks,
    moments: tuple[Moments, Moments],
    held_moments: tuple[Moments, Moments],
    top_k: int,
) -> "pa.Table":
    """The table of pairs: all listed partners both ways, and whatever a rule chose beyond them.

    Returns:
        The columns of pairs.parquet, by r falling, then by the features' numbers. For signed features by
        the magnitude of r. ``r_heldout`` is null where a feature does not vary on the held-out half,
        ``runner_up_r`` and ``margin`` where A's feature has no other partner above the floor.
    """
    import pyarrow as pa

    width = len(moments[1].sums)
    lists = {
        name: _list_keys(part.features[:, :top_k], width, name == "b")
        for name, part in (("a", matched.of_a), ("b", matched.of_b))
    }
    chosen = {
        name: pairs[:, 0].astype(np.int64) * width + pairs[:, 1]
        for name, pairs in (
            ("one_to_one", matched.one_to_one),
            ("many_to_one", matched.many_to_one),
            ("optimal", matched.optimal),
        )
    }
    keys = np.unique(np.concatenate([lists["a"][0], lists["b"][0], *chosen.values()]))
    a, b = (keys // width).astype(np.int32), (keys % width).astype(np.int32)
    r, n_ab = correlate_pairs(discovery, *moments, a, b)
    r_heldout, n_ab_heldout = correlate_pairs(heldout, *held_moments, a, b)
    n_a, n_b = moments[0].firings[a], moments[1].firings[b]
    rank_a, rank_b = (_look_up(keys, *lists[name]) for name in "ab")
    runner_up = _find_runner_up(matched.of_a, a, rank_a)
    order = np.lexsort((b, a, -np.abs(r)))
    columns: dict[str, Any] = {
        "feature_a": a,
        "feature_b": b,
        "r": r,
        "r_heldout": _mask(r_heldout),
        "n_a": n_a,
        "n_b": n_b,
        "n_ab": n_ab,
        "jaccard": n_ab / np.maximum(n_a + n_b - n_ab, 1),
        "n_a_heldout": held_moments[0].firings[a],
        "n_b_heldout": held_moments[1].firings[b],
        "n_ab_heldout": n_ab_heldout,
        "log10_p_cofiring": cofiring_log10_p(moments[0].words, n_a, n_b, n_ab),
        "runner_up_r": _mask(runner_up),
        "margin": _mask(np.abs(r) - np.abs(runner_up)),
        "rank_a": np.ma.masked_equal(rank_a, 0),
        "rank_b": np.ma.masked_equal(rank_b, 0),
        "best_of_a": rank_a == 1,
        "best_of_b": rank_b == 1,
        "mutual": (rank_a == 1) & (rank_b == 1),
        **{name: np.isin(keys, own) for name, own in chosen.items()},
    }
    return pa.table({name: _make_column(column, order) for name, column in columns.items()})


def correlate_shuffled(
    table: "pa.Table",
    discovery: Chunks,
    heldout: Chunks,
    moments: tuple[Moments, Moments],
    held_moments: tuple[Moments, Moments],
    *,
    signed: bool,
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Per rule, the held-out r that its pairs have with each other's partners: what chance alone gives.

    B's features are shuffled once among the pairs of a rule; what the shuffle gives that is a pair of the
    rule again is left out. What does not vary on the held-out half counts as 0, and for signed features the
    sign is turned as that of r on the discovery half, both as for the pairs themselves.

    Args:
        table: the pairs.
        discovery: the words that they were found on.
        heldout: the held-out words.
        moments: of the discovery half.
        held_moments: of the held-out half.
        signed: whether the sign of r is arbitrary.
        seed: of the shuffle.
    """
    a, b = (table[f"feature_{letter}"].to_numpy() for letter in "ab")
    keys = a.astype(np.int64) * len(moments[1].sums) + b
    parts = []
    for rule in RULES:
        own = np.flatnonzero(table[rule].to_numpy(zero_copy_only=False).astype(bool))
        others = np.random.default_rng(seed).permutation(own)
        apart = ~np.isin(keys[own] - b[own] + b[others], keys[own])
        parts.append((a[own[apart]], b[others[apart]]))
    shuffled = [np.concatenate(side) for side in zip(*parts, strict=True)]
    r, _ = correlate_pairs(heldout, *held_moments, *shuffled)
    if signed:
        found, _ = correlate_pairs(discovery, *moments, *shuffled)
        r = r * np.sign(np.nan_to_num(found))
    stops = np.cumsum([len(own) for own, _ in parts])
    return dict(zip(RULES, np.split(np.nan_to_num(r), stops[:-1]), strict=True))


def _make_column(column: NDArray[Any], order: NDArray[np.int64]) -> "pa.Array":
    import pyarrow as pa

    own = column[order]
    if isinstance(own, np.ma.MaskedArray):
        return pa.array(own.data, mask=np.ma.getmaskarray(own))
    return pa.array(own)


def _mask(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values that do not exist become nulls."""
    return np.ma.masked_invalid(values)


def _list_keys(
    listed: NDArray[np.int32], width: int, of_b: bool
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The pairs of a list [F, k] as numbers a * F_B + b, ascending, and their ranks from 1."""
    rows, ranks = np.nonzero(listed >= 0)
    others = listed[rows, ranks].astype(np.int64)
    keys = others * width + rows if of_b else rows * width + others
    order = np.argsort(keys)
    return keys[order], (ranks[order] + 1).astype(np.int32)


def _look_up(
    keys: NDArray[np.int64], listed: NDArray[np.int64], ranks: NDArray[np.int32]
) -> NDArray[np.int32]:
    """[P] the rank of every pair in a list, 0 where it is not in it."""
    found = np.zeros(len(keys), dtype=np.int32)
    found[np.searchsorted(keys, listed)] = ranks
    return found


def _find_runner_up(of_a: Partners, a: NDArray[np.int32], rank_a: NDArray[np.int32]) -> NDArray[np.float64]:
    """[P] the r of A's best other partner: its second for the best pair, its best for all others."""
    return np.where(rank_a == 1, of_a.r[a, 1], of_a.r[a, 0])
