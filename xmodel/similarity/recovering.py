"""Pair planted models as real ones are paired, and count what was found of what is true."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.rows import take_rows
from xmodel.datasets.synthetic import Planted
from xmodel.pairing.cofiring import cofiring_log10_p
from xmodel.pairing.correlation import correlate_pairs
from xmodel.pairing.moments import measure_moments
from xmodel.pairing.settings import PairSettings
from xmodel.records import Moments, WordFeatures
from xmodel.similarity.repairing import Matches, Repairer

LEAST_R = 0.15
"""Least r on the held-out half of a pair that counts as confident."""
LEVEL = 0.01
"""Chance that any pair at all is confident if no two features have anything to do with each other."""
LEAST_SNR = 0.5
"""Signal-to-noise ratio from which on shared features are expected to be found."""
RULES = ("one_to_one", "mutual", "optimal")
"""Rules of pairing that planted truth is asked of."""


@dataclass(frozen=True, eq=False)
class Halves:
    """The words of planted models in two halves of documents, as a run has them."""

    planted: Planted
    discovery: Repairer
    """The half on which features are paired."""
    heldout: tuple[WordFeatures, WordFeatures]
    """The half on which pairs are judged."""
    heldout_moments: tuple[Moments, Moments]
    lengths: NDArray[np.int64]
    """Words per document of the discovery half."""


@dataclass(frozen=True, eq=False)
class Recovered:
    """What one rule of pairing found in planted models."""

    matches: Matches
    """P pairs made on the discovery half, best first."""
    r: NDArray[np.float64]
    """[P] their r on the held-out half; 0 where a feature does not fire there."""
    confident: NDArray[np.bool_]
    """[P] held-out r of `LEAST_R` or more, and a held-out p of firing together that stays below `LEVEL` after
    Bonferroni's correction for P pairs."""
    true: NDArray[np.bool_]
    """[P] whether the pair was planted."""
    known: NDArray[np.bool_]
    """[P] whether it is known what both features stand for: all but some latents of trained SAEs."""
    findable: int
    """Planted pairs with a signal-to-noise ratio of `LEAST_SNR` or more and both features frequent enough."""
    found: int
    """How many of these are confident pairs."""
    unshared: int
    """Features of A and of B whose concept is in one model alone, and that are frequent enough."""
    unshared_confident: int
    """How many of these are in a confident pair."""


def split_planted(planted: Planted, *, min_firings: int = 10) -> Halves:
    """Split the documents at random, by the planted seed, into a discovery and a held-out half.

    Args:
        planted: the models.
        min_firings: features that fire on fewer words of the discovery half are set aside.
    """
    rng = np.random.default_rng([planted.settings.seed, 1])
    first = rng.permutation(len(planted.lengths)) < len(planted.lengths) // 2
    rows = [np.flatnonzero(own[planted.documents]) for own in (first, ~first)]
    a, b = (take_rows(side.features, rows[0]) for side in (planted.a, planted.b))
    moments = measure_moments(lambda: [(a, b)], a.features, b.features)
    kept = [own.firings >= min_firings for own in moments]
    settings = PairSettings(min_firings=min_firings, workers=1)
    held = take_rows(planted.a.features, rows[1]), take_rows(planted.b.features, rows[1])
    held_moments = measure_moments(lambda: [held], a.features, b.features)
    repairer = Repairer(a, b, kept[0], kept[1], settings)
    return Halves(planted, repairer, held, held_moments, planted.lengths[first])


def recover_pairs(halves: Halves, rules: Sequence[str] = RULES) -> dict[str, Recovered]:
    """Pair on the discovery half, judge on the held-out half, and compare with the truth, rule by rule."""
    return {rule: judge_pairs(halves, own) for rule, own in halves.discovery.pair(rules=rules).items()}


def judge_pairs(halves: Halves, matches: Matches) -> Recovered:
    """Compare pairs with the truth.

    Args:
        halves: of the planted models.
        matches: P pairs made on their discovery half.
    """
    planted, (moments_a, moments_b) = halves.planted, halves.heldout_moments
    pairs = matches.a, matches.b
    r, joint = correlate_pairs(lambda: [halves.heldout], moments_a, moments_b, *pairs)
    r = np.nan_to_num(r)
    log10_p = cofiring_log10_p(
        moments_a.words, moments_a.firings[matches.a], moments_b.firings[matches.b], joint
    )
    confident = (r >= LEAST_R) & (log10_p < np.log10(LEVEL / max(1, len(matches))))
    width = planted.b.features.features
    made = matches.a.astype(np.int64) * width + matches.b
    planted_keys = planted.pairs[:, 0] * width + planted.pairs[:, 1]
    kept_a, kept_b = halves.discovery.kept_a, halves.discovery.kept_b
    frequent = kept_a[planted.pairs[:, 0]] & kept_b[planted.pairs[:, 1]]
    findable = frequent & (planted.snr >= LEAST_SNR)
    unshared = unshared_confident = 0
    for side, kept, own in ((planted.a, kept_a, matches.a), (planted.b, kept_b, matches.b)):
        alone = kept & (side.concepts >= planted.settings.shared_features)
        unshared += int(alone.sum())
        unshared_confident += int(alone[own[confident]].sum())
    return Recovered(
        matches,
        r,
        confident,
        np.isin(made, planted_keys),
        (planted.a.concepts[matches.a] >= 0) & (planted.b.concepts[matches.b] >= 0),
        int(findable.sum()),
        int(np.isin(planted_keys[findable], made[confident]).sum()),
        unshared,
        unshared_confident,
    )
