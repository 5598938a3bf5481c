"""From transfers to answers: what every pair and every cell says, beside what chance gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.similarity.orders import draw_orders
from xmodel.steering.collecting import Collected
from xmodel.steering.excess import (
    Excess,
    make_auroc,
    measure_excess,
    measure_excess_of,
    weigh_difference,
    weigh_top1,
)
from xmodel.steering.pair_tests import PairTests, test_pairs
from xmodel.steering.readouts import (
    LEAST_PAIRS,
    DiagonalTest,
    list_distinct,
    measure_auroc,
    measure_reliability,
    measure_retrieval,
    test_diagonal,
)
from xmodel.steering.session import Session

FLOOR_FACTOR = 10
"""A response is told from rounding if it is so many times what rounding gives."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """The transfers of a session's pairs, and all tests on them."""

    s: NDArray[np.float64]
    """[C, F, F] T of all pairs with all, B's features turned by the sign of their pair."""
    even: NDArray[np.float64]
    """[C, F, F] of the even responses."""
    reinitialised: NDArray[np.float64]
    """[R, C, F, F] S with random layers after the site."""
    distinct: NDArray[np.int64]
    """[k] pairs of which no two share a feature: tests over pairs take these. In ablations only those whose
    features fire on a pushed token of the passages, both of them."""
    matched: NDArray[np.int64]
    """[H] which of `distinct` each hard pair is matched to."""
    hard: NDArray[np.float64]
    """[C, H] T of hard pairs."""
    hard_reinitialised: NDArray[np.float64]
    """[R, C, H]"""
    next_best: NDArray[np.float64]
    """[C, F] T with the next best partner; NaN where there is none."""
    nulls: dict[str, NDArray[np.float64]]
    """By name, [F, C, m] draws of each pair's null."""
    diagonal: DiagonalTest
    pairs: PairTests
    sizes: NDArray[np.float64]
    """[4, F, C] sizes of A's odd, B's odd, A's even and B's even responses."""

    @property
    def values(self) -> NDArray[np.float64]:
        """[F, C] T of every pair."""
        return np.einsum("cff->fc", self.s)


def judge(session: Session, collected: Collected, reinitialised: Sequence[NDArray[np.float32]]) -> Judgement:
    """Test every pair and every cell.

    Args:
        session: what was pushed.
        collected: transfers.
        reinitialised: for every draw of random layers, [C, n_A, n_B'].
    """
    rows_a, rows_b = session.rows
    sign = session.sign
    first, second = session.directions
    odd = collected.odd.astype(np.float64)
    s = odd[:, rows_a][:, :, rows_b] * sign
    hard_rows = first.find(session.hard.a), second.find(session.hard.b)
    random = np.stack([one.astype(np.float64) for one in reinitialised]) if reinitialised else None
    reinit = _take(random, (0, *s.shape), lambda x: x[:, :, rows_a][:, :, :, rows_b] * sign)
    # Of an ablation, a feature that fires nowhere has no response; a push always has one.
    fires = [own[0].any(axis=1) for own in (collected.norms_a, collected.norms_b)]
    responds = fires[0][rows_a] & fires[1][rows_b]
    values = np.where(responds[:, None], np.einsum("cff->fc", s), np.nan)
    nulls = {"words": collected.permuted.astype(np.float64) * sign[:, None, None]}
    if collected.random.shape[2]:
        nulls["random"] = np.moveaxis(collected.random[:, rows_a].astype(np.float64), 0, 1)
    live_rows = second.find(session.live)
    live_rows = live_rows[fires[1][live_rows]]
    if len(live_rows):
        live = np.moveaxis(odd[:, rows_a][:, :, live_rows], 0, 1)
        # Which way a signed feature is pushed is arbitrary: either way is a draw. An ablation has no way.
        both = session.signed and session.settings.mode == "push"
        nulls["live"] = np.concatenate([live, -live], axis=2) if both else live
    distinct = np.flatnonzero(responds)
    distinct = distinct[list_distinct(session.pairs.a[distinct], session.pairs.b[distinct])]
    if not len(distinct):
        raise InputError(
            f"none of the {len(session.pairs)} pairs fires on a token of the passages in both models, so "
            "that their ablation changes nothing: ask for more --words or --pairs."
        )
    usable = np.isin(session.hard.pair, distinct) & fires[0][hard_rows[0]] & fires[1][hard_rows[1]]
    hard_rows = hard_rows[0][usable], hard_rows[1][usable]
    hard_sign = session.hard.sign[usable]
    rng = np.random.default_rng([session.settings.seed, 5])
    orders = draw_orders(len(distinct), session.settings.permutations, rng)
    next_rows = second.find(session.hard.next_best)
    next_best = odd[:, rows_a, next_rows] * session.hard.next_best_sign
    next_there = (next_rows >= 0) & responds & fires[1][next_rows]
    sizes = (collected.norms_a[0][rows_a], collected.norms_b[0][rows_b])
    sizes = (*sizes, collected.norms_a[1][rows_a], collected.norms_b[1][rows_b])
    return Judgement(
        s=s,
        even=collected.even.astype(np.float64)[:, rows_a][:, :, rows_b],
        reinitialised=reinit,
        distinct=distinct,
        matched=np.searchsorted(distinct, session.hard.pair[usable]),
        hard=odd[:, hard_rows[0], hard_rows[1]] * hard_sign,
        hard_reinitialised=_take(
            random, (0, len(s), len(hard_sign)), lambda x: x[:, :, hard_rows[0], hard_rows[1]] * hard_sign
        ),
        next_best=np.where(next_there, next_best, np.nan),
        nulls=nulls,
        diagonal=test_diagonal(_cut(s, distinct), orders),
        pairs=test_pairs(values, nulls),
        sizes=np.stack(sizes),
    )


def _take(
    given: NDArray[np.float64] | None,
    empty: tuple[int, ...],
    take: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """What `take` makes of an array; an empty one of that shape where there is none."""
    return np.zeros(empty) if given is None else take(given)


def describe_cell(session: Session, found: Judgement, cell: int) -> dict[str, Any]:
    """Everything that one cell of dose and depth says, as steering.json has it."""
    settings = session.settings
    dose, depth = settings.cells[cell]
    place = cell % len(settings.depths)
    own = _cut(found.s[cell : cell + 1], found.distinct)[0]
    rng = np.random.default_rng([settings.seed, 7, cell])
    orders = draw_orders(len(own), settings.permutations, rng)
    there, back = (measure_retrieval(one, np.arange(len(own)), orders=orders) for one in (own, own.T))
    test, off = found.diagonal, own[~np.eye(len(own), dtype=np.bool_)]
    pairs, hard = np.diag(own), found.hard[cell]
    matched = pairs[found.matched]
    next_best = found.next_best[cell][found.distinct]
    next_best = next_best[~np.isnan(next_best)]
    even = _cut(found.even[cell : cell + 1], found.distinct)[0]
    return {
        "dose": dose,
        "depth": depth,
        "block_a": session.reads[0][place],
        "block_b": session.reads[1][place],
        "mean_diagonal": float(test.diagonal[cell]),
        "mean_off_diagonal": _number(test.others[cell]),
        "difference": _number(test.difference[cell]),
        "p": _pick(test.p, cell),
        "p_max": _pick(test.p_max, cell),
        "retrieval": {
            "candidates": there.candidates,
            "top1": there.top1,
            "top5": there.top5,
            "mrr": there.mrr,
            "chance1": there.chance1,
            "chance5": there.chance5,
            "chance_mrr": there.chance_mrr,
            "p_top1": _pick(test.p_top1, cell),
            "p_top1_max": _pick(test.p_top1_max, cell),
            "top1_back": back.top1,
            "top5_back": back.top5,
            "p_top1_back": back.p1,
        },
        "auroc": {
            "off_diagonal": measure_auroc(np.diag(own), off) if len(off) else None,
            "hard": measure_auroc(matched, hard) if len(hard) else None,
            "next_best": measure_auroc(pairs, next_best) if len(next_best) else None,
        },
        "means": {
            name: float(null[found.distinct, cell].mean()) if null.shape[2] else None
            for name, null in found.nulls.items()
        }
        | {
            "hard": float(hard.mean()) if len(hard) else None,
            "partners_matched": float(matched.mean()) if len(hard) else None,
            "next_best": float(next_best.mean()) if len(next_best) else None,
            "even": float(np.diag(even).mean()),
            "even_off_diagonal": _average_off(even),
        },
        "over_hard": _describe_over_hard(session, found, cell),
        "reinitialised": _describe_reinitialised(found, cell),
        "excess": _describe_excess(session, found, cell),
        "damage": {
            letter: float(np.median(found.sizes[2 + number, :, cell] / found.sizes[number, :, cell]))
            for number, letter in enumerate("ab")
            if (found.sizes[number, :, cell] > 0).all()
        },
        "pairs_significant": int((found.pairs.row_q[:, cell] <= settings.alpha).sum()),
    }


def _describe_reinitialised(found: Judgement, cell: int) -> dict[str, Any] | None:
    if not len(found.reinitialised):
        return None
    s = [_cut(one[cell : cell + 1], found.distinct)[0] for one in found.reinitialised]
    off = [one[~np.eye(len(one), dtype=np.bool_)] for one in s]
    hard = found.hard_reinitialised[:, cell]
    return {
        "draws": len(s),
        "mean_diagonal": float(np.mean([np.diag(one).mean() for one in s])),
        "mean_off_diagonal": float(np.mean(off)) if off[0].size else None,
        "top1": [measure_retrieval(one, np.arange(len(one))).top1 for one in s],
        "auroc_off_diagonal": [
            measure_auroc(np.diag(one), rest) for one, rest in zip(s, off, strict=True) if len(rest)
        ],
        "auroc_hard": [
            measure_auroc(np.diag(one)[found.matched], own)
            for one, own in zip(s, hard, strict=True)
            if len(own)
        ],
    }


def _describe_excess(session: Session, found: Judgement, cell: int) -> dict[str, Any] | None:
    """The headline: what the trained layers have beyond random ones."""
    if not len(found.reinitialised):
        return None
    own = _cut(found.s[cell : cell + 1], found.distinct)[0]
    others = np.stack([_cut(one[cell : cell + 1], found.distinct)[0] for one in found.reinitialised])
    rng = np.random.default_rng([session.settings.seed, 8, cell])
    pairs = np.diag(own), np.einsum("rff->rf", others)
    described = {
        "mean_diagonal": _describe(measure_excess(*pairs, rng)),
        "difference": _describe(measure_excess_of(weigh_difference, own, others, len(own), rng))
        if len(own) >= LEAST_PAIRS
        else None,
        "top1": _describe(measure_excess_of(weigh_top1, own, others, len(own), rng)),
        "auroc_hard": None,
    }
    count = len(found.matched)
    if count:
        trained = np.concatenate([pairs[0][found.matched], found.hard[cell]])
        base = np.concatenate([pairs[1][:, found.matched], found.hard_reinitialised[:, cell]], axis=1)
        weigh = make_auroc(np.arange(count), count)
        described["auroc_hard"] = _describe(measure_excess_of(weigh, trained, base, count, rng))
    return described


def _describe_over_hard(session: Session, found: Judgement, cell: int) -> dict[str, Any] | None:
    """What pairs have over the hard pairs that they are matched to."""
    if not len(found.matched):
        return None
    own = found.values[found.distinct][found.matched, cell]
    rng = np.random.default_rng([session.settings.seed, 9, cell])
    excess = measure_excess(own, found.hard[cell][None], rng)
    interval = None if excess.low is None else [excess.low, excess.high]
    return {"value": excess.value, "interval": interval, "p": excess.p, "pairs": len(own)}


def describe_reliability(halves: NDArray[np.float32], sign: NDArray[np.float64], cell: int) -> dict[str, Any]:
    """How much S of a cell depends on which passages were read."""
    found = measure_reliability(halves[0, cell] * sign, halves[1, cell] * sign)
    return {"correlation": found.correlation, "full": found.full}


def _describe(excess: Excess) -> dict[str, Any]:
    return {
        "value": excess.value,
        "interval": None if excess.low is None else [excess.low, excess.high],
        "p": excess.p,
        "p_draws": excess.p_draws,
        "trained": excess.trained,
        "reinitialised": excess.reinitialised.tolist(),
    }


def _cut(s: NDArray[np.float64], chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    return s[:, chosen][:, :, chosen]


def _average_off(s: NDArray[np.float64]) -> float | None:
    off = s[~np.eye(len(s), dtype=np.bool_)]
    return float(off.mean()) if len(off) else None


def _pick(values: NDArray[np.float64] | None, cell: int) -> float | None:
    return None if values is None else _number(values[cell])


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
