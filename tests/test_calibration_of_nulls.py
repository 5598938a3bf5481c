"""No metric finds a relation, under any null, more often than it says where there is none.

200 data sets without a relation per metric and null; `benchmarks/null_calibration.py` does the same with
2,000 and all metrics. Bounds are of the exact binomial distribution, corrected over all cells.
"""

import numpy as np
import pytest
from scipy.stats import binom

from tests.null_worlds import (
    ALPHAS,
    NAIVE,
    PERMUTATIONS,
    WORLDS,
    collect_p,
    count_limit,
    draw_again,
    make_plan,
    make_short_plan,
    pair_again,
    shuffle_clusters,
    shuffle_gaussian,
    shuffle_groups,
)
from xmodel.similarity.metrics import parse_metric

DATA_SETS = 200
EVERYWHERE = ("cca", "svcca:3", "cka_debiased", "rsa:cosine:pearson", "procrustes", "mutual_knn:5")
SOMEWHERE = {
    "pairs, clustered": ("pwcca", "cka", "mean_max_cosine"),
    "pairs by groups": ("soft_matching", "rsa:cosine:spearman", "jaccard:5"),
    "shifted words": ("pwcca", "cka", "mean_max_cosine"),
    "paired again": ("pwcca", "mean_max_cosine"),
    "random subsets": ("soft_matching",),
    "subsets by strata": ("cka",),
}
CELLS = len(ALPHAS) * sum(len(EVERYWHERE) + len(SOMEWHERE.get(world, ())) for world in WORLDS)


def parse(names):
    return [parse_metric(name) for name in names]


@pytest.mark.parametrize("world", WORLDS)
def test_no_relation_is_found_where_there_is_none(world):
    names = EVERYWHERE + SOMEWHERE.get(world, ())
    p = collect_p(WORLDS[world], parse(names), range(DATA_SETS))
    assert p.min() >= 1 / (PERMUTATIONS + 1)
    for alpha in ALPHAS:
        rejected = (p <= alpha).sum(axis=0)
        limit = count_limit(DATA_SETS, alpha, CELLS)
        assert (rejected <= limit).all(), dict(zip(names, rejected, strict=True))
    # Nor does the test simply never reject: all metrics together, far from any bound.
    assert (p <= 0.1).mean() > 0.04


@pytest.mark.parametrize("world", NAIVE)
def test_a_null_that_overlooks_what_the_data_are_like_finds_relations(world):
    """Without strata, groups, shifts or pairing again, the same data sets are rejected far too often."""
    names = ("cca", "cka_debiased", "mutual_knn:5")
    p = collect_p(NAIVE[world], parse(names), range(40))
    limit = binom.isf(0.001 / len(names), 40, 0.05)
    rejected = (p <= 0.05).sum(axis=0)
    assert rejected.max() > 2 * limit, dict(zip(names, rejected, strict=True))


def test_pairs_that_share_a_partner_inflate_only_without_groups():
    metrics = parse(EVERYWHERE)
    seeds = range(1000, 1060)
    naive = (collect_p(shuffle_groups, metrics, seeds, naive=True) <= 0.05).mean(axis=0)
    ours = (collect_p(shuffle_groups, metrics, seeds) <= 0.05).mean(axis=0)
    assert naive.min() > 0.4 and ours.max() <= count_limit(60, 0.05, len(EVERYWHERE)) / 60


@pytest.mark.parametrize("world", [shuffle_gaussian, shuffle_clusters])
def test_power_rises_with_the_strength_of_the_relation(world):
    metrics = parse([*EVERYWHERE, "pwcca", "cka", "mean_max_cosine"])
    power = np.array(
        [
            (collect_p(world, metrics, range(40), strength=strength) <= 0.05).mean(axis=0)
            for strength in (0.0, 0.7, 3.0)
        ]
    )
    assert (np.diff(power, axis=0) > -0.1).all(), power
    assert (power[0] < 0.2).all() and (power[-1] > 0.9).all(), power
    assert (power[1] > power[0] + 0.2).all(), power


@pytest.mark.parametrize("world", [shuffle_groups, pair_again, draw_again])
def test_planted_relations_are_found_by_every_kind_of_null(world):
    metrics = parse(("svcca:3", "cka_debiased", "procrustes"))
    p = collect_p(world, metrics, range(30), strength=3.0)
    assert ((p <= 0.05).mean(axis=0) > 0.9).all()


@pytest.mark.parametrize("world", [pair_again, draw_again])
def test_stopping_where_nothing_can_change_the_decision_changes_none(world):
    metrics = parse(("cka", "mutual_knn:5"))
    full = collect_p(world, metrics, range(15), plan=make_plan)
    short = collect_p(world, metrics, range(15), plan=make_short_plan)
    decided = full <= 0.1
    assert decided.any() and (decided == (short <= 0.1)).all()
    assert (full[decided] == short[decided]).all()
