"""What the rows of a score are: decoder vectors of paired features, or words under the paired features."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.rows import spread_ranges
from xmodel.records import WordFeatures
from xmodel.similarity.material import Material, take_columns
from xmodel.similarity.nulls import Orders, cut_strata
from xmodel.similarity.orders import draw_orders, draw_shifts
from xmodel.similarity.repairing import Matches, has_repeats, join_words, turn_signs

Rows = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]
"""Matched rows x [n, d_x] and y [n, d_y]."""
STRATA = 20
"""Strata of frequency within which rows are exchanged, at most."""
ROWS_PER_STRATUM = 5
"""Rows that a stratum has on average at least: fewer have too few arrangements."""


class View(Protocol):
    """How pairs become matched rows, and which arrangements of these rows are chance."""

    def take(self, matches: Matches, chosen: NDArray[np.int64]) -> Rows:
        """The matched rows of some pairs of a rule."""
        ...

    def take_unpaired(self, a: NDArray[np.int32], b: NDArray[np.int32]) -> Rows:
        """The rows of as many features of A as of B, whatever they are."""
        ...

    def take_side(self, side: str, features: NDArray[np.int32]) -> NDArray[np.floating[Any]]:
        """The rows of one side: ``a`` or ``b``."""
        ...

    def arrange(self, matches: Matches, chosen: NDArray[np.int64], null: str) -> Orders:
        """The row orders of a null that permutes rows."""
        ...


@dataclass(frozen=True, eq=False)
class DecoderView:
    """Rows are paired features, columns the dimensions of each model."""

    material: Material

    def take(self, matches: Matches, chosen: NDArray[np.int64]) -> Rows:
        """[P, d_A] and [P, d_B] decoder vectors; of signed features with the sign that makes r positive."""
        x, y = self.take_unpaired(matches.a[chosen], matches.b[chosen])
        if self.material.signed:
            x, y = turn_signs(x, y, matches.take(chosen))
        return x, y

    def take_unpaired(self, a: NDArray[np.int32], b: NDArray[np.int32]) -> Rows:
        """[n, d_A] and [n, d_B] decoder vectors."""
        return self.take_side("a", a), self.take_side("b", b)

    def take_side(self, side: str, features: NDArray[np.int32]) -> NDArray[np.float32]:
        """[n, d] decoder vectors."""
        return self.material.decoders["ab".index(side)][features]

    def arrange(self, matches: Matches, chosen: NDArray[np.int64], null: str) -> Orders:
        """Shuffled pairs: those that share a feature move together."""
        a, b = matches.a[chosen], matches.b[chosen]
        first, second = self.material.moments
        # The side that repeats decides, since rows of one group must lie in one stratum.
        shared, firings = (a, first.firings[a]) if has_repeats(a) else (b, second.firings[b])
        strata = cut_strata(firings, count_strata(len(firings))) if null == "stratified" else None
        groups = shared.astype(np.int64)
        return lambda count, rng: draw_orders(len(a), count, rng, strata=strata, groups=groups)


@dataclass(frozen=True, eq=False)
class ActivationView:
    """Rows are held-out words, columns the paired features of each model."""

    material: Material
    words: NDArray[np.bool_]
    """[W] which words of the run are the rows."""

    @cached_property
    def features(self) -> tuple[WordFeatures, WordFeatures]:
        """Both models' features on these words."""
        return join_words(self.material.run.shards, self.words)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[D] rows per document."""
        return self.material.list_lengths(self.words)

    @cached_property
    def frequencies(self) -> NDArray[np.int64]:
        """[n] how often the word of each row comes in the run, compared without case."""
        texts = self.material.run.words["text"].to_pandas().str.casefold()
        return texts.map(texts.value_counts()).to_numpy()[self.words].astype(np.int64)

    def take(self, matches: Matches, chosen: NDArray[np.int64]) -> Rows:
        """[n, P] activations of the paired features; signed ones with the sign that makes r positive."""
        a, b = matches.a[chosen], matches.b[chosen]
        if not self.material.signed:
            return self.take_unpaired(a, b)
        first, second = self.features
        x, y = turn_signs(take_columns(first, a).T, take_columns(second, b).T, matches.take(chosen))
        return x[x.any(axis=1)].T, y[y.any(axis=1)].T

    def take_unpaired(self, a: NDArray[np.int32], b: NDArray[np.int32]) -> Rows:
        """[n, P] activations of any features; those that fire on none of these words are left out."""
        return self.take_side("a", a), self.take_side("b", b)

    def take_side(self, side: str, features: NDArray[np.int32]) -> NDArray[np.float32]:
        """[n, P] activations; features that fire on none of these words are left out."""
        rows = take_columns(self.features["ab".index(side)], features)
        # Such a feature says nothing of these words, and some metrics refuse it.
        return rows[:, rows.any(axis=0)]

    def arrange(self, matches: Matches, chosen: NDArray[np.int64], null: str) -> Orders:
        """Shifted words, or shuffled ones."""
        if null == "shift":
            return lambda count, rng: draw_shifts(self.lengths, count, rng)
        rows = len(self.frequencies)
        strata = cut_strata(self.frequencies, count_strata(rows)) if null == "stratified" else None
        return lambda count, rng: draw_orders(rows, count, rng, strata=strata)


def count_strata(rows: int) -> int:
    """How many strata of frequency: as many as leave each with `ROWS_PER_STRATUM` rows, at most `STRATA`."""
    return max(1, min(STRATA, rows // ROWS_PER_STRATUM))


def resample_documents(lengths: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The rows of as many documents as there are, drawn with replacement.

    Args:
        lengths: [D] rows per document, in order.
        rng: source of random numbers.
    """
    drawn = rng.integers(0, len(lengths), len(lengths))
    return spread_ranges((np.cumsum(lengths) - lengths)[drawn], lengths[drawn])


def draw_other_pairs(
    view: View, matches: Matches, chosen: NDArray[np.int64], firings: NDArray[np.int64]
) -> Callable[[np.random.Generator], Rows]:
    """Random pairs of the same rule, as many from every stratum of frequency as the chosen ones.

    The chosen pairs may be among them: the null says that they are a random choice.

    Args:
        view: makes rows of pairs.
        matches: all pairs of the rule.
        chosen: which of them are scored.
        firings: [F_A] words that A's features fire on.
    """
    strata = cut_strata(firings[matches.a], count_strata(len(matches)))
    pools = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    wanted = [int(np.isin(pool, chosen).sum()) for pool in pools]

    def draw(rng: np.random.Generator) -> Rows:
        parts = [rng.choice(pool, count, replace=False) for pool, count in zip(pools, wanted, strict=True)]
        return view.take(matches, np.sort(np.concatenate(parts)))

    return draw


def draw_random_features(
    view: View,
    material: Material,
    matches: Matches,
    chosen: NDArray[np.int64],
    stratified: bool,
) -> Callable[[np.random.Generator], Rows]:
    """Random features of both models, unpaired, as many as there are chosen pairs.

    Args:
        view: makes rows of features.
        material: the run.
        matches: the pairs of the rule.
        chosen: which of them are scored.
        stratified: each from the stratum of frequency of the feature in whose place it stands, so that also
            what the frequencies of pairs have in common is kept.
    """
    sides = []
    for own, kept, moments in zip((matches.a, matches.b), material.kept, material.moments, strict=True):
        # A feature that several pairs share is scored several times, and drawn once.
        used, repeats = np.unique(own[chosen], return_inverse=True)
        pool = np.flatnonzero(kept).astype(np.int32)
        strata = (
            cut_strata(moments.firings[pool], count_strata(len(pool)))
            if stratified
            else np.zeros(len(pool), np.int64)
        )
        wanted = strata[np.searchsorted(pool, used)]
        picks = [
            (pool[strata == number], np.flatnonzero(wanted == number))
            for number in np.unique(wanted).tolist()
        ]
        sides.append((picks, repeats, len(used)))

    def draw(rng: np.random.Generator) -> Rows:
        features = []
        for picks, repeats, count in sides:
            drawn = np.empty(count, np.int32)
            for pool, places in picks:
                drawn[places] = rng.choice(pool, len(places), replace=False)
            features.append(drawn[repeats])
        return view.take_unpaired(features[0], features[1])

    return draw
