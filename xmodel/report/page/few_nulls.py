"""Null draws for a few features only: the best r of each among all of the other side, shift by shift."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing.chunks import keep_features
from xmodel.pairing.moments import measure_moments, measure_spreads
from xmodel.records import WordFeatures
from xmodel.similarity.orders import shift_rows
from xmodel.similarity.repairing import Repairer

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_TILE = 1 << 24
# Products of features that are held at once: 128 MB.


@dataclass(frozen=True, eq=False)
class FewFeatures:
    """Some features of one side, ready to be held against all of the other in any order of words."""

    rows: "csr_matrix"
    """[n, W] the features' activations, float64."""
    others: "csr_matrix"
    """[W, F] the other side's, of the features that may be partners."""
    sums: tuple[NDArray[np.float64], NDArray[np.float64]]
    """[n] and [F] sum of x."""
    inverses: tuple[NDArray[np.float64], NDArray[np.float64]]
    """[n] and [F] 1 / sqrt(W times sum of squares less squared sum); 0 where a feature has no partners."""
    words: int
    """W."""
    signed: bool
    """Whether the greatest |r| counts."""

    def find_best(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """[n] best r (|r| where signed) of every feature, 0 where none is greater.

        Args:
            places: [W] the word of the other side that each own word meets.
        """
        from scipy.sparse import csr_matrix

        rows, count = self.rows, len(self.sums[0])
        shifted = csr_matrix((rows.data, places[rows.indices], rows.indptr), shape=(count, self.words))
        best = np.zeros(count)
        tile = max(1, _TILE // max(1, len(self.sums[1])))
        for first in range(0, len(best), tile):
            part = slice(first, first + tile)
            best[part] = self._find_best_of(shifted[part] @ self.others, part)
        return best

    def _find_best_of(self, products: Any, part: slice) -> NDArray[np.float64]:
        sums, inverses = self.sums[0][part], self.inverses[0][part]
        if self.signed:
            r = self.words * products.toarray() - np.outer(sums, self.sums[1])
            return np.abs(r * np.outer(inverses, self.inverses[1])).max(axis=1, initial=0.0)
        # Features that never fire together have r below 0, if no activation is negative.
        counts = np.diff(products.indptr)
        own, columns = np.repeat(np.arange(len(sums)), counts), products.indices
        r = self.words * products.data - sums[own] * self.sums[1][columns]
        r *= inverses[own] * self.inverses[1][columns]
        best = np.zeros(len(sums))
        filled = np.flatnonzero(counts)
        if len(filled):
            best[filled] = np.maximum(np.maximum.reduceat(r, products.indptr[filled]), 0.0)
        return best


def draw_few_nulls(
    repairer: Repairer,
    few: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    lengths: NDArray[np.int64],
    offsets: NDArray[np.int64],
    report: Callable[[int], None],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best r of some features of either side after every shift of B's words.

    Args:
        repairer: both models' features over the same words.
        few: [F_A] and [F_B] whose null is to be drawn.
        lengths: [D] words per document.
        offsets: [shifts, D] or [shifts, 1], see `xmodel.similarity.orders.shift_rows`.
        report: told how many shifts are done.

    Returns:
        [shifts, n] of A's and of B's features, in their order.
    """
    pairs = ((repairer.a, repairer.kept_a, few[0]), (repairer.b, repairer.kept_b, few[1]))
    both = [
        prepare_few(own, other, chosen, kept, signed=repairer.signed)
        for (own, _, chosen), (other, kept, _) in (pairs, pairs[::-1])
    ]
    first, second = (np.zeros((len(offsets), int(chosen.sum()))) for chosen in few)
    for number in range(len(offsets)):
        order = shift_rows(lengths, offsets[number : number + 1])[0]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        first[number], second[number] = both[0].find_best(order), both[1].find_best(back)
        report(number + 1)
    return first, second


def prepare_few(
    own: WordFeatures,
    other: WordFeatures,
    chosen: NDArray[np.bool_],
    kept: NDArray[np.bool_],
    *,
    signed: bool,
) -> FewFeatures:
    """Make features ready for `FewFeatures.find_best`.

    Args:
        own: [W] words of one side.
        other: [W] the same words of the other side.
        chosen: [F] features to hold against the other side's.
        kept: the other side's that may be partners.
        signed: whether partners have the greatest |r|.
    """
    from scipy.sparse import csr_matrix

    sides = (keep_features(own, chosen), keep_features(other, kept))
    moments = measure_moments(lambda: [sides], own.features, other.features)
    spreads = [measure_spreads(*of) for of in zip(moments, (chosen, kept), strict=True)]
    inverses = [np.zeros(len(spread.sums)) for spread in spreads]
    for inverse, spread in zip(inverses, spreads, strict=True):
        np.divide(1.0, np.sqrt(spread.variances), out=inverse, where=spread.usable)
    matrices = [
        csr_matrix((side.values.astype(np.float64), side.indices, side.indptr), (len(side), side.features))
        for side in sides
    ]
    rows = matrices[0].tocsc()[:, np.flatnonzero(chosen)].T.tocsr()
    return FewFeatures(
        rows,
        matrices[1],
        (spreads[0].sums[chosen], spreads[1].sums),
        (inverses[0][chosen], inverses[1]),
        len(own),
        signed,
    )
