"""Sparse rows as dense matrices, for features that are signed or fire everywhere."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.chunks import Chunks
from xmodel.pairing.dense import BLOCK_BYTES, BLOCKS
from xmodel.records import WordFeatures

BYTES_PER_ENTRY = 4 + 8
"""What a word's feature takes while it is standardised: once in float32, once in float64."""
ENTRIES = 1 << 20
"""Entries that are put in their places at a time."""


def densify(
    chunks: Chunks, features: tuple[int, int], words: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both models' word features as dense matrices.

    Args:
        chunks: the words' features.
        features: F_A and F_B.
        words: W.

    Returns:
        [W, F_A] and [W, F_B].

    Raises:
        InputError: if they and their standardised copies in float64 (`xmodel.pairing.dense.prepare_dense`) do
            not fit into memory together; tiles of products come later, when these matrices can be let go.
    """
    needed = estimate_memory(words, sum(features))
    free = measure_free_memory()
    if needed > free:
        raise InputError(
            f"neurons, residual dimensions and principal components are dense: {words:,} words of "
            f"{features[0]:,} and {features[1]:,} features take {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are "
            "free. Use fewer words (--words-limit), or pca:SITE:K with fewer components."
        )
    first, second = (np.zeros((words, count), dtype=np.float32) for count in features)
    row = 0
    for own_a, own_b in chunks():
        _fill(first[row : row + len(own_a)], own_a)
        _fill(second[row : row + len(own_b)], own_b)
        row += len(own_a)
    return first, second


def estimate_memory(words: int, features: int) -> int:
    """Bytes at the peak of `densify` and `prepare_dense` in float64, `features` being those of both sides."""
    return words * features * BYTES_PER_ENTRY + BLOCKS * max(BLOCK_BYTES, 8 * words)


def measure_free_memory(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that this process can still take: what the machine has left, and its control groups allow.

    Args:
        root: where the second version of Linux' control groups is mounted; other systems have no such folder.
        own: the file with this process' place below it, a line ``0::/PLACE``.
    """
    import psutil

    free = int(psutil.virtual_memory().available)
    places = (
        [line[4:] for line in own.read_text().splitlines() if line[:4] == "0::/"] if own.is_file() else []
    )
    group = root / places[0] if places else root
    for folder in (group, *group.parents):
        if folder.is_relative_to(root) and (folder / "memory.max").is_file():
            limit = (folder / "memory.max").read_text().strip()
            if limit != "max":
                free = min(free, max(0, int(limit) - _measure_used(folder)))
    return free


def _measure_used(group: Path) -> int:
    """Bytes that a control group holds, without file pages that it gives back when asked."""
    lines = (group / "memory.stat").read_text().splitlines()
    stat = dict(line.split() for line in lines)
    return int((group / "memory.current").read_text()) - int(stat.get("inactive_file", 0))


def _fill(dense: NDArray[np.float32], own: WordFeatures) -> None:
    """Put rows into a matrix of zeros, some at a time: their coordinates take four times their room."""
    row = 0
    while row < len(own):
        first = int(own.indptr[row])
        stop = max(row + 1, int(np.searchsorted(own.indptr, first + ENTRIES, side="right")) - 1)
        places = slice(first, int(own.indptr[stop]))
        rows = np.repeat(np.arange(row, stop), np.diff(own.indptr[row : stop + 1]))
        dense[rows, own.indices[places]] = own.values[places]
        row = stop
