"""Whether token bytes, laid end to end, are the text's bytes: the fast path of every alignment.

If the bytes that a text's ids stand for, concatenated, equal the text, then every token's span is known
and proven in one stroke: the running sum of lengths. Many texts are checked at once in one flat buffer.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.spelling import Table, low_byte_masks

try:
    from xmodel.alignment import _kernels
except ImportError:  # no compiler where the package was built: NumPy does the same, some four times slower
    kernels: Any = None
else:
    kernels = _kernels

PAD = 8
"""Bytes that must follow the last text in a buffer, so that eight bytes can be read anywhere."""


def match_flat(
    table: Table,
    ids: NDArray[np.int64],
    counts: NDArray[np.int64],
    buffer: NDArray[np.uint8],
    begins: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Lay each text's tokens over its bytes and compare.

    Args:
        table: bytes per id.
        ids: [N] ids of all texts, one text after another.
        counts: [T] tokens per text.
        buffer: [B + PAD] all texts' bytes.
        begins: [T] where each text's first token begins in the buffer.
        sizes: [T] how many bytes its tokens must cover.

    Returns:
        starts and ends [N] in the buffer, and [T] whether the text's bytes are its tokens' bytes. Spans
        of texts that do not match mean nothing.
    """
    if kernels is None:
        return match_with_numpy(table, ids, counts, buffer, begins, sizes)
    starts = np.empty(len(ids), dtype=np.int64)
    ends = np.empty(len(ids), dtype=np.int64)
    matches = np.empty(len(counts), dtype=np.bool_)
    whole = [np.ascontiguousarray(part, dtype=np.int64) for part in (ids, counts, begins, sizes)]
    kernels.match(
        table.lengths,
        table.offsets,
        table.blob,
        whole[0],
        whole[1],
        buffer,
        whole[2],
        whole[3],
        starts,
        ends,
        matches,
    )
    return starts, ends, matches


def match_with_numpy(
    table: Table,
    ids: NDArray[np.int64],
    counts: NDArray[np.int64],
    buffer: NDArray[np.uint8],
    begins: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The same as `match_flat`, without compiled code."""
    lengths = table.lengths[ids]
    ends = np.cumsum(lengths, dtype=np.int64)
    stops = np.cumsum(counts)
    covered = np.concatenate([[0], ends])[stops]
    before = np.concatenate([[0], covered[:-1]])
    matches = (covered - before) == sizes
    ends += np.repeat(begins - before, counts)
    starts = ends - lengths
    safe = starts if matches.all() else np.clip(starts, 0, len(buffer) - PAD)
    words = np.ndarray((len(buffer) - PAD + 1,), dtype="<u8", buffer=buffer, strides=(1,))
    masks = low_byte_masks()
    wrong = ((words[safe] ^ table.head[ids]) & masks[np.minimum(lengths, PAD)]) != 0
    long = np.flatnonzero(lengths > PAD)
    blob = np.ndarray((len(table.blob) - PAD + 1,), dtype="<u8", buffer=table.blob, strides=(1,))
    done = PAD
    while len(long):
        at = np.minimum(safe[long] + done, len(words) - 1)
        rest = masks[np.minimum(lengths[long] - done, PAD)]
        wrong[long] |= ((words[at] ^ blob[table.offsets[ids[long]] + done]) & rest) != 0
        done += PAD
        long = long[lengths[long] > done]
    if wrong.any():
        matches[np.searchsorted(stops, np.flatnonzero(wrong), side="right")] = False
    return starts, ends, matches
