"""A run's activations feature by feature; shards have them word by word."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing.halves import Shards
from xmodel.records import WordFeatures

Report = Callable[[str, int, int | None], None]
"""Called with a stage, how much of it is done, and the total where it is known."""
MOST_ENTRIES = 48_000_000
"""Activations that are held in memory at a time, of 8 bytes each; of more the columns are on disk."""


@dataclass(frozen=True, eq=False)
class Columns:
    """All activations of one model, those of a feature together."""

    bounds: NDArray[np.int64]
    """[F + 1] where each feature's entries begin."""
    words: NDArray[np.int32]
    """[E] word ids, ascending within a feature."""
    values: NDArray[np.float32]
    """[E] activations in the dictionary's units."""

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def get(self, feature: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """[n] word ids, ascending, and [n] activations of one feature."""
        low, high = int(self.bounds[feature]), int(self.bounds[feature + 1])
        return self.words[low:high], self.values[low:high]


def read_columns(
    shards: Shards,
    side: str,
    scratch: Path,
    *,
    most: int = MOST_ENTRIES,
    report: Report = lambda stage, done, total: None,
) -> Columns:
    """Turn one model's shards into columns: once through to count, then once per tile of features.

    A tile is as many features in a row as have `most` entries together, or one that has more. Where there is
    more than one tile, columns are files that are mapped into memory, so that memory is bounded.

    Args:
        shards: of the run.
        side: ``a`` or ``b``.
        scratch: a folder for those files; whoever made it removes it.
        most: entries of a tile.
        report: told of progress.

    Raises:
        InputError: if a file is missing or damaged.
    """
    counts = np.zeros(shards.features["ab".index(side)], dtype=np.int64)
    for number in range(len(shards)):
        counts += np.bincount(shards.load(side, number).indices, minlength=len(counts))
    bounds = np.concatenate([[0], np.cumsum(counts)])
    tiles = cut_tiles(bounds, most)
    words = _allocate(scratch / f"words_{side}", np.int32, int(bounds[-1]), len(tiles) > 1)
    values = _allocate(scratch / f"values_{side}", np.float32, int(bounds[-1]), len(tiles) > 1)
    total = len(tiles) * len(shards)
    for place, (first, stop) in enumerate(tiles):
        low, high = int(bounds[first]), int(bounds[stop])
        tile = np.empty(high - low, dtype=np.int32), np.empty(high - low, dtype=np.float32)
        free = bounds[first:stop] - low
        for number in range(len(shards)):
            own = shards.load(side, number)
            _add_shard(tile, free, own, first, stop, int(shards.bounds[number]))
            report(f"activations of {side}", place * len(shards) + number + 1, total)
        words[low:high], values[low:high] = tile
    return Columns(bounds, words, values)


def cut_tiles(bounds: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """Ranges of features with `most` entries at most, or of one feature that has more.

    Args:
        bounds: [F + 1] where each feature's entries begin.
        most: entries.
    """
    tiles, first, total = [], 0, len(bounds) - 1
    while first < total:
        stop = int(np.searchsorted(bounds, bounds[first] + most, side="right")) - 1
        tiles.append((first, max(first + 1, stop)))
        first = tiles[-1][1]
    return tiles


def _allocate(place: Path, kind: type[np.generic], size: int, on_disk: bool) -> NDArray[Any]:
    if not on_disk:
        return np.empty(size, dtype=kind)
    place.parent.mkdir(parents=True, exist_ok=True)
    return np.memmap(place, dtype=kind, mode="w+", shape=(size,))


def _add_shard(
    tile: tuple[NDArray[np.int32], NDArray[np.float32]],
    free: NDArray[np.int64],
    own: WordFeatures,
    first: int,
    stop: int,
    word: int,
) -> None:
    """Take a shard's entries of features ``[first, stop)`` into a tile; `free` moves on."""
    from scipy.sparse import csr_matrix

    matrix = csr_matrix((own.values, own.indices, own.indptr), shape=(len(own), own.features))
    # Columns come out with their rows ascending, in time proportional to the entries.
    chosen = matrix[:, first:stop].tocsc() if stop - first < own.features else matrix.tocsc()
    counts = np.diff(chosen.indptr)
    to = np.repeat(free - chosen.indptr[:-1], counts) + np.arange(chosen.nnz)
    tile[0][to] = chosen.indices + word
    tile[1][to] = chosen.data
    free += counts
