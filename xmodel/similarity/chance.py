"""Planted models that share nothing: how often do tests of similarity call them similar?

The worlds are hard on purpose: features that fire together also lie together (clusters, rings), and all
features follow the topics of the one text that both models read. Pairing then finds, by chance, clusters of B
for clusters of A, and whoever shuffles such pairs as if nobody had chosen them finds similarity too often.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.datasets.synthetic import ARRANGEMENTS, PlantedSettings, plant_models
from xmodel.datasets.synthetic_geometry import Arrangement
from xmodel.similarity.counting import Plan
from xmodel.similarity.metrics import DEFAULT_METRICS, Metric, parse_metric
from xmodel.similarity.nulls import Orders, test_draws, test_orders
from xmodel.similarity.orders import draw_orders, draw_shifts
from xmodel.similarity.recovering import Halves, judge_pairs, split_planted
from xmodel.similarity.repairing import Matches, keep_one_per_feature

PERMUTATIONS = 19
"""Arrangements per test: p is 0.05 where none of them is as similar as what was observed."""
ALPHA = 0.05
NULLS = (
    ("one_to_one", "shuffled"),
    ("one_to_one", "repaired"),
    ("best_of_a", "shuffled"),
    ("best_of_a", "grouped"),
    ("best_of_a", "repaired"),
)
"""Rules of pairing and nulls that are tried. ``shuffled`` exchanges partners pair by pair; ``grouped`` keeps
those pairs together that share a partner; ``repaired`` shifts B's words and pairs again."""
HARD = {
    "features_a": 120,
    "features_b": 150,
    "shared": 0.0,
    "exponent": 0.5,
    "group": 10,
    "strength": 0.9,
    "cofiring": 0.7,
    "topics": 0.15,
    "noise": 0.2,
    "words": 2000,
    "documents": 30,
}
"""What is planted, see `PlantedSettings`."""


@dataclass(frozen=True)
class Chance:
    """What tests said of models that share nothing."""

    arrangement: Arrangement
    """How the features' directions lie."""
    worlds: int
    """Pairs of models that were simulated."""
    rejected: dict[tuple[str, str, str], int]
    """By rule, null and metric: worlds with p <= 0.05."""
    pairs: int
    """One-to-one pairs made in all of them."""
    confident: int
    """How many of these looked confident on held-out words."""


def measure_chance(
    arrangement: Arrangement, worlds: int, seed: int, report: Callable[[], None] = lambda: None
) -> Chance:
    """Test simulated models that share nothing.

    Args:
        arrangement: one of `ARRANGEMENTS`.
        worlds: how many pairs of models.
        seed: of all of them.
        report: called after each.
    """
    rejected: dict[tuple[str, str, str], int] = {}
    pairs = confident = 0
    metrics = [parse_metric(name) for name in DEFAULT_METRICS]
    number = ARRANGEMENTS.index(arrangement)
    for own in np.random.SeedSequence([seed, number]).generate_state(worlds).tolist():
        halves = split_planted(plant_models(PlantedSettings(**HARD, arrangement=arrangement, seed=own)))
        found = halves.discovery.pair(rules=("one_to_one", "best_of_a"))
        judged = judge_pairs(halves, found["one_to_one"])
        pairs += len(judged.r)
        confident += int(judged.confident.sum())
        for key, p in compare_nulls(halves, found, metrics, PERMUTATIONS, own).items():
            rejected[key] = rejected.get(key, 0) + (p <= ALPHA)
        report()
    return Chance(arrangement, worlds, rejected, pairs, confident)


def compare_nulls(
    halves: Halves, found: dict[str, Matches], metrics: list[Metric], permutations: int, seed: int
) -> dict[tuple[str, str, str], float]:
    """The p of the decoder vectors of pairs, by rule, null and metric; see `NULLS`.

    Args:
        halves: of planted models.
        found: all pairs of their discovery half, by rule.
        metrics: what to measure.
        permutations: arrangements per null.
        seed: of the arrangements.
    """
    plan = Plan(permutations=permutations, seed=seed)
    shifts = draw_shifts(halves.lengths, permutations, np.random.default_rng([seed, 2]))
    again = [halves.discovery.pair_by_chance(order, tuple(found)) for order in shifts]
    p: dict[tuple[str, str, str], float] = {}
    for rule, null in NULLS:
        if rule not in found:
            continue
        x, y = take_decoders(halves, found[rule])
        if null == "repaired":
            single = keep_one_per_feature(found[rule])
            drawn = iter([take_decoders(halves, one[rule].take(slice(len(single)))) for one in again])
            own = take_decoders(halves, single)
            tested = test_draws(metrics, *own, lambda rng, drawn=drawn: next(drawn), plan)
        else:
            groups = found[rule].b if null == "grouped" else None
            tested = test_orders(metrics, x, y, _make_orders(len(y), groups), plan)
        p.update({(rule, null, one.metric): one.p for one in tested})
    return p


def _make_orders(n: int, groups: NDArray[np.int32] | None) -> Orders:
    return lambda count, rng: draw_orders(n, count, rng, groups=groups)


def take_decoders(halves: Halves, matches: Matches) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The decoder vectors of pairs, [P, d_a] and [P, d_b]."""
    return halves.planted.a.decoder[matches.a], halves.planted.b.decoder[matches.b]
