"""What became of every byte of a rewritten text, and the certificate that says so."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.added import find_whitespace_characters
from xmodel.alignment.preprocessing import Replayed
from xmodel.alignment.rewriting import byte_offsets, code_points
from xmodel.records import Certificate, RangeKind

KINDS: tuple[RangeKind, ...] = ("rewritten", "deleted", "ambiguous", "unknown")
REWRITTEN, DELETED, AMBIGUOUS, UNKNOWN, KEPT = range(5)
EXACT = Certificate("exact")


@dataclass(frozen=True, eq=False)
class ByteCuts:
    """A rewriting's cut points in bytes, and what became of every byte of the text."""

    before: NDArray[np.int64]
    """[C] cut points in the text's bytes."""
    after: NDArray[np.int64]
    """[C] the same cut points in the rewritten text's bytes."""
    ranges: NDArray[np.int64]
    """[R, 2] segments of the text that were not kept, in bytes: ascending, disjoint."""
    kinds: NDArray[np.uint8]
    """[R] the index of each segment's kind."""
    dropped_spaces: NDArray[np.int64]
    """[D, 2] whitespace that was deleted, in bytes; of note only inside of a token."""
    literals: NDArray[np.int64]
    """Where in the rewritten bytes added tokens stand that the text itself contains."""
    inserted: NDArray[np.int64]
    """Positions in the rewritten bytes where something without bytes of its own begins."""


def find_byte_cuts(text: str, replayed: Replayed) -> ByteCuts:
    """Carry cut points from characters to bytes; inside kept characters every byte is a cut."""
    rewriting = replayed.rewriting
    left, right = code_points(text), code_points(rewriting.text)
    left_bytes, right_bytes = byte_offsets(left), byte_offsets(right)
    first, second = rewriting.cuts()
    before, after = left_bytes[first], right_bytes[second]
    taken, made = np.diff(first), np.diff(second)
    single = np.flatnonzero((taken == 1) & (made == 1))
    same = left[first[single]] == right[second[single]]
    kept = single[same]

    state = np.full(len(taken), REWRITTEN, dtype=np.uint8)
    gone = np.flatnonzero((made == 0) & (taken > 0))
    state[gone] = DELETED
    blank = find_whitespace_characters(left[first[gone]]) & (taken[gone] == 1)
    state[gone[blank]] = KEPT
    for segment in gone[~blank & (taken[gone] > 1)].tolist():
        if find_whitespace_characters(left[first[segment] : first[segment + 1]]).all():
            state[segment] = KEPT
    state[kept] = KEPT
    dropped = gone[state[gone] == KEPT]
    dropped_spaces = np.stack([before[dropped], before[dropped + 1]], axis=1)
    state[taken == 0] = KEPT
    mark = replayed.space_mark
    if mark is not None and len(mark) == 1:
        marks = single[right[second[single]] == ord(mark)]
        state[marks[left[first[marks]] == ord(" ")]] = KEPT
        state[marks[left[first[marks]] == ord(mark)]] = AMBIGUOUS
    changed = np.flatnonzero(state != KEPT)
    ranges = np.stack([before[changed], before[changed + 1]], axis=1)

    widths = np.diff(before)[kept]
    wide = kept[widths > 1]
    if len(wide):
        widths = np.diff(before)[wide] - 1
        steps = np.arange(int(widths.sum())) - np.repeat(np.cumsum(widths) - widths, widths) + 1
        before = np.concatenate([before, np.repeat(before[wide], widths) + steps])
        after = np.concatenate([after, np.repeat(after[wide], widths) + steps])
        order = np.lexsort((before, after))
        before, after = before[order], after[order]
    arrivals = second[:-1][(taken == 0) & (made > 0)]
    literals = right_bytes[np.array([found.native_start for found in replayed.literals], dtype=np.int64)]
    return ByteCuts(before, after, ranges, state[changed], dropped_spaces, literals, right_bytes[arrivals])


def find_covered(ranges: NDArray[np.int64], spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those ranges that lie inside of one of some ascending spans: [R, 2] and [N, 2] to [Q, 2]."""
    if not len(ranges) or not len(spans):
        return ranges[:0]
    place = np.searchsorted(spans[:, 0], ranges[:, 0], side="right") - 1
    return ranges[(place >= 0) & (spans[np.maximum(place, 0), 1] > ranges[:, 0])]


def join_overlapping(ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranges in ascending order, those that overlap made one: [R, 2] to [Q, 2]."""
    joined: list[list[int]] = []
    for low, high in sorted(ranges.tolist()):
        if joined and low < joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], high)
        else:
            joined.append([low, high])
    return np.array(joined, dtype=np.int64).reshape(-1, 2)


def make_certificate(ranges: list[NDArray[np.int64]], kinds: list[NDArray[np.uint8]]) -> Certificate:
    """Combine ranges of several kinds; those named later swallow what they touch of those before."""
    merged, named = ranges[0], kinds[0]
    for more, kind in zip(ranges[1:], kinds[1:], strict=True):
        if not len(more):
            continue
        place = np.searchsorted(more[:, 1], merged[:, 0], side="right")
        outside = np.append(more[:, 0], np.iinfo(np.int64).max)[place] >= merged[:, 1]
        merged = np.concatenate([merged[outside], more])
        named = np.concatenate([named[outside], kind])
        order = np.argsort(merged[:, 0], kind="stable")
        merged, named = merged[order], named[order]
    if not len(merged):
        return EXACT
    doubtful = bool(np.isin(named, (UNKNOWN, AMBIGUOUS)).any())
    return Certificate(
        "ambiguous" if doubtful else "normalized",
        tuple((low, high) for low, high in merged.tolist()),
        tuple(KINDS[kind] for kind in named.tolist()),
    )
