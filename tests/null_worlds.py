"""Simulated pairs of models, unrelated unless said otherwise, and the test that is right for each.

A world is a function of metrics, a seed and a strength of the relation (0: none) that simulates one data set
and tests every metric on it. `NAIVE` has the same data sets with a test that overlooks what they are like.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from xmodel.similarity import nulls
from xmodel.similarity.counting import Plan, Tested
from xmodel.similarity.metrics import Metric
from xmodel.similarity.nulls import cut_strata, draw_subsets
from xmodel.similarity.orders import draw_offsets, draw_orders, draw_shifts, shift_rows

METRICS = (
    "cca", "cca_squared", "svcca:3", "svcca:0.9", "pwcca", "cka", "cka_debiased", "rsa:cosine:pearson",
    "rsa:cosine:spearman", "rsa:euclidean:pearson", "rsa:euclidean:spearman", "procrustes", "mutual_knn:5",
    "jaccard:5", "mean_max_cosine", "soft_matching",
)  # fmt: skip
ALPHAS = (0.01, 0.05, 0.1)
PERMUTATIONS = 199
ROWS = 40
WIDTH_A, WIDTH_B = 6, 8

World = Callable[..., list[Tested]]


def make_plan(seed: int) -> Plan:
    return Plan(permutations=PERMUTATIONS, seed=seed)


def make_short_plan(seed: int) -> Plan:
    """At p <= 0.1 the same p as with all permutations, sooner where it is larger.

    Once 20 of at most 199 values exceed the observed one, (b + 1) / (m + 1) will be above 0.1 whatever the
    others are.
    """
    return Plan(adaptive=True, exceedances=20, most=PERMUTATIONS, seed=seed)


def relate(x, y, strength, rng):
    """Let y be `strength` parts of a random image of x."""
    image = x @ rng.normal(size=(x.shape[1], y.shape[1])) / np.sqrt(x.shape[1])
    return y + strength * image


def draw_clusters(rng, rows, width, clusters=5):
    """Decoder-like rows: clusters of unequal size, few wide directions, a common one, unequal norms."""
    centres = 2 * rng.normal(size=(clusters, width))
    shares = rng.dirichlet(np.ones(clusters))
    spectrum = np.arange(1, width + 1) ** -0.7
    own = centres[rng.choice(clusters, rows, p=shares)] + rng.normal(size=(rows, width))
    return (own * spectrum + rng.normal(size=width)) * rng.lognormal(0, 0.3, (rows, 1))


def draw_words(rng, lengths, width, memory=0.7, topic=0.0):
    """Autocorrelated words, with a mean of its own for every document where `topic` is above 0."""
    noise = rng.normal(size=(sum(lengths) + 20, width))
    for row in range(1, len(noise)):
        noise[row] = memory * noise[row - 1] + np.sqrt(1 - memory**2) * noise[row]
    return noise[20:] + topic * np.repeat(rng.normal(size=(len(lengths), width)), lengths, axis=0)


def draw_firings(rng, words, features, width, topics=8):
    """Sparse word features of one model, and decoder rows: what fires together points the same way."""
    topic = rng.integers(0, topics, features)
    activity = draw_words(rng, [words], topics, memory=0.5)
    driven = activity[:, topic] + rng.normal(size=(words, features))
    firings = np.maximum(driven - np.quantile(driven, 0.85, axis=0), 0)
    decoders = 3 * rng.normal(size=(topics, width))[topic] + rng.normal(size=(features, width))
    return firings, decoders


def standardise(firings):
    centred = firings - firings.mean(axis=0)
    return centred / np.linalg.norm(centred, axis=0)


# Each returns one result per metric.


def shuffle_gaussian(metrics: Sequence[Metric], seed: int, strength=0.0) -> list[Tested]:
    rng = np.random.default_rng([1, seed])
    x, y = rng.normal(size=(ROWS, WIDTH_A)), rng.normal(size=(ROWS, WIDTH_B))
    y = relate(x, y, strength, rng)
    return nulls.test_orders(metrics, x, y, partial(draw_orders, ROWS), make_plan(seed))


def shuffle_clusters(metrics, seed, strength=0.0):
    rng = np.random.default_rng([2, seed])
    x, y = draw_clusters(rng, ROWS, WIDTH_A), draw_clusters(rng, ROWS, WIDTH_B)
    y = relate(x, y, strength, rng)
    return nulls.test_orders(metrics, x, y, partial(draw_orders, ROWS), make_plan(seed))


def shuffle_strata(metrics, seed, strength=0.0, naive=False):
    """Pairs fire about equally often, and in both models the rows depend on how often they fire."""
    rng = np.random.default_rng([3, seed])
    strata = cut_strata((1000 * rng.pareto(1.0, ROWS) + 10).astype(int), 5)
    x, y = (
        rng.normal(size=(ROWS, width)) + 1.5 * rng.normal(size=(strata.max() + 1, width))[strata]
        for width in (WIDTH_A, WIDTH_B)
    )
    y = relate(x, y, strength, rng)
    draw = partial(draw_orders, ROWS, strata=None if naive else strata)
    return nulls.test_orders(metrics, x, y, draw, make_plan(seed))


def shuffle_groups(metrics, seed, strength=0.0, naive=False):
    """Features of A that share a partner in B resemble each other, as where A splits a feature of B."""
    rng = np.random.default_rng([4, seed])
    sizes = [1] * 12 + [2] * 8 + [4] * 3
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x = rng.normal(size=(len(sizes), WIDTH_A))[groups] + 0.5 * rng.normal(size=(ROWS, WIDTH_A))
    y = rng.normal(size=(len(sizes), WIDTH_B))
    y = relate(np.stack([x[groups == group].mean(axis=0) for group in range(len(y))]), y, strength, rng)[
        groups
    ]
    draw = partial(draw_orders, ROWS, groups=None if naive else groups)
    return nulls.test_orders(metrics, x, y, draw, make_plan(seed))


def shift_words(metrics, seed, strength=0.0, naive=False):
    """Activations on neighbouring words resemble each other."""
    rng = np.random.default_rng([5, seed])
    lengths = [15] * 14
    x, y = draw_words(rng, lengths, WIDTH_A), draw_words(rng, lengths, WIDTH_B)
    y = relate(x, y, strength, rng)
    draw = partial(draw_orders, len(x)) if naive else partial(draw_shifts, np.array(lengths))
    return nulls.test_orders(metrics, x, y, draw, make_plan(seed))


def shift_within(metrics, seed, strength=0.0, naive=False):
    """And each document moves all of its words, in both models."""
    rng = np.random.default_rng([6, seed])
    lengths = [60, 75, 65]
    x, y = (draw_words(rng, lengths, width, topic=1.5) for width in (WIDTH_A, WIDTH_B))
    y = relate(x, y, strength, rng)
    draw = partial(draw_orders, len(x)) if naive else partial(draw_shifts, np.array(lengths))
    return nulls.test_orders(metrics, x, y, draw, make_plan(seed))


def pair_again(metrics, seed, strength=0.0, naive=False, plan=make_short_plan):
    """Every feature of A takes the feature of B with the largest r, and decoders of partners are compared."""
    rng = np.random.default_rng([7, seed])
    words, lengths = 240, np.array([240])
    firings_a, decoders_a = draw_firings(rng, words, ROWS, WIDTH_A)
    firings_b, decoders_b = draw_firings(rng, words, ROWS - 4, WIDTH_B)
    if strength:
        copied = rng.permutation(ROWS)[: len(decoders_b)]
        firings_b = firings_b + strength * firings_a[:, copied]
        decoders_b = relate(decoders_a[copied], decoders_b, strength, rng)
    standard_a, standard_b = standardise(firings_a).T.copy(), standardise(firings_b)

    def pair(order):
        return decoders_b[(standard_a @ standard_b[order]).argmax(axis=1)]

    y = pair(np.arange(words))
    if naive:
        return nulls.test_orders(metrics, decoders_a, y, partial(draw_orders, ROWS), make_plan(seed))
    offsets = draw_offsets(lengths, PERMUTATIONS, rng)
    shifts = iter(shift_rows(lengths, offsets))
    return nulls.test_draws(metrics, decoders_a, y, lambda _: (decoders_a, pair(next(shifts))), plan(seed))


def draw_again(metrics, seed, strength=0.0, plan=make_short_plan):
    """A random choice of decoders, against other random choices."""
    rng = np.random.default_rng([8, seed])
    pool_a, pool_b = draw_clusters(rng, 150, WIDTH_A), draw_clusters(rng, 130, WIDTH_B)
    x, y = pool_a[rng.choice(150, ROWS, replace=False)], pool_b[rng.choice(130, ROWS, replace=False)]
    y = relate(x, y, strength, rng)
    return nulls.test_draws(metrics, x, y, draw_subsets(pool_a, pool_b, ROWS), plan(seed))


def draw_strata(metrics, seed, strength=0.0, naive=False, plan=make_short_plan):
    """The chosen fire often, as often as their partners, and decoders depend on how often they fire."""
    rng = np.random.default_rng([9, seed])
    strata_a, strata_b = (cut_strata(rng.pareto(1.0, size), 5) for size in (150, 130))
    pool_a, pool_b = (
        rng.normal(size=(len(strata), width)) + 1.5 * rng.normal(size=(5, width))[strata]
        for strata, width in ((strata_a, WIDTH_A), (strata_b, WIDTH_B))
    )
    want = np.repeat(np.arange(5), [2, 4, 6, 12, 16])
    x, y = draw_subsets(pool_a, pool_b, ROWS, strata_a=strata_a, strata_b=strata_b, want_a=want, want_b=want)(
        rng
    )
    y = relate(x, y, strength, rng)
    draw = draw_subsets(pool_a, pool_b, ROWS)
    if not naive:
        draw = draw_subsets(
            pool_a, pool_b, ROWS, strata_a=strata_a, strata_b=strata_b, want_a=want, want_b=want
        )
    return nulls.test_draws(metrics, x, y, draw, plan(seed))


WORLDS: dict[str, World] = {
    "pairs, gaussian": shuffle_gaussian,
    "pairs, clustered": shuffle_clusters,
    "pairs within strata": shuffle_strata,
    "pairs by groups": shuffle_groups,
    "shifted words": shift_words,
    "shifted within documents": shift_within,
    "paired again": pair_again,
    "random subsets": draw_again,
    "subsets by strata": draw_strata,
}
NAIVE: dict[str, World] = {
    "pairs within strata": partial(shuffle_strata, naive=True),
    "pairs by groups": partial(shuffle_groups, naive=True),
    "shifted words": partial(shift_words, naive=True),
    "shifted within documents": partial(shift_within, naive=True),
    "paired again": partial(pair_again, naive=True),
    "subsets by strata": partial(draw_strata, naive=True),
}


def collect_p(world: World, metrics: Sequence[Metric], seeds: Sequence[int], **options) -> np.ndarray:
    """[data sets, metrics] the p-values."""
    return np.array([[one.p for one in world(metrics, seed, **options)] for seed in seeds])


def count_limit(data_sets: int, alpha: float, cells: int) -> int:
    """Most rejections of a valid test: more happen with a probability of 5 % or less in any of the cells."""
    from scipy.stats import binom

    return int(binom.isf(0.05 / cells, data_sets, alpha))
