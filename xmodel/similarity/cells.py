"""Which pairs are scored together: all of a rule, the best share, a stratum of frequency, a concept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xmodel.similarity.repairing import Matches

Part = Literal["rule", "coverage", "stratum", "concept"]
"""The question that a cell belongs to; the cells of one part are one family of tests."""

COVERAGES = (0.1, 0.25, 0.5, 0.75)
"""Shares of the kept features, best pairs first; all pairs are the cells of the rules."""
STRATA = 5
"""Strata of frequency."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A set of pairs that gets a score of its own, defined so that it can be found again in other pairs."""

    part: Part
    rule: str
    """The rule of pairing."""
    name: str | None
    """What distinguishes it within its part, for people and for scores.json; None for all pairs of a rule."""
    choose: Callable[[Matches], NDArray[np.int64]]
    """Which of a rule's pairs belong to it, by their places."""
    share: float | None = None
    """For coverage: which share of the kept features its pairs are."""


def list_rule_cells(rules: Sequence[str]) -> list[Cell]:
    """One cell per rule, with all of its pairs."""
    return [Cell("rule", rule, None, lambda own: np.arange(len(own))) for rule in rules]


def list_coverage_cells(rule: str, kept: int, pairs: int) -> list[Cell]:
    """The best pairs of a rule, by r on the discovery half, that make up growing shares of the features.

    Args:
        rule: the rule.
        kept: how many features passed the filters, of the side that the rule chooses for.
        pairs: how many pairs the rule has; shares beyond them are left out.
    """
    cells = []
    for share in COVERAGES:
        count = round(share * kept)
        if 0 < count < pairs:
            cells.append(Cell("coverage", rule, f"best {share:.0%}", _choose_first(count), share))
    return cells


def list_stratum_cells(rule: str, firings: NDArray[np.int64], matches: Matches) -> list[Cell]:
    """Strata of how often A's feature fires on the discovery half, of about equally many pairs.

    Args:
        rule: the rule.
        firings: [F_A] words that each feature fires on.
        matches: the rule's pairs, which decide where the strata end.
    """
    own = firings[matches.a]
    if not len(own):
        return []
    edges = np.unique(np.quantile(own, np.linspace(0, 1, STRATA + 1), method="inverted_cdf"))
    bounds = [int(edges[0]) - 1, *(int(edge) for edge in edges[1:])]
    return [
        Cell("stratum", rule, f"{low + 1:,}-{high:,} words", _choose_between(firings, low, high))
        for low, high in pairwise(bounds)
    ]


def list_concept_cells(rule: str, members: Mapping[str, NDArray[np.int32]]) -> list[Cell]:
    """The pairs whose feature of A belongs to a concept.

    Args:
        rule: the rule.
        members: A's features by concept.
    """
    return [Cell("concept", rule, name, _choose_members(own)) for name, own in members.items()]


def _choose_first(count: int) -> Callable[[Matches], NDArray[np.int64]]:
    return lambda own: np.arange(min(count, len(own)))


def _choose_between(
    firings: NDArray[np.int64], low: int, high: int
) -> Callable[[Matches], NDArray[np.int64]]:
    return lambda own: np.flatnonzero((firings[own.a] > low) & (firings[own.a] <= high))


def _choose_members(members: NDArray[np.int32]) -> Callable[[Matches], NDArray[np.int64]]:
    return lambda own: np.flatnonzero(np.isin(own.a, members))
