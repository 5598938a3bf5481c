"""Does this pair transfer? A p-value for every pair and cell, against every null at once."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.similarity.families import adjust_bh, adjust_max
from xmodel.steering.readouts import count_exceeding


@dataclass(frozen=True, eq=False)
class PairTests:
    """P-values of F pairs in C cells (doses and depths)."""

    p: dict[str, NDArray[np.float64]]
    """By null: [F, C] raw p."""
    adjusted: dict[str, NDArray[np.float64]]
    """By null: [F, C] p corrected over the cells of a pair by their largest studentised value."""
    combined: NDArray[np.float64]
    """[F, C] raw, the largest over the nulls."""
    combined_adjusted: NDArray[np.float64]
    """[F, C] corrected over cells, the largest over the nulls."""
    pair_p: NDArray[np.float64]
    """[F] the least over cells of the former: does the pair transfer in any cell, beyond every null?"""
    pair_q: NDArray[np.float64]
    """[F] the former, corrected over pairs after Benjamini and Hochberg."""
    row_q: NDArray[np.float64]
    """[F, C] `combined`, corrected over all pairs and cells after Benjamini and Hochberg."""


def test_pairs(values: NDArray[np.floating], nulls: Mapping[str, NDArray[np.floating]]) -> PairTests:
    """Test every pair against several nulls, all of which have to be rejected.

    Per null and pair, cells are corrected by the largest studentised statistic over shared draws (see
    `adjust_max`). A pair transfers only if it exceeds every null, so the p of all together is the largest
    (an intersection-union test: Berger, Technometrics 24:295, 1982), which needs no correction for the number
    of nulls. The p of a pair is the least of these over its cells. It is valid where one of the nulls holds
    in all cells; were different nulls to hold in different cells, P(p <= alpha) could reach alpha times the
    number of nulls at most.

    Benjamini and Hochberg's correction takes p-values of different pairs for independent or positively
    dependent. They share words, layers and often draws (random directions), all of which raise or lower many
    together. A null of few draws (m live features) cannot give less than 1 / (m + 1), nor can the largest
    over the nulls then.

    Args:
        values: [F, C] T of the pairs; NaN where there is none.
        nulls: by name, [F, C, m] T of the pairs in m draws, each shared by all cells of a pair; m may differ
            between nulls.

    Raises:
        InputError: no nulls, nulls for other pairs or cells, no draws, or draws that are not finite where
            there is a value.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not nulls:
        raise InputError(
            f"Transfers came with shape {list(values.shape)} and {len(nulls)} nulls; expected were "
            "[pairs, cells] and at least one null. Give the nulls by name."
        )
    p, adjusted = {}, {}
    for name, null in nulls.items():
        null = np.asarray(null, np.float64)
        if null.ndim != 3 or null.shape[:2] != values.shape:
            raise InputError(
                f"The null {name} came with shape {list(null.shape)} for transfers of shape "
                f"{list(values.shape)}; expected was [pairs, cells, draws]. Draw for all of them."
            )
        rows = [adjust_max(own, drawn) for own, drawn in zip(values, null, strict=True)]
        adjusted[name] = np.array(rows).reshape(values.shape)
        p[name] = count_exceeding(values, null)
    combined, combined_adjusted = (np.max(list(found.values()), axis=0) for found in (p, adjusted))
    # A pair without any value keeps a p that is not a number.
    least = np.where(np.isnan(combined_adjusted), np.inf, combined_adjusted).min(axis=1, initial=np.inf)
    pair_p = np.where(np.isinf(least), np.nan, least)
    return PairTests(
        p=p,
        adjusted=adjusted,
        combined=combined,
        combined_adjusted=combined_adjusted,
        pair_p=pair_p,
        pair_q=adjust_bh(pair_p),
        row_q=adjust_bh(combined.ravel()).reshape(values.shape),
    )
