"""The best partners of all features, each seen from that feature."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.report.partners import OTHER

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class PartnerLists:
    """All partners of all features of one model, those of a feature together, best first."""

    bounds: NDArray[np.int64]
    """[F + 1] where each feature's begin."""
    rows: NDArray[np.int64]
    """[P] rows of pairs.parquet."""
    partners: NDArray[np.int32]
    """[P] the other model's features."""
    margins: NDArray[np.float64]
    """[P] r less that of this feature's best other partner (both |r|); NaN where it has no other."""
    ranks: NDArray[np.int32]
    """[P] place of the partner among this feature's partners, from 1; 0 beyond the list."""
    other_ranks: NDArray[np.int32]
    """[P] place of this feature among the partner's."""

    def best(self) -> NDArray[np.int32]:
        """[F] the first partner of each feature, -1 where there is none."""
        counts = np.diff(self.bounds)
        found = np.full(len(counts), -1, dtype=np.int32)
        found[counts > 0] = self.partners[self.bounds[:-1][counts > 0]]
        return found


def list_all_partners(pairs: "pa.Table", side: str, features: int) -> PartnerLists:
    """What `xmodel.report.partners.list_partners` finds for one feature, for all.

    Args:
        pairs: the content of pairs.parquet.
        side: ``a`` or ``b``.
        features: how many it has.
    """
    own = pairs[f"feature_{side}"].to_numpy()
    rank, other_rank = (_read_ranks(pairs, letter) for letter in (side, OTHER[side]))
    strength = np.abs(pairs["r"].to_numpy())
    listed = np.where(rank > 0, rank, np.iinfo(np.int32).max)
    rows = np.lexsort((-strength, listed, own))
    first, second = np.full((2, features), np.nan)
    first[own[rank == 1]] = strength[rank == 1]
    second[own[rank == 2]] = strength[rank == 2]
    rivals = np.where(rank == 1, second[own], first[own])
    counts = np.bincount(own, minlength=features)
    return PartnerLists(
        bounds=np.concatenate([[0], np.cumsum(counts)]),
        rows=rows,
        partners=pairs[f"feature_{OTHER[side]}"].to_numpy()[rows],
        margins=(strength - rivals)[rows],
        ranks=rank[rows],
        other_ranks=other_rank[rows],
    )


def _read_ranks(pairs: "pa.Table", side: str) -> NDArray[np.int32]:
    return pairs[f"rank_{side}"].fill_null(0).to_numpy().astype(np.int32)
