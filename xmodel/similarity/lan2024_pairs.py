"""The published recipe's pairs: for every feature of B the feature of A with the greatest r over all rows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.halves import Shards, read_word_texts
from xmodel.pairing.moments import measure_moments, measure_spreads
from xmodel.pairing.prepared import prepare_features
from xmodel.pairing.results import Run
from xmodel.pairing.top_words import find_top_words
from xmodel.records import WordFeatures
from xmodel.similarity.lan2024_score import PADDING, TOP_WORDS, find_concept_pairs

Side = str


@dataclass(frozen=True, eq=False)
class BestOfB:
    """Every feature of B with its best feature of A: many of B's may have the same."""

    a: NDArray[np.int32]
    """[F_B] A's feature; 0 where there is none with r above 0."""
    r: NDArray[np.float64]
    """[F_B] Pearson's r; 0 where there is no partner with r above 0."""
    varies: NDArray[np.bool_]
    """[F_B] whether B's feature is not the same on all rows."""
    concept: NDArray[np.bool_]
    """[F_B] whether the pair would pass the published filter, did it work."""
    words: int
    """Rows that are words (or tokens)."""
    padding: int
    """Rows that are padding."""


def pair_best_of_b(words: Run, padding: Shards | None) -> BestOfB:
    """Pair as the published recipe does: on all words, without halves, without a least number of firings.

    For a feature of B without a partner above 0, r counts as 0. In the published code it is 0 as soon as one
    feature of A is dead, and else a little below. That code also divides by n what it standardised with
    n - 1, which makes every r smaller by the factor (n - 1) / n; here r is Pearson's.

    Args:
        words: whose words are rows.
        padding: more rows, or None.

    Raises:
        InputError: for signed features, which the recipe is not about, or damaged files.
    """
    if any(words.manifest["sides"][side]["dictionary"]["signed"] for side in "ab"):
        raise InputError(
            "this run has signed features (neurons, residual dimensions or components), and the published "
            "recipe is about SAEs, whose features are not negative: give it a run of two SAEs."
        )
    readings = [words.shards, *([] if padding is None else [padding])]
    features = words.shards.features

    def read_chunks() -> Iterator[tuple[WordFeatures, WordFeatures]]:
        for shards in readings:
            yield from shards.select(np.ones(int(shards.bounds[-1]), dtype=np.bool_))()

    moments = measure_moments(read_chunks, *features)
    everything = np.ones(features[0], np.bool_), np.ones(features[1], np.bool_)
    prepared = prepare_features(read_chunks, *moments, kept_a=everything[0], kept_b=everything[1])
    _, of_b = prepared.find_partners(1, 0.0)
    partner, r = of_b.features[:, 0], of_b.r[:, 0]
    found = partner >= 0
    a = np.where(found, partner, 0).astype(np.int32)
    tops = [_list_top_words(words, readings, side) for side in "ab"]
    concept = np.zeros(features[1], dtype=np.bool_)
    places = np.flatnonzero(found)
    concept[places] = find_concept_pairs([tops[0][one] for one in a[places]], [tops[1][b] for b in places])
    counts = [int(shards.bounds[-1]) for shards in readings]
    varies = measure_spreads(moments[1], everything[1]).usable
    return BestOfB(a, np.where(found, r, 0.0), varies, concept, counts[0], sum(counts[1:]))


def _list_top_words(words: Run, readings: list[Shards], side: Side) -> list[list[str]]:
    """[F] the texts of the rows on which every feature fires most; fewer where it fires on fewer."""
    total = readings[0].features["ab".index(side)]
    top, _ = find_top_words(_number_rows(readings, side), total, TOP_WORDS)
    known = int(readings[0].bounds[-1])
    texts = read_word_texts(words.folder, top[(top >= 0) & (top < known)])
    return [[texts.get(row, PADDING) for row in own[own >= 0].tolist()] for own in top]


def _number_rows(readings: list[Shards], side: Side) -> Iterable[tuple[NDArray[np.int64], WordFeatures]]:
    """One model's rows, numbered on from words to padding."""
    first = 0
    for shards in readings:
        count = int(shards.bounds[-1])
        for rows, own in shards.number_rows(side, np.ones(count, dtype=np.bool_)):
            yield rows + first, own
        first += count
