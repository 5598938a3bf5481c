"""Pairing again: the same features over words in another arrangement.

The best of 32,000 partners correlates by chance alone. What chance gives is seen by pairing again after one
model's words were shifted in a circle; how far the text decides, by pairing on resampled documents.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.rows import take_rows
from xmodel.errors import InputError
from xmodel.pairing.correlation import correlate_pairs
from xmodel.pairing.greedy import match_greedy
from xmodel.pairing.halves import Shards
from xmodel.pairing.moments import measure_moments
from xmodel.pairing.optimal import match_optimal
from xmodel.pairing.pairs import prepare_search
from xmodel.pairing.prepared import Searchable
from xmodel.pairing.settings import PairSettings
from xmodel.records import Partners, WordFeatures

RULES = ("best_of_a", "best_of_b", "mutual", "one_to_one", "optimal")
"""The rules under which pairs are scored."""


@dataclass(frozen=True, eq=False)
class Matches:
    """The pairs of one rule, best r first."""

    a: NDArray[np.int32]
    """[P] A's features."""
    b: NDArray[np.int32]
    """[P] B's features."""
    r: NDArray[np.float64]
    """[P] Pearson's r over the words on which they were paired."""

    def __len__(self) -> int:
        return len(self.a)

    def take(self, chosen: NDArray[np.integer[Any]] | slice) -> "Matches":
        """Some of the pairs."""
        return Matches(self.a[chosen], self.b[chosen], self.r[chosen])


@dataclass(frozen=True, eq=False)
class Repairer:
    """Two models' features over the same words, in memory, to be paired at will."""

    a: WordFeatures
    """[W] words under A's dictionary."""
    b: WordFeatures
    """[W] the same words under B's."""
    kept_a: NDArray[np.bool_]
    """[F_A] features that may be paired."""
    kept_b: NDArray[np.bool_]
    """[F_B] likewise."""
    settings: PairSettings
    """Floor, least firings, threads, memory; the filters of words and concepts are in `kept_a` already."""
    signed: bool = False
    """Whether partners have the greatest |r|."""

    def pair(
        self,
        order_b: NDArray[np.int64] | None = None,
        *,
        rows: NDArray[np.int64] | None = None,
        rules: Sequence[str] = RULES,
    ) -> dict[str, Matches]:
        """Pair the features over the words in another arrangement.

        Args:
            order_b: [W] word i of A meets word ``order_b[i]`` of B; None leaves B's words in place.
            rows: [R] words to take, on both sides and before B's are arranged, each as often as it comes;
                None takes all.
            rules: which of `RULES`.

        Returns:
            The pairs by rule, as `xmodel align` would find them on these words.

        Raises:
            InputError: for an unknown rule.
        """
        unknown = [rule for rule in rules if rule not in RULES]
        if unknown:
            raise InputError(f"the rule of pairing {unknown[0]!r} is not known: choose {', '.join(RULES)}.")
        a, b = self.a, self.b
        if rows is not None:
            a, b = take_rows(a, rows), take_rows(b, rows)
        if order_b is not None:
            b = take_rows(b, order_b)

        def read() -> Iterator[tuple[WordFeatures, WordFeatures]]:
            yield a, b

        moments = measure_moments(read, a.features, b.features)
        kept = (
            self.kept_a & (moments[0].firings >= self.settings.min_firings),
            self.kept_b & (moments[1].firings >= self.settings.min_firings),
        )
        prepared = prepare_search(read, moments, kept, self.settings, self.signed)
        found = self._match(prepared, rules)
        return {
            rule: _sort(*pairs, correlate_pairs(read, *moments, *pairs)[0]) for rule, pairs in found.items()
        }

    def pair_by_chance(self, order_b: NDArray[np.int64], rules: Sequence[str] = RULES) -> dict[str, Matches]:
        """Pair the features over words that have nothing to do with each other: what chance finds.

        No floor is asked for, above which chance may have no pair: the caller takes as many of the best as
        there are real pairs. Each feature is in one pair only. How many of A's features agree on a partner
        differs between a text and a shifted one, and features that share a partner resemble each other
        whatever B is like; so the real pairs must be those of `keep_one_per_feature` too.

        Args:
            order_b: [W] word i of A meets word ``order_b[i]`` of B.
            rules: which of `RULES`.
        """
        loose = replace(self, settings=replace(self.settings, floor=0.0, price=None))
        found = loose.pair(order_b, rules=rules)
        return {rule: keep_one_per_feature(own) for rule, own in found.items()}

    def _match(
        self, prepared: Searchable, rules: Sequence[str]
    ) -> dict[str, tuple[NDArray[np.int32], NDArray[np.int32]]]:
        lists = self.settings.top_k if {"one_to_one", "optimal"} & set(rules) else 1
        of_a, of_b = prepared.find_partners(lists, self.settings.floor)
        best_a, best_b = of_a.features[:, 0], of_b.features[:, 0]
        all_a, all_b = (np.flatnonzero(best >= 0).astype(np.int32) for best in (best_a, best_b))
        mutual = all_a[best_b[best_a[all_a]] == all_a]
        found = {
            "best_of_a": (all_a, best_a[all_a]),
            "best_of_b": (best_b[all_b], all_b),
            "mutual": (mutual, best_a[mutual]),
        }
        for rule in {"one_to_one", "optimal"} & set(rules):
            pairs = self._assign(prepared, of_a, of_b, rule)
            found[rule] = pairs[:, 0], pairs[:, 1]
        return {rule: found[rule] for rule in rules}

    def _assign(self, prepared: Searchable, of_a: Partners, of_b: Partners, rule: str) -> NDArray[np.int32]:
        if rule == "one_to_one":
            return match_greedy(prepared, of_a, floor=self.settings.floor, absolute=self.signed)
        price = self.settings.least_worth
        return match_optimal(prepared, of_a, of_b, price=price, absolute=self.signed)[0]


def keep_one_per_feature(matches: Matches) -> Matches:
    """The best pair of every feature: of pairs that share a feature of A or of B, only the first stays.

    Under one-to-one rules all stay. Under the best partner of each A, the pairs of one partner are reduced to
    the one with the best r.
    """
    kept = np.ones(len(matches), dtype=np.bool_)
    for own in (matches.a, matches.b):
        first = np.zeros(len(matches), dtype=np.bool_)
        first[np.unique(own, return_index=True)[1]] = True
        kept &= first
    return matches.take(np.flatnonzero(kept))


def turn_signs(
    x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]], matches: Matches
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Turn the rows of signed features round where r is negative, on the side whose features do not repeat.

    A shared feature's rows must stay equal: with signs of their own, which fit those of the other side, they
    would be alike in a way that shuffling takes away.

    Args:
        x: [P, d] rows of A's features.
        y: [P, e] rows of their partners.
        matches: the pairs.
    """
    sign = np.where(matches.r < 0, -1, 1).astype(x.dtype)[:, None]
    return (x * sign, y) if has_repeats(matches.b) else (x, y * sign)


def has_repeats(features: NDArray[np.int32]) -> bool:
    """Whether a feature is in several pairs."""
    return len(np.unique(features)) < len(features)


def _sort(a: NDArray[np.int32], b: NDArray[np.int32], r: NDArray[np.float64]) -> Matches:
    order = np.lexsort((b, a, -np.abs(r)))
    return Matches(a[order], b[order], r[order])


def join_words(shards: Shards, chosen: NDArray[np.bool_]) -> tuple[WordFeatures, WordFeatures]:
    """The features of some words of a run, in memory.

    Args:
        shards: of the run.
        chosen: [W] which words.

    Returns:
        A's and B's, the chosen words in order.
    """
    parts = list(shards.select(chosen)())
    return join_rows([a for a, _ in parts], shards.features[0]), join_rows(
        [b for _, b in parts], shards.features[1]
    )


def join_rows(parts: Sequence[WordFeatures], features: int) -> WordFeatures:
    """Chunks of words, one after another, as one.

    Args:
        parts: the chunks.
        features: F, for when there is none.
    """
    counts = [np.diff(part.indptr) for part in parts]
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts) if counts else np.zeros(0, np.int64))])
    return WordFeatures(
        indptr.astype(np.int64),
        np.concatenate([part.indices for part in parts]) if parts else np.zeros(0, np.int32),
        np.concatenate([part.values for part in parts]) if parts else np.zeros(0, np.float32),
        features,
    )
