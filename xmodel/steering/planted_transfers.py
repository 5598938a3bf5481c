"""Transfer where the truth is known: a model against a copy of itself whose later layers are damaged.

The copy's weights after the site have noise of known size: without any, the partner's response is the
feature's own; with much of it, layers know nothing of each other, as re-initialised ones do. Everything goes
through the functions that real runs go through.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.similarity.chance import ALPHA
from xmodel.similarity.orders import draw_orders
from xmodel.steering.excess import Excess, measure_excess, measure_excess_of, weigh_difference
from xmodel.steering.measuring import Responses, prepare_side
from xmodel.steering.pair_tests import PairTests, test_pairs
from xmodel.steering.planted import PlantedComparison
from xmodel.steering.readouts import measure_auroc, measure_retrieval
from xmodel.steering.reinitialising import add_noise, reinitialise_blocks
from xmodel.steering.replaying import choose_reads, find_stream_block
from xmodel.steering.responses import correlate_responses, permute_words
from xmodel.steering.transfers import collect_responses, compare_responses

if TYPE_CHECKING:
    from torch import nn

DEPTHS = (1 / 3, 2 / 3)
"""Where responses are read; the figures are of the last, the tests per pair of both."""
DOSE, LARGE_DOSE = 0.25, 1.0
"""How far features are pushed, and how far random directions are, to show what damage does."""
LEVELS = (0.25, 0.5, 1.0, 4.0)
"""Noise in the copy's later layers, in standard deviations of each weight tensor."""
PAIRED_LEVEL = 0.5
"""The noise under which pairs and the excess over re-initialised layers are tested."""
DAMAGE = 0.3
"""The T of two random directions above which they count as agreeing."""


def measure_comparison(planted: PlantedComparison) -> dict[str, Any]:
    """Measure what is planted.

    Returns:
        ``seed``, ``pairs``; ``identity``: how many ``responses`` of layers that do nothing there are, and how
        many ``moved``; ``levels``: by noise (None for re-initialised layers) T of pairs, top1 and auroc;
        ``pairs_right`` and ``pairs_wrong``: by null and for ``all`` of them, how many pairs have p <= 0.05;
        ``wrong_top1``; ``excess``, ``wrong_excess`` and ``no_excess`` over re-initialised layers of the
        damaged copy, of wrong partners, and of re-initialised layers themselves: value and interval of T of
        partners less that of others; ``wrong_mean``: the same of T of wrong partners alone; ``copy_top1``;
        ``random``: how many pairs of random directions agree by raw and by odd changes of the Gram matrix.
    """
    first = respond(planted, None, planted.paired)
    tested = np.concatenate([planted.paired, planted.wrong, planted.live, planted.random])
    second = respond(planted, _damage(planted, PAIRED_LEVEL), tested)
    found = compare_responses(first, second).odd
    count = len(planted.paired)
    right, wrong = slice(0, count), slice(count, 2 * count)
    matrices = {PAIRED_LEVEL: found[-1][:, right]}
    for level in LEVELS:
        if level != PAIRED_LEVEL:
            matrices[level] = _transfer(first, respond(planted, _damage(planted, level), planted.paired))
    random = [_reinitialise(planted, draw) for draw in range(planted.draws + 1)]
    levels = [_describe_level(level, matrices[level]) for level in LEVELS]
    levels.append(_describe_level(None, random[0]))
    null = np.stack(random[1:])
    return {
        "seed": planted.seed,
        "pairs": count,
        "identity": _measure_identity(planted),
        "levels": levels,
        "pairs_right": _test_columns(planted, first, second, found, right),
        "pairs_wrong": _test_columns(planted, first, second, found, wrong),
        "wrong_top1": _pick(found[-1][:, wrong]),
        "excess": _describe_excess(planted, matrices[PAIRED_LEVEL], null),
        "wrong_excess": _describe_excess(planted, found[-1][:, wrong], null),
        "no_excess": _describe_excess(planted, random[0], null),
        "wrong_mean": _describe_mean(planted, found[-1][:, wrong], null),
        "copy_top1": _pick(_reinitialise(planted, 0, keep_copy=True)),
        "random": _measure_random(planted),
    }


def respond(
    planted: PlantedComparison,
    blocks: "nn.ModuleList | None",
    directions: NDArray[np.float32],
    *,
    dose: float = DOSE,
    keep_copy: bool = False,
) -> Responses:
    """Responses of directions, with the model's own later layers or others."""
    whole = np.ones(planted.ids.shape, bool)
    reads = choose_reads(planted.model, planted.site, DEPTHS)
    places = planted.ids, whole, planted.rows, planted.columns
    side = prepare_side(planted.model, planted.site, *places, reads, blocks=blocks)
    return collect_responses(side, directions, (dose,), keep_copy=keep_copy)


def make_identity(planted: PlantedComparison) -> "nn.ModuleList":
    """Later layers that do nothing."""
    from torch import nn

    class Nothing(nn.Module):
        def forward(self, hidden: Any, *_: Any, **__: Any) -> Any:
            return hidden

    start = find_stream_block(planted.model, planted.site) + 1
    return nn.ModuleList([Nothing() for _ in range(start, planted.model.layers)])


def _damage(planted: PlantedComparison, level: float) -> "nn.ModuleList":
    start = find_stream_block(planted.model, planted.site) + 1
    return add_noise(planted.model, start, level, planted.seed)


def _transfer(first: Responses, second: Responses) -> NDArray[np.float32]:
    """[n_A, n_B] T at the last depth."""
    return compare_responses(first, second).odd[-1]


def _reinitialise(planted: PlantedComparison, draw: int, keep_copy: bool = False) -> NDArray[np.float32]:
    """[F, F] T of pairs where the later layers of both are random, each its own."""
    start = find_stream_block(planted.model, planted.site) + 1
    seeds = np.random.SeedSequence([planted.seed, draw, 1]).generate_state(2).tolist()
    first, second = (
        respond(planted, reinitialise_blocks(planted.model, start, seed), planted.paired, keep_copy=keep_copy)
        for seed in seeds
    )
    return _transfer(first, second)


def _measure_identity(planted: PlantedComparison) -> dict[str, int]:
    found = respond(planted, make_identity(planted), planted.paired)
    moved = [(one != 0).any(axis=-1) for one in (found.odd, found.even)]
    return {"responses": sum(one.size for one in moved), "moved": sum(int(one.sum()) for one in moved)}


def _measure_random(planted: PlantedComparison) -> dict[str, int]:
    """How many pairs of different random directions agree, by raw changes of the Gram matrix and by odd."""
    first, second = (
        respond(planted, blocks, planted.random, dose=LARGE_DOSE)
        for blocks in (None, _damage(planted, PAIRED_LEVEL))
    )
    different = ~np.eye(len(planted.random), dtype=bool)
    raw, odd = (
        correlate_responses(x[:, -1], y[:, -1])[different]
        for x, y in ((first.raw, second.raw), (first.odd, second.odd))
    )
    return {"pairs": len(raw), "raw": int((raw > DAMAGE).sum()), "odd": int((odd > DAMAGE).sum())}


def _describe_level(level: float | None, found: NDArray[np.float32]) -> dict[str, Any]:
    apart = found[~np.eye(len(found), dtype=bool)]
    own = np.diagonal(found)
    return {
        "noise": level,
        "transfer": float(own.mean(dtype=np.float64)),
        "others": float(apart.mean(dtype=np.float64)),
        "top1": _pick(found),
        "auroc": measure_auroc(own, apart),
    }


def _pick(found: NDArray[np.float32]) -> int:
    """How many of A's features pick out their partner, and how many of B's."""
    partners = np.arange(len(found))
    shares = [measure_retrieval(one, partners).top1 for one in (found, found.T)]
    return round(sum(shares) * len(found))


def _describe_excess(
    planted: PlantedComparison, own: NDArray[np.float32], null: NDArray[np.float32]
) -> dict[str, Any]:
    """How far S [F, F] lies above that of re-initialised layers [R, F, F] in T of partners less of others."""
    rng = np.random.default_rng([planted.seed, 2])
    return _show_excess(measure_excess_of(weigh_difference, own, null, len(own), rng))


def _describe_mean(
    planted: PlantedComparison, own: NDArray[np.float32], null: NDArray[np.float32]
) -> dict[str, Any]:
    """How far it does in T of partners alone, which is above 0 for any features in layers that learned."""
    rng = np.random.default_rng([planted.seed, 4])
    return _show_excess(measure_excess(np.diagonal(own), np.diagonal(null, axis1=1, axis2=2), rng))


def _show_excess(found: Excess) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high}


def _test_columns(
    planted: PlantedComparison,
    first: Responses,
    second: Responses,
    found: NDArray[np.float32],
    columns: slice,
) -> dict[str, int]:
    """How many of the pairs with some of B's directions have p <= 0.05, by each null and by all of them."""
    count, others = len(planted.paired), len(planted.live)
    rng = np.random.default_rng([planted.seed, 3])
    orders = draw_orders(len(planted.rows), others, rng, strata=planted.rows)
    values = np.stack([np.diagonal(cell[:, columns]) for cell in found], axis=1)
    drawn = np.moveaxis(found[:, :, 2 * count :], 0, 1)
    nulls = {
        "words": permute_words(first.odd, second.odd[columns], orders),
        "live": drawn[..., :others],
        "random": drawn[..., others:],
    }
    return _count_small(test_pairs(values, nulls), ALPHA)


def _count_small(tested: PairTests, alpha: float) -> dict[str, int]:
    counts = {name: int((p.min(axis=1) <= alpha).sum()) for name, p in tested.adjusted.items()}
    return {**counts, "all": int((tested.pair_p <= alpha).sum())}
