"""Windows of a shard become batches for a model, and every token gets its place in a batch.

Windows slice the documents' own ids. A batch holds windows of similar length, so that little is padded,
and depends on the shard alone: a resumed run makes the same batches, and so the same bits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.align import AlignedTexts
from xmodel.alignment.rows import spread_ranges
from xmodel.alignment.windows import cut_windows
from xmodel.records import Members, TokenFlag


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """The windows of all documents of a shard, in document order."""

    first: NDArray[np.int64]
    """[K, M] first token per tokenizer, counted over the whole shard."""
    stop: NDArray[np.int64]
    """[K, M] one past the last token."""
    document: NDArray[np.int64]
    """[K] document within the shard."""
    oversized: int
    """Groups that alone exceed some model's context; they are in no window."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some windows of one model as one rectangle of ids, padded on the right."""

    windows: NDArray[np.int64]
    """[B] window numbers."""
    ids: NDArray[np.int64]
    """[B, T] token ids; BOS first where the model is given one; 0 where padded."""
    mask: NDArray[np.bool_]
    """[B, T] false where padded."""
    tokens: NDArray[np.int64]
    """[R] the shard's tokens that are in the batch, ascending window by window."""
    slots: NDArray[np.int64]
    """[R] where each of them stands: row * T + column."""
    positions: NDArray[np.int64]
    """[R] the column of each, so its position in its window."""


def plan_windows(aligned: AlignedTexts, limits: Sequence[int], most_groups: int | None = None) -> WindowPlan:
    """Cut every document of a shard into windows that fit every model.

    Args:
        aligned: the shard's documents.
        limits: [M] most tokens of a window per tokenizer, BOS not counted.
        most_groups: most words of a window, if wanted.
    """
    models = len(limits)
    firsts, stops, owners = [np.zeros((0, models), np.int64)], [np.zeros((0, models), np.int64)], []
    oversized = 0
    for number in range(len(aligned)):
        windows, _ = cut_windows(aligned[number], limits, most_groups=most_groups)
        origin = np.array([span.bounds[number] for span in aligned.spans])
        firsts.append(windows.first_token + origin)
        stops.append(windows.stop_token + origin)
        owners.append(np.full(len(windows), number))
        oversized += len(windows.oversized)
    document = np.concatenate(owners) if owners else np.zeros(0, np.int64)
    return WindowPlan(np.concatenate(firsts), np.concatenate(stops), document.astype(np.int64), oversized)


def find_windows(plan: WindowPlan, model: int, tokens: int) -> NDArray[np.int64]:
    """[N] the window of every token of a model; -1 where it is in none."""
    windows = np.full(tokens, -1, dtype=np.int64)
    sizes = plan.stop[:, model] - plan.first[:, model]
    windows[spread_ranges(plan.first[:, model], sizes)] = np.repeat(np.arange(len(sizes)), sizes)
    return windows


def make_batches(
    plan: WindowPlan, model: int, ids: NDArray[np.int64], prefix: Sequence[int], batch_tokens: int
) -> Iterator[Batch]:
    """Pack a model's windows into batches, longest first.

    Args:
        plan: the windows.
        model: the model's number.
        ids: [N] the shard's ids under this model.
        prefix: ids before every window, BOS or nothing.
        batch_tokens: most places of a batch, padding included; a longer window is a batch by itself.
    """
    first, sizes = plan.first[:, model], plan.stop[:, model] - plan.first[:, model]
    order = np.argsort(-sizes, kind="stable")
    place = 0
    while place < len(order):
        length = len(prefix) + int(sizes[order[place]])
        windows = order[place : place + max(1, batch_tokens // length)]
        place += len(windows)
        yield _pack(windows, first[windows], sizes[windows], ids, prefix, length)


def _pack(
    windows: NDArray[np.int64],
    first: NDArray[np.int64],
    sizes: NDArray[np.int64],
    ids: NDArray[np.int64],
    prefix: Sequence[int],
    length: int,
) -> Batch:
    tokens = spread_ranges(first, sizes)
    positions = len(prefix) + tokens - np.repeat(first, sizes)
    slots = np.repeat(np.arange(len(windows)) * length, sizes) + positions
    rectangle = np.zeros((len(windows), length), dtype=np.int64)
    rectangle[:, : len(prefix)] = prefix
    rectangle.reshape(-1)[slots] = ids[tokens]
    mask = np.arange(length) < len(prefix) + sizes[:, None]
    return Batch(windows, rectangle, mask, tokens, slots, positions)


def list_units(aligned: AlignedTexts) -> tuple[NDArray[np.int64], NDArray[np.int64], Members]:
    """Every token with a non-whitespace byte as a unit of its own, for models with equal tokenizers.

    Returns:
        [U] first byte and [U] one past the last byte of every unit, whitespace at its ends left out, in
        the shard's shared buffer; and the members, the same for every model.
    """
    span = aligned.spans[0]
    solid = count_solid(aligned)
    template = (span.flags & np.uint8(TokenFlag.TEMPLATE)) > 0
    tokens = np.flatnonzero((solid[span.ends] > solid[span.starts]) & ~template)
    # The first non-whitespace byte at or after the start: where the running count passes that of the start.
    starts = np.searchsorted(solid, solid[span.starts[tokens]], side="right") - 1
    ends = np.searchsorted(solid, solid[span.ends[tokens]], side="left")
    indptr = np.arange(len(tokens) + 1, dtype=np.int64)
    return starts, ends, Members(indptr, tokens, np.ones(len(tokens)))


def count_solid(aligned: AlignedTexts) -> NDArray[np.int64]:
    """[B + 1] non-whitespace bytes before each byte of the shard's shared buffer."""
    from xmodel.datasets.words import find_whitespace

    whitespace = find_whitespace(aligned.flat.buffer)
    return np.concatenate([[0], np.cumsum(~whitespace)]).astype(np.int64)
